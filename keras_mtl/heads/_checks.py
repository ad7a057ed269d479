import numbers


def positive_integer(name, value):
    """Return `value` as an `int` of at least 1, or say which argument is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
    return int(value)


def positive_integers(name, values, length=None):
    """Return `values` as a tuple of integers of at least 1, `length` of them or at least one."""
    valid = isinstance(values, (list, tuple)) and all(
        isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
        for value in values
    )
    if not valid or not values or (length is not None and len(values) != length):
        amount = "integers" if length is None else f"{length} integers"
        raise ValueError(
            f"`{name}` must be a tuple of {amount} of at least 1. Received: {name}={values!r}."
        )
    return tuple(int(value) for value in values)
