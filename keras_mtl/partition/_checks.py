"""Bad input, in one sentence each."""

import functools
from typing import Any

import numpy as np


def check_matrix(name: str, value: Any) -> np.ndarray:
    """The upper triangle of a square matrix of values in [0, 1], mirrored, as float64."""
    try:
        matrix = np.asarray(value, "float64")
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` must be a square matrix of numbers. Received: {name} of type "
            f"{type(value).__name__}."
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(
            f"`{name}` must be a square matrix, with a row and a column for each task. Received: "
            f"shape {matrix.shape}."
        )
    matrix = np.where(_below_diagonal(len(matrix)), matrix.T, matrix)
    right = (matrix >= 0) & (matrix <= 1)
    if not right.all():
        i, j = np.argwhere(~right)[0].tolist()
        raise ValueError(
            f"`{name}` must hold values from 0 to 1. Received: {name}[{i}, {j}]={matrix[i, j]}."
        )
    return matrix


@functools.lru_cache(maxsize=64)
def _below_diagonal(size):
    return np.tri(size, k=-1, dtype=bool)


def check_masks(name: str, value: Any, tasks: int | None = None) -> np.ndarray:
    """A boolean array `(tasks, channels)`."""
    masks = np.asarray(value)
    rows = "tasks" if tasks is None else tasks
    if (
        masks.dtype != bool
        or masks.ndim != 2
        or not masks.size
        or len(masks) != (tasks or len(masks))
    ):
        raise ValueError(
            f"`{name}` must be a boolean array of shape ({rows}, channels). Received: "
            f"{masks.dtype} of shape {masks.shape}."
        )
    return masks
