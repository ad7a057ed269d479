"""The figures of `quality.py` as data: collected from the folders of the seeds."""

import json
import os
import pathlib
import platform
import sys
import time

import speed

from fair import methods
from keras_mtl.tuners import files

FIGURES = (
    "test",
    "delta",
    "total_delta",
    "validation_delta",
    "parameters",
    "flops",
    "parameters_per_task",
    "flops_per_task",
    "num_candidates",
    "candidates",
    "work",
)
TITLES = {"single_task": "single-task", "single_again": "single-task, as long again"}


def title(name):
    """What the tables call a row; a dagger for what begins with trained networks."""
    if name in TITLES:
        return TITLES[name]
    return methods.EVERY[name].title + " †" * methods.EVERY[name].begins_trained


def kept(folder, seed):
    """Everything that one seed has kept."""
    return files.read_json(pathlib.Path(folder) / f"seed{seed}" / "results.json")


def save(path, folder, seeds):
    """Writes the figures of all seeds so far, whole or not at all."""
    found = {seed: kept(folder, seed) for seed in seeds}
    first = found[seeds[0]]
    every = {name for one in found.values() for name in one["methods"]}
    data = {
        "command": "python benchmarks/quality.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": speed.versions(),
        "date": time.strftime("%Y-%m-%d"),
        "suite": first["suite"],
        "left_out": {name: why for one in found.values() for name, why in one["left_out"].items()},
        "titles": {name: title(name) for name in order(every)},
        "seeds": {str(seed): figures(one) for seed, one in found.items()},
    }
    text = json.dumps(data, indent=1) + "\n"
    files.write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load(path):
    return files.read_json(path)


def order(rows):
    """Names of rows in the order of the table."""
    return ["single_task", *(name for name in ("single_again", *methods.EVERY) if name in rows)]


def figures(one):
    """The figures of one seed: rows, and what everything took."""
    single, latency = one["single"], one.get("latency")
    rows = {"single_task": single_row(single["results"])}
    for name in order(one["methods"])[1:]:
        row = one["methods"][name]
        rows[name] = {key: row[key] for key in FIGURES if key in row}
        rows[name]["time"] = {
            "search": row.get("search_seconds", 0.0) / single["seconds"],
            "training": row["seconds"] / single["seconds"],
            "candidates": row.get("candidates_seconds", row["seconds"]) / single["seconds"],
        }
        if latency and name in latency:
            rows[name]["latency"] = {
                batch: seconds / latency["independent"][batch]
                for batch, seconds in latency[name].items()
            }
    return {
        "wall_seconds": one["wall_seconds"],
        "single_seconds": single["seconds"],
        "epoch_seconds": sum(seconds for _, seconds in one["spent"].values()),
        "rows": rows,
    }


def single_row(single):
    """The row to which all others are relative."""
    return {
        "test": single["test"],
        "delta": dict.fromkeys(single["test"], 0.0),
        "total_delta": 0.0,
        "parameters": sum(single["parameters"].values()),
        "flops": sum(single["flops"].values()),
        "parameters_per_task": single["parameters"],
        "flops_per_task": single["flops"],
        "num_candidates": 1,
        "work": {"training": 1.0, "candidates": 1.0, "search": 0.0},
        "time": {"search": 0.0, "training": 1.0, "candidates": 1.0},
        "latency": {"1": 1.0, "8": 1.0},
    }
