"""Whole channels one at a time, for groups so many that a relaxation would take too long."""

import numpy as np

from keras_mtl.partition._patterns import climb, entries
from keras_mtl.partition._problem import Columns

MAX_SWEEPS = 10


def swept_channels(problem, generator):
    """Whole numbers of channels, by group and pattern: each channel in turn, until none moves.

    A channel starts with every task of its group by chance, in the proportion that is asked for,
    and goes where a local search finds the least squared error, all other channels kept.
    """
    upper = entries(problem.tasks)
    rows, columns = upper
    available = np.maximum(problem.sizes @ problem.outer, 1.0) / problem.channels
    chance = problem.target[rows == columns] / available
    group = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    outer = problem.outer[group]
    pattern = outer * (generator.random(outer.shape) < chance)
    # Symmetric matrices, with half of an overlap's weight and error in either triangle.
    weights = np.zeros((problem.tasks, problem.tasks))
    weights[upper] = problem.weights
    goal = np.zeros_like(weights)
    goal[upper] = problem.channels * problem.target
    weights, goal = (weights + weights.T) / 2, goal + goal.T - np.diag(goal.diagonal())
    error = pattern.T @ pattern - goal
    for _ in range(MAX_SWEEPS):
        moved = False
        for channel in generator.permutation(len(pattern)):
            now = pattern[channel]
            without = error - np.outer(now, now)
            gain = -weights * (2 * without + 1)
            start = np.stack([now, 0 * now, outer[channel]])
            found = climb(gain, start, outer[[channel] * 3])
            values = np.einsum("ki,ij,kj->k", found, gain, found)
            if values.max() > now @ gain @ now + 1e-9:
                pattern[channel] = found[values.argmax()]
                error = without + np.outer(pattern[channel], pattern[channel])
                moved = True
        if not moved:
            break
    both, amount = np.unique(np.column_stack([group, pattern]), axis=0, return_counts=True)
    return Columns(both[:, 0].astype(int), both[:, 1:], amount)
