"""The tables of README and `docs/`, from `benchmarks/results/*.json`.

python benchmarks/tables.py            # says which pages are out of date
python benchmarks/tables.py --write    # puts all tables between their marks
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))

from fair import summary
from fair import tables as quality_tables

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN = "<!-- {} tables: begin; by `python benchmarks/tables.py --write` -->"
END = "<!-- {} tables: end -->"


def load(name):
    """The figures of one experiment."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def load_suites():
    """Name of a suite -> what `quality.py` has written of it, in the order of the suites."""
    import suites

    found = {path.stem.removeprefix("quality_"): None for path in RESULTS.glob("quality_*.json")}
    order = sorted(found, key=lambda name: (suites.NAMES.index(name.split("-")[0]), name))
    return {name: load(f"quality_{name}") for name in order}


def build_section(results):
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


def step_section(results):
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


def inference_section(results):
    """Time and FLOPs of derived models, in units of the independent networks."""
    yield "| model, batch | time | FLOPs |"
    yield "|---|--:|--:|"
    for name, row in results["inference"]["figures"].items():
        yield f"| {name} | {row['time_ratio']:.2f} | {row['flops_ratio']:.2f} |"


def pruning_section(results):
    """Time and FLOPs of pruned networks, in units of the whole network."""
    yield "| network | time | FLOPs | time / FLOPs |"
    yield "|---|--:|--:|--:|"
    for name, part in results.items():
        for key, row in part["figures"].items():
            if "time_ratio" in row:
                figures = (row[kind] for kind in ("time_ratio", "flops_ratio", "time_to_flops"))
                yield f"| {name}, {key} | " + " | ".join(f"{x:.2f}" for x in figures) + " |"


def demo_section(results):
    """What `make demo` prints."""
    import protocol

    yield protocol.table(results["rows"])


def quality_section(results):
    """Every suite in full: what the methods cost, every metric, what was left out."""
    for name, found in results.items():
        yield f"## {summary.suite_title(name)}"
        yield ""
        yield f"{found['suite']['title'].capitalize()}. {summary.told(found)}."
        yield ""
        yield from quality_tables.main_table(found)
        yield ""
        yield "Costs, in units of single-task training and of separate networks:"
        yield ""
        yield from quality_tables.cost_table(found)
        yield ""
        yield "Every metric, on test:"
        yield ""
        yield from quality_tables.metric_table(found)
        yield ""
        yield from quality_tables.left_out(found)


def partition_section(results):
    """Tables 1 and 2 of Feature Partitioning in small."""
    import domains

    correlation, outcomes = results["correlation"], results["outcomes"]
    yield f"`{correlation['command']}` ({correlation['date']}, {results['machine']}):"
    yield ""
    yield domains.correlation_table(correlation)
    yield ""
    yield f"`{outcomes['command']}` ({outcomes['date']}, {results['machine']}):"
    yield ""
    yield domains.outcome_table(list(outcomes["seeds"].values()))


# Section -> its tables, and the figures they are made from.
SECTIONS = {
    "demo": (demo_section, lambda: load("demo")),
    "fair": (summary.section, load_suites),
    "quality": (quality_section, load_suites),
    "partition": (partition_section, lambda: load("domains")),
    "build": (build_section, lambda: load("speed")),
    "step": (step_section, lambda: load("speed")),
    "inference": (inference_section, lambda: load("speed")),
    "pruning": (pruning_section, lambda: load("pruning")),
}
PAGES = {
    ROOT / "README.md": ("demo", "fair"),
    ROOT / "docs" / "quality.md": ("quality",),
    ROOT / "docs" / "results.md": ("partition",),
    ROOT / "docs" / "speed.md": ("build", "step", "inference", "pruning"),
}


def rewritten(text, sections, results=None):
    """The text of a page with its tables anew.

    Args:
        text: string.
        sections: names of the sections that the page must have.
        results: dict from section to its results; by default what is in `results/`.
    """
    for name in sections:
        section, figures = SECTIONS[name]
        begin, end = BEGIN.format(name), END.format(name)
        if begin not in text or end not in text:
            raise SystemExit(f"The page must have the lines {begin} and {end}.")
        before, rest = text.split(begin)
        _, after = rest.split(end)
        body = "\n".join(section(figures() if results is None else results[name])).strip()
        text = f"{before}{begin}\n\n{body}\n\n{end}{after}"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put them into the pages")
    write = parser.parse_args().write
    for path, sections in PAGES.items():
        text = path.read_text(encoding="utf-8")
        new = rewritten(text, sections)
        print(f"{path.relative_to(ROOT)}: {'up to date' if new == text else 'out of date'}")
        if write and new != text:
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
