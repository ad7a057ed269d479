"""What quality costs: parameters against Δ_T, and the front of the best trade-offs."""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_mtl.plot import _canvas

_MARKERS = "osD^vPX*<>hp"
_SIZE = 7.5
# Places of a label in points from its mark, the best first, and its share left of there.
_BESIDE = (
    (8, 0, 0), (0, 11, 0.5), (0, -11, 0.5), (-8, 0, 1),
    (7, 9, 0), (7, -9, 0), (-7, 9, 1), (-7, -9, 1), (0, 20, 0.5), (0, -20, 0.5),
)  # fmt: skip
_STEPS = np.linspace(0, 1, 25)


def front(
    points: Mapping[str, Iterable[Sequence[Any]]],
    baseline: float | None = None,
    *,
    path: os.PathLike[str] | str | None = None,
) -> Figure:
    """Draws networks by their parameters and their Δ_T, and marks the Pareto-optimal ones.

    A filled mark is Pareto-optimal: no other network of the picture is as good with fewer
    parameters, or better with as many. A dashed line leads from one to the next. Points with a
    label are a sweep: a line joins them in the order given.

    Args:
        points: dict from the name of a series to its points, each `(parameters, delta)` or
            `(parameters, delta, label)`; `delta` is Δ_T in percent.
        baseline: number or `None`. Parameters of the single-task networks together: the axis then
            shows the difference to them in percent, and lines cross where they are.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when there is no point, a point is no pair of finite numbers with or without a
            label, parameters are negative, or the baseline is not positive.

    Example:

    >>> sweep = [(1.4e6, 3.1, "1e-4"), (1.1e6, 2.5, "1e-3")]
    >>> figure = front({"AutoMTL": sweep, "shared": [(1e6, -2.0)]}, baseline=2e6)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1e-4', '1e-3']

    Reference: [AutoMTL](https://arxiv.org/abs/2110.13076), Table 6 and Figure 2.
    """
    series = _checked(points, baseline)
    names = _canvas.short(series, 24)
    width, height = 4.6, 3.2
    right = _canvas.text_inches([*names, "Pareto-optimal"], 8) + 0.85
    figure, axes = _canvas.canvas(width, height, 0.75, right, 0.6, 0.2)
    unit = _place_scale(axes, baseline)

    where = [
        np.array([(unit(parameters), delta) for parameters, delta, _ in row])
        for row in series.values()
    ]
    everything = np.concatenate(where)
    optimal = pareto_optimal(everything)
    chain = everything[optimal][np.argsort(everything[optimal][:, 0], kind="stable")]
    axes.plot(*chain.T, color=_canvas.FAINT, linewidth=0.9, linestyle="--", zorder=1, gid="front")
    first = 0
    for index, (row, places) in enumerate(zip(series.values(), where, strict=True)):
        shade, marker = _look(index)
        if any(label for _, _, label in row):
            axes.plot(*places.T, color=shade, linewidth=1.2, zorder=2)
        marks = zip(places, optimal[first : first + len(row)], strict=True)
        for (x, y), best in marks:
            axes.plot(
                x, y, marker, color=shade, markersize=_SIZE, zorder=3,
                markerfacecolor=shade if best else "white", gid="optimal" if best else "point",
            )  # fmt: skip
        first += len(row)
    axes.margins(0.12)
    axes.autoscale_view()
    _write_labels(axes, series, where)
    _legend(axes, names)
    return _canvas.saved(figure, path)


def _look(index):
    """Colour and marker of a series: 144 pairs."""
    again = index // len(_MARKERS)
    shade = _canvas.colour(_canvas.TASK_COLOURS, index + again)
    return shade, _MARKERS[index % len(_MARKERS)]


def pareto_optimal(points):
    """Whether each of `(cost, quality)` is matched or beaten by no other in both.

    Example:

    >>> pareto_optimal([(1, 0.0), (2, 3.0), (3, 2.0)]).tolist()
    [True, True, False]
    """
    points = np.asarray(points, dtype="float64")
    cost, quality = points[:, 0], points[:, 1]
    no_worse = (cost[None] <= cost[:, None]) & (quality[None] >= quality[:, None])
    better = (cost[None] < cost[:, None]) | (quality[None] > quality[:, None])
    return ~np.any(no_worse & better, axis=1)


