"""Splits training data into the part for the weights and the part for the policy."""

import random

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.data.search_dataset import SearchDataset
from keras_mtl.data.search_halves import ArrayHalf, DatasetHalf

_LAYOUT = "a tuple `(x, y)` or `(x, y, sample_weight)` with `y` a dict from task name to labels"


def search_split(
    data, policy_fraction=0.5, *, batch_size=None, shuffle=True, seed=0, shuffle_buffer=10_000
):
    """Splits examples into a half for the weights and one for the policy of a search model.

    Gates that are trained on the examples that the weights have fitted choose too much capacity,
    so a search trains its two variable groups on disjoint examples. The split goes by the number
    of an example and is spread evenly: example `i` belongs to the policy half where
    `floor((i + 1) * policy_fraction) > floor(i * policy_fraction)`. It does not depend on `seed`.

    A `tf.data.Dataset` is read as a stream and never held in memory: in an epoch once for the
    weights and once for each round of the policy half, so `.cache()` it where reading is slow.
    Its order must be the same every time. Leave shuffling to this function and random
    augmentation to layers of the model.

    Args:
        data: tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or a finite `tf.data.Dataset`
            of batches of that layout. `x` is an array or a dict of arrays, `y` a dict from task
            name to array. Missing labels (NaN, an ignored value) pass through.
        policy_fraction: float strictly between 0 and 1. Share of the examples for the policy.
        batch_size: positive int. Examples in a batch of either half; by default 32 for arrays
            and the size of the first batch for a `tf.data.Dataset`.
        shuffle: bool. Whether to shuffle both halves anew in every epoch.
        seed: int. Fixes the order of the batches; `None` draws one, kept as `.seed`.
        shuffle_buffer: positive int. Examples of a `tf.data.Dataset` that are held for shuffling
            each half. Arrays are always shuffled completely.

    Returns:
        A `keras_mtl.data.SearchDataset`.

    Raises:
        TypeError: when `data` has another layout.
        ValueError: when an argument is out of range, `data` is empty or endless, its arrays
            differ in length, its order changes, or one half would have no example.

    Example:

    >>> x, y = np.zeros((100, 8, 8, 3)), {"a": np.zeros(100), "b": np.zeros(100)}
    >>> keras_mtl.data.search_split((x, y), policy_fraction=0.2, batch_size=16)
    <SearchDataset: 5 batches of 16, 80 examples for the weights, 20 for the policy, \
shuffle=True, seed=0>
    """
    if not isinstance(policy_fraction, (float, np.floating)) or not 0.0 < policy_fraction < 1.0:
        raise ValueError(
            "`policy_fraction` must lie strictly between 0 and 1. "
            f"Received: policy_fraction={policy_fraction!r}."
        )
    if batch_size is not None:
        _check_positive("batch_size", batch_size)
    _check_positive("shuffle_buffer", shuffle_buffer)
    if seed is None:
        seed = random.randint(0, 2**31 - 1)
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"`seed` must be a non-negative integer or None. Received: seed={seed!r}.")

    def in_policy(index):
        index = tf.cast(index, "float64")
        fraction = tf.constant(policy_fraction, "float64")
        return tf.floor((index + 1.0) * fraction) > tf.floor(index * fraction)

    if isinstance(data, tf.data.Dataset):
        _check_layout(data.element_spec)
        first_batch_size = _check_order(data)
        total = _count_examples(data)
        batch_size = first_batch_size if batch_size is None else batch_size
    else:
        _check_layout(data)
        total = _common_length(data)
        batch_size = 32 if batch_size is None else batch_size
    chosen = in_policy(np.arange(total)).numpy()
    num_policy = int(chosen.sum())
    if num_policy in (0, total):
        raise ValueError(
            "`policy_fraction` must leave at least one example for the weights and one for the "
            f"policy. Received: policy_fraction={policy_fraction!r} with {total} examples."
        )

    if isinstance(data, tf.data.Dataset):
        weights = DatasetHalf(
            data, lambda index: ~in_policy(index), total - num_policy, shuffle_buffer
        )
        policy = DatasetHalf(data, in_policy, num_policy, shuffle_buffer)
    else:
        # On the CPU, where tf.data reads: the arrays may be larger than an accelerator's memory.
        with tf.device("CPU:0"):
            data = keras.tree.map_structure(tf.convert_to_tensor, data)
        weights = ArrayHalf(data, np.flatnonzero(~chosen))
        policy = ArrayHalf(data, np.flatnonzero(chosen))
    return SearchDataset(weights, policy, batch_size=batch_size, shuffle=shuffle, seed=int(seed))


def _is_integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_positive(name, value):
    if not _is_integer(value) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}.")


def _check_layout(data):
    """`data` is a tuple of arrays, or the `element_spec` of a dataset."""
    if not isinstance(data, tuple) or len(data) not in (2, 3) or not isinstance(data[1], dict):
        raise TypeError(
            f"`data` must be {_LAYOUT}, or a finite `tf.data.Dataset` of such batches. "
            f"Received: data={_describe(data)}."
        )
    for leaf in keras.tree.flatten(data):
        if not hasattr(leaf, "shape") or tf.TensorShape(leaf.shape).rank == 0:
            raise TypeError(
                "`data` must hold arrays whose first dimension counts the examples. "
                f"Received: data={_describe(data)}."
            )


def _describe(data):
    """The layout of `data` without its numbers."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key!r}: {_describe(data[key])}" for key in data) + "}"
    if isinstance(data, tuple):
        return "(" + ", ".join(_describe(item) for item in data) + ")"
    shape = getattr(data, "shape", None)
    return type(data).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def _common_length(data):
    lengths = {int(leaf.shape[0]) for leaf in keras.tree.flatten(data)}
    if len(lengths) > 1:
        raise ValueError(
            f"`data` must hold arrays of equal length. Received: data={_describe(data)}."
        )
    (total,) = lengths
    if total == 0:
        raise ValueError(f"`data` must not be empty. Received: data={_describe(data)}.")
    return total


def _check_order(data):
    """Refuses a dataset whose first batch changes; returns the size of that batch."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`data` must be a finite `tf.data.Dataset`. Received: an endless one. "
            "Call `.take(n)` on it, or leave out its `.repeat()`."
        )
    first, again = (
        [keras.tree.flatten(batch) for batch in data.take(1).as_numpy_iterator()] for _ in range(2)
    )
    if not first:
        raise ValueError("`data` must not be empty. Received: a `tf.data.Dataset` of no batches.")
    if not all(map(_equal, first[0], again[0])):
        raise ValueError(
            "`data` must give its batches in the same order every time it is iterated. "
            "Received: a `tf.data.Dataset` whose first batch changes. "
            "Leave out its `.shuffle()` and let `search_split(..., shuffle=True)` shuffle."
        )
    return len(first[0][0])


def _equal(a, b):
    if not isinstance(a, np.ndarray):
        return True
    return np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.inexact))


def _count_examples(data):
    known = int(data.unbatch().cardinality())
    if known >= 0:
        return known
    sizes = data.map(lambda *batch: tf.shape(keras.tree.flatten(batch)[0], "int64")[0])
    return int(sizes.reduce(tf.constant(0, "int64"), tf.add))
