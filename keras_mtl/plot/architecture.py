"""A drawing of an Architecture: who computes what, and with whom."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import BoxStyle, Patch, PathPatch
from matplotlib.path import Path

from keras_mtl.plot import _canvas

if TYPE_CHECKING:
    from keras_mtl.architecture import Architecture

_DASHES = (0, (2.5, 2.5))


def architecture(
    architecture: Architecture,
    *,
    path: os.PathLike[str] | str | None = None,
    title: str | None = None,
) -> Figure:
    """Draws an Architecture: units from left to right, one lane per task.

    A copy of a unit is drawn once, over the lanes of all tasks that use it: the shared copy grey, a
    task's own copy in the task's colour, a branch's copy in the branch's colour. Where a task skips
    a unit its lane is a thin dashed line. Copies whose lanes do not touch are held together by a
    bar that runs behind the lanes in between.

    Args:
        architecture: `Architecture`. The decision to draw.
        path: str, path or `None`. Where to save a PNG file; folders are created.
        title: str or `None`. A heading.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when a task has not one choice for every unit.

    Example:

    >>> import types
    >>> plan = types.SimpleNamespace(
    ...     tasks=("depth", "normal"),
    ...     units=("block1", "block2"),
    ...     choices={"depth": ("shared", "own"), "normal": ("shared", "skip")},
    ...     fusions=(),
    ... )
    >>> figure = architecture(plan)
    >>> sorted(patch.get_gid() for patch in figure.axes[0].patches)
    ['block1/shared', 'block2/own/depth']
    """
    tasks, units, choices = architecture.tasks, architecture.units, architecture.choices
    if not tasks or not units:
        raise ValueError(
            "`architecture` must have tasks and units. Received: "
            f"{len(tasks)} tasks and {len(units)} units."
        )
    for task in tasks:
        if task not in choices or len(choices[task]) != len(units):
            received = len(choices[task]) if task in choices else "no"
            raise ValueError(
                f"`architecture` must have one choice per unit, {len(units)} for every task. "
                f"Received: {received} choices for task {task!r}."
            )

    column = 0.5 if len(units) <= 24 else 0.27
    row, size = 0.36, 8 if len(units) <= 24 else 7
    width, height = (len(units) + 0.9) * column, row * len(tasks)
    names = _canvas.short(tasks)
    branches = _branches(architecture)
    entries = _legend(architecture, branches)
    labels = [label for _, label in entries]
    left = _canvas.text_inches(names, 9) + 0.25
    right = _canvas.text_inches(labels, 8) + 0.75
    if title:
        right = max(right, _canvas.text_inches([title], 11) + 0.2 - left - width)
    top = 0.5 if title else 0.15
    below = _canvas.units_inches(units, column, size) + 0.1
    below = max(below, 0.2 * len(entries) + 0.15 - height - top)
    figure, axes = _canvas.canvas(width, height, left, right, below, top)
    axes.set_xlim(-0.45, len(units) + 0.45)
    axes.set_ylim(len(tasks), 0)

    for lane, task in enumerate(tasks):
        _lane(axes, lane, choices[task])
    for index, unit in enumerate(units):
        copies = {}
        for lane, task in enumerate(tasks):
            choice = choices[task][index]
            if choice != "skip":
                key = f"{unit}/own/{task}" if choice == "own" else f"{unit}/{choice}"
                copies.setdefault(key, (_shade(choice, lane, branches), []))[1].append(lane)
        for key, (shade, lanes) in copies.items():
            axes.add_patch(
                PathPatch(_copy(index, lanes), facecolor=shade, linewidth=0, gid=key, zorder=3)
            )
        # Bars run behind the boxes in between, side by side where there are several.
        scattered = [each for each in copies.values() if each[1][-1] - each[1][0] >= len(each[1])]
        for number, (shade, lanes) in enumerate(scattered):
            x = index + 0.5 + 0.16 * (number - (len(scattered) - 1) / 2)
            ends = [lanes[0] + 0.5, lanes[-1] + 0.5]
            axes.plot([x, x], ends, color=shade, linewidth=6 * column, zorder=2)

    _canvas.label_units(axes, units, column, size)
    axes.set_yticks([lane + 0.5 for lane in range(len(tasks))])
    axes.set_yticklabels(names, fontsize=9)
    for lane, label in enumerate(axes.get_yticklabels()):
        label.set_color(_canvas.colour(_canvas.TASK_COLOURS, lane))
    if title:
        figure.text(
            0.1 / figure.get_size_inches()[0], 1 - 0.14 / figure.get_size_inches()[1], title,
            ha="left", va="top", fontsize=11, color=_canvas.INK,
        )  # fmt: skip
    axes.legend(
        [handle for handle, _ in entries], labels, loc="upper left", bbox_to_anchor=(1, 1),
        borderaxespad=0, frameon=False, fontsize=8, labelcolor=_canvas.INK, handlelength=1.6,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )  # fmt: skip
    return _canvas.saved(figure, path)


def _branches(architecture):
    names = (choice for task in architecture.tasks for choice in architecture.choices[task])
    named = dict.fromkeys(name for name in names if name not in ("shared", "own", "skip"))
    return {name: index for index, name in enumerate(named)}


def _shade(choice, lane, branches):
    if choice == "shared":
        return _canvas.SHARED
    if choice == "own":
        return _canvas.colour(_canvas.TASK_COLOURS, lane)
    return _canvas.colour(_canvas.BRANCH_COLOURS, branches[choice])


def _lane(axes, lane, choices):
    shade = _canvas.colour(_canvas.TASK_COLOURS, lane)
    pieces = itertools.groupby(range(len(choices)), key=lambda index: choices[index] == "skip")
    for skips, piece in pieces:
        piece = list(piece)
        start = piece[0] if piece[0] > 0 else -0.45
        stop = piece[-1] + 1 if piece[-1] < len(choices) - 1 else len(choices) + 0.45
        style = {"linewidth": 0.9, "linestyle": _DASHES} if skips else {"linewidth": 1.4}
        axes.plot([start, stop], [lane + 0.5] * 2, color=shade, zorder=1, **style)


def _copy(index, lanes):
    box = BoxStyle.Round(pad=0, rounding_size=0.12)
    runs = []
    for lane in lanes:
        if runs and lane == runs[-1][-1] + 1:
            runs[-1].append(lane)
        else:
            runs.append([lane])
    return Path.make_compound_path(
        *(box(index + 0.14, run[0] + 0.14, 0.72, len(run) - 0.28, 1) for run in runs)
    )


def _legend(architecture, branches):
    used = {choice for task in architecture.tasks for choice in architecture.choices[task]}
    entries = []
    if "shared" in used:
        entries.append((Patch(color=_canvas.SHARED), "shared copy"))
    if "own" in used:
        owners = range(min(len(architecture.tasks), 3))
        colours = [_canvas.TASK_COLOURS[lane] for lane in owners]
        entries.append((tuple(Patch(color=each) for each in colours), "own copy"))
    for name, index in branches.items():
        shade = _canvas.colour(_canvas.BRANCH_COLOURS, index)
        entries.append((Patch(color=shade), f"branch {_canvas.short([name])[0]}"))
    if "skip" in used:
        dashes = Line2D([], [], color=_canvas.INK, linewidth=0.9, linestyle=_DASHES)
        entries.append((dashes, "skipped"))
    return entries
