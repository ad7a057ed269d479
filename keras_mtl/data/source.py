"""Checked training data, arrays or a `tf.data.Dataset`, from which halves are taken."""

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.checks import check_dense
from keras_mtl.data.search_halves import ArrayHalf, DatasetHalf

_TUPLE = "a tuple `(x, y)` or `(x, y, sample_weight)` with `y` "
_BY_TASK = _TUPLE + "a dict from task name to labels, or the labels of the only task"
_OF_A_SET = _TUPLE + "an array or a dict from task name to labels"


class Source:
    """Examples in a known order, and their number.

    Args:
        data: tuple `(x, y)` or `(x, y, sample_weight)` of arrays with `y` a dict from task name to
            labels, or a finite `tf.data.Dataset` of such batches.
        caller: string. The function that shuffles, for messages.
        input_set: string. Name of an input set: `y` and the sample weights may then be arrays, and
            become dicts. `None`: `data` is all there is.
        shuffle_buffer: int. The largest number of examples of a dataset to hold for shuffling.

    Raises:
        TypeError, ValueError: as `search_split` does.
    """

    def __init__(self, data, caller, *, input_set=None, shuffle_buffer):
        self.where = "data" if input_set is None else f"data[{input_set!r}]"
        self.batch_size = None
        self._shuffle_buffer = shuffle_buffer
        streamed = isinstance(data, tf.data.Dataset)
        data = data if streamed else _as_arrays(data)
        spec = data.element_spec if streamed else data
        check_dense(spec)
        _check_layout(spec, self.where, _BY_TASK if input_set is None else _OF_A_SET)
        if input_set is not None:
            self.tasks = tuple(_by_task(spec, input_set)[1])
            _check_sample_weights(spec, self.where, self.tasks)
            if streamed:
                data = data.map(lambda *batch: _by_task(batch, input_set))
            else:
                data = _by_task(data, input_set)
        if streamed:
            self.batch_size = _check_order(data, self.where, caller)
            self.size = _count_examples(data)
        else:
            self.size = _common_length(data, self.where)
            # On the CPU, where tf.data reads: the arrays may be larger than an accelerator's
            # memory. Lists would be stacked by tf.data.
            with tf.device("CPU:0"):
                data = keras.tree.map_structure(
                    tf.convert_to_tensor, keras.tree.lists_to_tuples(data)
                )
        self._data = data

    def half(self, belongs):
        """The examples to whose numbers the function `belongs` says yes."""
        chosen = np.flatnonzero(belongs(np.arange(self.size)))
        if isinstance(self._data, tf.data.Dataset):
            return DatasetHalf(self._data, belongs, len(chosen), self._shuffle_buffer)
        return ArrayHalf(self._data, chosen)

    def whole(self):
        """All examples."""
        return self.half(lambda index: tf.ones_like(index, "bool"))


def input_sets(data, caller, *, shuffle_buffer):
    """A `Source` for each input set of a dict, checked to give each task's labels once."""
    if not data or not all(isinstance(name, str) for name in data):
        raise ValueError(
            "`data` must have one or more input sets under their names. "
            f"Received: names={list(data)}."
        )
    sources, owner = {}, {}
    for name, part in data.items():
        sources[name] = Source(part, caller, input_set=name, shuffle_buffer=shuffle_buffer)
        for task in sources[name].tasks:
            if task in owner:
                raise ValueError(
                    "`data` must have the labels of a task in one input set. "
                    f"Received: labels of {task!r} in {owner[task]!r} and {name!r}."
                )
            owner[task] = name
    return sources


def _as_arrays(data):
    """Data with arrays in the place of lists of numbers or texts; lists of arrays stay lists."""
    if isinstance(data, tuple):
        return tuple(map(_as_arrays, data))
    if isinstance(data, dict):
        return {key: _as_arrays(value) for key, value in data.items()}
    if not isinstance(data, list) or any(hasattr(x, "shape") for x in keras.tree.flatten(data)):
        return data
    try:
        return np.asarray(data)
    except ValueError:  # rows of different lengths
        return data


def _by_task(batch, name):
    """Labels and sample weights as dicts; an array of weights holds for all tasks of the set."""
    x, y, *weights = batch
    y = y if isinstance(y, dict) else {name: y}
    weights = [w if isinstance(w, dict) else dict.fromkeys(y, w) for w in weights]
    return (x, y, *weights)


def _check_layout(data, where, layout):
    """`data` is a tuple of arrays, or the `element_spec` of a dataset."""
    fits = isinstance(data, tuple) and len(data) in (2, 3)
    if fits:
        fits = not any(isinstance(part, (tuple, list)) for part in data[1:])
    if not fits:
        raise TypeError(
            f"`{where}` must be {layout}, or a finite `tf.data.Dataset` of such batches. "
            f"Received: {where}={_describe(data)}."
        )
    for leaf in keras.tree.flatten(data):
        if not hasattr(leaf, "shape") or tf.TensorShape(leaf.shape).rank == 0:
            raise TypeError(
                f"`{where}` must hold arrays whose first dimension counts the examples. "
                f"Received: {where}={_describe(data)}."
            )


def _check_sample_weights(data, where, tasks):
    given = data[2] if len(data) == 3 and isinstance(data[2], dict) else {}
    unknown = [task for task in given if task not in tasks]
    if unknown:
        raise ValueError(
            f"`{where}` must have sample weights of its own tasks {list(tasks)} only. "
            f"Received: sample weights of {unknown}."
        )


def _describe(data):
    """The layout of `data` without its numbers."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key!r}: {_describe(data[key])}" for key in data) + "}"
    if isinstance(data, tuple):
        return "(" + ", ".join(_describe(item) for item in data) + ")"
    shape = getattr(data, "shape", None)
    return type(data).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def _common_length(data, where):
    lengths = {int(leaf.shape[0]) for leaf in keras.tree.flatten(data)}
    if len(lengths) > 1:
        raise ValueError(
            f"`{where}` must hold arrays of equal length. Received: {where}={_describe(data)}."
        )
    (total,) = lengths
    if total == 0:
        raise ValueError(f"`{where}` must not be empty. Received: {where}={_describe(data)}.")
    return total


def _check_order(data, where, caller):
    """Refuses a dataset whose first batch changes; returns the size of that batch."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"`{where}` must be a finite `tf.data.Dataset`. Received: an endless one. "
            "Call `.take(n)` on it, or leave out its `.repeat()`."
        )
    first, again = (
        [keras.tree.flatten(batch) for batch in data.take(1).as_numpy_iterator()] for _ in range(2)
    )
    if not first:
        raise ValueError(
            f"`{where}` must not be empty. Received: a `tf.data.Dataset` of no batches."
        )
    if not all(map(_equal, first[0], again[0])):
        raise ValueError(
            f"`{where}` must give its batches in the same order every time it is iterated. "
            "Received: a `tf.data.Dataset` whose first batch changes. "
            f"Leave out its `.shuffle()` and let `{caller}(..., shuffle=True)` shuffle."
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


def task_sets(sources):
    """Task -> the name of the input set that has its labels."""
    return {task: name for name, source in sources.items() for task in source.tasks}
