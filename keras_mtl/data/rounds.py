"""Reading examples round by round: one set, or several input sets side by side."""

import zlib

import tensorflow as tf

from keras_mtl.data.epoch_dataset import order_seeds


def in_rounds(halves, seed):
    """`Rounds` of a half, or `JoinedRounds` of a dict of halves; without a seed in source order."""
    if not isinstance(halves, dict):
        return Rounds(halves, seed)
    # By name, so that a set keeps its order when others come and go.
    return JoinedRounds({name: Rounds(half, seed_of(seed, name)) for name, half in halves.items()})


class Rounds:
    """Examples in rounds without end; each round holds every example once.

    Args:
        half: `ArrayHalf` or `DatasetHalf`.
        seed: int. Together with the number of a round it fixes its order; `None` is source order.
    """

    def __init__(self, half, seed):
        self._half = half
        self._seed = seed
        self.size = half.size

    def examples_per_epoch(self, batch_size):
        return self.size

    def batches(self, start, count, batch_size):
        """The examples from number `start` on, `count` of them (-1: all), in batches."""

        def one_round(number):
            seed = None if self._seed is None else tf.stack([self._seed, number])
            return self._half.ordered(seed)

        rounds = tf.data.Dataset.range(start // self.size, tf.int64.max).flat_map(one_round)
        examples = rounds.skip(start % self.size).take(count)
        # Read ahead in each half, so that several are read in parallel.
        return self._half.batched(examples, batch_size).prefetch(2)


class JoinedRounds:
    """Rounds of several input sets side by side, with nothing but the batch size in common.

    Args:
        rounds: dict from the name of an input set to its `Rounds`, of `(x, y)` or `(x, y, w)` with
            dicts from task name for `y` and `w`.
    """

    def __init__(self, rounds):
        self._rounds = rounds
        self.size = {name: part.size for name, part in rounds.items()}

    def examples_per_epoch(self, batch_size):
        """Those of the largest set, filled up to whole batches."""
        return -(-max(self.size.values()) // batch_size) * batch_size

    def batches(self, start, count, batch_size):
        """Joined batches: from every set the examples from number `start` on, `count` of them."""
        return self._zipped(start, count, batch_size).map(_join)

    def one_pass(self, batch_size):
        """Every example once; then repeats of weight 0, until all sets are equally long."""
        count = self.examples_per_epoch(batch_size)
        numbers = tf.data.Dataset.range(count).batch(batch_size)
        parts = self._zipped(0, count, batch_size)
        return tf.data.Dataset.zip(parts, numbers).map(self._join_padded)

    def _zipped(self, start, count, batch_size):
        return tf.data.Dataset.zip(
            {name: part.batches(start, count, batch_size) for name, part in self._rounds.items()}
        )

    def _join_padded(self, parts, numbers):
        return _join(parts, {name: numbers < size for name, size in self.size.items()})


def _join(parts, present=None):
    """One element from a batch of every set; `present` tells examples from padding."""
    x = {name: part[0] for name, part in parts.items()}
    y = {task: labels for part in parts.values() for task, labels in part[1].items()}
    if present is None and all(len(part) == 2 for part in parts.values()):
        return x, y
    w = {}
    for name, part in parts.items():
        given = part[2] if len(part) == 3 else {}
        for task, labels in part[1].items():
            weight = given[task] if task in given else tf.ones(tf.shape(labels)[:1])
            weight = tf.cast(weight, "float32")
            if present is not None:
                there = tf.reshape(present[name], [-1] + [1] * (weight.shape.rank - 1))
                weight = tf.where(there, weight, 0.0)
            w[task] = weight
    return x, y, w


def seed_of(seed, name):
    """The seed of a set or task of its own; `None` without a seed."""
    if seed is None:
        return None
    (own,) = order_seeds([int(seed), zlib.crc32(name.encode())], 1)
    return own
