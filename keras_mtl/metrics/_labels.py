"""What every metric does to labels, predictions and sample weights before it counts."""

import numbers

import keras
from keras import ops

# A float32 counter stops growing at 2**24 pixels, which is less than sixty images of 640 x 480.
ACCUMULATOR_DTYPE = "float64"


def validate_ignore(ignore):
    """Return `ignore` as an `int` or `None`."""
    if ignore is None:
        return None
    if isinstance(ignore, bool) or not isinstance(ignore, numbers.Integral):
        raise TypeError(f"`ignore` must be an integer or None. Received: ignore={ignore!r}.")
    return int(ignore)


def class_labels(y_true, y_pred, ignore=None):
    """Return the labels and the predicted classes as int32, and where a label is present."""
    y_true = ops.convert_to_tensor(y_true)
    y_pred = ops.convert_to_tensor(y_pred)
    expected = tuple(y_pred.shape)[:-1]
    received = tuple(y_true.shape)
    if len(received) == len(expected) + 1 and received[-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    if not _same_shape(tuple(y_true.shape), expected):
        raise ValueError(
            "`y_true` must hold one class id for each row of scores in `y_pred`. "
            f"Received: y_true.shape={received}, y_pred.shape={tuple(y_pred.shape)}."
        )
    if "float" in keras.backend.standardize_dtype(y_true.dtype):
        y_true = ops.where(ops.isfinite(y_true), y_true, -1.0)
    labels = ops.cast(y_true, "int32")
    present = ops.logical_and(labels >= 0, labels < y_pred.shape[-1])
    if ignore is not None:
        present = ops.logical_and(present, labels != ignore)
    return labels, ops.cast(ops.argmax(y_pred, axis=-1), "int32"), present


def depth_labels(y_true, y_pred):
    """Return labels and predictions as float32, and where a label is present.

    A missing label is replaced by 1, so that whatever divides by it stays finite.
    """
    y_true = ops.cast(ops.convert_to_tensor(y_true), "float32")
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    received = (tuple(y_true.shape), tuple(y_pred.shape))
    if len(received[0]) == len(received[1]) + 1 and received[0][-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    elif len(received[1]) == len(received[0]) + 1 and received[1][-1] == 1:
        y_pred = ops.squeeze(y_pred, axis=-1)
    if not _same_shape(tuple(y_true.shape), tuple(y_pred.shape)):
        raise ValueError(
            "`y_pred` must have the shape of `y_true`. "
            f"Received: y_true.shape={received[0]}, y_pred.shape={received[1]}."
        )
    present = ops.logical_and(ops.isfinite(y_true), y_true > 0)
    return ops.where(present, y_true, 1.0), y_pred, present


def label_weights(sample_weight, present):
    """Return a weight for each label, in the accumulator's dtype and zero where it is missing."""
    if sample_weight is None:
        return ops.cast(present, ACCUMULATOR_DTYPE)
    weights = ops.cast(ops.convert_to_tensor(sample_weight), ACCUMULATOR_DTYPE)
    received = tuple(weights.shape)
    expected = tuple(present.shape)
    if len(received) == len(expected) + 1 and received[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    # As in Keras, a weight per sample is stretched over the axes that it does not name.
    while len(weights.shape) < len(expected):
        weights = ops.expand_dims(weights, axis=-1)
    if not _same_shape(tuple(weights.shape), expected, broadcast=True):
        raise ValueError(
            f"`sample_weight` must broadcast to the labels' shape {expected}. "
            f"Received: sample_weight.shape={received}."
        )
    return ops.where(present, weights, ops.zeros_like(weights))


def ratio(total, count):
    """Return `total / count`, and NaN where nothing was counted."""
    seen = count > 0
    return ops.where(seen, total / ops.where(seen, count, ops.ones_like(count)), float("nan"))


def _same_shape(shape, expected, broadcast=False):
    return len(shape) == len(expected) and all(
        size is None or other is None or size == other or (broadcast and size == 1)
        for size, other in zip(shape, expected, strict=True)
    )
