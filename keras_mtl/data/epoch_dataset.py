"""Batches whose position in the data follows from the step alone."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf


class EpochDataset:
    """Batches of which number `i` of epoch `e` depends on `(seed, e, i)` alone.

    Never on what was read before or on the global seed, so an interrupted training finds its place
    again from its step: `stream(epoch).skip(batch)`.

    Args:
        examples: int. Examples of the longest part that an epoch reads.
        batch_size: int. Examples in a batch.
        shuffle: bool. Whether each round is shuffled, or read in source order.
        seed: int. Together with the round it fixes the order.

    Attributes:
        task_sets: `None`, or task -> the input set that its labels come with.
    """

    task_sets = None

    def __init__(self, examples: int, *, batch_size: int, shuffle: bool, seed: int | None) -> None:
        self._examples = examples
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed

    def epoch(self, epoch: int) -> tf.data.Dataset:
        """The batches of one epoch, the first being 0, as a finite `tf.data.Dataset`."""
        _check_epoch("epoch", epoch)
        return finished(self._epochs(epoch, epoch + 1), len(self))

    def stream(self, first_epoch: int = 0) -> tf.data.Dataset:
        """The batches of `epoch(first_epoch)`, of the next one, and so on without end."""
        _check_epoch("first_epoch", first_epoch)
        return finished(self._epochs(first_epoch, tf.int64.max), tf.data.INFINITE_CARDINALITY)

    @functools.cached_property
    def element_spec(self) -> Any:
        """The structure, shapes and types of an element, as `tf.data.Dataset` has it."""
        return self._epochs(0, 1).element_spec

    def of_sets(self, names: Collection[str]) -> EpochDataset:
        """The same without the input sets that are not among `names`; as if it had never had them.

        Data that are not of input sets are given back as they are.
        """
        return self

    def _with_tasks_of(self, names, other):
        """Gives `other` what is known of the tasks of some input sets."""
        other.task_sets = {task: name for task, name in self.task_sets.items() if name in names}
        return other

    def cardinality(self) -> int:
        """The number of batches in an epoch, an int."""
        return len(self)

    def __len__(self):
        return -(-self._examples // self.batch_size)

    def __iter__(self):
        return iter(self.epoch(0))

    def _epochs(self, first, last):
        return tf.data.Dataset.range(first, last).flat_map(
            lambda epoch: self._batches(epoch * self._examples)
        )

    def _batches(self, start):
        """The batches of an epoch, `start` examples having been read before it."""
        raise NotImplementedError


def finished(dataset, cardinality):
    """The dataset in a fixed order, of a known length, read ahead."""
    options = tf.data.Options()
    options.deterministic = True
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def order_seeds(seed, count):
    """Seeds of several orders that know nothing of each other."""
    return np.random.SeedSequence(seed).generate_state(count).astype("int64")


def _check_epoch(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    if value < 0:
        raise ValueError(f"`{name}` must not be negative. Received: {name}={value}.")
