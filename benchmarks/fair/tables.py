"""The tables of `quality.py`, from the figures that it has written.

python benchmarks/tables.py --write      # puts them into README
"""

import numpy as np

DAGGER = (
    "† Begins with the trained single-task networks, so it has had twice the training: compare it "
    "with “single-task, as long again”."
)
WAYS = {"higher": "↑", "lower": "↓"}


def rows_of(found, name):
    """The row of one method for every seed that has it."""
    seeds = [seed["rows"] for seed in found["seeds"].values()]
    return [rows[name] for rows in seeds if name in rows]


def mean(values, form, *, deviation=True):
    """Mean and, of several seeds, sample deviation, as text."""
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    text = f"{np.mean(values):{form}}"
    if deviation and len(values) > 1:
        text += f" ± {np.std(values, ddof=1):{form.lstrip('+')}}"
    return text


def tables(found):
    """All tables of one suite as lines of Markdown."""
    yield from main_table(found)
    yield ""
    yield from cost_table(found)
    yield ""
    yield from metric_table(found)
    yield ""
    yield from left_out(found)


def left_out(found):
    """What a dagger says; which methods do not apply, and why."""
    if any("†" in title for title in found["titles"].values()):
        yield DAGGER
        yield ""
    for why, names in reasons(found).items():
        yield f"Left out: {', '.join(names)}. {why}"


def reasons(found):
    """Why -> the methods that are left out for it."""
    by_reason = {}
    for name, why in found["left_out"].items():
        by_reason.setdefault(why, []).append(name)
    return by_reason


def main_table(found):
    """Δ of every task and of all, on test; what the network needs."""
    tasks = list(found["suite"]["better"])
    shown = tasks if len(tasks) <= 9 else []
    yield head(
        ["method", *(f"Δ {task}" for task in shown), "Δ_T", "parameters", "FLOPs", "candidates"]
    )
    yield line_below(len(shown) + 5)
    deltas = trivial_delta(found)
    cells = [mean(deltas[task], "+.1f") for task in shown] + [mean(deltas[None], "+.2f")]
    yield line(["trivial predictor", *cells, "0", "0", ""])
    for name, title in found["titles"].items():
        rows = rows_of(found, name)
        cells = [mean([row["delta"][task] for row in rows], "+.1f") for task in shown]
        cells.append(mean([row["total_delta"] for row in rows], "+.2f"))
        cells.append(size(np.mean([row["parameters"] for row in rows])))
        cells.append(size(np.mean([row["flops"] for row in rows])))
        cells.append(f"{max(row['num_candidates'] for row in rows)}")
        yield line([title, *cells])


def trivial_delta(found):
    """Δ of the trivial predictor for every task, and `None` for all, by seed."""
    from keras_mtl import relative_performance

    trivial, deltas = found["suite"]["trivial"], {}
    for seed in found["seeds"].values():
        delta = relative_performance(trivial, seed["rows"]["single_task"]["test"])
        for task, value in {**delta.per_task, None: delta.total}.items():
            deltas.setdefault(task, []).append(value)
    return deltas


def cost_table(found):
    """What search, training and answers cost, in units of single-task training and networks."""
    yield head(
        [
            "method",
            "search: time",
            "work",
            "training: time",
            "work",
            "all candidates: time",
            "work",
            "answer, batch 1",
            "batch 8",
        ]
    )
    yield line_below(9)
    for name, title in found["titles"].items():
        rows, cells = rows_of(found, name), []
        for part in ("search", "training", "candidates"):
            for kind in ("time", "work"):
                values = [row[kind].get(part, row[kind]["training"]) for row in rows]
                cells.append(mean(values, ".2f", deviation=False))
        for batch in ("1", "8"):
            values = [row.get("latency", {}).get(batch) for row in rows]
            cells.append(mean(values, ".2f", deviation=False))
        yield line([title, *cells])


def metric_table(found):
    """Every metric of every task on test; of many tasks, the mean of each metric over them."""
    better, trivial = found["suite"]["better"], found["suite"]["trivial"]
    many = len(better) > 9
    columns = {}
    for task, metrics in better.items():
        for metric, way in metrics.items():
            key = f"{metric} {WAYS[way]}" if many else f"{task} {metric} {WAYS[way]}"
            columns.setdefault(key, []).append((task, metric))
    yield head(["method", *columns])
    yield line_below(len(columns) + 1)

    def values(test):
        return [np.mean([test[t][m] for t, m in cells]) for cells in columns.values()]

    yield line(["trivial predictor", *(f"{value:.4f}" for value in values(trivial))])
    for name, title in found["titles"].items():
        by_seed = zip(*(values(row["test"]) for row in rows_of(found, name)), strict=True)
        yield line([title, *(mean(cell, ".4f") for cell in by_seed)])


def size(number):
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f}"


def head(cells):
    return line(cells)


def line(cells):
    return f"| {' | '.join(cells)} |"


def line_below(count):
    return "|---|" + "--:|" * (count - 1)
