"""Checks of arguments that several functions of this package have."""

import random

import numpy as np


def check_positive(name, value, *, optional=False):
    if value is None and optional:
        return
    if not _is_integer(value) or value < 1:
        what = "a positive integer" + (" or None" if optional else "")
        raise ValueError(f"`{name}` must be {what}. Received: {name}={value!r}.")


def checked_seed(seed):
    """The seed as an int; `None` draws one."""
    if seed is None:
        return random.randint(0, 2**31 - 1)
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"`seed` must be a non-negative integer or None. Received: seed={seed!r}.")
    return int(seed)


def _is_integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
