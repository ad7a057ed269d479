"""Images in whatever form they come, as batches of flat lists of NumPy arrays."""

import itertools

import keras
import numpy as np
from keras import ops

FORMS = "an array, a dict or list of arrays by input, or a finite dataset of batches"


def image_batches(images, specs, batch_size):
    """Batches of images for a model, and their number.

    Args:
        images: array; dict or list of arrays by input; a tuple of these and labels; or an iterable
            of such batches.
        specs: tuple of `keras.KerasTensor`, the model's inputs.
        batch_size: int. Of arrays.

    Returns:
        An iterator of lists of arrays, and the number of batches or `None` if that is not known.

    Raises:
        TypeError, ValueError: when the images do not fit the inputs or are endless.
    """
    if isinstance(images, tuple):
        images = keras.utils.unpack_x_y_sample_weight(images)[0]
    if _is_array(images) or isinstance(images, (dict, list)):
        arrays = _flat(images, specs)
        sizes = {len(array) for array in arrays}
        if len(sizes) > 1:
            raise ValueError(
                "`images` must hold arrays of equal length. Received: lengths "
                f"{[len(array) for array in arrays]}."
            )
        (size,) = sizes
        batches = (
            [array[start : start + batch_size] for array in arrays]
            for start in range(0, size, batch_size)
        )
        return _checked(batches, specs), -(-size // batch_size)
    batches, number = _stream(images)
    flat = (_flat(keras.utils.unpack_x_y_sample_weight(batch)[0], specs) for batch in batches)
    return _checked(flat, specs), number


def _stream(images):
    """Iterates over a dataset; returns the number of its batches if it is known."""
    if isinstance(images, keras.utils.PyDataset):
        number = images.num_batches
        numbers = itertools.count() if number is None else range(number)
        endless, batches = number is None, (images[i] for i in numbers)
    elif hasattr(images, "__iter__") and not isinstance(images, (str, bytes)):
        batches = iter(images)
        number = getattr(images, "cardinality", None)
        number = int(number()) if number else None
        endless, number = number == -1, number if (number or -1) >= 0 else None
    else:
        raise TypeError(
            f"`images` must be {FORMS}. Received: images of type {type(images).__name__}."
        )
    if endless:
        raise ValueError(
            "`images` must be finite: each of them is compared with each. Received: an endless "
            "dataset. Call `.take(n)` on it, or leave out its `.repeat()`."
        )
    return batches, number


def _is_array(x):
    return hasattr(x, "shape") and hasattr(x, "__getitem__")


def _flat(x, specs):
    """The arrays of a structure in the order of the inputs."""
    names = [spec.name for spec in specs]
    if isinstance(x, dict) and set(names) <= set(x):
        return [x[name] for name in names]
    flat = keras.tree.flatten(x)
    if len(flat) != len(specs) or not all(map(_is_array, flat)):
        inputs = ", ".join(f"{spec.name!r} {tuple(spec.shape)}" for spec in specs)
        raise ValueError(
            f"`images` must be {FORMS}, for the model's inputs {inputs}. "
            f"Received: {type(x).__name__} of {len(flat)} parts."
        )
    return flat


def _checked(batches, specs):
    """Batches as NumPy arrays, whose shapes are checked."""
    for batch in batches:
        arrays = [np.asarray(ops.convert_to_numpy(x)) for x in batch]
        for array, spec in zip(arrays, specs, strict=True):
            given, wanted = array.shape[1:], tuple(spec.shape[1:])
            fits = len(given) == len(wanted) and all(
                b in (a, None) for a, b in zip(given, wanted, strict=True)
            )
            if array.ndim == 0 or not fits:
                raise ValueError(
                    f"`images` must have shape (batch, {', '.join(map(str, wanted))}) for input "
                    f"{spec.name!r}. Received: shape {array.shape}."
                )
        yield arrays
