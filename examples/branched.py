"""Branched networks on NYU Depth V2: from single-task training to the best tree within a budget.

Trains one network per task, compares their features after every residual block, lists the trees
that cost least for what they share, trains those with a `BranchTuner`, and exports the one that
fits the budget. With `--every-tree` all trees are trained, and the chosen are ranked among them.

    KERAS_MTL_DATA=/path/to/data python examples/branched.py                       # 10 minutes
    KERAS_MTL_DATA=/path/to/data python examples/branched.py \\
        --every-tree --epochs 6 --seeds 0 1                                        # over an hour
    KERAS_MTL_DATA=/path/to/data python examples/branched.py --quick               # does it run?

Writes results, pictures and the SavedModel to `runs/branched/seed0/` and so on; an interrupted run
goes on.
"""

import argparse
import dataclasses
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import branching
import keras
import numpy as np
import nyuv2
import protocol
from backbones import resnet

import keras_mtl
from keras_mtl.affinity import enumerate_trees, find_locations


def ranks(sizes, rows, front):
    """Where the trees of a front rank among all trees that are no larger, in percent."""
    found = []
    for scored in front:
        rivals = [tree for tree in rows if tree.size(sizes) <= scored.size]
        ranked = {"size": scored.size, "cost": scored.cost, "rivals": len(rivals)}
        for key in ("validation_delta", "total_delta"):
            own, values = rows[scored.tree][key], [rows[tree][key] for tree in rivals]
            ranked[key] = own
            ranked[f"{key}_median"] = float(np.median(values))
            others = [value for value in values if value != own]
            below = np.mean([value < own for value in others]) if others else float("nan")
            ranked[f"{key}_percentile"] = 100 * float(below)
        found.append(ranked)
    return found


def draw(setup, trees, rows, baselines):
    """Figure 2b of the paper: parameters against Δ_T of all trees, and the paths through them."""

    def point(row):
        return [row["parameters"], row["total_delta"]]

    series = {"trees": [point(row) for row in rows.values()]}
    for name, front in trees.fronts.items():
        series[f"chosen by {name}"] = path = []
        for scored in front:
            # Marks with a label are joined by a line: the path of the method.
            label = [f"{scored.size / sum(trees.sizes):.1f}"] if name == "affinity" else []
            path += [[*point(rows[scored.tree]), *label]] if scored.tree in rows else []
    series["single-task"] = [point(baselines["single-task"])]
    keras_mtl.plot.front(
        series, baseline=baselines["single-task"]["parameters"], path=setup.folder / "trees.png"
    )


def run(setup, arguments):
    """One seed: returns what came out as plain data."""
    log = protocol.Log(setup)
    log.expect(trainings=len(setup.tasks) + 1, searches=0)
    baselines = protocol.baselines(setup, log)
    # After the residual block of each stage; the stem belongs to the first.
    locations = find_locations(setup.backbone, "block")[1:]
    found = branching.affinities(setup, log.single_models, locations)
    trees = branching.find_trees(setup, found)
    path = [scored.tree for scored in trees.fronts["affinity"]]
    candidates = path
    if arguments.every_tree:
        names = tuple(task.name for task in setup.tasks)
        every = enumerate_trees(names, len(trees.locations), first_shared=True)
        candidates = sorted(every, key=lambda tree: tree.cost(found["affinity"]))
    tuner, rows = branching.trained(setup, log, trees, candidates)

    best = trees.within(arguments.budget)
    one = sum(trees.sizes)
    named = {
        f"{tree.size(trees.sizes) / one:.2f} trunks" + " *" * (tree == best): rows[tree]
        for tree in path
    }
    keras_mtl.plot.tree(best, trees.locations, path=setup.folder / "tree.png")
    protocol.deliver(setup, branching.model_of(setup, trees, tuner, best), {**baselines, **named})
    draw(setup, trees, rows, baselines)
    outcome = {
        "seed": setup.seed,
        "affinity": found["affinity"].values.tolist(),
        "errors": found["errors"].values.tolist(),
        "baselines": baselines,
        "sizes": trees.sizes,
        "rows": [{"tree": tree.levels, **row} for tree, row in rows.items()],
    }
    if arguments.every_tree:
        outcome["ranks"] = {
            name: ranks(trees.sizes, rows, front) for name, front in trees.fronts.items()
        }
    (setup.folder / "outcome.json").write_text(json.dumps(outcome, indent=1))
    return outcome


def experiment(arguments, seed):
    """The data, tasks and budget of `nyuv2.py`, with a smaller backbone."""
    keras.backend.clear_session()  # names of layers count from 1: results are kept by them
    setup = nyuv2.experiment(argparse.Namespace(**{**vars(arguments), "seed": seed}))
    size = (48, 64) if arguments.half else (96, 128)
    keras.utils.set_random_seed(seed)
    backbone = resnet(
        (*size, 3), width=arguments.width, blocks=(1,) * 4, strides=(1, 2, 2, 1), stem_stride=2
    )
    return dataclasses.replace(
        setup,
        backbone=backbone,
        strategies={},
        folder=pathlib.Path(arguments.folder) / f"seed{seed}",
        settings={"width": arguments.width, "half": arguments.half, "epochs": arguments.epochs},
    )


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=2.0, help="in multiples of the backbone")
    parser.add_argument("--every-tree", action="store_true")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--full", action="store_true", help="the whole resolution, not half of it")
    parser.add_argument("--epochs", type=int, default=4, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", default="runs/branched")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    arguments.limit, arguments.batch, arguments.search_epochs = None, 16, 1
    arguments.samples, arguments.strategy, arguments.regularisation = 1, ["adashare"], 0.1
    if arguments.quick:
        arguments.width, arguments.batch, arguments.limit, arguments.epochs = 4, 8, 16, 1
    arguments.half = not arguments.full
    return arguments


def main(arguments=None):
    arguments = parse(arguments)
    outcomes = [run(experiment(arguments, seed), arguments) for seed in arguments.seeds]
    if arguments.every_tree:
        print(summary(outcomes))


def summary(outcomes):
    """Ranks of the chosen trees among all that are no larger, over the seeds."""
    lines = ["seed  by        trunks  Δ_T test  median  percentile  on validation"]
    for outcome in outcomes:
        for name, ranked in outcome["ranks"].items():
            lines += [
                f"{outcome['seed']:4d}  {name:8s}  {row['size'] / sum(outcome['sizes']):6.2f}  "
                f"{row['total_delta']:+8.2f}  {row['total_delta_median']:+6.2f}  "
                f"{row['total_delta_percentile']:10.0f}  {row['validation_delta_percentile']:13.0f}"
                for row in ranked
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
