"""The whole fit: relax, reweight, relax again, round and repair."""

import math

import numpy as np

from keras_mtl.partition._patterns import entries
from keras_mtl.partition._problem import Problem
from keras_mtl.partition._relax import pricing, relax
from keras_mtl.partition._round import whole_channels
from keras_mtl.partition._sweep import swept_channels

# Up to so many tasks: thresholds of the relaxations one after another, and whether whole channels
# are moved by absolute errors. Errors up to a threshold count by their square, larger ones linearly
# (Huber's loss, by reweighted least squares). Measured with `benchmarks/masks.py`: nearly absolute
# errors lower the mean; with many tasks they would raise the 95 % quantile, and moving channels by
# them would take long.
WAYS = ((5, (0.002,), True), (7, (0.002, 0.002), False), (math.inf, (0.03,), False))
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
    _, absolute = _way(problem)
    reweighted, columns = relaxed(problem, generator)
    return whole_channels(problem if absolute else reweighted, columns, absolute)


def relaxed(problem, generator):
    """The problem with its last weights, and the fractions that solve it."""
    price = pricing(problem, generator)
    reweighted, columns = problem, relax(problem, price)
    thresholds, _ = _way(problem)
    for threshold in thresholds:
        reweighted = problem.reweighted(columns, threshold)
        columns = relax(reweighted, price, columns)
    return reweighted, columns


def _way(problem):
    return next(way for most, *way in WAYS if problem.tasks <= most)
