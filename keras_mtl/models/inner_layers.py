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
            for pair in _matched(list(_held(vars(one).get(name))), list(_held(value))):
                if id(pair[1]) not in found:
                    found[id(pair[1])] = pair
                    stack.append(pair)
    return list(found.values())


def _matched(ones, others):
    if len(ones) == len(others):
        return list(zip(ones, others, strict=True))
    # A `Sequential` that was called has layers more than one that was not.
    by_name = {layer.name: layer for layer in ones}
    return [(by_name[layer.name], layer) for layer in others if layer.name in by_name]


def _held(value):
    if isinstance(value, keras.layers.Layer):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _held(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _held(part)
