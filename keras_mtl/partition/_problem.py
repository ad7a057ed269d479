"""What a fit is asked for, and the columns that answer it."""

import dataclasses
import functools

import numpy as np

from keras_mtl.partition._patterns import features


@dataclasses.dataclass(frozen=True)
class Problem:
    """Channels in groups; each takes a pattern inside the outer pattern of its group.

    Args:
        target: array `(entries,)`. Upper triangle, with its diagonal, of MᵀM/C as it should be.
        weights: array `(entries,)`, at most 1. What the square of each entry's error counts.
        outer: array `(groups, tasks)` of 0.0 and 1.0. Widest pattern of each group.
        sizes: array `(groups,)` of int. Number of channels of each group.
    """

    target: np.ndarray
    weights: np.ndarray
    outer: np.ndarray
    sizes: np.ndarray

    @property
    def tasks(self):
        return self.outer.shape[1]

    @functools.cached_property
    def channels(self):
        return int(self.sizes.sum())

    def reweighted(self, columns, threshold):
        """With weights that make the squares of errors beyond a threshold count linearly."""
        error = np.abs(columns.achieved() - self.target)
        weights = self.weights * threshold / np.maximum(error, threshold)
        return dataclasses.replace(self, weights=weights)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Patterns in use: `amount[k]` of `pattern[k]` in group `group[k]`."""

    group: np.ndarray
    pattern: np.ndarray
    amount: np.ndarray

    @functools.cached_property
    def features(self):
        return features(self.pattern)

    def take(self, which):
        return Columns(self.group[which], self.pattern[which], self.amount[which])

    def achieved(self):
        """The upper triangle of Σ amount · pattern·patternᵀ."""
        return self.amount @ self.features

    def joined(self, group, pattern):
        """These and, at amount 0, the given ones."""
        return Columns(
            np.concatenate([self.group, group]),
            np.concatenate([self.pattern, pattern]),
            np.concatenate([self.amount, np.zeros(len(group))]),
        )
