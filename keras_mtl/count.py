"""What a set of paths needs and costs: `assemble`, with an executor that computes nothing."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from keras_mtl.assemble import Assembly, needed_calls
from keras_mtl.graph import flops, parameters
from keras_mtl.graph.channel_selection import pruned_flops, pruned_parameters, union
from keras_mtl.layers.fusions import fusion_costs


def projection_cost(graph, unit):
    """Parameters and FLOPs of the 1x1 projection that may replace a unit."""
    source, target = graph.spec(unit.source).shape, graph.spec(unit.output).shape
    size, positions = source[-1] * target[-1], target[1:-1]
    return size, 0 if None in positions else 2 * size * math.prod(positions)


class Counter:
    """An executor that computes nothing: it notes which copies are used and what they cost."""

    def run(self, call, copy, tensor_of):
        return [None] * len(call.outputs)

    def blend(self, call, copies, weights, tensor_of):
        return None

    def mix(self, weights, tensors):
        return None

    def switch(self, weights, groups, branches):
        found = [branch() for branch in branches]
        return found[0]

    def project(self, unit, copy, tensor):
        return None

    def normalise(self, unit, copy, tensor):
        return None

    def activate(self, unit, tensor):
        return None

    def fuse(self, fusion, tensors, gates):
        return [None] * len(fusion.targets)

    def mask(self, value, mask, tensor):
        return None


class Needs(NamedTuple):
    """What a set of paths needs.

    Args:
        copies: list of `(call key, copy)`, in order of first use.
        projections: list of `(unit name, copy)`: the 1x1 projections.
        normalisations: list of `(unit name, copy)`: the normalisations behind projections.
        activations: list of unit names: the activations that run without their operator.
        fusions: list of `Fusion`.
        costs: `{"parameters" | "flops": {"tasks": {task: int}, "together": int}}` without the
            heads, or `None` where the backbone leaves sizes open.
        masks: list of `(value, mask)`: which results some task does not use all channels of.
    """

    copies: list
    projections: list
    normalisations: list
    activations: list
    fusions: list
    costs: dict | None
    masks: list | tuple = ()


def count(graph, units, tasks, resolve, fusions=(), selection=None):
    """What a set of paths needs, without making a model; `tasks` and the rest as in `assemble`.

    A task costs what its own network costs when the channels that it does not use are cut off;
    together, tasks need the channels that any of them uses.

    Returns:
        A `Needs`.
    """
    assembly = Assembly(graph, units, Counter(), selection=selection)
    tasks = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks)
    nothing = [None] * len(graph.inputs)
    assembly.features(tasks, resolve, dict.fromkeys(tasks.values(), nothing), fusions)
    touched = assembly.touched
    together = {key: True for keys in touched.values() for key in keys}
    copies = dict.fromkeys(copy for key in together for copy in _copies_of(graph, key))
    by_fusion = {fusion.name: fusion for fusion in fusions}
    found = (
        list(copies),
        list(dict.fromkeys(key[1:3] for key in together if key[0] == "project")),
        list(dict.fromkeys(key[1:3] for key in together if key[0] == "normalise")),
        list(dict.fromkeys(key[1] for key in together if key[0] == "activate")),
        [by_fusion[key[1]] for key in together if key[0] == "fuse"],
    )
    masks = list(dict.fromkeys(key[1:3] for key in together if key[0] == "mask"))
    if not sizes_known(graph):
        return Needs(*found, None, masks)
    by_name = units_by_name(units, fusions)
    alone = {
        task: _cost(graph, by_name, by_fusion, keys, _cut(selection, {task: keys}))
        for task, keys in touched.items()
    }
    whole = _cost(graph, by_name, by_fusion, together, _cut(selection, touched))
    costs = {
        kind: {"tasks": {t: alone[t][kind] for t in alone}, "together": whole[kind]}
        for kind in ("parameters", "flops")
    }
    return Needs(*found, costs, masks)


_WEIGHTLESS = ("mix", "sample", "activate", "mask")


def _copies_of(graph, key):
    """The `(call key, copy)` behind one remembered result."""
    if key[0] == "blend":
        return [(graph.calls[key[1]].key, copy) for copy in key[2]]
    if key[0] in (*_WEIGHTLESS, "project", "normalise", "fuse") or key[1] is None:
        return []
    return [(graph.calls[key[0]].key, key[1])]


def _cut(selection, touched):
    """A function of a remembered result: the channels in and out that each of the tasks needs."""

    def parts(key):
        if not selection or key[1] is None or not selection.touches(key[0]):
            return []
        users = [task for task, keys in touched.items() if key in keys]
        return [(selection.inputs(t, key[0]), selection.outputs(t, key[0])) for t in users]

    return parts


def _cost(graph, by_name, by_fusion, keys, parts_of):
    """Parameters and FLOPs behind a set of remembered results; parameters once for each copy."""
    sizes, work, cut = {}, 0, {}
    calls = {call.key: call for call in graph.calls}
    for key in keys:
        if key[0] == "project":
            sizes[key[:3]], extra = projection_cost(graph, by_name[key[1]])
            work += extra
        elif key[0] == "fuse":
            fusion = by_fusion[key[1]]
            shapes = [spec.shape for spec in source_specs(graph, by_name, fusion)]
            sizes[key[:2]], extra = fusion_costs(fusion, shapes)
            work += extra
        elif key[0] == "normalise":
            sizes[key[:3]] = 4 * graph.spec(by_name[key[1]].output).shape[-1]
        elif parts := parts_of(key):
            call = graph.calls[key[0]]
            work += pruned_flops(graph, call, *map(union, zip(*parts, strict=True)))
            cut.setdefault((call.key, key[1]), []).extend(parts)
        elif key[0] not in _WEIGHTLESS:
            work += call_flops(graph, graph.calls[key[1] if key[0] == "blend" else key[0]])
            # What no task owns a copy of may have numbers too: the statistics of `Normalization`.
            for copy in _copies_of(graph, key) or [(graph.calls[key[0]].key, None)]:
                sizes[copy] = parameters(calls[copy[0]].operation)
    for copy, parts in cut.items():
        sizes[copy] = pruned_parameters(calls[copy[0]].operation, parts)
    return {"parameters": sum(sizes.values()), "flops": work}


def units_by_name(units, fusions):
    """Name of a unit or fusion -> the unit whose output has the shape of what it gives."""
    by_name = {unit.name: unit for unit in units}
    return by_name | {fusion.name: by_name[fusion.unit] for fusion in fusions}


def source_specs(graph, by_name, fusion):
    """The specs of what a fusion reads, in order; `by_name` from `units_by_name`."""
    return [graph.spec(by_name[name].output) for _, name in fusion.sources]


def call_flops(graph, call):
    """FLOPs of one call at batch size 1."""
    inputs = [tuple(graph.spec(v).shape) for v in call.inputs]
    return flops(call.operation, inputs, [tuple(x.shape) for x in call.outputs])


def unit_costs(graph, unit):
    """Parameters and FLOPs of running a unit, beyond those of skipping it."""
    calls = set(unit.calls)
    if unit.skip is not None:
        calls -= set(needed_calls(graph, unit, [unit.skip]))
    size = {graph.calls[i].key: parameters(graph.calls[i].operation) for i in calls}
    work = sum(call_flops(graph, graph.calls[i]) for i in calls) if sizes_known(graph) else 0
    return sum(size.values()), work


def sizes_known(graph):
    """Whether every size but the batch is known, so that FLOPs can be counted."""
    specs = [*graph.inputs, *(x for call in graph.calls for x in call.outputs)]
    return not any(None in spec.shape[1:] for spec in specs)
