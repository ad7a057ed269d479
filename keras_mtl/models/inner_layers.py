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


def pairs(one, other):
    """A layer and another of its kind, and those inside them that stand at one place."""
    found, stack = {id(other): (one, other)}, [(one, other)]
    while stack:
        one, other = stack.pop()
        for name, value in vars(other).items():
            # A clone may have been called, and hold more under names of its own.
            for pair in zip(_held(vars(one).get(name)), _held(value), strict=False):
                if id(pair[1]) not in found:
                    found[id(pair[1])] = pair
                    stack.append(pair)
    return list(found.values())


def _held(value):
    """Layers in an attribute, but inputs, which a `Sequential` has only when it was called."""
    if isinstance(value, keras.layers.Layer):
        if not isinstance(value, keras.layers.InputLayer):
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _held(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _held(part)
