"""Factors of the updates of a model's variables, chosen by the names of their layers."""

from collections.abc import Mapping

from keras_mtl import checks
from keras_mtl.errors import suggestion


def factors_of(multipliers, layers):
    """The factor of every variable whose layer is named: `id(variable)` -> float.

    A key that is a layer's name means this layer and its copies for tasks and branches; any other
    key means every layer that has it in its name.

    Args:
        multipliers: mapping from the name of a layer, or a part of it, to a number of at least 0;
            or `None`.
        layers: dict from name to layer.

    Raises:
        ValueError: when a key fits no layer with trainable weights, a factor is out of range, or
            two keys fit one layer equally well.
    """
    multipliers = multipliers or {}
    if not isinstance(multipliers, Mapping):
        raise ValueError(
            "`multipliers` must be a dict from the name of a layer, or a part of it, to a factor. "
            f"Received: multipliers={multipliers!r}."
        )
    weighted = {name: layer for name, layer in layers.items() if layer.trainable_weights}
    exact, partial = {}, {}
    for key, factor in multipliers.items():
        checks.check_not_negative(f"multipliers[{key!r}]", factor)
        whole = [name for name in weighted if name == key or name.startswith(f"{key}.")]
        fitting = whole or [name for name in weighted if str(key) in name]
        if not fitting:
            raise ValueError(
                "`multipliers` must name layers with trainable weights, in whole or in part. "
                f"Received: {key!r}." + suggestion(key, weighted) + f" There are {list(weighted)}."
            )
        for name in fitting:
            keys = exact if whole else partial
            _check_once(name, keys.get(name), key)
            keys[name] = key
    chosen = {name: multipliers[key] for name, key in {**partial, **exact}.items()}
    return {
        id(variable): float(factor)
        for name, factor in chosen.items()
        for variable in weighted[name].trainable_weights
    }


def _check_once(name, first, second):
    if first is not None:
        raise ValueError(
            "`multipliers` must give a layer one factor. "
            f"Received: {first!r} and {second!r}, which both fit {name!r}."
        )
