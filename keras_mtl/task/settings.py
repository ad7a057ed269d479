"""What a Keras loss or metric was made with: enough to make the same once more."""

import functools
import inspect
import types
import warnings

import numpy as np

_BASE = ("name", "dtype", "reduction")  # of Keras' base classes; a subclass may not take them


def settings_of(thing):
    """The arguments that make a loss or metric once more, a dict.

    It is the configuration, with what Keras leaves out of it (`Huber(delta)`,
    `CosineSimilarity(axis)`, the arguments of a class without `get_config`) and without what a
    class does not take.

    Args:
        thing: `keras.losses.Loss` or `keras.metrics.Metric`.

    Example:

    >>> import keras
    >>> settings_of(keras.losses.Huber(delta=0.5))["delta"]
    0.5
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' word that it writes down the code of a lambda
        config = _config(thing)
    names, open_ended = _arguments(type(thing))
    if not open_ended:
        config = {k: v for k, v in config.items() if k in names or k not in _BASE}
    found = ((name, _held(thing, name)) for name in names if name not in config)
    return {**config, **{name: value[0] for name, value in found if value}}


def _config(thing):
    try:
        return dict(thing.get_config())
    except Exception:  # Keras cannot write a `functools.partial`; a class of the user's may raise
        return {}


def copied(thing, **changes):
    """A fresh object with the same settings but for `changes`, or `None` where there is no way."""
    try:
        names, open_ended = _arguments(type(thing))
        changes = {k: v for k, v in changes.items() if open_ended or k in names}
        copy = type(thing).from_config({**settings_of(thing), **changes})
    except Exception:  # a class of the user's may raise anything
        return None
    return copy if is_like(copy, thing) else None


def is_like(copy, thing):
    """Whether two objects are of one class and hold equal settings."""
    return type(copy) is type(thing) and _plain(copy) == _plain(thing)


def takes(function, argument):
    """Whether a function or method has an argument of a name."""
    try:
        return argument in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a built-in without a signature
        return False


def _arguments(kind):
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in parameters if p.kind in named]
    return names, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _held(thing, name):
    """A list with the value that an object keeps of an argument, empty where it keeps none."""
    held = vars(thing)
    kept = [value for value in held.values() if isinstance(value, dict)]
    return [d[key] for d in (held, *kept) for key in (name, f"_{name}") if key in d][:1]


def _plain(thing):
    """What an object holds that can be compared, but for its name."""
    held = {k: v for k, v in vars(thing).items() if k.strip("_") not in ("name", "built")}
    return {key: _comparable(value) for key, value in held.items() if _is_plain(value)}


def _is_plain(value):
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    kinds = (bool, int, float, str, type(None), np.ndarray, np.generic, types.FunctionType)
    return isinstance(value, (*kinds, functools.partial))


def _comparable(value):
    if isinstance(value, dict):
        return {key: _comparable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_comparable(part) for part in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
