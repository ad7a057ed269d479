"""What the layers that fuse the columns of several tasks have in common."""

import functools
import numbers
import operator

import numpy as np
from keras import ops


def share(name, value):
    """Returns a weight between 0 and 1 as a float, or says which argument is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}.")
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be between 0 and 1. Received: {name}={value}.")
    return float(value)


def own_and_others(count, own):
    """Initial weights of `count` sources on themselves: `own`, the rest in equal parts elsewhere.

    Every row sums to 1, so that a single source has the weight 1 whatever `own` is.

    Example:

    >>> own_and_others(3, 0.8).round(2).tolist()
    [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    >>> own_and_others(1, 0.8).tolist()
    [[1.0]]
    """
    if count == 1:
        return np.ones((1, 1))
    weights = np.full((count, count), (1 - own) / (count - 1))
    np.fill_diagonal(weights, own)
    return weights


def constant(value):
    """An initializer that gives these numbers."""
    return lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype)


def total(tensors):
    """The sum of tensors, without the 0 that `sum` begins with."""
    return functools.reduce(operator.add, tensors)


def shapes_of(name, shapes):
    """Returns the shapes of a list of tensors as tuples, or says that it is no list of tensors."""
    if not isinstance(shapes, (list, tuple)) or any(
        not isinstance(shape, (list, tuple)) for shape in shapes
    ):
        raise ValueError(f"`{name}` must be a list of tensors. Received: shapes={shapes}.")
    return [tuple(shape) for shape in shapes]


def shapes_of_columns(num_tasks, shapes):
    """Returns the one shape of `num_tasks` columns' maps, or says what is wrong with them."""
    shapes = shapes_of("inputs", shapes)
    if len(shapes) != num_tasks or len(set(shapes)) > 1:
        raise ValueError(
            f"`inputs` must be a list of {num_tasks} tensors of one shape, one for each task. "
            f"Received: shapes={shapes}."
        )
    if len(shapes[0]) < 2 or shapes[0][-1] is None:
        raise ValueError(
            "`inputs` must have the shape (batch, ..., channels) with a known number of channels. "
            f"Received: shapes={shapes}."
        )
    return shapes[0]


def not_negative(name, value):
    """Returns a finite number of at least 0 as a float, or says which argument is none."""
    if not isinstance(value, numbers.Real) or not 0 <= value < np.inf:
        raise ValueError(f"`{name}` must be a number of at least 0. Received: {name}={value!r}.")
    return float(value)


def fits(shape, target):
    """Whether a map can be resized to the size of a target, both with known channels."""
    same = shape[1:-1] == target[1:-1]
    resizable = len(shape) == len(target) and (same or None not in shape[1:-1] + target[1:-1])
    return len(target) >= 2 and resizable and None not in (shape[-1], target[-1])


def check_that_they_fit(name, shapes, target):
    """Refuses maps that cannot be resized to the size of a target of shape `target`."""
    if not all(fits(shape, target) for shape in (target, *shapes)):
        raise ValueError(
            f"`{name}` must be maps of one rank, (batch, ..., channels), with known channels, and "
            "with known sizes where these differ. "
            f"Received: shapes={shapes} to fit {tuple(target)}."
        )


def resize(x, size):
    """Resizes a map of any rank bilinearly (linear along each axis, centres of pixels aligned).

    Args:
        x: tensor of shape `(batch, *spatial, channels)`.
        size: tuple of int, as many as spatial axes; a map that has it already is handed back.
    """
    spatial = tuple(x.shape[1:-1])
    size = tuple(size)
    if spatial == size:
        return x
    channels = x.shape[-1]
    resized = x
    if len(size) == 2:
        resized = _resize_images(x, size)
    else:
        for axis, (before, after) in enumerate(zip(spatial, size, strict=True)):
            if before != after:
                rest = int(np.prod(spatial[axis + 1 :]))
                images = ops.reshape(resized, (-1, before, rest, channels))
                spatial = (*spatial[:axis], after, *spatial[axis + 1 :])
                resized = ops.reshape(
                    _resize_images(images, (after, rest)), (-1, *spatial, channels)
                )
    # TensorFlow resizes to float32 whatever comes in.
    return ops.cast(resized, x.dtype)


def _resize_images(x, size):
    return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")


def fit_channels(x, channels):
    """Cuts the last channels off, or adds channels of zeros."""
    missing = channels - x.shape[-1]
    if missing <= 0:
        return x[..., :channels]
    return ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, missing)])
