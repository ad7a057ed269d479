"""One fair table: every method on the same data, with the same budget and initialisation.

    python benchmarks/quality.py --suite multidigits --methods all --seeds 2
    python benchmarks/quality.py --suite multidigits --methods all ablations --seeds 2
    KERAS_MTL_DATA=/path/to/data python benchmarks/quality.py --suite nyuv2 --seeds 2
    python benchmarks/quality.py --suite multidigits --longer 3 --methods shared adashare
    python benchmarks/quality.py --suite multidigits --quick          # does it run?

Trains the single-task networks of a suite once for each seed, then every method from the same first
weights for as many steps, with the same number of candidates for each that decides; chooses on
validation data and reports on test data. Everything is kept in `runs/quality/SUITE/seed0/` and so
on: killed at any point, the same command goes on. Writes `benchmarks/results/quality_SUITE.json`
after every method, and at the end the tables and one HTML page into `runs/quality/SUITE/`.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))

import keras
import numpy as np
import protocol
import suites
import tensorflow as tf
from fair import costs, methods, partitioning, report, results, tables
from fair.methods import EVERY, Seed
from fair.reasons import reason
from fair.trivial import trivial
from training_log import Log, write

import keras_mtl

RESULTS = pathlib.Path(__file__).parent / "results"
AGAIN = "single_again"
WORK = {"search": 0.0, "training": 1.0, "candidates": 1.0}


def run(suite, asked, seeds, folder, figures, *, quick=False, longer=1):
    """Runs methods on a suite.

    Args:
        suite: module; see `suites`.
        asked: list of names of methods.
        seeds: list of int.
        folder: path. Where everything is kept.
        figures: path of the JSON file with the figures.
        quick: bool. Tiny sizes.
        longer: int. How many times the suite's epochs every training and search has.

    Returns:
        The content of that file.
    """
    took = {}
    for place, seed in enumerate(seeds):
        write(f"seed {seed}\n")
        setup = lengthened(suite.experiment(seed, folder / f"seed{seed}", quick), longer)
        for _ in run_seed(suite, setup, asked, took, len(seeds) - place - 1):
            results.save(figures, folder, seeds[: place + 1])
    return results.load(figures)


def lengthened(setup, times):
    """The same experiment with so many times the epochs."""
    if times == 1:
        return setup
    return dataclasses.replace(
        setup,
        epochs=times * setup.epochs,
        search_epochs=times * setup.search_epochs,
        settings={**setup.settings, "longer": times},
    )


def run_seed(suite, setup, asked, took, seeds_after):
    """All methods of one seed; what is kept already is not made again. Yields after each."""
    log, since = Log(setup), time.time()
    rows = log.kept.setdefault("methods", {})
    left_out = log.kept.setdefault("left_out", {})
    for name in asked:
        left_out.pop(name, None)
        if name not in rows and (why := reason(setup, name, suite.REASONS)):
            left_out[name] = why
    todo = [name for name in asked if name not in left_out]
    log.kept["suite"] = described(suite, setup, log)
    open_ = [name for name in todo if name not in rows]
    if not open_ and "latency" in log.kept:
        yield
        return
    with_again = AGAIN not in rows and any(EVERY[name].begins_trained for name in todo)
    log.expect(
        trainings=len(setup.tasks) * (2 if with_again else 1)
        + sum(EVERY[name].trainings(setup.samples) for name in open_),
        searches=sum(EVERY[name].kind == "search" for name in open_),
    )
    log.baseline = protocol.single_task(setup, log)
    single = sum(log.seconds(f"single-task, {task.name}") for task in setup.tasks)
    if rows and log.kept["single"]["results"] != log.baseline:
        raise SystemExit(
            f"{setup.folder} holds rows beside single-task networks that come out differently now: "
            "the code has changed. Choose another --folder, or delete this one."
        )
    log.kept["single"] = {"results": log.baseline, "seconds": single}
    seed = Seed(setup, log, rows)
    if with_again:
        rows[AGAIN] = again(seed)
    for number, name in enumerate(open_):
        tell_time_left(open_[number:], todo, took, single, seeds_after)
        begun = time.time()
        try_method(seed, name, left_out)
        took[name] = (time.time() - begun) / max(single, 1e-9)
        log.kept.pop("latency", None)  # all networks are timed together
        since = keep(log, since)
        yield
    log.kept["latency"] = answer_times(setup, rows)
    keep(log, since)
    yield


def try_method(seed, name, left_out):
    """Adds the row of one method, or the reason why there is none."""
    method = EVERY[name]
    if method.needs and method.needs not in seed.rows:
        left_out[name] = f"It follows from {EVERY[method.needs].title}, which is left out."
        return
    try:
        seed.rows[name] = method.run(seed, method.title)
    except keras_mtl.NonFiniteError as error:
        left_out[name] = f"It diverged: {error}"
    except keras_mtl.UnsupportedBackboneError as error:
        left_out[name] = f"It does not go with this backbone: {error}"
    if name in left_out:
        write(f"\n{method.title}: {left_out[name]}\n")


def keep(log, since):
    """Saves with the time since `since` added to what the seed took; returns the present time."""
    now = time.time()
    log.kept["wall_seconds"] = log.kept.get("wall_seconds", 0.0) + now - since
    log.save()
    return now


def described(suite, setup, log):
    """What the tables say about a suite; the trivial predictor is measured once."""
    kept = log.kept.get("suite", {})
    better = {
        task.name: {
            metric.name: "lower" if keras_mtl.metrics.lower_is_better(metric.name) else "higher"
            for metric in task.metrics
        }
        for task in setup.tasks
    }
    return {
        "title": suite.TITLE,
        "epochs": setup.epochs,
        "search_epochs": setup.search_epochs,
        "candidates": setup.samples,
        "batch_size": setup.batch_size,
        "settings": setup.settings,
        "backbone_parameters": setup.backbone.count_params(),
        "better": better,
        "trivial": kept.get("trivial") or trivial(setup),
    }


def again(seed):
    """Single-task networks trained as long again: what a column that begins trained has had."""
    log, setup = seed.log, seed.setup
    row = protocol.single_again(setup, log)
    names = [f"single-task, {task.name}, again" for task in setup.tasks]
    seconds = sum(log.seconds(name) for name in names)
    return {**row, "seconds": seconds, "work": WORK, "num_candidates": 1}


def answer_times(setup, rows):
    """Seconds of an answer of every method's network, in turn, beside separate networks'."""
    plans = {
        name: keras_mtl.Architecture.from_json(row["architecture"])
        for name, row in rows.items()
        if "architecture" in row
    }
    models = {name: protocol.build(setup, architecture=plan) for name, plan in plans.items()}
    models["independent"] = protocol.build(setup, strategy="independent")
    write(f"inference times of {len(models)} networks ...\n")
    return costs.latencies(models, some_examples(setup))


def some_examples(setup, number=8):
    """A few inputs of the test part."""
    data = setup.test
    if isinstance(data, dict):
        x = {name: own for name, (own, _) in data.items()}
    else:
        x = data[0] if isinstance(data, tuple) else np.asarray(next(iter(data))[0])
    return keras.tree.map_structure(lambda array: array[:number], x)


def tell_time_left(rest, todo, took, single, seeds_after):
    """An estimate: what a method took for an earlier seed, or a guess, times single training."""
    ahead = sum(took.get(name, EVERY[name].cost) for name in rest)
    ahead += seeds_after * (2 + sum(took.get(name, EVERY[name].cost) for name in todo))
    write(f"        about {ahead * single / 60:.0f} minutes left; next: {EVERY[rest[0]].title}\n")


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="multidigits", choices=suites.NAMES)
    parser.add_argument(
        "--methods", nargs="+", default=["all"], help=f"all, ablations, {', '.join(EVERY)}"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--longer", type=int, default=1, help="times the epochs of the suite")
    parser.add_argument("--folder", help="by default runs/quality/SUITE")
    parser.add_argument("--results", help="by default benchmarks/results/quality_SUITE.json")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    name = arguments.suite + f"-x{arguments.longer}" * (arguments.longer > 1)
    figures = f"quality_{name}.json"
    name += "-quick" * arguments.quick
    arguments.folder = pathlib.Path(arguments.folder or f"runs/quality/{name}")
    place = arguments.folder if arguments.quick else RESULTS
    arguments.results = pathlib.Path(arguments.results or place / figures)
    arguments.methods = methods.names(arguments.methods)
    return arguments


def main(arguments=None):
    arguments = parse(arguments)
    if arguments.quick:
        # A few steps of a tiny network are quicker than tracing them.
        tf.config.run_functions_eagerly(True)
        costs.WARM = costs.REPEATS = partitioning.TRIALS = 1
    found = run(
        suites.load(arguments.suite),
        arguments.methods,
        list(range(arguments.seeds)),
        arguments.folder,
        arguments.results,
        quick=arguments.quick,
        longer=arguments.longer,
    )
    text = "\n".join(tables.tables(found))
    (arguments.folder / "tables.md").write_text(text + "\n")
    page = report.write(found, arguments.folder)
    write(f"\n{text}\n\nThe report is {page}, the figures {arguments.results}.\n")


if __name__ == "__main__":
    keras.utils.disable_interactive_logging()
    main()
