"""Patterns: which tasks use one channel, as a row of zeros and ones."""

import functools

import numpy as np

# Up to so many tasks, all 2^N patterns are looked through: 4096 patterns of 78 features, 2.6 MB.
FEW_TASKS = 12


@functools.lru_cache(maxsize=64)
def entries(tasks):
    """Rows and columns of the upper triangle, diagonal included."""
    return np.triu_indices(tasks)


def features(patterns):
    """What a channel of each pattern adds to the upper triangle of MᵀM."""
    rows, columns = entries(patterns.shape[1])
    return patterns[:, rows] * patterns[:, columns]


@functools.lru_cache(maxsize=16)
def all_patterns(tasks):
    """All patterns of a few tasks and their features, made once."""
    patterns = (np.arange(2**tasks)[:, None] >> np.arange(tasks) & 1).astype("float64")
    made = patterns, features(patterns)
    for array in made:
        array.flags.writeable = False
    return made


def inside(patterns, outer):
    """For every row of `outer` (groups), whether each pattern stays inside it."""
    return (1.0 - outer) @ patterns.T == 0


def climb(gain, patterns, outer):
    """Raises `x·gain·x` of every pattern x by its best single flip inside `outer`, to the end."""
    patterns = patterns.copy()
    alone = np.diag(gain)
    shared = gain - np.diag(alone)
    while True:
        better = np.where(outer > 0, (1 - 2 * patterns) * (alone + 2 * patterns @ shared), 0.0)
        best = better.argmax(axis=1)
        (rows,) = np.nonzero(np.take_along_axis(better, best[:, None], axis=1)[:, 0] > 1e-9)
        if not rows.size:
            return patterns
        patterns[rows, best[rows]] = 1 - patterns[rows, best[rows]]
