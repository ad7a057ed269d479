"""Masks in the manner of the paper: greedy over the tasks, the best of some random draws for each.

Written from its description, to set beside `keras_mtl.partition.find_masks`; not the authors' code.
"""

import numpy as np


def greedy_masks(target, channels, draws, generator):
    """Boolean masks `(tasks, channels)` for a target matrix of shares and overlaps.

    The first task takes the first channels. Every later one draws its channels some times over and
    keeps the draw whose overlaps with the tasks before it have the least squared error. A draw goes
    through the tasks before it in random order and takes, at random, what is still missing of its
    overlap with each: first channels of no task whose overlap is already reached. Then it fills up
    its share, first with channels of no task before it.
    """
    tasks = len(target)
    size = np.rint(np.diag(target) * channels).astype(int)
    masks = np.zeros((tasks, channels), bool)
    masks[0, : size[0]] = True
    for task in range(1, tasks):
        earlier, wanted = masks[:task], target[task, :task] * channels
        rows = np.zeros((draws, channels), bool)
        order = generator.permuted(np.tile(np.arange(task), (draws, 1)), axis=1)
        for other in order.T:
            have = _overlaps(rows, earlier)
            missing = np.rint(wanted - have)[np.arange(draws), other]
            missing = np.minimum(missing, size[task] - rows.sum(axis=1))
            reached = (have >= wanted).astype("float32") @ earlier.astype("float32") > 0
            free = earlier[other] & ~rows
            rows |= _first(generator, [~free, reached], missing) & free
        lacking = size[task] - rows.sum(axis=1)
        used = np.broadcast_to(earlier.any(axis=0), rows.shape)
        rows |= _first(generator, [rows, used], lacking)
        errors = np.square(_overlaps(rows, earlier) - wanted).sum(axis=1)
        masks[task] = rows[errors.argmin()]
    return masks


def _overlaps(rows, earlier):
    return rows.astype("float32") @ earlier.T.astype("float32")


def _first(generator, unwanted, counts):
    """Of every row, so many channels: the least unwanted first, at random among equals."""
    key = generator.random(unwanted[0].shape, "float32")
    for weight, kind in zip((4, 2), unwanted, strict=True):
        key += weight * kind
    rank = key.argsort(axis=1).argsort(axis=1)
    return rank < np.maximum(counts, 0)[:, None]
