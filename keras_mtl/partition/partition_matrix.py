"""Matrices of a partition: what a search proposes, and what masks can come near to."""

import numpy as np
from numpy.typing import ArrayLike

from keras_mtl.partition._checks import check_masks, check_matrix


def partition_matrix(P: ArrayLike) -> np.ndarray:
    """Maps any P in [0, 1] to shares and overlaps of channels that two tasks can have.

    The diagonal is the share of channels that each task uses. An off-diagonal entry becomes the
    overlap of two tasks: 0 the smallest that their shares allow, 1 the largest:

    `Pmin = max(0, D + Dᵀ - J)`, `Pmax = min(D, Dᵀ)`, `P̃ = P⊙I + (P⊙(Pmax - Pmin) + Pmin)⊙(J - I)`

    with D the diagonal repeated along rows and J ones. So `P = I` means that all tasks share *all*
    channels: with full shares no smaller overlap is possible. Three and more tasks may still ask
    for what no masks have; `find_masks` then comes near.

    Args:
        P: array `(tasks, tasks)` of values from 0 to 1. Only the upper triangle with its diagonal
            is read; the lower one is its mirror image.

    Returns:
        A symmetric float64 array `(tasks, tasks)`: P̃.

    Raises:
        ValueError: when P is not square, or has values outside [0, 1].

    Example:

    >>> from keras_mtl.partition import partition_matrix
    >>> partition_matrix([[0.5, 0.5], [0.5, 0.75]]).tolist()
    [[0.5, 0.375], [0.375, 0.75]]
    >>> partition_matrix(np.eye(2)).tolist()
    [[1.0, 1.0], [1.0, 1.0]]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.1, equations 1 to 4.
    """
    P = check_matrix("P", P)
    share = P.diagonal()
    lowest = np.maximum(0.0, share[:, None] + share - 1.0)
    highest = np.minimum(share[:, None], share)
    return _between(P, lowest, highest, share)


def backward_matrix(P: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Maps any P in [0, 1] to shares and overlaps that backward masks inside forward ones can have.

    The diagonal of P is the fraction of a task's forward channels that it may change:
    `bᵢ = Pᵢᵢ fᵢ`. An off-diagonal entry lies between the smallest and the largest overlap of two
    backward masks, `max(0, bᵢ + bⱼ - fᵢ - fⱼ + oᵢⱼ)` and `min(oᵢⱼ, bᵢ, bⱼ)`. The forward shares f
    and overlaps o are those which the forward masks have achieved, not those that were asked for.

    Args:
        P: array `(tasks, tasks)` of values from 0 to 1, of which the upper triangle with its
            diagonal is read.
        masks: boolean array `(tasks, channels)`. The forward masks.

    Returns:
        A symmetric float64 array `(tasks, tasks)`.

    Raises:
        ValueError: when P is not square, has values outside [0, 1], or is of other tasks than the
            masks.

    Example:

    >>> from keras_mtl.partition import backward_matrix
    >>> masks = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], bool)
    >>> backward_matrix([[1.0, 0.5], [0.5, 1.0]], masks).tolist()
    [[0.75, 0.5], [0.5, 0.75]]
    >>> backward_matrix([[1 / 3, 0.5], [0.5, 1.0]], masks).tolist()
    [[0.25, 0.125], [0.125, 0.75]]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """
    P = check_matrix("P", P)
    forward = achieved_matrix(check_masks("masks", masks, len(P)))
    used = np.diag(forward)
    share = np.diag(P) * used
    idle = used - share
    lowest = np.maximum(0.0, forward - idle[:, None] - idle)
    highest = np.minimum(forward, np.minimum(share[:, None], share))
    return _between(P, lowest, highest, share)


def achieved_matrix(masks: ArrayLike) -> np.ndarray:
    """What masks have: `MᵀM / C`, the share of each task and the overlap of every two.

    Args:
        masks: boolean array `(tasks, channels)`.

    Returns:
        A symmetric float64 array `(tasks, tasks)`.

    Raises:
        ValueError: when the masks are not a boolean matrix with at least one channel.

    Example:

    >>> from keras_mtl.partition import achieved_matrix
    >>> achieved_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 1]], bool)).tolist()
    [[0.5, 0.25], [0.25, 0.75]]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.1.
    """
    masks = check_masks("masks", masks).astype("float64")
    return masks @ masks.T / masks.shape[1]


def _between(P, lowest, highest, diagonal):
    # Rounding of sums may put the lowest a little above the highest.
    lowest = np.minimum(lowest, highest)
    matrix = lowest + P * (highest - lowest)
    np.fill_diagonal(matrix, diagonal)
    return matrix