def _checked(points, baseline):
    if baseline is not None and not baseline > 0:
        raise ValueError(
            f"`baseline` must be a positive number of parameters. Received: baseline={baseline!r}."
        )
    series = {}
    for name, row in points.items():
        for point in row:
            if len(point) not in (2, 3) or not _canvas.finite(point[:2]) or point[0] < 0:
                raise ValueError(
                    "`points` must be `(parameters, delta)` or `(parameters, delta, label)`, with "
                    f"finite numbers and no parameters below 0. Received: {point!r} in {name!r}. "
                    "Leave out what has failed."
                )
        if len(row):
            series[str(name)] = [(p[0], p[1], str(p[2]) if len(p) == 3 else "") for p in row]
    if not series:
        raise ValueError(
            f"`points` must hold at least one point. Received: points={points!r}. Pass a dict from "
            "the name of a series to its points."
        )
    return series


def _place_scale(axes, baseline):
    """Names the axes; returns the function from parameters to the place on the axis."""
    axes.set_ylabel("Δ_T (%)", fontsize=9, color=_canvas.INK)
    axes.axhline(0, color=_canvas.FAINT, linewidth=0.6, zorder=0)
    axes.tick_params(labelsize=8, colors=_canvas.INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_canvas.FAINT)
    if baseline is None:
        axes.set_xlabel("parameters (M)", fontsize=9, color=_canvas.INK)
        return lambda parameters: parameters / 1e6
    text = "parameters, relative to single-task networks (%)"
    axes.set_xlabel(text, fontsize=9, color=_canvas.INK)
    axes.axvline(0, color=_canvas.FAINT, linewidth=0.6, zorder=0)
    return lambda parameters: 100 * (parameters / baseline - 1)


def _write_labels(axes, series, where):
    """Puts each label beside its mark, where it covers no other mark, line or label."""
    pixel = 72 / axes.figure.dpi
    marks = [axes.transData.transform(places) * pixel for places in where]
    taken = [(x - 5, y - 5, x + 5, y + 5) for row in marks for x, y in row]
    for row, places in zip(series.values(), marks, strict=True):
        if any(label for _, _, label in row):
            along = [a + (b - a) * t for a, b in itertools.pairwise(places) for t in _STEPS]
            taken += [(x - 1, y - 1, x + 1, y + 1) for x, y in along]
    for index, row in enumerate(series.values()):
        for (_, _, label), place, (x, y) in zip(row, where[index], marks[index], strict=True):
            if not label:
                continue
            wide, tall = _canvas.text_inches([label], 7.5) * 72, 8
            boxes = [
                (x + dx - side * wide, y + dy - tall / 2, x + dx + (1 - side) * wide, y + dy + 4)
                for dx, dy, side in _BESIDE
            ]
            box = min(boxes, key=lambda each: sum(_overlap(each, other) for other in taken))
            taken.append(box)
            axes.annotate(
                label, place, (box[0] - x, box[1] - y), textcoords="offset points", fontsize=7.5,
                color=_look(index)[0], ha="left", va="bottom", zorder=4,
            )  # fmt: skip


def _overlap(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(tall, 0)


def _legend(axes, names):
    handles = [
        Line2D(
            [], [], color=shade, marker=marker, markersize=_SIZE - 1, linewidth=0,
            markerfacecolor="white",
        )
        for shade, marker in map(_look, range(len(names)))
    ]  # fmt: skip
    optimal = Line2D(
        [], [], color=_canvas.FAINT, marker="o", markersize=_SIZE - 1, linewidth=0.9, linestyle="--"
    )
    axes.legend(
        [*handles, optimal], [*names, "Pareto-optimal"], loc="upper left", bbox_to_anchor=(1.03, 1),
        borderaxespad=0, frameon=False, fontsize=8, labelcolor=_canvas.INK,
    )  # fmt: skip
