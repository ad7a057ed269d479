"""From fractions to whole channels: rounding, then moves of single channels."""

import numpy as np

from keras_mtl.partition._patterns import FEW_TASKS, all_patterns, features, inside
from keras_mtl.partition._problem import Columns


def whole_channels(problem, relaxed, absolute):
    """Whole numbers of channels, by group and pattern, near the relaxed fractions.

    Fractions are rounded down and the largest remainders of each group up; then, while it lowers
    the error, the channel that lowers it most takes another pattern. The error is the weighted sum
    of the entries' squares, or of their absolute values.
    """
    return _repaired(problem, _rounded(problem, relaxed), _absolute if absolute else _squares)


def _rounded(problem, relaxed):
    exact = relaxed.amount * problem.channels
    amount = np.floor(exact + 1e-9).astype(int)
    order = np.lexsort([amount - exact, relaxed.group])
    group = relaxed.group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    lacking = problem.sizes - np.bincount(relaxed.group, amount, minlength=len(problem.sizes))
    amount[order] += rank < lacking[group]
    return Columns(relaxed.group, relaxed.pattern, amount).take(amount > 0)


def _repaired(problem, columns, measure):
    pool, values, index = _pool(columns)
    barred = np.where(inside(pool, problem.outer), 0.0, np.inf)
    changes = measure(problem.weights, values)
    group, amount = columns.group, columns.amount
    error = columns.achieved() - problem.channels * problem.target
    while True:
        change = changes(error, index) + barred[group]
        change[amount == 0] = np.inf
        at, to = divmod(int(change.argmin()), len(pool))
        if change[at, to] > -1e-9:
            used = amount > 0
            return Columns(group[used], pool[index[used]], amount[used])
        error += values[to] - values[index[at]]
        (same,) = np.nonzero((group == group[at]) & (index == to))
        if not same.size:
            same = len(group)
            group, index = np.append(group, group[at]), np.append(index, to)
            amount = np.append(amount, 0)
        amount[at] -= 1
        amount[same] += 1


def _squares(weights, values):
    """The function that says how moves of a channel change the weighted squares of an error.

    It returns an array `(columns, patterns)`: from the pattern of each column to each other one.
    What does not depend on the error is computed once for a column; new ones come last.
    """
    weighted = (values * weights).T
    square = (values.T * weighted).sum(axis=0)
    length = np.empty((0, len(values)))

    def changes(error, index):
        nonlocal length
        new = index[len(length) :]
        if new.size:
            squared = square[new, None] + square - 2 * values[new] @ weighted
            length = np.concatenate([length, squared])
        slope = 2 * error @ weighted
        return length + (slope - slope[index, None])

    return changes


def _absolute(weights, values):
    """The like of `_squares` for weighted absolute values."""
    steps = np.empty((0, *values.shape))

    def changes(error, index):
        nonlocal steps
        new = index[len(steps) :]
        if new.size:
            steps = np.concatenate([steps, values - values[new, None]])
        after = steps + error
        return np.abs(after, out=after) @ weights - np.abs(error) @ weights

    return changes


def _pool(columns):
    """Patterns that a channel may move to, their features, and which of them the columns have.

    With few tasks all patterns, else those in use and their single flips.
    """
    tasks = columns.pattern.shape[1]
    if tasks <= FEW_TASKS:
        return *all_patterns(tasks), (columns.pattern @ 2 ** np.arange(tasks)).astype(int)
    flips = np.abs(columns.pattern[:, None, :] - np.eye(tasks)).reshape(-1, tasks)
    pool, index = np.unique(np.vstack([columns.pattern, flips]), axis=0, return_inverse=True)
    return pool, features(pool), index.ravel()[: len(columns.group)]
