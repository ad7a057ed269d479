"""How far the trees of the beam search are from the best ones, and how long searching takes.

    python benchmarks/trees.py [--tasks 6 7] [--cases 50] [--seed 0]

For few tasks the exact search gives the best tree of every size. The beam search is made to do
the same, without and with its improvement by moves, and compared at every size where the exact
front changes; beside it one random tree of the same budget. The cost of the best tree falls to 0,
so a gap is given twice: in parts of the cost of the tree that shares everything, and relative to
the best cost. Affinities are noise, or a planted tree with noise. Writes
`benchmarks/results/trees.json` and prints the tables. Takes about 10 minutes on two busy cores.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import time

import numpy as np

from keras_mtl.affinity import Affinity, count_trees, random_trees, search_trees

RESULTS = pathlib.Path(__file__).parent / "results" / "trees.json"
# Parameters, and multiply-adds in millions at 224x224, of the four stages of a ResNet-18.
SIZES = {
    "parameters": (157_504, 525_568, 2_099_712, 8_393_728),
    "flops": (580, 412, 412, 411),
}
METHODS = {
    "beam": {"exact_limit": 0, "improve": False},
    "beam and moves": {"exact_limit": 0, "improve": True},
}


def noise(num_locations, num_tasks, generator):
    """Affinities that know nothing of each other, nor of the other locations."""
    return symmetric(generator.random((num_locations, num_tasks, num_tasks)))


def planted(num_locations, num_tasks, generator):
    """Tasks of one branch of a random tree are alike; every two grow apart with depth."""
    sizes = [1] * num_locations
    (tree,) = random_trees(
        names("task", num_tasks), sizes, 1, first_shared=True, seed=int(generator.integers(2**31))
    )
    values = np.empty((num_locations, num_tasks, num_tasks))
    for depth, level in enumerate(tree.levels):
        values[depth] = 0.8 - 0.15 * depth
        for group in level:
            rows = [tree.tasks.index(task) for task in group]
            values[depth][np.ix_(rows, rows)] = 0.95 - 0.05 * depth
    return symmetric(values + generator.normal(0, 0.08, values.shape))


def symmetric(values):
    upper = np.triu(np.clip(values, -1, 0.999), 1)
    return upper + upper.transpose(0, 2, 1) + np.eye(values.shape[1])


KINDS = {"noise": noise, "planted": planted}


def names(what, count):
    return tuple(f"{what}{i}" for i in range(count))


def make(kind, num_locations, num_tasks, seed):
    """One affinity, different for every seed."""
    generator = np.random.default_rng([seed, num_tasks, num_locations])
    values = KINDS[kind](num_locations, num_tasks, generator)
    return Affinity(values, names("task", num_tasks), names("location", num_locations))


def gaps(affinity, sizes, seed):
    """For each method two rows: gaps in parts of the shared tree's cost, and relative ones."""
    best = search_trees(affinity, sizes, exact_limit=float("inf"))
    found = {}
    for method, options in METHODS.items():
        front = search_trees(affinity, sizes, **options)
        found[method] = [[x for x in front if x.size <= exact.size][-1].cost for exact in best]
    found["random tree"] = [
        random_trees(affinity.tasks, sizes, 1, budget=exact.size, seed=seed)[0].cost(affinity)
        for exact in best
    ]
    optimum = np.array([exact.cost for exact in best])
    some = optimum > 1e-9
    gaps = {method: (np.array(costs) - optimum)[some] for method, costs in found.items()}
    return {
        method: np.stack([gap / best[0].cost, gap / optimum[some]]) for method, gap in gaps.items()
    }


def gap_figures(kind, count, num_tasks, arguments):
    """Median, 95th percentile and worst of the gaps of many cases."""
    pooled = {}
    for case in range(arguments.cases):
        seed = arguments.seed + case
        affinity = make(kind, 4, num_tasks, seed)
        for method, rows in gaps(affinity, SIZES[count], seed).items():
            pooled.setdefault(method, []).append(rows)
    figures = {"trees": count_trees(num_tasks, 4)}
    for method, rows in pooled.items():
        shares, relative = np.concatenate(rows, axis=1)
        figures["budgets"] = len(shares)
        figures[method] = {
            "optimal": float((shares < 1e-9).mean()),
            "of_shared": summary(shares),
            "relative": summary(relative),
        }
    return figures


def summary(values):
    points = np.quantile(values, [0.5, 0.95, 1.0])
    return dict(zip(("median", "p95", "worst"), map(float, points), strict=True))


def time_figures(kind, num_tasks, num_locations, options):
    """Seconds of one search, and what it found."""
    affinity = make(kind, num_locations, num_tasks, 0)
    sizes = SIZES["parameters"] + SIZES["parameters"][-1:] * (num_locations - 4)
    begun, used = time.perf_counter(), time.process_time()
    front = search_trees(affinity, sizes, **options)
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - used,
        "trees_on_front": len(front),
        "cost_at_twice_the_backbone": next(
            x.cost for x in reversed(front) if x.size <= 2 * sum(sizes)
        ),
    }


def keep(name, figures, seed):
    """Writes figures beside the command that made them."""
    RESULTS.parent.mkdir(exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    libraries = ("numpy", "scipy", "scikit-learn")
    kept[name] = {
        "figures": figures,
        "command": " ".join(["python benchmarks/trees.py", *sys.argv[1:]]),
        "seed": seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in libraries},
        "date": time.strftime("%Y-%m-%d"),
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def show(*cells):
    sys.stdout.write("| " + " | ".join(cells) + " |\n")
    sys.stdout.flush()


def gap_table(arguments):
    show("affinity, size", "tasks", "search", "optimal", *["median", "95 %", "worst"] * 2)
    show(*["---"] * 4, *["--:"] * 6)
    for kind in KINDS:
        for count in SIZES:
            for num_tasks in arguments.tasks:
                figures = gap_figures(kind, count, num_tasks, arguments)
                keep(f"gap, {kind}, {count}, N = {num_tasks}", figures, arguments.seed)
                for method in (*METHODS, "random tree"):
                    row = figures[method]
                    points = [*row["of_shared"].values(), *row["relative"].values()]
                    cells = [f"{100 * x:.1f} %" for x in (row["optimal"], *points)]
                    show(f"{kind}, {count}", str(num_tasks), method, *cells)


def time_table(arguments):
    show("affinity", "tasks", "locations", "search", "seconds", "CPU", "trees on the front")
    show(*["---"] * 4, *["--:"] * 3)
    rows = [(7, 4, "exact"), (9, 4, "exact"), (26, 4, "beam"), (26, 4, "beam and moves")]
    for num_tasks, num_locations, method in [*rows, (40, 5, "beam"), (40, 5, "beam and moves")]:
        for kind in KINDS:
            options = METHODS.get(method, {})
            found = time_figures(kind, num_tasks, num_locations, options)
            keep(f"time, {kind}, N = {num_tasks}, {method}", found, 0)
            seconds = [f"{found[key]:.1f} s" for key in ("seconds", "cpu_seconds")]
            cells = [kind, str(num_tasks), str(num_locations), method, *seconds]
            show(*cells, str(found["trees_on_front"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["gap", "time"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[6, 7])
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for part in arguments.parts:
        {"gap": gap_table, "time": time_table}[part](arguments)


if __name__ == "__main__":
    main()
