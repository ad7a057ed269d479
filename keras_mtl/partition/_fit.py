"""The whole fit: relax, reweight, relax again, round and repair."""

import numpy as np

from keras_mtl.partition._patterns import entries
from keras_mtl.partition._problem import Problem
from keras_mtl.partition._relax import pricing, relax
from keras_mtl.partition._round import whole_channels
from keras_mtl.partition._sweep import swept_channels

# Errors up to the threshold count by their square, larger ones linearly (Huber's loss, fitted by
# reweighted least squares). Measured with `benchmarks/masks.py`: with few tasks nearly absolute
# errors lower the mean at no cost in the 95 % quantile, with many they would raise the latter.
MANY_TASKS = 8
REWEIGHTINGS = {"few": (0.002, 0.002), "many": (0.03,)}
# Masks of 20 tasks that `find_masks` made have up to 150; others may have one a channel.
MANY_GROUPS = 200


def fit(target, outer, sizes, diagonal_weight, generator):
    """Columns of whole channels, for a target matrix and groups of channels; see `Problem`."""
    upper = entries(len(target))
    weights = np.where(upper[0] == upper[1], diagonal_weight, 1.0)
    weights /= weights.max()
    problem = Problem(target[upper], weights, outer, sizes)
    if len(sizes) > MANY_GROUPS:
        return swept_channels(problem, generator)
    return whole_channels(*relaxed(problem, generator))


def relaxed(problem, generator):
    """The problem with its last weights, and the fractions that solve it."""
    price = pricing(problem, generator)
    weights, columns = problem.weights, relax(problem, price)
    for threshold in REWEIGHTINGS["few" if problem.tasks < MANY_TASKS else "many"]:
        problem = problem.reweighted(columns, threshold, weights)
        columns = relax(problem, price, columns)
    return problem, columns
