"""The policy of a search: a heat map of select or skip, or bars of several options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from keras_mtl.plot import _canvas

if TYPE_CHECKING:
    from keras_mtl.architecture import Architecture

OPTIONS = ("shared", "own", "skip")
_CHOSEN = "#08519c"


def policy(
    probabilities: ArrayLike,
    tasks: Sequence[str],
    units: Sequence[str],
    *,
    architecture: Architecture | None = None,
    path: os.PathLike[str] | str | None = None,
) -> Figure:
    """Draws how likely each task is to choose what at each unit.

    *Select or skip*: a heat map with one row per task and one column per unit; the darker, the
    likelier. Values are printed where cells have room. With an architecture, a second group of rows
    shows the decision: a filled cell is a unit that the task runs, an empty cell one that it skips.

    *Shared, own or skip*: one panel per task and in it one bar per unit, of which each option takes
    its probability, in the colours of `architecture`: the shared copy grey, the task's own copy in
    the task's colour, skipping white. With an architecture, the strip below a panel shows the
    decision.

    Args:
        probabilities: array of shape `(units, tasks)`, P(select), or `(units, tasks, 3)`, the
            probabilities of `"shared"`, `"own"` and `"skip"`; from 0 to 1.
        tasks: sequence of str. Names of the tasks.
        units: sequence of str. Names of the units.
        architecture: `Architecture` or `None`. A decision over the same tasks and units.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when shapes, values or the architecture's names do not fit.

    Example:

    >>> figure = policy([[0.9, 0.2], [0.5, 1.0]], ["depth", "normal"], ["block1", "block2"])
    >>> figure.axes[0].get_title(loc="left")
    'P(select)'
    >>> figure = policy([[[0.7, 0.2, 0.1]], [[0.1, 0.1, 0.8]]], ["depth"], ["conv1", "conv2"])
    >>> figure.axes[0].get_ylabel()
    'depth'

    Reference: [AdaShare](https://arxiv.org/abs/1911.12423), Figure 3 (a);
    [AutoMTL](https://arxiv.org/abs/2110.13076), Figure 3 (a).
    """
    tasks, units = tuple(tasks), tuple(units)
    probabilities = np.asarray(probabilities, dtype="float64")
    _check(probabilities, tasks, units, architecture)
    draw = _heat_map if probabilities.ndim == 2 else _bars
    return _canvas.saved(draw(probabilities, tasks, units, architecture), path)


def _check(probabilities, tasks, units, architecture):
    shape = (len(units), len(tasks))
    if probabilities.shape not in (shape, (*shape, len(OPTIONS))) or not probabilities.size:
        raise ValueError(
            f"`probabilities` must have shape (units, tasks) = {shape}, both at least 1, or "
            f"{(*shape, len(OPTIONS))} for the options {OPTIONS}. "
            f"Received: probabilities.shape={probabilities.shape}."
        )
    if not np.all((probabilities >= 0) & (probabilities <= 1 + 1e-4)):
        raise ValueError(
            "`probabilities` must lie between 0 and 1. Received: values from "
            f"{probabilities.min():.3g} to {probabilities.max():.3g}."
        )
    if probabilities.ndim == 3 and not np.allclose(probabilities.sum(-1), 1, atol=1e-3):
        sums = probabilities.sum(-1)
        raise ValueError(
            "`probabilities` of the options must sum to 1. Received: sums from "
            f"{sums.min():.3g} to {sums.max():.3g}."
        )
    if architecture is not None and (architecture.tasks, architecture.units) != (tasks, units):
        raise ValueError(
            "`architecture` must have the same tasks and units. Received: "
            f"architecture.tasks={architecture.tasks} of {tasks}, "
            f"{len(architecture.units)} units of {len(units)}."
        )


def _heat_map(probabilities, tasks, units, architecture):
    cell = 0.46 if len(units) <= 24 else 0.26
    row, size = 0.32, 8 if len(units) <= 24 else 7
    width, height = max(cell * len(units), 0.46), row * len(tasks)
    names = _canvas.short(tasks)
    gap = 0.4
    decided = gap + height if architecture is not None else 0.0
    left = _canvas.text_inches(names, 9) + 0.25
    tall = min(max(height, 0.8), 2.5)
    bottom = max(_canvas.units_inches(units, cell, size), tall - height - decided) + 0.1
    # The heading of the decision needs its own width, past which the colour bar stands.
    beside = max(width, 1.65) if architecture is not None else width
    right = beside - width + 0.75
    figure = Figure(figsize=(left + width + right, bottom + decided + height + 0.4))
    axes = _canvas.place(figure, left, bottom + decided, width, height)
    _canvas.label_units(axes, units, cell, size)
    if architecture is not None:
        axes.set_xticks([])
        marks = _canvas.place(figure, left, bottom, width, height)
        _decision(marks, architecture)
        _rows(marks, names)
        _canvas.label_units(marks, units, cell, size)
        marks.set_title("decision: ■ runs  □ skips", loc="left", fontsize=9, color=_canvas.INK)

    mesh = axes.pcolormesh(
        probabilities.T, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1.2
    )
    _rows(axes, names)
    axes.set_title("P(select)", loc="left", fontsize=9, color=_canvas.INK)
    if cell >= 0.4:
        for (unit, task), value in np.ndenumerate(probabilities):
            shade = "white" if value > 0.55 else _canvas.INK
            axes.text(
                unit + 0.5, task + 0.5, f"{value:.2f}",
                ha="center", va="center", fontsize=7.5, color=shade,
            )  # fmt: skip
    scale = _canvas.place(figure, left + beside + 0.15, bottom + decided + height - tall, 0.1, tall)
    bar = figure.colorbar(mesh, cax=scale, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    scale.tick_params(length=0, labelsize=7.5, colors=_canvas.INK)
    return figure


def _rows(axes, names):
    axes.set_yticks([index + 0.5 for index in range(len(names))])
    axes.set_yticklabels(names, fontsize=9)
    axes.set_ylim(len(names), 0)


def _decision(axes, architecture):
    for row, task in enumerate(architecture.tasks):
        for column, choice in enumerate(architecture.choices[task]):
            runs = choice != "skip"
            axes.add_patch(
                Rectangle(
                    (column + 0.14, row + 0.14), 0.72, 0.72, linewidth=0.8,
                    facecolor=_CHOSEN if runs else "white",
                    edgecolor=_CHOSEN if runs else _canvas.FAINT,
                    gid="runs" if runs else "skips",
                )
            )  # fmt: skip
    axes.set_xlim(0, len(architecture.units))


def _bars(probabilities, tasks, units, architecture):
    cell = 0.46 if len(units) <= 24 else 0.18
    size = 8 if len(units) <= 24 else 6.5
    names = _canvas.short(tasks)
    width, tall, strip, gap = max(cell * len(units), 0.46), 0.62, 0.13, 0.16
    below = strip + 0.04 if architecture is not None else 0.0
    row = tall + below + gap
    legend = _options_legend(len(tasks), architecture is not None)
    labels = [label for _, label in legend]
    left = _canvas.text_inches(names, 9) + 0.55
    right = _canvas.text_inches(labels, 8) + 0.55
    bottom = _canvas.units_inches(units, cell, size) + 0.1
    bottom = max(bottom, 0.2 * len(legend) + 0.1 - row * len(tasks))
    height = bottom + row * len(tasks) + 0.15
    figure = Figure(figsize=(left + width + right, height))
    for index, task in enumerate(tasks):
        foot = height - 0.15 - index * row - tall
        axes = _canvas.place(figure, left, foot, width, tall)
        _stack(axes, probabilities[:, index], index)
        axes.set_ylabel(
            names[index], rotation=0, ha="right", va="center", fontsize=9,
            color=_canvas.colour(_canvas.TASK_COLOURS, index),
        )  # fmt: skip
        last = axes
        if architecture is not None:
            last = _canvas.place(figure, left, foot - below, width, strip)
            _strip(last, architecture.choices[task], index)
    _canvas.label_units(last, units, cell, size)
    figure.legend(
        [handle for handle, _ in legend], labels, loc="upper left", frameon=False, fontsize=8,
        bbox_to_anchor=((left + width) / figure.get_size_inches()[0], 1 - 0.08 / height),
        labelcolor=_canvas.INK, handlelength=1.6,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )  # fmt: skip
    return figure


def _stack(axes, probabilities, lane):
    middles, foot = np.arange(len(probabilities)) + 0.5, 0
    for option, values in zip(OPTIONS, probabilities.T, strict=True):
        axes.bar(
            middles, values, 0.82, bottom=foot, label=option, linewidth=0,
            color=_shade(option, lane),
        )  # fmt: skip
        foot = foot + values
    # The part that is skipped is white: an outline says how far the bar goes.
    axes.bar(middles, 1, 0.82, fill=False, linewidth=0.5, edgecolor=_canvas.FAINT)
    axes.set_xlim(0, len(probabilities))
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([0, 1])
    axes.tick_params(labelsize=7)
    _canvas.bare(axes)


def _strip(axes, choices, lane):
    for column, choice in enumerate(choices):
        skips = choice == "skip"
        axes.add_patch(
            Rectangle(
                (column + 0.09, 0.05), 0.82, 0.9, facecolor=_shade(choice, lane), gid=choice,
                linewidth=0.8, edgecolor=_canvas.FAINT if skips else _shade(choice, lane),
            )
        )  # fmt: skip
    axes.set_xlim(0, len(choices))
    axes.set_xticks([])
    axes.set_yticks([])
    _canvas.bare(axes)


def _shade(choice, lane):
    if choice == "own":
        return _canvas.colour(_canvas.TASK_COLOURS, lane)
    return "white" if choice == "skip" else _canvas.SHARED


def _options_legend(num_tasks, decided):
    owners = tuple(Patch(color=each) for each in _canvas.TASK_COLOURS[: min(num_tasks, 3)])
    entries = [
        (Patch(facecolor="white", edgecolor=_canvas.FAINT), "P(skip)"),
        (owners, "P(own copy)"),
        (Patch(color=_canvas.SHARED), "P(shared copy)"),
    ]
    if decided:
        entries.append((Patch(alpha=0), "strip: the decision"))
    return entries
