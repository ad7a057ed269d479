"""How alike tasks are by the examples they find hard: the affinity that RSA is compared with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.affinity.affinity import Affinity
from keras_mtl.checks import check_names


def error_affinity(
    errors: Mapping[str, Any],
    locations: Sequence[str],
    *,
    origin: Mapping[str, Any] | None = None,
) -> Affinity:
    """Compares on which examples the tasks' networks err: tasks are alike when it is the same ones.

    An example is hard for a task when its error is above the mean error of the task, else easy.
    `A[d, i, j]` is the share of examples that are hard for both tasks or easy for both, from 0 to
    1. Errors say nothing of features, so it is one matrix, the same at every location.

    Taken from Lu et al. are this indicator and this share. Not taken is what surrounds them there:
    the errors are those of single-task networks here, not of the thin multi-task network that is
    being widened; branches are compared by the cost of the tree, not by their mean of minima; and
    all of the tree is chosen at once, not one layer at a time from the output down. An error equal
    to the mean counts as easy, so a task whose errors are all equal finds every example easy.

    Args:
        errors: dict from task to an array of shape `(K,)`: an error or loss for each of the same K
            held-out examples, larger when worse; `nan` where an example has no label. It counts
            neither in the mean nor in the share.
        locations: sequence of str. Names of the locations, from the input to the features.
        origin: mapping or `None`. What else to note in the affinity's `origin`.

    Returns:
        An `Affinity` of the tasks in the order of `errors`.

    Raises:
        ValueError: when shapes differ, an error is infinite, or two tasks have no example in
            common.

    Example:

    >>> from keras_mtl.affinity import error_affinity
    >>> errors = {"smile": [0.1, 0.2, 0.9, 0.8, 0.1], "hat": [9.0, 1.0, 9.0, 8.0, np.nan]}
    >>> error_affinity(errors, ["block1"]).values.tolist()
    [[[1.0, 0.75], [0.75, 1.0]]]

    Reference: [Fully-adaptive Feature Sharing in Multi-Task
    Networks](https://arxiv.org/abs/1611.05377), Section 3.2; as a baseline in [Branched Multi-Task
    Networks](https://arxiv.org/abs/1904.02920), Section 4.
    """
    locations = check_names("locations", locations if isinstance(locations, str) else [*locations])
    errors = _checked(errors)
    present = {task: ~np.isnan(row) for task, row in errors.items()}
    hard = {task: _hard(row, present[task]) for task, row in errors.items()}
    matrix = np.eye(len(errors))
    for i, one in enumerate(errors):
        for j, other in enumerate(list(errors)[:i]):
            both = present[one] & present[other]
            if not both.any():
                raise ValueError(
                    "`errors` must have examples with a label for both of any two tasks. Received: "
                    f"none for {other!r} and {one!r}."
                )
            matrix[i, j] = matrix[j, i] = np.mean(hard[one][both] == hard[other][both])
    values = np.repeat(matrix[None], len(locations), axis=0)
    made = {"method": "errors", "examples": len(next(iter(errors.values())))}
    return Affinity(values, tuple(errors), locations, {**made, **(origin or {})})


def _checked(errors):
    if not isinstance(errors, Mapping) or not errors:
        raise ValueError(
            "`errors` must be a dict from task to an array of shape (K,). Received: "
            f"{type(errors).__name__}{' without entries' if isinstance(errors, Mapping) else ''}."
        )
    check_names("errors", list(errors))
    try:
        errors = {task: np.asarray(row, dtype="float64") for task, row in errors.items()}
    except (TypeError, ValueError):
        raise ValueError(
            "`errors` must be a dict from task to an array of shape (K,). Received: entries that "
            "are no numbers."
        ) from None
    first, size = next(iter(errors)), np.shape(next(iter(errors.values())))
    for task, row in errors.items():
        if row.ndim != 1 or row.shape != size:
            raise ValueError(
                "`errors` must have one number for each of the same K examples. Received: shape "
                f"{row.shape} for {task!r}, {size} for {first!r}."
            )
        if np.isinf(row).any() or np.isnan(row).all():
            raise ValueError(
                f"`errors[{task!r}]` must be finite numbers, or nan where an example has no label. "
                f"Received: {int(np.isinf(row).sum())} infinite, {int(np.isnan(row).sum())} nan of "
                f"{row.size}."
            )
    return errors


def _hard(row, present):
    # From the smallest error on, so that the mean of equal errors is exactly their value.
    above = row - row[present].min()
    return above > above[present].mean()
