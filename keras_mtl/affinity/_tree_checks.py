"""What a tree and a search for trees may be asked for."""

import math
import numbers
from collections.abc import Iterable


def check_sizes(sizes, num_locations=None):
    """Returns the sizes as a tuple of Python numbers, one for each location (`None`: any)."""
    if not isinstance(sizes, Iterable):
        raise TypeError(f"`sizes` must be a sequence of numbers. Received: sizes={sizes!r}.")
    sizes = tuple(x.item() if hasattr(x, "item") else x for x in sizes)
    if num_locations not in (None, len(sizes)):
        raise ValueError(
            f"`sizes` must have one number for each of the {num_locations} locations. "
            f"Received: sizes={list(sizes)}."
        )
    if not all(_is_real(x) and 0 <= x < math.inf for x in sizes):
        raise ValueError(f"`sizes` must be finite and not negative. Received: sizes={list(sizes)}.")
    return sizes


def check_budget(budget, sizes):
    """Returns the budget, infinity for none, if at least one tree fits it."""
    if budget is None:
        return math.inf
    budget = budget.item() if hasattr(budget, "item") else budget
    if not _is_real(budget):
        raise TypeError(f"`budget` must be a number or None. Received: budget={budget!r}.")
    if not budget >= sum(sizes):
        raise ValueError(
            f"`budget` must be at least {sum(sizes)}, the size of the tree that shares "
            f"everything. Received: budget={budget}."
        )
    return budget


def check_integer(name, value, least):
    """Returns the value as an `int` of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}.")
    return int(value)


def _is_real(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
