"""Arguments that many parts have, checked where they come in."""

import math
import numbers
import random

import keras

from keras_mtl.errors import DataError


def check_names(name, value):
    """Returns the tuple of different, not empty strings; raises `ValueError` otherwise."""
    sequence = isinstance(value, (tuple, list)) and len(value) > 0
    if not sequence or not all(isinstance(x, str) and x for x in value):
        raise ValueError(f"`{name}` must be a sequence of names. Received: {name}={value!r}.")
    if len(set(value)) != len(value):
        twice = next(x for x in value if list(value).count(x) > 1)
        raise ValueError(f"`{name}` must name each thing once. Received: {twice!r} twice.")
    return tuple(value)


def check_count(name, value, least=1, *, optional=False):
    """Returns the `int` of at least `least`, or a `None` that may be; raises `ValueError`."""
    if value is None and optional:
        return None
    if not is_integer(value) or value < least:
        allowed = f"an integer of at least {least}" + (" or None" if optional else "")
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}.")
    return int(value)


def check_counts(name, value, length=None):
    """Returns the tuple of integers of at least 1, `length` or some; raises `ValueError`."""
    valid = isinstance(value, (list, tuple)) and all(is_integer(x) and x >= 1 for x in value)
    if not valid or not value or (length is not None and len(value) != length):
        amount = "integers" if length is None else f"{length} integers"
        raise ValueError(
            f"`{name}` must be a tuple of {amount} of at least 1. Received: {name}={value!r}."
        )
    return tuple(int(x) for x in value)


def check_seed(value):
    """Returns the seed as an `int`, where `None` draws one; raises `ValueError` otherwise.

    It is drawn as Keras draws the seeds of its layers, from Python's random numbers: what
    `keras.utils.set_random_seed` makes repeatable.
    """
    if value is None:
        return random.randrange(2**31)
    return check_count("seed", value, 0, optional=True)


def check_positive(name, value):
    """Returns the finite `float` above 0; raises `ValueError` otherwise."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite. Received: {name}={value!r}.")
    return float(value)


def check_not_negative(name, value):
    """Returns the finite `float` of at least 0; raises `ValueError` otherwise."""
    if not is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be finite and at least 0. Received: {name}={value!r}.")
    return float(value)


def is_integer(value):
    """Whether a value is an integer, and not a truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value):
    """Whether a value is a real number, and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_WAYS_TO_DENSE = {
    "SparseTensor": "tf.sparse.to_dense",
    "RaggedTensor": "tf.RaggedTensor.to_tensor",
}


def check_dense(data):
    """Raises `DataError` for sparse or ragged tensors, or specs of them, anywhere in the data."""
    for part in keras.tree.flatten(data):
        kind = type(part).__name__.removesuffix("Spec")
        if kind in _WAYS_TO_DENSE:
            way = f"`{_WAYS_TO_DENSE[kind]}(...)`, in a dataset by its `map`"
        elif hasattr(part, "tocoo"):  # of SciPy
            kind, way = type(part).__name__, "`.toarray()`"
        else:
            continue
        raise DataError(f"The data must be dense. Received: a {kind}. Make it dense first: {way}.")
