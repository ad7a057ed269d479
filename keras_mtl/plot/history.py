"""Learning curves of a `fit`, as small multiples."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_mtl.plot import _canvas

_TRAINING = "#1f77b4"
_VALIDATION = "#d95f02"


def history(
    history: keras.callbacks.History | Mapping[str, Sequence[Any]],
    *,
    path: os.PathLike[str] | str | None = None,
) -> Figure:
    """Draws the learning curves of a `fit`: one panel per name, training and validation together.

    Args:
        history: `keras.callbacks.History` or dict. Name to list of numbers, one per epoch; names
            that begin with `val_` join the panel of the name without it. Of an array the mean is
            drawn.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when there is nothing to draw, or a curve is no list of numbers.

    Example:

    >>> figure = history({"loss": [2.0, 1.0], "val_loss": [2.1, 1.5], "depth_loss": [1.0, 0.5]})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['loss', 'depth_loss']
    """
    if isinstance(history, keras.callbacks.History):
        history = history.history
    curves = {
        name: np.asarray([_mean(value) for value in values], dtype="float64")
        for name, values in history.items()
    }
    if not curves:
        raise ValueError(
            "`history` must hold at least one curve. Received: history={}. Pass what `fit` returns."
        )
    for name, values in curves.items():
        if values.ndim != 1 or not values.size:
            raise ValueError(
                "`history` must hold one number per epoch for every name. "
                f"Received: shape {values.shape} for {name!r}."
            )

    panels = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    columns = _columns(len(panels))
    rows = math.ceil(len(panels) / columns)
    wide, tall, across, down = 2.5, 1.45, 0.65, 0.6
    left, bottom, top = 0.6, 0.55, 0.6
    width, height = columns * (wide + across) - across, rows * (tall + down) - down
    figure = Figure(figsize=(left + width + 0.25, bottom + height + top))
    handles = {}
    for index, name in enumerate(panels):
        row, column = divmod(index, columns)
        corner = bottom + (rows - 1 - row) * (tall + down)
        axes = _canvas.place(figure, left + column * (wide + across), corner, wide, tall)
        for key, label, shade in (
            (name, "training", _TRAINING),
            (f"val_{name}", "validation", _VALIDATION),
        ):
            if key in curves:
                epochs = _epochs(curves, name, key)
                (handles[label],) = axes.plot(
                    epochs, curves[key], color=shade, linewidth=1.5, label=label,
                    marker="o" if len(epochs) <= 12 else None, markersize=3,
                )  # fmt: skip
        _finish(axes, name, last_row=index + columns >= len(panels))
    figure.legend(
        handles.values(), handles.keys(), loc="upper left", ncols=2, frameon=False, fontsize=8,
        bbox_to_anchor=(left / figure.get_size_inches()[0], 1), borderaxespad=0.8,
        borderpad=0, labelcolor=_canvas.INK,
    )  # fmt: skip
    return _canvas.saved(figure, path)


def _mean(value):
    """The mean over a result of several numbers, such as one per class."""
    return value.mean() if isinstance(value, np.ndarray) else value


def _columns(count):
    # The widest of 4, 3 and 2 columns that leaves the fewest empty places.
    if count <= 4:
        return count
    return min((4, 3), key=lambda columns: -count % columns)


def _epochs(curves, name, key):
    count = len(curves[key])
    # With `validation_freq` = n there is a value every n epochs.
    every = max(len(curves.get(name, ())) // count, 1)
    return every * np.arange(1, count + 1)


def _finish(axes, name, last_row):
    axes.set_title(_canvas.short([name], 34)[0], loc="left", fontsize=9, color=_canvas.INK)
    if last_row:
        axes.set_xlabel("epoch", fontsize=8, color=_canvas.INK)
    axes.tick_params(labelsize=7.5, colors=_canvas.INK, length=2)
    if axes.lines and max(len(line.get_xdata()) for line in axes.lines) == 1:
        axes.set_xticks([1])
    else:
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    # The default formatter would put a factor where the title stands.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.get_major_locator().set_params(nbins=5)
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_canvas.FAINT)
