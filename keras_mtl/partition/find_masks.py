"""Channel masks for a proposed partition: which channels a task uses, and which it may change."""

import numpy as np
from numpy.typing import ArrayLike

from keras_mtl.checks import check_count, check_positive, check_seed
from keras_mtl.partition._checks import check_masks, check_matrix
from keras_mtl.partition._fit import fit
from keras_mtl.partition.partition_matrix import (
    achieved_matrix,
    backward_matrix,
    partition_matrix,
)


def find_masks(
    P: ArrayLike, channels: int, seed: int | None, *, diagonal_weight: float = 1.0
) -> np.ndarray:
    """Finds a channel mask for each task, whose shares and overlaps are near `partition_matrix(P)`.

    What pairs of tasks ask for may not be possible for all at once. The nearest fractions of
    channels with each of the 2^N patterns of tasks are found by non-negative least squares, rounded
    to whole channels, and mended by moves of single channels. Beyond 12 tasks, patterns are
    searched for as they are needed. So that a few large errors do not spoil the others, errors
    count absolutely for up to 5 tasks, and for more by their square up to a threshold and linearly
    above.

    The seed says which channels have which pattern. A slightly different P with the same seed gives
    masks that differ in few channels; 0 is a seed like any other.

    Args:
        P: array `(tasks, tasks)` of values from 0 to 1, as `partition_matrix` reads it. A task with
            less than half a channel's share may get none.
        channels: int. Number of channels of the layer.
        seed: int of at least 0, or `None`, which draws one.
        diagonal_weight: positive float. How much the error of a task's number of channels counts
            against that of an overlap. 1000 makes it right to one channel, at the overlaps' cost.

    Returns:
        A boolean array `(tasks, channels)`.

    Raises:
        ValueError: when P is not square or has values outside [0, 1], or another argument is out of
            range.

    Example:

    >>> from keras_mtl.partition import achieved_matrix, find_masks
    >>> masks = find_masks([[0.5, 0.5], [0.5, 0.75]], channels=8, seed=0)
    >>> masks.shape, masks.sum(axis=1).tolist()
    ((2, 8), [4, 6])
    >>> achieved_matrix(masks).tolist()
    [[0.5, 0.375], [0.375, 0.75]]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.1.
    """
    channels = check_count("channels", channels)
    seed = check_seed(seed)
    target = partition_matrix(P)
    weight = check_positive("diagonal_weight", diagonal_weight)
    generator = np.random.default_rng(seed)
    # Patterns are sorted and shuffled alike for every P, so that near partitions have near masks.
    shuffled = generator.permutation(channels)
    columns = fit(target, np.ones((1, len(target))), np.array([channels]), weight, generator)
    order = np.lexsort(-columns.pattern.T[::-1])
    rows = np.repeat(columns.pattern[order], columns.amount[order], axis=0).astype(bool)
    masks = np.empty((len(target), channels), bool)
    masks[:, shuffled] = rows.T
    return masks


def find_backward_masks(
    P: ArrayLike, masks: ArrayLike, seed: int | None, *, diagonal_weight: float = 1.0
) -> np.ndarray:
    """Finds the channels that each task may change, inside those that it uses.

    Shares and overlaps are near `backward_matrix(P, masks)`, found as in `find_masks`: the channels
    of one forward pattern are a group, and a channel takes a pattern inside that of its group.

    Args:
        P: array `(tasks, tasks)` of values from 0 to 1, as `backward_matrix` reads it.
        masks: boolean array `(tasks, channels)`. The forward masks.
        seed: int of at least 0, or `None`, which draws one. Says which channels of a group have
            which pattern.
        diagonal_weight: positive float. As in `find_masks`.

    Returns:
        A boolean array `(tasks, channels)`, true only where `masks` is.

    Raises:
        ValueError: when P is not square, has values outside [0, 1], or is of other tasks than the
            masks, or another argument is out of range.

    Example:

    >>> from keras_mtl.partition import find_backward_masks, find_masks
    >>> masks = find_masks(np.ones((2, 2)), channels=4, seed=0)  # both use all channels ...
    >>> backward = find_backward_masks([[1, 0], [0, 0]], masks, seed=0)
    >>> backward.sum(axis=1).tolist()  # ... and only the first task changes them
    [4, 0]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """
    P = check_matrix("P", P)
    masks = check_masks("masks", masks, len(P))
    seed = check_seed(seed)
    weight = check_positive("diagonal_weight", diagonal_weight)
    outer, group, sizes = np.unique(masks.T, axis=0, return_inverse=True, return_counts=True)
    target = backward_matrix(P, masks)
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(masks.shape[1])
    columns = fit(target, outer.astype("float64"), sizes, weight, generator)
    order = np.lexsort([*-columns.pattern.T[::-1], columns.group])
    rows = np.repeat(columns.pattern[order], columns.amount[order], axis=0).astype(bool)
    backward = np.empty_like(masks)
    backward[:, shuffled[np.argsort(group.ravel()[shuffled], kind="stable")]] = rows.T
    return backward


def mask_error(masks: ArrayLike, target: ArrayLike) -> np.ndarray:
    """How far the shares and overlaps of masks are from those asked for.

    Args:
        masks: boolean array `(tasks, channels)`.
        target: array `(tasks, tasks)` from `partition_matrix` or `backward_matrix`.

    Returns:
        A float64 array `(tasks, tasks)`: `MᵀM / C - target`.

    Raises:
        ValueError: when the masks or the target are no such arrays.

    Example:

    >>> from keras_mtl.partition import find_masks, mask_error, partition_matrix
    >>> P = np.full((3, 3), 0.5)
    >>> error = mask_error(find_masks(P, channels=64, seed=0), partition_matrix(P))
    >>> bool(np.abs(error).max() <= 1 / 64)
    True

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.1.
    """
    target = check_matrix("target", target)
    return achieved_matrix(check_masks("masks", masks, len(target))) - target
