"""Pairs of batches, one for the weights and one for the policy."""

import math
from collections.abc import Collection
from typing import Any

import tensorflow as tf

from keras_mtl.data.epoch_dataset import EpochDataset, order_seeds
from keras_mtl.data.rounds import in_rounds


class SearchDataset(EpochDataset):
    """Gives a search model one batch for its weights and one for its policy at every step.

    Elements are `((x, y[, w]), (x, y[, w]))`: the weights batch, then the policy batch. Batch `i`
    of epoch `e` depends on `(seed, e, i)` alone, never on what was read before or on the global
    seed, so an interrupted search finds its place again from its step. An epoch reads every
    example of the weights half once, and as many examples of the policy half. The policy half is
    read in rounds that run on over the epochs: each round holds all its examples once, in an
    order of its own, so none is used more often than another.

    With input sets, one for each of several tasks, both batches are joined as in
    `keras_mtl.data.JoinedDataset`: an epoch has as many batches as the largest weights half
    fills, all batches are full, and every half is read in rounds.

    Made by `keras_mtl.data.search_split`.

    Args:
        weights: the half that trains the weights, `ArrayHalf` or `DatasetHalf`, or a dict of them
            from the name of an input set.
        policy: the half that trains the policy, of the same form.
        batch_size: int. Examples in each of the two batches; without input sets the last one may
            be smaller.
        shuffle: bool. Whether each round is shuffled, or read in source order.
        seed: int. Together with the round it fixes the order.
        share: float. How much of the weights half an epoch reads, filled up to whole batches; 1 for
            all of it.

    Example:

    >>> x = np.arange(10.0)[:, None]
    >>> data = keras_mtl.data.search_split((x, {"a": x}), 0.3, batch_size=4, shuffle=False)
    >>> len(data), data.num_weights_examples, data.num_policy_examples
    (2, 7, 3)
    >>> (x_weights, _), (x_policy, _) = next(iter(data))
    >>> x_weights.numpy().ravel().tolist(), x_policy.numpy().ravel().tolist()
    ([0.0, 1.0, 2.0, 4.0], [3.0, 6.0, 9.0, 3.0])
    """

    def __init__(
        self,
        weights: Any,
        policy: Any,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        share: float = 1.0,
    ) -> None:
        self._halves, self._share = (weights, policy), share
        seeds = order_seeds(seed, 2) if shuffle else (None, None)
        self._weights, self._policy = map(in_rounds, (weights, policy), seeds)
        self.num_weights_examples = self._weights.size
        self.num_policy_examples = self._policy.size
        examples = self._weights.examples_per_epoch(batch_size)
        if share < 1.0:
            examples = math.ceil(examples * share / batch_size) * batch_size
        super().__init__(examples, batch_size=batch_size, shuffle=shuffle, seed=seed)

    def __repr__(self):
        return (
            f"<SearchDataset: {len(self)} batches of {self.batch_size}, "
            f"{self.num_weights_examples} examples for the weights, "
            f"{self.num_policy_examples} for the policy, "
            f"shuffle={self.shuffle}, seed={self.seed}>"
        )

    def of_sets(self, names: Collection[str]) -> EpochDataset:
        if self.task_sets is None:
            return self
        weights, policy = (
            {name: half for name, half in halves.items() if name in names}
            for halves in self._halves
        )
        other = SearchDataset(
            weights,
            policy,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            share=self._share,
        )
        return self._with_tasks_of(names, other)

    def _batches(self, start):
        return tf.data.Dataset.zip(
            self._weights.batches(start, self._examples, self.batch_size),
            self._policy.batches(start, self._examples, self.batch_size),
        )
