"""Labels as users give them: plain for a single task, as lists, with wrong class numbers."""

import keras
import numpy as np
from keras import ops

from keras_mtl.errors import DataError

_ROWS = 1024  # examples that are looked at together where some label is wrong


def by_task(tasks, y, sample_weight=None):
    """Labels and sample weights as dicts from task to array.

    Those of a single task need no dict, and lists are as good as arrays.
    """
    names = [task.name for task in tasks]
    return tuple(_as_arrays(what, _named(part, names)) for what, part in _parts(y, sample_weight))


def batch_by_task(tasks, batch):
    """The same for `(x, y[, sample_weight])`, of tensors or of specs."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        return batch
    names = [task.name for task in tasks]
    return (batch[0], *(_named(part, names) for part in batch[1:]))


def _parts(y, sample_weight):
    return ("Labels", y), ("Sample weights", sample_weight)


def _named(part, names):
    plain = part is not None and not isinstance(part, dict) and len(names) == 1
    return {names[0]: part} if plain else part


def _as_arrays(what, parts):
    if not isinstance(parts, dict):
        return parts
    return {task: _as_array(what, task, part) for task, part in parts.items()}


def _as_array(what, task, part):
    if part is None or hasattr(part, "shape"):
        return part
    try:
        array = np.asarray(part)
    except ValueError:  # rows of different lengths
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise DataError(
            f"{what} of task {task!r} must be numbers, in rows of equal length. Received: "
            f"{type(part).__name__} that {'is ragged' if array is None else 'holds others'}."
        )
    return array


def label_range(task, output):
    """The smallest and the largest label that a task's loss can take, or `None` if any.

    Args:
        task: `Task`.
        output: spec of its predictions.
    """
    kind = type(task.loss)
    if kind in (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy):
        return 0, 1
    if kind is keras.losses.SparseCategoricalCrossentropy:
        classes = output.shape[task.loss.get_config().get("axis", -1)]
        return None if classes is None else (0, classes - 1)
    return None


def wrong_labels(task, y_true, sample_weight, limits):
    """Present labels outside of a range: a tensor that is 0 elsewhere, and a mask of them."""
    labels, _ = task.labels(y_true, sample_weight)  # missing ones are filled with 0 or 1
    if not keras.backend.is_float_dtype(labels.dtype):
        labels = ops.cast(labels, "int64")  # bytes cannot hold the number of a thousandth class
    low, high = (ops.cast(limit, labels.dtype) for limit in limits)
    wrong = ops.logical_or(labels < low, labels > high)
    return ops.where(wrong, labels, ops.zeros_like(labels)), wrong


def refusal(task, found, output):
    """What to say of a label outside of the range."""
    found = int(found) if float(found).is_integer() else found
    low, high = label_range(task, output)
    if type(task.loss) is keras.losses.SparseCategoricalCrossentropy:
        must = f"class numbers from {low} to {high}, since its head has {high + 1} classes"
    else:
        must = f"from {low} to {high}, as its loss {task.loss.name!r} takes them"
    return (
        f"Labels of task {task.name!r} must be {must}. Received: {found}. If that marks a missing "
        f"label, pass `Task(..., ignore={found})`; otherwise correct the labels or the head."
    )


def check_labels(task, output, y_true, sample_weight=None):
    """Raises `DataError` when an array has a present label outside of the range."""
    limits = label_range(task, output)
    y_true = np.asarray(y_true)
    if limits is None or not y_true.size:
        return
    # NaN is neither.
    outside = np.logical_or(y_true < limits[0], y_true > limits[1])
    suspects = np.flatnonzero(outside.reshape(len(outside), -1).any(axis=1))
    for i in range(0, len(suspects), _ROWS):
        rows = suspects[i : i + _ROWS]
        weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
        values, wrong = map(ops.convert_to_numpy, wrong_labels(task, y_true[rows], weight, limits))
        if wrong.any():
            raise DataError(refusal(task, values[wrong][0].item(), output))
