"""Pairs of batches, one for the weights and one for the policy."""

import functools

import numpy as np
import tensorflow as tf


class SearchDataset:
    """Gives a search model one batch for its weights and one for its policy at every step.

    Elements are `((x, y[, w]), (x, y[, w]))`: the weights batch, then the policy batch. Batch `i`
    of epoch `e` depends on `(seed, e, i)` alone, never on what was read before or on the global
    seed, so an interrupted search finds its place again from its step. An epoch reads every
    example of the weights half once, and as many examples of the policy half. The policy half is
    read in rounds that run on over the epochs: each round holds all its examples once, in an
    order of its own, so none is used more often than another.

    Made by `keras_mtl.data.search_split`.

    Args:
        weights: the half that trains the weights, `ArrayHalf` or `DatasetHalf`.
        policy: the half that trains the policy, `ArrayHalf` or `DatasetHalf`.
        batch_size: int. Examples in each of the two batches; the last one may be smaller.
        shuffle: bool. Whether each round is shuffled, or read in source order.
        seed: int. Together with the round it fixes the order.

    Example:

    >>> x = np.arange(10.0)[:, None]
    >>> data = keras_mtl.data.search_split((x, {"a": x}), 0.3, batch_size=4, shuffle=False)
    >>> len(data), data.num_weights_examples, data.num_policy_examples
    (2, 7, 3)
    >>> (x_weights, _), (x_policy, _) = next(iter(data))
    >>> x_weights.numpy().ravel().tolist(), x_policy.numpy().ravel().tolist()
    ([0.0, 1.0, 2.0, 4.0], [3.0, 6.0, 9.0, 3.0])
    """

    def __init__(self, weights, policy, *, batch_size, shuffle, seed):
        self._weights = weights
        self._policy = policy
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.num_weights_examples = weights.size
        self.num_policy_examples = policy.size
        self._order_seeds = np.random.SeedSequence(seed).generate_state(2).astype("int64")

    def epoch(self, epoch):
        """The batches of one epoch, the first being 0, as a finite `tf.data.Dataset`."""
        _check_epoch("epoch", epoch)
        return _finished(self._epochs(epoch, epoch + 1), len(self))

    def stream(self, first_epoch=0):
        """The batches of `epoch(first_epoch)`, of the next one, and so on without end."""
        _check_epoch("first_epoch", first_epoch)
        return _finished(self._epochs(first_epoch, tf.int64.max), tf.data.INFINITE_CARDINALITY)

    @functools.cached_property
    def element_spec(self):
        """The structure, shapes and types of an element, as `tf.data.Dataset` has it."""
        return self._epochs(0, 1).element_spec

    def cardinality(self):
        """The number of batches in an epoch, an int."""
        return len(self)

    def __len__(self):
        return -(-self.num_weights_examples // self.batch_size)

    def __iter__(self):
        return iter(self.epoch(0))

    def __repr__(self):
        return (
            f"<SearchDataset: {len(self)} batches of {self.batch_size}, "
            f"{self.num_weights_examples} examples for the weights, "
            f"{self.num_policy_examples} for the policy, "
            f"shuffle={self.shuffle}, seed={self.seed}>"
        )

    def _epochs(self, first, last):
        return tf.data.Dataset.range(first, last).flat_map(
            lambda epoch: tf.data.Dataset.zip(
                self._half_epoch(self._weights, self._order_seeds[0], epoch),
                self._half_epoch(self._policy, self._order_seeds[1], epoch),
            )
        )

    def _half_epoch(self, half, order_seed, epoch):
        def one_round(number):
            return half.ordered(tf.stack([order_seed, number]) if self.shuffle else None)

        start = epoch * self.num_weights_examples
        rounds = tf.data.Dataset.range(start // half.size, tf.int64.max).flat_map(one_round)
        examples = rounds.skip(start % half.size).take(self.num_weights_examples)
        # Read ahead in each half, so that the two are read in parallel.
        return half.batched(examples, self.batch_size).prefetch(2)


def _finished(dataset, cardinality):
    options = tf.data.Options()
    options.deterministic = True
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _check_epoch(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    if value < 0:
        raise ValueError(f"`{name}` must not be negative. Received: {name}={value}.")
