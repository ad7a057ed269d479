"""What a search for partitions has tried: score against feature use, and the way it went."""

import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_mtl.plot import _canvas

_MARKERS = "D^vsPX*<>hp"
_DOT, _MARK, _END = 3.2, 7.5, 6.5


def partition_search(
    series: Mapping[str, Any], *, path: os.PathLike[str] | str | None = None
) -> Figure:
    """Draws partitions by the channels that they use and what they are worth.

    Every candidate is a dot. Those of a search that goes by generations are in its colour, later
    ones stronger, and a line leads through the means of its generations from an empty circle to a
    filled one. Those drawn at random are grey, unless several series are. A series of one
    partition, such as a fixed one to compare with, is a mark of its own.

    Args:
        series: dict from the name of a series to its rows, each `(feature_use, score)` or
            `(feature_use, score, generation)`, such as `PartitionTuner.history()`: the mean share
            of channels that a task uses, and 0 as generation of what was drawn at random.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when there is no row, or a row is no two finite numbers with or without a
            generation.

    Example:

    >>> drawn = [(0.2, 0.5, 0), (0.6, 0.7, 0)]
    >>> evolved = [*drawn, (0.5, 0.70, 1), (0.6, 0.72, 1), (0.4, 0.71, 2), (0.5, 0.75, 2)]
    >>> figure = partition_search({"random": drawn, "evolved": evolved, "share all": [(1.0, 0.7)]})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['random', 'evolved', 'share all']

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Figure 5.
    """
    series = _checked(series)
    names = _canvas.short(series, 24)
    width, height = 4.6, 3.2
    right = _canvas.text_inches(names, 8) + 0.85
    figure, axes = _canvas.canvas(width, height, 0.75, right, 0.6, 0.2)
    colours = _colours(series)
    shapes = itertools.cycle(_MARKERS)
    handles = []
    for name, rows in series.items():
        shade, evolved = colours[name], rows[:, 2] > 0
        if len(rows) == 1:
            shape = next(shapes)
            axes.plot(*rows[0, :2], shape, color=shade, markersize=_MARK, zorder=5, gid="mark")
            handles.append(_handle(shade, marker=shape, markersize=_MARK - 1))
            continue
        if evolved.any():
            _draw_way(axes, rows[evolved], shade)
            handles.append(_handle(shade, marker="o", markersize=_END - 1, linewidth=1.5))
        else:
            handles.append(_handle(shade, marker="o", markersize=_DOT + 1))
        axes.plot(
            *rows[~evolved, :2].T, "o", color=_canvas.FAINT if evolved.any() else shade,
            markersize=_DOT, alpha=0.6, markeredgewidth=0, zorder=1, gid="random",
        )  # fmt: skip
    _finish(axes)
    axes.legend(
        handles, names, loc="upper left", bbox_to_anchor=(1.03, 1), borderaxespad=0,
        frameon=False, fontsize=8, labelcolor=_canvas.INK,
    )  # fmt: skip
    return _canvas.saved(figure, path)


def _checked(series):
    checked = {}
    for name, rows in series.items():
        for row in rows:
            if len(row) not in (2, 3) or not _canvas.finite(row):
                raise ValueError(
                    "`series` must hold rows `(feature_use, score)` or `(feature_use, score, "
                    f"generation)` of finite numbers. Received: {row!r} in {name!r}. Leave out "
                    "what has failed, as `PartitionTuner.history()` does."
                )
        if len(rows):
            checked[str(name)] = np.array([(*row, 0)[:3] for row in rows], "float64")
    if not checked:
        raise ValueError(
            f"`series` must hold at least one row. Received: series={series!r}. Pass a dict from "
            "the name of a series to its rows."
        )
    return checked


def _colours(series):
    """Colours tell searches apart, and series of random draws where there are several."""
    palette = (_canvas.colour(_canvas.TASK_COLOURS, index) for index in itertools.count())
    random = [name for name, rows in series.items() if len(rows) > 1 and not rows[:, 2].any()]
    known = {random[0]: _canvas.FAINT} if len(random) == 1 else {}
    known |= {name: _canvas.INK for name, rows in series.items() if len(rows) == 1}
    return {name: known.get(name) or next(palette) for name in series}


def _draw_way(axes, rows, shade):
    """The candidates of all generations, later ones stronger, and the line through the means."""
    generations = np.unique(rows[:, 2])
    strength = np.interp(rows[:, 2], generations[[0, -1]], (0.25, 0.7))
    axes.scatter(*rows[:, :2].T, s=_DOT**2, c=shade, alpha=strength, linewidths=0, zorder=2)
    means = np.array([rows[rows[:, 2] == number, :2].mean(axis=0) for number in generations])
    axes.plot(*means.T, color="white", linewidth=3.2, zorder=3)
    axes.plot(*means.T, color=shade, linewidth=1.5, zorder=3, gid="way")
    ends = {"first": (means[0], "white", shade), "last": (means[-1], shade, "white")}
    for gid, (mean, fill, edge) in ends.items():
        axes.plot(*mean, "o", color=fill, markeredgecolor=edge, markersize=_END, zorder=4, gid=gid)


def _handle(shade, **options):
    return Line2D([], [], color=shade, **{"linewidth": 0, **options})


def _finish(axes):
    axes.set_xlabel("mean feature use", fontsize=9, color=_canvas.INK)
    axes.set_ylabel("score", fontsize=9, color=_canvas.INK)
    axes.tick_params(labelsize=8, colors=_canvas.INK)
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(0.04)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_canvas.FAINT)
