"""The pictures of `quality.py`, from its figures and from what its seeds have kept."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import keras_mtl
from fair.tables import rows_of

INK, FAINT = "#3e4c59", "#9aa5b1"
MARKS = "osD^vP*<>hX"
BASELINES = ("single_task", "single_again", "shared", "uncertainty", "dwa")


def scores(found):
    """Δ_T of every method: a mark for each seed, a bar for mean and deviation."""
    names = list(found["titles"])
    figure = Figure(figsize=(7.2, 0.28 * len(names) + 0.8), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = [row["total_delta"] for row in rows_of(found, name)]
        colour = FAINT if name in BASELINES else "#1f77b4"
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        axes.errorbar(
            np.mean(values), place, xerr=spread, fmt="o", color=colour, capsize=3, markersize=6
        )
        axes.plot(values, [place] * len(values), "|", color=INK, markersize=9)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_yticks(range(len(names)), [found["titles"][name] for name in names], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("Δ_T on test, % (single-task = 0)", fontsize=9)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def front(found):
    """Parameters against Δ_T, means over the seeds."""
    points = {}
    for name, title in found["titles"].items():
        rows = rows_of(found, name)
        if name != "single_again":
            sizes = np.mean([row["parameters"] for row in rows])
            points[title] = [(sizes, np.mean([row["total_delta"] for row in rows]))]
    return keras_mtl.plot.front(points, baseline=points[found["titles"]["single_task"]][0][0])


def latency(found):
    """FLOPs against the time of an answer, both relative to separate networks."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    single = np.mean([row["flops"] for row in rows_of(found, "single_task")])
    for number, (name, title) in enumerate(found["titles"].items()):
        rows = [row for row in rows_of(found, name) if "latency" in row]
        if rows and name != "single_again":
            x = np.mean([row["flops"] for row in rows]) / single
            y = np.mean([row["latency"]["8"] for row in rows])
            axes.plot(x, y, MARKS[number % len(MARKS)], color=colour(number), label=title)
    axes.set(xlabel="FLOPs, of separate networks", ylabel="time of an answer, batch 8")
    axes.grid(color="#e4e7eb", linewidth=0.6)
    figure.legend(loc="outside right upper", fontsize=7.5, frameon=False)
    return figure


def colour(number):
    colours = matplotlib.colormaps["tab20"].colors
    return colours[number % len(colours)]


def curves(found, kept):
    """The training loss of every task, a line for each method; single-task networks in grey."""
    tasks = list(found["suite"]["better"])[:9]
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(3.2 * columns + 1.7, 2.3 * lines + 0.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    handles = {}
    for place, axes in enumerate(grid.flat):
        if place >= len(tasks):
            axes.set_visible(False)
            continue
        for title, shade, history in histories(found, kept, tasks[place]):
            values = history.get(f"{tasks[place]}_loss")
            if values:
                style = "o" if len(values) == 1 else "-"
                epochs = range(1, len(values) + 1)
                (handles[title],) = axes.plot(
                    epochs, values, style, color=shade, linewidth=1.2, markersize=3
                )
        axes.set_title(tasks[place], loc="left", fontsize=9, color=INK)
        axes.tick_params(labelsize=7)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if place >= len(tasks) - columns:
            axes.set_xlabel("epoch", fontsize=8)
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", fontsize=7, frameon=False
    )
    return figure


def histories(found, kept, task):
    """Title, colour and history of every training of one task; a search that is not retrained is
    one."""
    for key, row in kept.items():
        if key.startswith(f"single-task, {task} ") and "history" in row:
            yield found["titles"]["single_task"], INK, row["history"]
    for number, (name, title) in enumerate(found["titles"].items()):
        row = kept["methods"].get(name, {})
        yield title, colour(number), row.get("history") or row.get("search_history", {})


def policy(row):
    """The policy that a search has learned; `None` of a method without one."""
    if "policy" not in row:
        return None
    plan, learned = keras_mtl.Architecture.from_json(row["architecture"]), row["policy"]
    return keras_mtl.plot.policy(learned["probabilities"], plan.tasks, learned["units"])


def correlation(row):
    """How alike the tasks' policies are; `None` of a method without one."""
    if "policy" not in row:
        return None
    plan = keras_mtl.Architecture.from_json(row["architecture"])
    return keras_mtl.plot.task_correlation(row["policy"]["correlation"], plan.tasks)


def edges(row):
    """The probabilities of searched edges; `None` of a method without them."""
    if "edges" not in row:
        return None
    figure = Figure(figsize=(4.6, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(row["edges"], bins=np.linspace(0, 1, 21), color="#1f77b4")
    axes.set(xlabel="probability of an edge", ylabel="edges")
    return figure


def channels(row):
    """The share of channels that two tasks have in common, a mean over the masked operators."""
    if "architecture" not in row:
        return None
    plan = keras_mtl.Architecture.from_json(row["architecture"])
    if not plan.masks:
        return None
    common = []
    for use in plan.masks.values():
        masks = np.array([list(map(int, use.forward[task])) for task in plan.tasks])
        common.append(masks @ masks.T / use.channels)
    return keras_mtl.plot.task_correlation(np.mean(common, axis=0), plan.tasks)


def architecture(row):
    """The chosen network: lanes of units, or columns where tasks exchange features."""
    if "architecture" not in row:
        return None
    plan = keras_mtl.Architecture.from_json(row["architecture"])
    return keras_mtl.plot.columns(plan) if plan.fusions else keras_mtl.plot.architecture(plan)
