"""One model with the outputs of several layers of another, whose layers stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_mtl.errors import UnsupportedBackboneError, suggestion
from keras_mtl.graph.backbone_graph import INPUT, Value, is_functional, read

if TYPE_CHECKING:
    from keras_mtl.graph.backbone_graph import BackboneGraph


def feature_model(model: keras.Model, locations: Sequence[str]) -> FeatureModel:
    """A model from a network's flat inputs to the outputs of its layers at some locations.

    Args:
        model: a model of keras_mtl, or a functional `keras.Model`.
        locations: tuple of string.

    Returns:
        A `FeatureModel`.

    Raises:
        UnsupportedBackboneError: when the network cannot be read.
        ValueError: when a location is not one layer, called once, with one output.
    """
    network = getattr(model, "network", model)
    if not isinstance(network, keras.Model) or not is_functional(network):
        raise UnsupportedBackboneError(
            "`model` must be a model made by `keras_mtl.build` or a functional `keras.Model`, "
            f"whose layers can be read. Received: model={model!r} of type {type(model).__name__}."
        )
    graphs = [
        read(keras.Model(list(network.inputs), output, name=network.name))
        for output in network.outputs
    ]
    known = dict.fromkeys(call.key for graph in graphs for call in graph.calls)
    keys = [_key(network.name, list(known), location) for location in locations]
    for graph in graphs:
        if {call.key for call in graph.calls}.issuperset(keys):
            return FeatureModel(graph, [_value(graph, key) for key in keys])
    raise ValueError(
        f"`locations` must lie on the way to one output of model {network.name!r}. Received: "
        f"locations={list(locations)}. Ask for those of each output apart."
    )


def _key(model, keys, name):
    """The one layer that a name means: itself, a task's copy of it, or one in a nested model."""
    found = [key for key in keys if key.startswith(f"{name}.") or key.endswith(f".{name}")]
    found = [name] if name in keys else found
    if not found:
        raise ValueError(
            f"`locations` must name layers of model {model!r}. Received: {name!r}, which it does "
            f"not have.{suggestion(name, keys)}"
        )
    if len(found) > 1:
        more = ", ..." if len(found) > 4 else ""
        raise ValueError(
            f"`locations` must name one layer each of model {model!r}. Received: {name!r}, which "
            f"may be {', '.join(map(repr, found[:4]))}{more}. Use the full name."
        )
    return found[0]


def _value(graph, key):
    calls = [call for call in graph.calls if call.key == key]
    if len(calls) > 1:
        raise ValueError(
            f"`locations` must name layers that are called once. Received: {key!r}, which model "
            f"{graph.name!r} calls {len(calls)} times. Name a layer behind the call that is meant."
        )
    if len(calls[0].outputs) != 1:
        raise ValueError(
            f"`locations` must name layers with one output. Received: {key!r}, which has "
            f"{len(calls[0].outputs)}. Name a layer behind the output that is meant."
        )
    return Value(calls[0].index, 0)


class FeatureModel(keras.Model):
    """Runs the calls that some values depend on, with the layers of the model that was read.

    Args:
        graph: `BackboneGraph`.
        values: list of `Value`.
    """

    def __init__(self, graph: BackboneGraph, values: Sequence[Value]) -> None:
        super().__init__(name=f"{graph.name}.features", autocast=False)
        self.specs = graph.inputs
        self._wanted = tuple(values)
        self._graph = graph
        self.compile(jit_compile=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        given = {
            Value(INPUT, i): ops.convert_to_tensor(tensor, dtype=spec.dtype)
            for i, (tensor, spec) in enumerate(zip(inputs, self.specs, strict=True))
        }
        needed = self._graph.ancestors(self._wanted)
        known = self._graph.run(given, lambda call: call.operation, needed)
        return [known[value] for value in self._wanted]
