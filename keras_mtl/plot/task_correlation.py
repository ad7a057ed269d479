"""How alike tasks are, as a symmetric heat map."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from keras_mtl.plot import _canvas


def task_correlation(
    matrix: ArrayLike, tasks: Sequence[str], *, path: os.PathLike[str] | str | None = None
) -> Figure:
    """Draws the correlation between tasks, from -1 (blue) over 0 (white) to 1 (red).

    Args:
        matrix: array of shape `(tasks, tasks)`. Symmetric; values from -1 to 1, `nan` where a
            correlation is not defined.
        tasks: sequence of str. Names of the tasks.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when the shape does not fit, or the matrix is not symmetric or out of range.

    Example:

    >>> figure = task_correlation([[1.0, 0.3], [0.3, 1.0]], ["depth", "normal"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1.00', '0.30', '0.30', '1.00']
    """
    tasks = tuple(tasks)
    matrix = np.asarray(matrix, dtype="float64")
    if matrix.shape != (len(tasks), len(tasks)) or not matrix.size:
        raise ValueError(
            f"`matrix` must have shape (tasks, tasks) = {(len(tasks), len(tasks))}, at least 1. "
            f"Received: matrix.shape={matrix.shape}."
        )
    if not np.allclose(matrix, matrix.T, atol=1e-4, equal_nan=True):
        raise ValueError(
            "`matrix` must be symmetric. Received: entries that differ by "
            f"{np.nanmax(np.abs(matrix - matrix.T)):.3g}."
        )
    if np.any(np.abs(matrix) > 1 + 1e-4):
        raise ValueError(
            "`matrix` must lie between -1 and 1. Received: values from "
            f"{np.nanmin(matrix):.3g} to {np.nanmax(matrix):.3g}."
        )

    names = _canvas.short(tasks)
    cell = 0.52
    side = cell * len(tasks)
    upright = _canvas.text_inches(names, 9) > 0.9 * cell
    left = _canvas.text_inches(names, 9) + 0.25
    bottom = left if upright else 0.35
    right = 0.85
    figure, axes = _canvas.canvas(side, side, left, right, bottom, 0.2)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(matrix), cmap="RdBu_r", vmin=-1, vmax=1,
        edgecolors="white", linewidth=1.2,
    )  # fmt: skip
    for (row, column), value in np.ndenumerate(matrix):
        axes.text(
            column + 0.5, row + 0.5, "–" if np.isnan(value) else f"{value:.2f}",
            ha="center", va="center", fontsize=8,
            color="white" if abs(value) > 0.6 else _canvas.INK,
        )  # fmt: skip
    middles = [index + 0.5 for index in range(len(tasks))]
    axes.set_xticks(middles, names, rotation=90 if upright else 0, fontsize=9)
    axes.set_yticks(middles, names, fontsize=9)
    axes.set_ylim(len(tasks), 0)
    _canvas.bare(axes)
    tall = min(max(side, 0.8), 2.5)
    scale = _canvas.place(figure, left + side + 0.15, bottom + side - tall, 0.1, tall)
    bar = figure.colorbar(mesh, cax=scale, ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    scale.tick_params(length=0, labelsize=8, colors=_canvas.INK)
    return _canvas.saved(figure, path)
