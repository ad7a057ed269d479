"""How alike tasks are by representation similarity analysis: RDMs correlated by their ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from keras_mtl.affinity.affinity import Affinity
from keras_mtl.checks import check_names


def task_affinity(
    rdms: Mapping[str, Any],
    locations: Sequence[str],
    *,
    origin: Mapping[str, Any] | None = None,
) -> Affinity:
    """Compares what the tasks' networks make of the same images, at every location.

    `A[d, i, j]` is Spearman's correlation of the strict upper triangles of the two tasks' RDMs at
    location `d`: the diagonal of zeros, which all RDMs share, would inflate it. Equal entries have
    their average rank. The correlation with a constant triangle, which has no ranks, is not
    defined; it counts as 0, and as 1 with itself.

    Args:
        rdms: dict from task to its RDMs, an array of shape `(locations, K, K)` as
            `representation_dissimilarity` makes it, with K at least 3 and the same images for all
            tasks. Files opened by `numpy.load(..., mmap_mode="r")` will do: one location of one
            task is read at a time.
        locations: sequence of str. Names of the locations, from the input to the features.
        origin: mapping or `None`. What else to note in the affinity's `origin`.

    Returns:
        An `Affinity` of the tasks in the order of `rdms`.

    Raises:
        ValueError: when shapes differ, an RDM is not symmetric or has entries that are not finite.

    Example:

    >>> from keras_mtl.affinity import task_affinity
    >>> def rdm(a, b, c):
    ...     return np.array([[[0, a, b], [a, 0, c], [b, c, 0]]])
    >>> rdms = {"depth": rdm(0.1, 0.2, 0.3), "normal": rdm(0.1, 0.9, 0.2)}
    >>> task_affinity(rdms, ["block1"]).values.round(6).tolist()
    [[[1.0, 0.5], [0.5, 1.0]]]

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Section 3.1.
    """
    locations = check_names("locations", locations if isinstance(locations, str) else [*locations])
    images = _check_shapes(rdms, locations)
    above = np.triu_indices(images, 1)
    values = np.empty((len(locations), len(rdms), len(rdms)))
    for d, location in enumerate(locations):
        ranks = np.stack(
            [
                _standard_ranks(_checked(np.asarray(rdm[d]), task, location)[above])
                for task, rdm in rdms.items()
            ]
        )
        values[d] = ranks @ ranks.T
        np.fill_diagonal(values[d], 1.0)
    made = {"method": "representation similarity", "images": images}
    return Affinity(values, tuple(rdms), locations, {**made, **(origin or {})})


def _check_shapes(rdms, locations):
    """Returns the number of images that all RDMs are of."""
    if not isinstance(rdms, Mapping) or not rdms:
        raise ValueError(
            "`rdms` must be a dict from task to an array of shape (locations, K, K). Received: "
            f"{type(rdms).__name__}{' without entries' if isinstance(rdms, Mapping) else ''}."
        )
    check_names("rdms", list(rdms))
    images = None
    for task, rdm in rdms.items():
        shape = np.shape(rdm)
        square = len(shape) == 3 and shape[1] == shape[2]
        if not square or shape[0] != len(locations) or shape[1] < 3:
            raise ValueError(
                f"`rdms[{task!r}]` must have shape (locations, K, K) with {len(locations)} "
                f"locations and K at least 3. Received: shape {tuple(shape)}."
            )
        images = images or shape[1]
        if shape[1] != images:
            raise ValueError(
                f"`rdms` must be of the same images for all tasks. Received: {shape[1]} images for "
                f"{task!r}, {images} for {next(iter(rdms))!r}."
            )
    return images


def _checked(rdm, task, location):
    where = f"of task {task!r} at location {location!r}"
    if not np.isfinite(rdm).all():
        raise ValueError(f"`rdms` must be finite. Received: NaN or infinite entries {where}.")
    gap = np.abs(rdm - rdm.T).max()
    if gap > 1e-6:
        raise ValueError(
            f"`rdms` must be symmetric. Received: entries that differ by {gap:.3g} {where}."
        )
    return rdm


def _standard_ranks(entries):
    """Average ranks with mean 0 and length 1; zeros where all entries are equal."""
    ranks = stats.rankdata(entries)
    ranks -= (len(ranks) + 1) / 2
    length = np.linalg.norm(ranks)
    return ranks / length if length else ranks
