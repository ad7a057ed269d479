"""All suites beside each other: the tables of `quality.py` that README shows."""

import numpy as np

from fair import methods
from fair.tables import DAGGER, head, line, line_below, mean, rows_of, trivial_delta

# The orderings that the papers claim: the first is better.
CLAIMS = (
    ("adashare", "shared"),
    ("adashare", "random_1"),
    ("adashare", "random_2"),
    ("auto_mtl", "adashare"),
    ("mtl_nas", "nddr_cnn"),
    ("mtl_nas", "cross_stitch"),
    ("branched", "random_trees"),
    ("feature_partition", "all_channels"),
)


def section(results):
    """Δ_T of every method on every suite, its ablations, and how every suite was run.

    What was run longer, with a few methods, is in all tables but the first.

    Args:
        results: dict from the name of a suite to what `quality.py` has written of it.
    """
    yield from delta_table({name: results[name] for name in results if times(name) == 1})
    yield ""
    yield DAGGER
    claims = list(claim_table(results))
    if len(claims) > 2:
        yield ""
        yield "What the papers claim, as differences of Δ_T within a seed (positive: it holds):"
        yield ""
        yield from claims
    for name, found in results.items():
        if any(key in methods.ABLATIONS for key in found["titles"]):
            yield ""
            yield f"Ablations, on {suite_title(name)}:"
            yield ""
            yield from ablation_table(found)
    yield ""
    yield from run_table(results)


def delta_table(results):
    """Δ_T on test, mean and deviation over the seeds; a dash for what does not apply."""
    yield head(["Δ_T, %", *map(suite_title, results)])
    yield line_below(len(results) + 1)
    trivial = [mean(trivial_delta(found)[None], "+.2f") for found in results.values()]
    yield line(["trivial predictor", *trivial])
    for name, title in titles(results).items():
        deltas = [total_deltas(found, name) for found in results.values()]
        yield line([title, *(mean(values, "+.2f") for values in deltas)])


def titles(results):
    """Name of every method of the papers' table -> its title, in their order."""
    known = {}
    for found in results.values():
        known |= found["titles"]
    order = [name for name in known if name not in methods.EVERY] + list(methods.METHODS)
    return {name: known[name] for name in order if name in known}


def total_deltas(found, name):
    return [row["total_delta"] for row in rows_of(found, name)]


def claim_table(results):
    """Every ordering of the papers as a difference, mean and deviation over the seeds."""
    yield head(["better than", *map(suite_title, results)])
    yield line_below(len(results) + 1)
    for better, worse in CLAIMS:
        cells = [mean(differences(found, better, worse), "+.2f") for found in results.values()]
        if set(cells) != {"–"}:
            yield line([" > ".join(methods.EVERY[name].title for name in (better, worse)), *cells])


def differences(found, better, worse):
    """Δ_T of one method less that of another, of every seed that has both."""
    seeds = [seed["rows"] for seed in found["seeds"].values()]
    return [
        rows[better]["total_delta"] - rows[worse]["total_delta"]
        for rows in seeds
        if better in rows and worse in rows
    ]


def ablation_table(found):
    """Every method with ablations, and those below it."""
    yield head(["method", "Δ_T, %", "parameters"])
    yield line_below(3)
    ablated = {}
    for name in found["titles"]:
        if name in methods.ABLATIONS:
            ablated.setdefault(methods.ABLATIONS[name].of, []).append(name)
    for name, ablations in ablated.items():
        for row in (name, *ablations):
            if rows := rows_of(found, row):
                title = found["titles"][row]
                size = np.mean([one["parameters"] for one in rows])
                cells = [mean(total_deltas(found, row), "+.2f"), f"{size / 1e3:.0f} k"]
                yield line([f"**{title}**" if row == name else title, *cells])


def run_table(results):
    """How every suite was run, and how long it took."""
    yield head(["suite", "what", "epochs", "search", "candidates", "seeds", "minutes", "command"])
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for name, found in results.items():
        suite = found["suite"]
        numbers = (suite[key] for key in ("epochs", "search_epochs", "candidates"))
        yield line(
            [
                suite_title(name),
                suite["title"],
                *map(str, numbers),
                str(len(found["seeds"])),
                f"{minutes(found):.0f}",
                f"`{found['command']}`",
            ]
        )


def told(found):
    """One line on how a suite was run."""
    suite, count = found["suite"], len(found["seeds"])
    return (
        f"`{found['command']}` ({found['date']}, {found['machine']}), {minutes(found):.0f} minutes "
        f"for {count} seed{'s' * (count > 1)}; {suite['epochs']} epochs of every training, "
        f"{suite['search_epochs']} of every search, {suite['candidates']} candidates"
    )


def minutes(found):
    return sum(seed["wall_seconds"] for seed in found["seeds"].values()) / 60


def suite_title(name):
    """`multidigits-x3` is `multidigits`, 3 times as long."""
    suite = name.partition("-x")[0]
    return f"`{suite}`" + f", {times(name)} × as long" * (times(name) > 1)


def times(name):
    """How many times its own epochs a suite had."""
    return int(name.partition("-x")[2] or 1)
