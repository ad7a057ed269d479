"""Prints the tables of README from `benchmarks/results/speed.json` and `pruning.json`.

python benchmarks/tables.py
"""

import json
import pathlib

RESULTS = pathlib.Path(__file__).parent / "results" / "speed.json"


def build_table(results):
    """Seconds to read, and to read and build."""
    yield "| backbone | read | read and build, 2 tasks | 5 tasks | Keras' `clone_model` alone |"
    yield "|---|--:|--:|--:|--:|"
    figures = results["build"]["figures"]
    for name in dict.fromkeys(key.split(",")[0] for key in figures):
        two, five = (figures[f"{name}, {count} tasks"] for count in (2, 5))
        yield (
            f"| {name} | {two['read_s']:.2f} s | {two['read_and_build_s']:.2f} s "
            f"| {five['read_and_build_s']:.2f} s | {two['keras_clone_model_s']:.2f} s |"
        )


def step_table(results):
    """Step times in units of K single-task steps."""
    counts = [key.split("= ")[1] for key in results if key.startswith("steps")]
    counts.sort(key=int)
    figures = [results[f"steps, K = {count}"]["figures"] for count in counts]
    yield "| step | " + " | ".join(f"K = {count}" for count in counts) + " |"
    yield "|---|" + "--:|" * len(counts)
    rows = {"shared": "shared", "warm-up": "warm_up"}
    for opened, share in ((2, "a quarter"), (4, "a half"), (8, "all")):
        rows[f"{share} of the blocks open, weights"] = f"open_{opened}_weights"
        rows["… predicted from FLOPs" + " " * opened] = f"open_{opened}_predicted"
        rows[f"{share} of the blocks open, policy"] = f"open_{opened}_policy"
    for title, key in rows.items():
        yield f"| {title.strip()} | " + " | ".join(f"{f[key]:.2f}" for f in figures) + " |"
    seconds = [f"{f['first_step_s']['open_8_weights']:.0f} s" for f in figures]
    yield "| first step, all open (tracing) | " + " | ".join(seconds) + " |"
    memory = [f"{f['peak_memory_gib']:.1f} GiB" for f in figures]
    yield "| peak memory of the process | " + " | ".join(memory) + " |"


def inference_table(results):
    """Time and FLOPs of derived models, in units of the independent networks."""
    yield "| model, batch | time | FLOPs |"
    yield "|---|--:|--:|"
    for name, row in results["inference"]["figures"].items():
        yield f"| {name} | {row['time_ratio']:.2f} | {row['flops_ratio']:.2f} |"


def pruning_table(results):
    """Time and FLOPs of pruned networks, in units of the whole network."""
    yield "| network | time | FLOPs | time / FLOPs |"
    yield "|---|--:|--:|--:|"
    for name, part in results.items():
        for key, row in part["figures"].items():
            if "time_ratio" in row:
                figures = (row[kind] for kind in ("time_ratio", "flops_ratio", "time_to_flops"))
                yield f"| {name}, {key} | " + " | ".join(f"{x:.2f}" for x in figures) + " |"


def main():
    results = json.loads(RESULTS.read_text())
    for table in (build_table, step_table, inference_table):
        print("\n".join(table(results)), end="\n\n")
    pruning = json.loads(RESULTS.with_name("pruning.json").read_text())
    print("\n".join(pruning_table(pruning)))


if __name__ == "__main__":
    main()
