"""Weights of labels by their class, as Keras' `class_weight`."""

import math
import numbers

import keras
import numpy as np
from keras import ops


def checked_class_weight(class_weight, task):
    """A dict from int to float, or `None`; raises for anything else."""
    if class_weight is None:
        return None
    items = class_weight.items() if isinstance(class_weight, dict) else [(None, None)]
    for key, weight in items:
        whole = isinstance(key, numbers.Integral) and not isinstance(key, bool)
        real = isinstance(weight, numbers.Real) and math.isfinite(weight) and weight >= 0
        if not whole or not real:
            raise ValueError(
                f"`class_weight` of task {task!r} must be a dict from class numbers to numbers of "
                f"at least 0, such as {{0: 1.0, 1: 5.0}}. Received: class_weight={class_weight!r}."
            )
    return {int(key): float(weight) for key, weight in items}


def weights_by_class(class_weight, loss, labels, y_pred, sample_weight=None):
    """Sample weights times the weight of every label's class.

    Args:
        class_weight: dict from class number to weight; 1 for classes that are not in it. `None`:
            nothing changes.
        loss: `keras.losses.Loss`; its `axis` is where one-hot labels have their classes.
        labels: tensor of class numbers or one-hot rows, without holes.
        y_pred: tensor of predictions.
        sample_weight: tensor or `None`.

    Returns:
        A float32 tensor with a number for every label, or `sample_weight`.
    """
    if not class_weight:
        return sample_weight
    classes = _classes(loss, labels, y_pred)
    low, high = min(class_weight), max(class_weight)
    table = np.ones(high - low + 1, "float32")
    for number, weight in class_weight.items():
        table[number - low] = weight
    known = ops.logical_and(classes >= low, classes <= high)
    found = ops.take(ops.convert_to_tensor(table), ops.clip(classes - low, 0, high - low))
    found = ops.where(known, found, ops.ones_like(found))
    if sample_weight is None:
        return found
    given = ops.cast(sample_weight, "float32")
    while len(given.shape) < len(found.shape):
        given = ops.expand_dims(given, -1)
    while len(found.shape) < len(given.shape):
        found = ops.expand_dims(found, -1)
    return given * found


def _classes(loss, labels, y_pred):
    """The class number of every label, int32, as Keras finds it."""
    if len(labels.shape) == len(y_pred.shape) and len(labels.shape) > 1:
        known = type(loss).__module__.startswith("keras.")
        axis = loss.get_config().get("axis", -1) if known else -1
        axis = axis if isinstance(axis, int) else -1
        numbered = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
        if numbered or labels.shape[axis] == 1:
            labels = ops.squeeze(labels, axis=axis)
        else:
            return ops.cast(ops.argmax(labels, axis=axis), "int32")
    if keras.backend.is_float_dtype(labels.dtype):
        labels = ops.round(labels)
    return ops.cast(labels, "int32")
