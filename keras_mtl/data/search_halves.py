"""The two kinds of halves that a `SearchDataset` draws from: arrays and a `tf.data.Dataset`."""

import keras
import tensorflow as tf


class ArrayHalf:
    """Some examples of arrays in memory, named by their indices.

    Only the indices are shuffled; whole batches are gathered from the arrays.

    Args:
        data: tuple `(x, y)` or `(x, y, sample_weight)` of tensors with equal first dimension.
        indices: one-dimensional integer array. The examples of this half.
    """

    def __init__(self, data, indices):
        self._data = data
        self._indices = indices
        self.size = len(indices)

    def ordered(self, seed):
        """All examples once: in source order where `seed` is `None`, else shuffled by it."""
        indices = tf.constant(self._indices, "int64")
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, seed, alg="philox")
        return tf.data.Dataset.from_tensor_slices(indices)

    def batched(self, examples, batch_size):
        """Batches of what `ordered` gave."""
        batches = examples.batch(batch_size).map(
            lambda indices: keras.tree.map_structure(lambda t: tf.gather(t, indices), self._data),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # There is nothing to tune, and an iterator's end waits for its tuner: up to a second.
        options = tf.data.Options()
        options.autotune.enabled = False
        return batches.with_options(options)


class DatasetHalf:
    """Some examples of a `tf.data.Dataset` of batches, read as a stream.

    Args:
        data: `tf.data.Dataset` of batches that gives the same order whenever it is iterated.
        belongs: function of an integer tensor, numbers of examples. Which of them are in this
            half.
        size: int. The number of examples in this half.
        shuffle_buffer: int. The largest number of examples to hold for shuffling.
    """

    def __init__(self, data, belongs, size, shuffle_buffer):
        def select(start, batch):
            leaves = keras.tree.flatten(batch)
            end = start + tf.shape(leaves[0], "int64")[0]
            chosen = tf.where(belongs(tf.range(start, end)))[:, 0]
            return end, keras.tree.map_structure(lambda t: tf.gather(t, chosen), batch)

        # Selecting in whole batches costs a fraction of a filter over single examples.
        self._examples = data.scan(tf.constant(0, "int64"), select).unbatch()
        self._shuffle_buffer = min(size, shuffle_buffer)
        self.size = size

    def ordered(self, seed):
        """All examples once: in source order where `seed` is `None`, else shuffled by it."""
        if seed is None:
            return self._examples
        # `shuffle` mixes the graph's seed into its own. Fixing it for the graph under
        # construction alone keeps the order free of `keras.utils.set_random_seed`.
        tf.compat.v1.set_random_seed(1)
        return self._examples.shuffle(
            self._shuffle_buffer,
            seed=tf.random.stateless_uniform([], seed, 1, 2**31 - 1, "int64"),
            reshuffle_each_iteration=False,
        )

    def batched(self, examples, batch_size):
        """Batches of what `ordered` gave."""
        return examples.batch(batch_size)
