"""Feature partitioning on nine small image domains: from teachers to a pruned network per task.

One network and nine datasets of 32x32 pictures (`keras_mtl.data.load_domains`). All domains first
train common weights together. From these, every domain's own network is trained (the teacher); a
`PartitionTuner` searches which channels of the last stages each domain uses, scoring a partition by
distilling the teachers into the masked stages, which takes seconds; the best partition, and the
partitions that the paper compares with, are trained in full, one domain per step; the best one is
exported, where every domain's endpoint has only its channels.

    KERAS_MTL_DATA=/path/to/data python examples/domains.py                  # 9 minutes
    KERAS_MTL_DATA=/path/to/data python examples/domains.py --correlation 20 \\
        --steps 900 --proxy-steps 540                                        # table 1, an hour
    KERAS_MTL_DATA=/path/to/data python examples/domains.py --seeds 0 1 2 \\
        --steps 900 --proxy-steps 540 --trials 76 --starts 28 --directions 6 \\
        --partitions independent "share half" "share all" evolved            # table 2, 75 minutes
    KERAS_MTL_DATA=/path/to/data python examples/domains.py --quick          # does it run?

Writes results, pictures and the SavedModel to `runs/domains/seed0/` and so on; an interrupted run
goes on.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from backbones import resnet
from matplotlib.figure import Figure
from protocol import table_over_seeds
from training_log import write

import keras_mtl
from keras_mtl.data import DOMAINS, join_tasks, load_domains, sample_tasks
from keras_mtl.models import DistillationProxy
from keras_mtl.partition import Partition, PartitionSpace
from keras_mtl.strategies import FeaturePartition

FROZEN = 2 / 3
PARTITIONS = ("independent", "share half", "share all", "evolved")


@dataclasses.dataclass
class Setup:
    """What one seed works with; `common` is the model with the first weights of all others."""

    arguments: argparse.Namespace
    seed: int
    folder: pathlib.Path
    train: dict
    validation: dict
    test: dict
    tasks: list
    backbone: keras.Model
    common: object = None
    teachers: dict = dataclasses.field(default_factory=dict)

    def build(self, partition, tasks=None):
        """A network under a partition; from the common weights on, the first stages are frozen."""
        frozen, first = (0, "backbone") if self.common is None else (FROZEN, self.common)
        strategy = FeaturePartition.of(partition, frozen=frozen, seed=self.seed)
        return keras_mtl.build(
            self.backbone, tasks or self.tasks, strategy, initial_weights=first, seed=self.seed
        )

    def plan(self, partition, seed):
        """The masks of a partition, without a network."""
        strategy = FeaturePartition.of(partition, frozen=FROZEN, seed=seed)
        return keras_mtl.plan(self.backbone, self.tasks, strategy, seed=self.seed)


def prepared(arguments, seed):
    """Data, tasks and backbone of one seed."""
    keras.backend.clear_session()  # names of layers count from 1: files are kept by them
    keras.utils.set_random_seed(seed)
    train, validation, test = (
        load_domains(part, domains=arguments.domains, limit=arguments.limit)
        for part in ("train", "val", "test")
    )
    tasks = [
        keras_mtl.Task(
            domain,
            keras_mtl.heads.Classifier(DOMAINS[domain]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            ["accuracy"],
            inputs=domain,
        )
        for domain in arguments.domains
    ]
    backbone = resnet(
        (32, 32, 3), width=arguments.width, blocks=(2, 2, 2), strides=(1, 2, 2), stem_stride=2
    )
    folder = pathlib.Path(arguments.folder) / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return Setup(arguments, seed, folder, train, validation, test, tasks, backbone)


def trained(setup, name, model, steps, tasks=None, checkpoints=()):
    """Trains a model by single tasks' steps unless its weights are kept; returns it and a row.

    Args:
        setup: `Setup`.
        name: string. What the training is called.
        model: `MultiTaskModel`.
        steps: int.
        tasks: list of `Task`; all by default.
        checkpoints: shares of the steps after which validation accuracy is kept too.
    """
    names = [task.inputs for task in tasks or setup.tasks]
    schedule = keras.optimizers.schedules.CosineDecay(0.05, steps)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4, clipnorm=5.0))
    weights, record = setup.folder / f"{name}.weights.h5", setup.folder / f"{name}.json"
    if weights.exists() and record.exists():
        model.load_weights(weights)
        return model, json.loads(record.read_text())
    begun, done, early = time.time(), 0, {}
    for share in (*checkpoints, 1.0):
        until = max(done + 1, round(share * steps))
        turns = sample_tasks(
            {domain: setup.train[domain] for domain in names},
            setup.arguments.batch,
            sampling="lagging",
            steps_per_epoch=until - done,
            seed=setup.seed,
        )
        model.fit(turns, verbose=0)
        done = until
        early[f"{share:g}"] = accuracies(model, setup.validation, names)
        early[f"{share:g} seconds"] = time.time() - begun
    row = {
        "validation": early["1"],
        "test": accuracies(model, setup.test, names),
        "early": early,
        "parameters": model.architecture.parameters(),
        "flops": sum(model.architecture.flops(name) for name in names),
        "seconds": time.time() - begun,
    }
    model.save_weights(weights)
    record.write_text(json.dumps(row, indent=1))
    write(f"{name}: mean test accuracy {mean(row['test']):.2%} ({row['seconds']:.0f} s)\n")
    return model, row


def accuracies(model, data, names):
    """Domain -> accuracy."""
    held_out = join_tasks({name: data[name] for name in names}, 256, training=False)
    results = model.task_results(model.evaluate(held_out, verbose=0, return_dict=True))
    return {name: results[name]["accuracy"] for name in names}


def mean(values):
    return float(np.mean(list(values.values())))


def begin(setup):
    """Common weights, then one teacher for every domain; returns the teachers' row."""
    arguments = setup.arguments
    together = setup.build(Partition.share_all(tuple(task.name for task in setup.tasks)))
    setup.common, _ = trained(setup, "common", together, arguments.steps)
    rows = {}
    for task in setup.tasks:
        alone = Partition.share_all((task.name,))
        steps = arguments.steps // len(setup.tasks)
        model, rows[task.name] = trained(
            setup, f"teacher {task.name}", setup.build(alone, [task]), steps, [task]
        )
        setup.teachers[task.name] = model
    return {
        "validation": {name: row["validation"][name] for name, row in rows.items()},
        "test": {name: row["test"][name] for name, row in rows.items()},
        "parameters": sum(row["parameters"] for row in rows.values()),
        "flops": sum(row["flops"] for row in rows.values()),
    }


