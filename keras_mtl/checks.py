"""Arguments that many parts have, checked where they come in."""

import math
import numbers


def check_names(name, value):
    """Returns the tuple of different, not empty strings; raises `ValueError` otherwise."""
    sequence = isinstance(value, (tuple, list)) and len(value) > 0
    if not sequence or not all(isinstance(x, str) and x for x in value):
        raise ValueError(f"`{name}` must be a sequence of names. Received: {name}={value!r}.")
    if len(set(value)) != len(value):
        twice = next(x for x in value if list(value).count(x) > 1)
        raise ValueError(f"`{name}` must name each thing once. Received: {twice!r} twice.")
    return tuple(value)


def check_count(name, value, least=1):
    """Returns the `int` of at least `least`; raises `ValueError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}."
        )
    return int(value)


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


def is_number(value):
    """Whether a value is a real number, and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
