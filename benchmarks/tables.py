"""The tables of README, from `benchmarks/results/*.json`.

python benchmarks/tables.py            # prints them
python benchmarks/tables.py --write    # puts those of whole experiments between their marks
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))

from fair import tables as quality_tables

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "speed.json"
README = HERE.parent / "README.md"
BEGIN = "<!-- {} tables: begin; by `python benchmarks/tables.py --write` -->"
END = "<!-- {} tables: end -->"


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


def quality_results():
    """Name of a suite -> what `quality.py` has written of it, in the order of the suites."""
    found = {}
    for path in (HERE / "results").glob("quality_*.json"):
        found[path.stem.removeprefix("quality_")] = json.loads(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def quality_section(results):
    """Every suite: how it was run, and its tables."""
    for name, found in results.items():
        suite, seeds = found["suite"], found["seeds"]
        minutes = sum(seed["wall_seconds"] for seed in seeds.values()) / 60
        yield (
            f"**`{name}`**: {suite['title']}. `{found['command']}` ({found['date']}, "
            f"{found['machine']}), {minutes:.0f} minutes for {len(seeds)} "
            f"seed{'s' * (len(seeds) > 1)}; {suite['epochs']} epochs of every training, "
            f"{suite['search_epochs']} of every search, {suite['candidates']} candidates."
        )
        yield ""
        yield from quality_tables.main_table(found)
        yield ""
        yield "Costs, in units of single-task training and of separate networks:"
        yield ""
        yield from quality_tables.cost_table(found)
        yield ""
        yield from quality_tables.left_out(found)


def partition_results():
    """What `examples/domains.py` has come to, or `None`."""
    path = HERE / "results" / "domains.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def partition_section(results):
    """Tables 1 and 2 of Feature Partitioning in small."""
    if results is None:
        return
    import domains

    correlation, outcomes = results["correlation"], results["outcomes"]
    yield f"`{correlation['command']}` ({correlation['date']}, {results['machine']}):"
    yield ""
    yield domains.correlation_table(correlation)
    yield ""
    yield f"`{outcomes['command']}` ({outcomes['date']}, {results['machine']}):"
    yield ""
    yield domains.outcome_table(list(outcomes["seeds"].values()))


SECTIONS = {
    "quality": (quality_section, quality_results),
    "partition": (partition_section, partition_results),
}


def rewritten(text, results=None):
    """The text of README with the tables of whole experiments anew.

    Args:
        text: string.
        results: dict from section to its results; by default what is in `results/`.
    """
    for name, (section, load) in SECTIONS.items():
        begin, end = BEGIN.format(name), END.format(name)
        if begin not in text or end not in text:
            raise SystemExit(f"{README.name} must have the lines {begin} and {end}.")
        before, rest = text.split(begin)
        _, after = rest.split(end)
        body = "\n".join(section(load() if results is None else results[name])).strip()
        text = f"{before}{begin}\n\n{body}\n\n{end}{after}"
    return text


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="README's tables of experiments")
    if parser.parse_args().write:
        README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
        return
    results = json.loads(RESULTS.read_text())
    for table in (build_table, step_table, inference_table):
        print("\n".join(table(results)), end="\n\n")
    pruning = json.loads(RESULTS.with_name("pruning.json").read_text())
    print("\n".join(pruning_table(pruning)))
    for section, load in SECTIONS.values():
        print("\n".join(section(load())))


if __name__ == "__main__":
    main()