def distillation(setup):
    """The proxy, with the teachers' features computed."""
    arguments = setup.arguments
    proxy = DistillationProxy(
        setup.backbone,
        setup.tasks,
        setup.teachers,
        frozen=FROZEN,
        steps=arguments.proxy_steps,
        batch_size=arguments.proxy_batch,
        learning_rate=arguments.proxy_rate,
        initial_weights=setup.common,
        seed=setup.seed,
    )
    proxy.prepare(setup.train, setup.validation, limit=arguments.proxy_examples)
    return proxy


def searched(setup, proxy):
    """The tuner after its search: random partitions, then evolution strategies."""

    def score(partition, run):
        return proxy.score(setup.plan(partition, run.seed), seed=run.seed)

    names = tuple(task.name for task in setup.tasks)
    tuner = keras_mtl.tuners.PartitionTuner(
        score,
        PartitionSpace(names),
        max_trials=setup.arguments.trials,
        starts=setup.arguments.starts,
        directions=setup.arguments.directions,
        kept=max(1, setup.arguments.directions // 2),
        # The paper's 0.05 and 0.1 are for thousands of partitions: here every step has to count.
        deviation=0.1,
        learning_rate=1.0,
        seed=setup.seed,
        directory=setup.folder,
        project_name="search",
    )
    tuner.search()
    return tuner


def run(setup):
    """The whole path of one seed; returns the rows of the table."""
    rows = {"single-task": begin(setup)}
    proxy = distillation(setup)
    tuner = searched(setup, proxy)
    names = tuple(task.name for task in setup.tasks)
    partitions = {
        "independent": Partition.independent(names),
        "share half": Partition.share_half(names),
        "share all": Partition.share_all(names),
    }
    scores = {
        name: proxy.score(setup.plan(one, setup.seed))["score"] for name, one in partitions.items()
    }
    marks = {name: [(one.feature_use, scores[name])] for name, one in partitions.items()}
    series = {"search": tuner.history(), **marks}
    keras_mtl.plot.partition_search(series, path=setup.folder / "search.png")
    partitions["evolved"] = tuner.best_result().partition
    scores["evolved"] = tuner.best_result().score
    chosen = {name: partitions[name] for name in setup.arguments.partitions}
    best = None
    for name, partition in chosen.items():
        model, rows[name] = trained(setup, name, setup.build(partition), setup.arguments.steps)
        rows[name] |= {"use": partition.feature_use, "score": scores[name]}
        if best is None or mean(rows[name]["validation"]) > mean(rows[best[0]]["validation"]):
            best = name, model
    name, model = best
    model.architecture.save(setup.folder / "architecture.json")
    model.export(setup.folder / "saved_model")
    whole = rows["single-task"]["flops"]
    pruned = sum(model.architecture.flops(task) for task in names)
    write(f"exported {name!r}: {pruned / whole:.0%} of the teachers' FLOPs\n")
    for row in rows.values():
        row["accuracy"] = mean(row["test"])
        row.setdefault("use", 1.0)
    (setup.folder / "outcome.json").write_text(json.dumps(rows, indent=1))
    return rows


def correlation(setup):
    """Table 1: how well a minute of distillation, or a short training, tells the full training.

    Scores random partitions by the proxy, and trains each in full, keeping the accuracies after a
    20th and a 10th of the steps.
    """
    begin(setup)
    proxy = distillation(setup)
    names = tuple(task.name for task in setup.tasks)
    space = PartitionSpace(names)
    kept = {"proxy": [], "0.05": [], "0.1": [], "1": []}
    seconds = {key: [] for key in kept}
    for number in range(setup.arguments.correlation):
        partition = space.partition(space.draw(np.random.default_rng([setup.seed, number])))
        path = setup.folder / f"proxy_{number}.json"
        if not path.exists():
            begun = time.time()
            scored = proxy.score(setup.plan(partition, setup.seed), seed=number)
            path.write_text(json.dumps({"scored": scored, "seconds": time.time() - begun}))
        found = json.loads(path.read_text())
        model = setup.build(partition)
        _, row = trained(
            setup, f"random {number}", model, setup.arguments.steps, checkpoints=(0.05, 0.1)
        )
        kept["proxy"].append([found["scored"][name] for name in names])
        seconds["proxy"].append(found["seconds"])
        for key in ("0.05", "0.1", "1"):
            kept[key].append([row["early"][key][name] for name in names])
            seconds[key].append(row["early"][f"{key} seconds"])
    table = {key: correlations(kept[key], kept["1"]) for key in ("0.05", "0.1", "proxy")}
    # The first of each kind traces; the others show what one more partition costs.
    cost = {key: float(np.median(values)) for key, values in seconds.items()}
    outcome = {"domains": names, "correlation": table, "seconds": cost, "values": kept}
    (setup.folder / "correlation.json").write_text(json.dumps(outcome, indent=1))
    draw(setup, outcome)
    return outcome


def correlations(values, full):
    """Pearson's correlation over the partitions, for every domain."""
    pairs = zip(np.transpose(values), np.transpose(full), strict=True)
    return [float(np.corrcoef(one, other)[0, 1]) for one, other in pairs]


def draw(setup, outcome):
    """A cloud for every domain: the proxy's score against the accuracy of the full training."""
    names = outcome["domains"]
    figure = Figure(figsize=(9.0, 3.0 * -(-len(names) // 3)), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(-(-len(names) // 3), 3, i + 1)
        proxy, full = (np.array(outcome["values"][key])[:, i] for key in ("proxy", "1"))
        axes.plot(proxy, full, "o", color="#1f77b4", markersize=4)
        axes.set_title(f"{name}: r = {outcome['correlation']['proxy'][i]:.2f}", fontsize=10)
        axes.set(xlabel="distilled, relative to teacher", ylabel="accuracy in full")
    figure.savefig(setup.folder / "correlation.png", dpi=150)


def correlation_table(outcome):
    """Table 1 as text."""
    cost = {key: value / outcome["seconds"]["1"] for key, value in outcome["seconds"].items()}
    lines = ["| domain | 1/20 of the steps | 1/10 | distillation |", "|---|---:|---:|---:|"]
    columns = [outcome["correlation"][key] for key in ("0.05", "0.1", "proxy")]
    for name, *values in zip(outcome["domains"], *columns, strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    means = " | ".join(f"{np.mean(column):.3f}" for column in columns)
    costs = " | ".join(f"{cost[key]:.3f}" for key in ("0.05", "0.1", "proxy"))
    return "\n".join([*lines, f"| mean | {means} |", f"| time, full = 1 | {costs} |"])


def outcome_table(outcomes):
    """Table 2 as text, from the rows of every seed."""
    columns = {"accuracy, %": ("accuracy", 100, ".2f"), "channels used, %": ("use", 100, ".0f")}
    return table_over_seeds(outcomes, columns)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", nargs="+", default=list(DOMAINS), choices=list(DOMAINS))
    parser.add_argument("--correlation", type=int, help="table 1, with so many partitions")
    parser.add_argument(
        "--partitions", nargs="+", default=["share all", "evolved"], choices=PARTITIONS
    )
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=450, help="of every full training")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--trials", type=int, default=16, help="partitions of the search")
    parser.add_argument("--starts", type=int, default=8, help="random ones of these")
    parser.add_argument("--directions", type=int, default=4, help="of a step of evolution")
    parser.add_argument("--proxy-steps", type=int, default=270)
    parser.add_argument("--proxy-batch", type=int, default=8)
    parser.add_argument("--proxy-rate", type=float, default=0.1)
    parser.add_argument("--proxy-examples", type=int, default=1000, help="of every domain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", default="runs/domains")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    arguments.limit = None
    if arguments.quick:
        arguments.domains, arguments.limit, arguments.width = arguments.domains[:2], 24, 4
        arguments.steps, arguments.batch, arguments.proxy_steps = 8, 8, 4
        arguments.trials, arguments.starts, arguments.directions = 3, 1, 1
        arguments.partitions = ["share all", "evolved"]
    return arguments


def main(arguments=None):
    arguments = parse(arguments)
    if arguments.correlation:
        print(correlation_table(correlation(prepared(arguments, arguments.seeds[0]))))
        return
    text = outcome_table([run(prepared(arguments, seed)) for seed in arguments.seeds])
    print(f"\nMean over the domains, on the test part:\n\n{text}")
    (pathlib.Path(arguments.folder) / "table.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
