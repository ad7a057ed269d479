"""From fractions to whole channels: rounding, then moves of single channels."""

import numpy as np

from keras_mtl.partition._patterns import FEW_TASKS, all_patterns, features, inside
from keras_mtl.partition._problem import Columns


def whole_channels(problem, relaxed):
    """Whole numbers of channels, by group and pattern, near the relaxed fractions.

    Fractions are rounded down and the largest remainders of each group up; then, while it lowers
    the error, the channel that lowers it most takes another pattern.
    """
    return _repaired(problem, _rounded(problem, relaxed))


def _rounded(problem, relaxed):
    exact = relaxed.amount * problem.channels
    amount = np.floor(exact + 1e-9).astype(int)
    order = np.lexsort([amount - exact, relaxed.group])
    group = relaxed.group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    lacking = problem.sizes - np.bincount(relaxed.group, amount, minlength=len(problem.sizes))
    amount[order] += rank < lacking[group]
    return Columns(relaxed.group, relaxed.pattern, amount).take(amount > 0)


def _repaired(problem, columns):
    pool, values, index = _pool(columns)
    weighted = (values * problem.weights).T
    square = (values.T * weighted).sum(axis=0)
    barred = np.where(inside(pool, problem.outer), 0.0, np.inf)
    group, amount = columns.group, columns.amount
    error = columns.achieved() - problem.channels * problem.target

    def lengths(index, group):
        """Squared length of the move from each column to each pattern; infinite where barred."""
        return square[index, None] + square - 2 * values[index] @ weighted + barred[group]

    length = lengths(index, group)
    while True:
        slope = 2 * error @ weighted
        change = length + (slope - slope[index, None])
        at, to = divmod(int(change.argmin()), len(pool))
        if change[at, to] > -1e-9:
            used = amount > 0
            return Columns(group[used], pool[index[used]], amount[used])
        error += values[to] - values[index[at]]
        (same,) = np.nonzero((group == group[at]) & (index == to))
        if not same.size:
            same = np.array([len(group)])
            group, index = np.append(group, group[at]), np.append(index, to)
            amount = np.append(amount, 0)
            length = np.concatenate([length, np.empty((1, len(pool)))])
        amount[at] -= 1
        amount[same] += 1
        length[same] = lengths(index[same], group[same])
        if not amount[at]:
            length[at] = np.inf


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
