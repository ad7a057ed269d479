"""26 attributes of clothes as 26 tasks: a branched network found by beam search.

Trains a network for each attribute, compares their features, searches a tree for every budget by
spectral clustering, and compares it with random trees, with trees by Lu et al.'s affinity of equal
budget, with one trunk for all and with 26 networks.

    KERAS_MTL_DATA=/path/to/data python examples/attributes.py                  # 25 minutes
    KERAS_MTL_DATA=/path/to/data python examples/attributes.py --seeds 0 1 2    # over an hour
    KERAS_MTL_DATA=/path/to/data python examples/attributes.py --quick          # does it run?

Writes results and pictures to `runs/attributes/seed0/` and so on; an interrupted run goes on.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import branching
import keras
import numpy as np
import protocol
from backbones import resnet

import keras_mtl
from keras_mtl.affinity import find_locations, random_trees


def tasks(attributes):
    """One yes-or-no question for each attribute, by accuracy as in the paper.

    Some attributes are rare: see the row of the trivial predictor in the table.
    """
    return [
        keras_mtl.Task(
            name,
            keras_mtl.heads.Regressor(1),
            keras.losses.BinaryCrossentropy(from_logits=True),
            [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
        )
        for name in attributes
    ]


def halved(images):
    """Half the resolution: 28×28 pixels."""
    return images.reshape(len(images), 28, 2, 28, 2, 3).mean(axis=(2, 4))


def experiment(arguments, seed):
    keras.backend.clear_session()  # names of layers count from 1: results are kept by them
    keras.utils.set_random_seed(seed)
    parts = {
        split: keras_mtl.data.load_attributes(split, binary=True, limit=arguments.limit)
        for split in ("train", "val", "test")
    }
    names = list(parts["train"][1])[: arguments.attributes]
    parts = {
        split: (halved(images), {name: labels[name] for name in names})
        for split, (images, labels) in parts.items()
    }
    return protocol.Experiment(
        backbone=resnet((28, 28, 3), width=arguments.width, blocks=(1,) * 4, stem_stride=2),
        tasks=tasks(names),
        train=parts["train"],
        search_data=None,
        validation=parts["val"],
        test=parts["test"],
        epochs=arguments.epochs,
        search_epochs=0,
        strategies={},
        optimizer=lambda steps: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        search_optimizers=None,
        samples=1,
        seed=seed,
        folder=pathlib.Path(arguments.folder) / f"seed{seed}",
        settings={k: v for k, v in vars(arguments).items() if k not in ("folder", "seeds")},
    )


def run(setup, arguments):
    """One seed: rows of the table."""
    log = protocol.Log(setup)
    log.expect(trainings=len(setup.tasks) + 1, searches=0)
    rows = protocol.baselines(setup, log)
    rows = {"trivial predictor": trivial(setup, log.baseline["test"]), **rows}
    found = branching.affinities(setup, log.single_models, find_locations(setup.backbone))
    # The paper's beam search; moves on top of it lower the cost, by single tasks and one big group.
    trees = branching.find_trees(setup, found, improve=False)
    candidates = {}
    for budget in arguments.budgets:
        limit = int(budget * sum(trees.sizes))
        (random,) = random_trees(
            found["affinity"].tasks,
            trees.sizes,
            1,
            budget=limit,
            first_shared=True,
            seed=setup.seed,
        )
        candidates |= {
            f"tree, budget {budget:g}": trees.within(budget),
            f"tree by errors, budget {budget:g}": trees.within(budget, by="errors"),
            f"random tree, budget {budget:g}": random,
        }
    _, trained = branching.trained(setup, log, trees, list(dict.fromkeys(candidates.values())))
    for name, tree in candidates.items():
        rows[name] = trained[tree]
        path = setup.folder / f"{protocol.file_name(name)}.png"
        keras_mtl.plot.tree(tree, trees.locations, path=path)
    return {name: means(row) for name, row in rows.items()}


def means(row):
    """The mean over the attributes, and what the network costs."""
    accuracy = np.mean([values["accuracy"] for values in row["test"].values()])
    return {
        "accuracy": float(accuracy),
        "delta": row["total_delta"],
        "parameters": row["parameters"],
        "flops": row["flops"],
    }


def trivial(setup, baseline):
    """What always saying the more frequent answer of the training part comes to."""
    test = {}
    for name, labels in setup.train[1].items():
        answer = float(np.mean(labels) >= 0.5)
        test[name] = {"accuracy": float(np.mean(setup.test[1][name] == answer))}
    delta = keras_mtl.relative_performance(test, baseline)
    return {"test": test, "total_delta": delta.total, "parameters": 0, "flops": 0}


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=float, nargs="+", default=[3.0], metavar="B")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", default="runs/attributes")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    arguments.limit, arguments.attributes = None, 26
    if arguments.quick:
        arguments.limit, arguments.attributes = 128, 4
        arguments.width, arguments.epochs, arguments.budgets = 2, 1, [1.5]
    return arguments


def main(arguments=None):
    arguments = parse(arguments)
    outcomes = [run(experiment(arguments, seed), arguments) for seed in arguments.seeds]
    columns = {"accuracy": ("accuracy", 100, ".2f"), "Δ_T": ("delta", 1, "+.2f")}
    text = protocol.table_over_seeds(outcomes, columns)
    print(f"\nOn the test part, means over the attributes:\n\n{text}")
    folder = pathlib.Path(arguments.folder)
    (folder / "table.md").write_text(text + "\n")
    (folder / "outcome.json").write_text(json.dumps(outcomes, indent=1))


if __name__ == "__main__":
    main()
