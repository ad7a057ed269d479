"""A tree of tasks: which of them share which part of the backbone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from keras_mtl.plot import _canvas

if TYPE_CHECKING:
    from keras_mtl.affinity import Tree

_LANE, _BOX = 0.22, 0.3  # inches


def tree(
    tree: Tree,
    locations: Sequence[str] | None = None,
    *,
    path: os.PathLike[str] | str | None = None,
) -> Figure:
    """Draws a tree from its root, on the left, to the tasks, on the right.

    A column is a location; a box in it is one copy of the part of the backbone that ends there,
    with the number of its tasks. A copy of all tasks is grey, one of a single task has the colour
    of the task, any other group of tasks has a colour of its own.

    Args:
        tree: `keras_mtl.affinity.Tree`, or anything with its `levels` and `tasks`.
        locations: sequence of str or `None`. Names of the locations; by default their numbers.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when there is not one name for each location of the tree.

    Example:

    >>> plan = keras_mtl.affinity.Tree(((("a", "b", "c"),), (("a", "c"), ("b",))))
    >>> figure = tree(plan, ["block1", "block2"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['a', 'c', 'b']

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Figures 3 and 7.
    """
    levels, tasks = tree.levels, tuple(tree.tasks)
    if locations is None:
        locations = [f"location {number}" for number in range(1, len(levels) + 1)]
    if len(locations) != len(levels):
        raise ValueError(
            f"`locations` must name each of the tree's {len(levels)} locations. "
            f"Received: {len(locations)} names."
        )
    order = _order(levels, tasks)
    lane = {task: index + 0.5 for index, task in enumerate(order)}
    names = dict(zip(tasks, _canvas.short(tasks), strict=True))
    shades = _shades(levels, tasks)

    column = min(max(_canvas.text_inches(_canvas.short_units(locations), 8) + 0.2, 0.9), 1.4)
    top = _canvas.units_inches(locations, column, 8)
    right = _canvas.text_inches(names.values(), 9) + 0.25
    width, height = column * len(levels) + 0.45, max(_LANE * len(tasks), 0.5)
    figure, axes = _canvas.canvas(width, height, 0.15, right, 0.12, top)
    # One unit of x is a column, one of y a lane.
    axes.set_xlim(0, width / column)
    axes.set_ylim(len(tasks), 0)
    half = (_BOX / 2 / column, 0.36 * _LANE * len(tasks) / height)
    parents, copies = {}, {}
    for d, groups in enumerate(levels):
        for group in groups:
            place = (d + 0.5, sum(lane[task] for task in group) / len(group))
            if d:
                _link(axes, parents[group[0]], place, half[0], shades[group], len(group))
            _box(axes, place, half, shades[group], group, gid=f"{d}/{'+'.join(group)}")
            parents |= dict.fromkeys(group, place)
            copies |= dict.fromkeys(group, group)
    for task in tasks:
        end = (width / column + half[0], lane[task])
        _link(axes, parents[task], end, half[0], shades[copies[task]], 1)

    _canvas.label_units(axes, locations, column, 8)
    axes.xaxis.tick_top()
    axes.yaxis.tick_right()
    axes.set_yticks([lane[task] for task in order], [names[task] for task in order], fontsize=9)
    _canvas.bare(axes)
    return _canvas.saved(figure, path)


def _order(levels, tasks):
    """The tasks such that every group of every location stands together."""
    numbers = [{task: i for i, group in enumerate(groups) for task in group} for groups in levels]
    return sorted(tasks, key=lambda task: [number[task] for number in numbers])


def _shades(levels, tasks):
    """The colour of each group; the same at every location."""
    shades = {(task,): _canvas.colour(_canvas.TASK_COLOURS, i) for i, task in enumerate(tasks)}
    if len(tasks) > 1:
        shades[tasks] = _canvas.SHARED
    several = dict.fromkeys(group for groups in levels for group in groups if group not in shades)
    for index, group in enumerate(several):
        shades[group] = _canvas.colour(_canvas.BRANCH_COLOURS, index)
    return shades


def _box(axes, place, half, shade, group, gid):
    x, y = place
    axes.add_patch(
        FancyBboxPatch(
            (x - half[0], y - half[1]), 2 * half[0], 2 * half[1], zorder=2, gid=gid,
            boxstyle="round,pad=0,rounding_size=0.08", linewidth=0, facecolor=shade,
        )
    )  # fmt: skip
    dark = len(group) == 1 or shade == _canvas.SHARED
    axes.text(
        x, y, str(len(group)), ha="center", va="center_baseline", fontsize=8, zorder=3,
        color="white" if dark else _canvas.INK,
    )  # fmt: skip


def _link(axes, start, end, half, shade, weight):
    (x0, y0), (x1, y1) = (start[0] + half, start[1]), (end[0] - half, end[1])
    middle = (x0 + x1) / 2
    curve = Path(
        [(x0, y0), (middle, y0), (middle, y1), (x1, y1)], [Path.MOVETO, *[Path.CURVE4] * 3]
    )
    width = 1 + 0.5 * weight**0.5
    axes.add_patch(PathPatch(curve, fill=False, edgecolor=shade, linewidth=width, zorder=1))
