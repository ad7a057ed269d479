"""Which labels are there, and what becomes of that where a loss makes one value of several."""

import itertools

import keras
import numpy as np
from keras import ops


def present_labels(y_true, missing=()):
    """Labels without holes, and where they are present (bool).

    Args:
        y_true: array or tensor.
        missing: numbers that mean "missing".
    """
    y_true = ops.convert_to_tensor(y_true)
    present = ops.ones_like(y_true, dtype="bool")
    if keras.backend.is_float_dtype(y_true.dtype):
        present = ops.logical_not(ops.isnan(y_true))
    for value in missing:
        if _fits_type(value, y_true.dtype):
            value = ops.convert_to_tensor(value, dtype=y_true.dtype)
            present = ops.logical_and(present, ops.not_equal(y_true, value))
    return filled(y_true, present), present


def filled(labels, present):
    """Labels with some harmless number where they are missing."""
    # 1 is inside the domain of losses with a logarithm or a quotient; integers are classes.
    floating = keras.backend.is_float_dtype(labels.dtype)
    return ops.where(present, labels, ops.ones_like(labels) if floating else ops.zeros_like(labels))


def masked_weight(sample_weight, y_pred, rank):
    """Sample weights times the Keras mask of the predictions; `None` where there is neither.

    Args:
        sample_weight: array, tensor or `None`.
        y_pred: tensor.
        rank: int. The number of axes of the labels.
    """
    mask = getattr(y_pred, "_keras_mask", None)
    if mask is None or len(mask.shape) > rank:
        return sample_weight
    mask = ops.cast(mask, "float32")
    if sample_weight is None:
        return mask
    weight = ops.cast(sample_weight, "float32")
    rank = max(len(mask.shape), len(weight.shape))
    return spread(mask, rank) * spread(weight, rank)


def spread(weight, rank, axis=-1):
    """Weights of fewer axes than labels, or with axes of size 1 at the end, with `rank` axes.

    Args:
        weight: array or tensor.
        rank: int.
        axis: int. The axis of the labels that holds their channels.
    """
    weight = ops.convert_to_tensor(weight)
    while len(weight.shape) > rank:
        weight = ops.squeeze(weight, axis=-1)
    if 1 < len(weight.shape) == rank - 1:
        return ops.expand_dims(weight, axis)
    while len(weight.shape) < rank:
        weight = ops.expand_dims(weight, -1)
    return weight


def reduced_axes(labels, values, declared=None):
    """The axes of the labels that a loss has reduced, a tuple; `None` where it cannot be told.

    Args:
        labels: shape of the labels, sizes may be `None`.
        values: shape of the losses.
        declared: tuple of the axes that the loss says to reduce, or `None`.

    Example:

    >>> reduced_axes((8, 3, 5, 5), (8, 5, 5), declared=(1,)), reduced_axes((8, 5, 5, 3), (8,))
    ((1,), (1, 2, 3))
    """
    labels, values = tuple(labels), tuple(values)
    fewer = len(labels) - len(values)
    if fewer <= 0:  # sizes of 1 were kept
        sizes = enumerate(zip(labels, values, strict=False))
        return tuple(i for i, (a, b) in sizes if i and not fewer and b == 1 != a)
    declared = None if declared is None else tuple(sorted(a % len(labels) for a in declared))
    if declared is not None and len(declared) == fewer and 0 not in declared:
        return declared
    fitting = [
        axes
        for axes in itertools.combinations(range(1, len(labels)), fewer)
        if all(
            None in (a, b) or a == b for a, b in zip(_without(labels, axes), values, strict=True)
        )
    ]
    exact = [axes for axes in fitting if _without(labels, axes) == values]
    return (exact or fitting or [None])[-1]


def folded(present, values, axes, how):
    """The presence of every loss, from the presence of the labels that it was made of.

    Args:
        present: float tensor, of the labels.
        values: the losses.
        axes: tuple, from `reduced_axes`.
        how: `ops.min` where all labels of a loss must be there, `ops.max` where one is enough.
    """
    if axes:
        present = how(present, axis=axes, keepdims=len(present.shape) == len(values.shape))
    present = spread(present, len(values.shape))
    if tuple(present.shape) != tuple(values.shape):
        present = present * ops.ones_like(values, dtype=present.dtype)
    return present


def partly(present, axes):
    """Whether some labels are missing along `axes` where others are there: a boolean scalar."""
    return ops.any(ops.min(present, axis=axes) != ops.max(present, axis=axes))


def _without(shape, axes):
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _fits_type(value, dtype):
    """Whether labels of a type can have a value; -1 in unsigned bytes would turn into 255."""
    dtype = keras.backend.standardize_dtype(dtype)
    return "float" in dtype or bool(np.array(value).astype(dtype) == value)
