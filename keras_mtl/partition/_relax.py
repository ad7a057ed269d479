"""The nearest point that fractions of channels can reach: least squares by column generation."""

import numpy as np
from scipy.optimize import nnls

from keras_mtl.partition._patterns import (
    FEW_TASKS,
    all_patterns,
    climb,
    entries,
    features,
    inside,
)
from keras_mtl.partition._problem import Columns

HEAVY = 1000.0  # weight of the rows that hold the groups to their shares
TOLERANCE = 1e-4  # slope of the error, for a median weight, below which a pattern does not join
PROGRESS = 1e-6  # relative fall of the error below which the search for patterns ends
MAX_ROUNDS = 100
NEW_COLUMNS = 48  # that join in one round, and, of few tasks, that may be there from the start
STARTS = 100  # of the local search for patterns, over all groups


def relax(problem, price, columns=None):
    """Fractions of channels, by group and pattern, whose MᵀM/C is nearest to the target.

    Non-negative least squares in which the fractions of a group sum to its share of the channels,
    by a heavily weighted row for each. Solved over all patterns of 5 tasks and fewer; else over
    some, from `columns` on where they are given: those that `price` finds to lower the error join,
    and those not in use leave, until none joins.
    """
    shares = problem.sizes / problem.channels
    complete = 2**problem.tasks <= NEW_COLUMNS
    columns = _first_columns(problem) if complete or columns is None else columns
    scale = np.sqrt(problem.weights)
    tolerance = TOLERANCE * np.sort(problem.weights)[len(scale) // 2]
    goal = np.concatenate([problem.target * scale, HEAVY * shares])
    before = np.inf
    for _ in range(MAX_ROUNDS):
        matrix = np.zeros((len(goal), len(columns.group)))
        matrix[: len(scale)] = columns.features.T * scale[:, None]
        matrix[len(scale) + columns.group, np.arange(len(columns.group))] = HEAVY
        amount, distance = nnls(matrix, goal, maxiter=10 * sum(matrix.shape))
        columns = Columns(columns.group, columns.pattern, amount).take(amount > 0)
        total = np.bincount(columns.group, columns.amount, minlength=len(shares))
        if complete:
            break
        rest = problem.weights * (problem.target - columns.achieved())
        group, pattern = price(rest, HEAVY**2 * (shares - total) - tolerance, columns)
        if not group.size or distance > (1 - PROGRESS) * before:
            break
        before = distance
        columns = columns.joined(group, pattern)
    amount = columns.amount * (shares / total)[columns.group]
    return Columns(columns.group, columns.pattern, amount)


def pricing(problem, generator):
    """The function that finds new patterns for a problem, whatever its weights.

    With few tasks it looks through all patterns, with many through those that a local search finds.
    """
    return _price_all(problem) if problem.tasks <= FEW_TASKS else _price_found(problem, generator)


def _first_columns(problem):
    """Of every group: no task and each task alone; of 5 tasks and fewer, all patterns."""
    tasks = problem.tasks
    if 2**tasks <= NEW_COLUMNS:
        known = all_patterns(tasks)[0]
    else:
        known = np.vstack([np.zeros(tasks), np.eye(tasks)])
    group, index = np.nonzero(inside(known, problem.outer))
    return Columns(group, known[index], np.zeros(len(group)))


def _price_all(problem):
    """Looks through all patterns for those that lower the error fastest."""
    patterns, values = all_patterns(problem.tasks)
    allowed = inside(patterns, problem.outer)

    def price(rest, level, columns):
        score = np.where(allowed, values @ rest + level[:, None], -np.inf).ravel()
        (better,) = np.nonzero(score > 0)
        if better.size > NEW_COLUMNS:
            better = better[np.argpartition(-score[better], NEW_COLUMNS)[:NEW_COLUMNS]]
        return better // len(patterns), patterns[better % len(patterns)]

    return price


def _price_found(problem, generator):
    """Climbs from the patterns in use and from random ones."""
    upper = entries(problem.tasks)

    def price(rest, level, columns):
        gain = np.zeros((problem.tasks, problem.tasks))
        gain[upper] = rest
        gain = (gain + gain.T) / 2
        each = -(-STARTS // len(problem.outer))
        group = np.r_[columns.group, np.repeat(np.arange(len(problem.outer)), each)]
        outer = problem.outer[group]
        drawn = generator.random((len(group) - len(columns.group), problem.tasks))
        share = generator.random((len(drawn), 1))
        start = np.vstack([columns.pattern, (drawn < share) * outer[len(columns.group) :]])
        pattern = climb(gain, start, outer)
        better = features(pattern) @ rest + level[group] > 0
        found = np.unique(np.column_stack([group, pattern])[better], axis=0)
        return found[:, 0].astype(int), found[:, 1:]

    return price
