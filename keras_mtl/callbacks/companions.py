"""What other callbacks remember, as plain data and arrays, and to whom it goes back."""

import keras
import numpy as np

OPERATION = "keras.ops"  # marks the name of an operation in a state
_KERASS = ("params",)  # what Keras tells every callback of the present training

# They show how a training goes, and nothing of it depends on what they remember.
_WATCHERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)


def moved(callback, before):
    """The plain state of a callback that is not what it was before training."""
    return {k: v for k, v in plain_state(callback).items() if before.get(k, not v) != v}


def plain_state(callback):
    """The public attributes of a callback that JSON can hold, as they are at this moment."""
    state = {}
    if isinstance(callback, _WATCHERS):
        return state
    for name, value in vars(callback).items():
        if name.startswith("_"):
            continue
        if name not in _KERASS and _is_plain(value):
            state[name] = _copied(value)
        elif callable(value) and getattr(keras.ops, getattr(value, "__name__", ""), None) is value:
            # Whether more or less is better; Keras turns `min_delta` round when it finds this out.
            state[name] = {OPERATION: value.__name__}
    return state


def _is_plain(value):
    """Whether JSON gives a value back as it was; lists and dicts of arrays are no such values."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, (bool, int, float, str, np.generic))


def _copied(value):
    """A plain value that later changes do not reach; numbers of NumPy become Python's."""
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def array_state(callback):
    """The public attributes of a callback that are lists of arrays, such as the best weights."""
    return {
        name: [np.asarray(v) for v in value]
        for name, value in vars(callback).items()
        if not name.startswith("_")
        and isinstance(value, (list, tuple))
        and value
        and all(isinstance(v, np.ndarray) for v in value)
    }


def give_back(callback, state):
    """Sets the attributes that were saved."""
    for name, value in state.items():
        if isinstance(value, dict) and OPERATION in value:
            value = getattr(keras.ops, value[OPERATION])
        setattr(callback, name, value)


def kind_of(callback):
    """By what a callback is known again: its class, and what it monitors, and how, if anything."""
    monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", "auto")
    return type(callback).__name__, monitor if mode == "auto" else f"{monitor}, mode {mode}"


def matched(kinds, states, callbacks, path):
    """Which of the states belongs to which callback, by their kinds and in order.

    Args:
        kinds: list of the kinds that a file has, as `kind_of` gives them; without monitors in files
            of the first version.
        states: list of their states, empty where nothing was remembered.
        callbacks: list of callbacks.
        path: path of the file.

    Returns:
        A dict from the position of a callback to its state, the classes of the file that are gone
        (they have no state), and the callbacks that are new.

    Raises:
        ValueError: when a state has no callback any more, or it is not clear which.
    """
    now = [kind_of(c) if any(len(k) > 1 for k in kinds) else (kind_of(c)[0],) for c in callbacks]
    kinds = [tuple(kind) for kind in kinds]
    found, gone, new = {}, [], []
    for kind in dict.fromkeys([*kinds, *now]):
        saved = [state for k, state in zip(kinds, states, strict=True) if k == kind]
        places = [i for i, k in enumerate(now) if k == kind]
        if len(saved) == len(places):
            found |= dict(zip(places, saved, strict=True))
        elif any(saved):
            of = f" of {kind[1]!r}" if kind[1:] and kind[1] else ""
            raise ValueError(
                f"`callbacks` must have as many {kind[0]}{of} as the interrupted training, "
                f"{len(saved)}, since their state would be lost or mixed up. Received: "
                f"{len(places)}. Pass the same ones, or delete {str(path)!r} to begin again."
            )
        else:
            gone += [kind[0]] * (len(saved) - len(places))
            new += [callbacks[i] for i in places[len(saved) :]]
    return found, gone, new
