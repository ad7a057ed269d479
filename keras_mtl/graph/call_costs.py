"""What calls and units of a backbone cost."""

import math

from keras_mtl.graph.backbone_graph import BackboneGraph, Call
from keras_mtl.graph.costs import flops, parameters
from keras_mtl.graph.units import Unit


def sizes_known(graph: BackboneGraph) -> bool:
    """Whether every size but the batch is known, so that FLOPs can be counted."""
    specs = [*graph.inputs, *(x for call in graph.calls for x in call.outputs)]
    return not any(None in spec.shape[1:] for spec in specs)


def call_flops(graph: BackboneGraph, call: Call) -> int:
    """FLOPs of one call at batch size 1."""
    inputs = [tuple(graph.spec(v).shape) for v in call.inputs]
    return flops(call.operation, inputs, [tuple(x.shape) for x in call.outputs])


def unit_costs(graph: BackboneGraph, unit: Unit) -> tuple[int, int]:
    """Parameters and FLOPs of running a unit, beyond those of skipping it."""
    calls = set(unit.calls)
    if unit.skip is not None:
        calls -= set(graph.ancestors([unit.skip], unit.calls))
    size = {graph.calls[i].key: parameters(graph.calls[i].operation) for i in calls}
    work = sum(call_flops(graph, graph.calls[i]) for i in calls) if sizes_known(graph) else 0
    return sum(size.values()), work


def projection_cost(graph: BackboneGraph, unit: Unit) -> tuple[int, int]:
    """Parameters and FLOPs of the 1x1 projection that may replace a unit."""
    source, target = graph.spec(unit.source).shape, graph.spec(unit.output).shape
    size, positions = source[-1] * target[-1], target[1:-1]
    return size, 0 if None in positions else 2 * size * math.prod(positions)
