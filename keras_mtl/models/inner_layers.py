"""The layers inside a layer, by public means: what its attributes hold."""

from collections.abc import Mapping

import keras


def inner_layers(layer):
    """Every Keras layer inside a layer, at any depth, each once, in an order that is always so."""
    found, stack = {id(layer): layer}, [layer]
    while stack:
        for inner in _held(vars(stack.pop())):
            if id(inner) not in found:
                found[id(inner)] = inner
                stack.append(inner)
    return list(found.values())[1:]


def _held(value):
    if isinstance(value, keras.layers.Layer):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _held(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _held(part)
