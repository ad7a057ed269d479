"""How alike tasks are at every location of the backbone."""

from __future__ import annotations

import itertools
import math
import os
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from keras_mtl.plot import _canvas

if TYPE_CHECKING:
    from keras_mtl.affinity import Affinity

_MARKERS = "osD^vPX*<>hp"
# With more tasks, a line for each pair could not be told from the others.
_MOST_LINES = 10


def affinity(affinity: Affinity, *, path: os.PathLike[str] | str | None = None) -> Figure:
    """Draws the affinity of every two tasks against the location.

    Up to five tasks: a line for each pair, the most alike at the last location first in the legend.
    More tasks: a matrix for each location, all in one order, in which tasks that are alike over all
    locations stand together; the diagonal is left blank.

    Args:
        affinity: `keras_mtl.affinity.Affinity`, or anything with its `values`, `tasks`,
            `locations`; at least 2 tasks.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when there is only one task.

    Example:

    >>> values = [[[1.0, 0.8], [0.8, 1.0]], [[1.0, 0.5], [0.5, 1.0]]]
    >>> tasks, locations = ("depth", "normal"), ("block1", "block2")
    >>> figure = affinity(keras_mtl.affinity.Affinity(values, tasks, locations))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['depth, normal']

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Figure 2a.
    """
    tasks, locations = tuple(affinity.tasks), tuple(affinity.locations)
    if len(tasks) < 2:
        raise ValueError(
            f"`affinity` must be of at least 2 tasks, to be drawn. Received: tasks={tasks}."
        )
    values = np.asarray(affinity.values)
    lines = math.comb(len(tasks), 2) <= _MOST_LINES
    figure = (_lines if lines else _matrices)(values, tasks, locations)
    return _canvas.saved(figure, path)


def _lines(values, tasks, locations):
    names = _canvas.short(tasks)
    pairs = sorted(itertools.combinations(range(len(tasks)), 2), key=lambda pair: -values[-1][pair])
    labels = [f"{names[i]}, {names[j]}" for i, j in pairs]
    column = min(max(_canvas.text_inches(_canvas.short_units(locations), 8) + 0.2, 0.95), 1.4)
    width = max(column * len(locations), 2.2)
    right = _canvas.text_inches(labels, 8) + 0.75
    bottom = _canvas.units_inches(locations, column, 8) + 0.1
    figure, axes = _canvas.canvas(width, 2.9, 0.7, right, bottom, 0.2)
    middles = np.arange(len(locations)) + 0.5
    for (i, j), label, marker in zip(pairs, labels, itertools.cycle(_MARKERS), strict=False):
        shade = _canvas.colour(_canvas.TASK_COLOURS, pairs.index((i, j)))
        axes.plot(
            middles, values[:, i, j], color=shade, marker=marker, markersize=5.5, linewidth=1.4,
            label=label, clip_on=False,
        )  # fmt: skip
    _canvas.label_units(axes, locations, column, 8)
    axes.set_xlim(0, len(locations))
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(_canvas.FAINT)
    axes.set_ylabel("affinity", fontsize=9, color=_canvas.INK)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", color=_canvas.FAINT, linewidth=0.4, alpha=0.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(y=0.08)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.03, 1), borderaxespad=0, frameon=False, fontsize=8,
        labelcolor=_canvas.INK,
    )  # fmt: skip
    return figure


def _matrices(values, tasks, locations):
    order = _order(values)
    names = _canvas.short([tasks[i] for i in order])
    values = np.where(np.eye(len(tasks), dtype=bool), np.nan, values)[:, order][:, :, order]
    low = math.floor(np.nanmin(values) * 10) / 10
    high = max(min(math.ceil(np.nanmax(values) * 10) / 10, 1), low + 0.1)
    cell, size = 0.13, 6.5
    side, gap, top = max(cell * len(tasks), 1.6), 0.25, 0.35
    columns = min(len(locations), max(1, round(11 / (side + gap))))
    rows = -(-len(locations) // columns)
    text = _canvas.text_inches(names, size) + 0.15
    width, height = columns * (side + gap) - gap, rows * (side + top)
    figure, frame = _canvas.canvas(width, height, text, 0.85, text, 0.1)
    frame.remove()
    middles = np.arange(len(tasks)) + 0.5
    headings = _canvas.short_units(locations)
    for d, heading in enumerate(headings):
        row, column = divmod(d, columns)
        left, bottom = text + column * (side + gap), text + (rows - 1 - row) * (side + top)
        axes = _canvas.place(figure, left, bottom, side, side)
        mesh = axes.pcolormesh(values[d], cmap="YlGnBu", vmin=low, vmax=high)
        axes.set_facecolor("#eef1f4")
        axes.set_title(heading, loc="left", fontsize=9, color=_canvas.INK, pad=4)
        last = d + columns >= len(locations)
        axes.set_xticks(middles, names if last else [""] * len(names), rotation=90, fontsize=size)
        first = column == 0
        axes.set_yticks(middles, names if first else [""] * len(names), fontsize=size)
        axes.set_ylim(len(tasks), 0)
        _canvas.bare(axes)
    tall = min(side, 2.5)
    scale = _canvas.place(figure, text + width + 0.2, text + height - top - tall, 0.1, tall)
    bar = figure.colorbar(mesh, cax=scale)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    scale.tick_params(length=0, labelsize=8, colors=_canvas.INK)
    return figure


def _order(values):
    """An order of the tasks in which those that are alike stand together."""
    distances = squareform(1 - values.mean(axis=0), checks=False)
    links = hierarchy.linkage(distances, "average", optimal_ordering=True)
    return hierarchy.leaves_list(links)
