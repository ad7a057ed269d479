"""What an operator-level search chooses about: the operators, their options, depths and costs."""

import keras
import numpy as np

from keras_mtl.graph import (
    call_flops,
    parameters,
    projection_cost,
    sizes_known,
    skip_kind,
    support,
)


def find_operators(graph, units):
    """The operators with a choice, as `(units of one layer, which options)`; and what is missing.

    What is missing is a dict from the name of a unit to a few words, also of units without any
    choice.
    """
    by_layer, masks = {}, mask_maker(graph) is not None
    for unit in units:
        if unit.searchable and not unit.normalises:
            by_layer.setdefault(graph.calls[unit.core.node].key, []).append(unit)
    rows, limits = [], {}
    for same in by_layer.values():
        known = support(graph.calls[same[0].core.node].operation)
        no_skip = _why_no_skip(graph, same, masks)
        missing = []
        if not known.own:
            missing.append(f"no copies ({known.why})")
        if no_skip:
            missing.append(f"never skipped ({no_skip})")
        if len(same) > 1:
            missing.append(f"one choice for its {len(same)} calls")
        if missing:
            limits[same[0].name] = ", ".join(missing)
        if known.own or not no_skip:
            rows.append((same, (True, known.own, not no_skip)))
    return rows, limits


def operator_costs(graph, same):
    """Parameters of an operator, its normalisation, its skip's projection; FLOPs of run and skip.

    `same` are the units of one layer: its parameters count once, what belongs to a call adds.
    """
    size = parameters(graph.calls[same[0].core.node].operation)
    behind = sum(parameters(graph.calls[i].operation) for unit in same for i in unit.tail)
    projections = [projection_cost(graph, unit) for unit in same if unit.skip_by == "projection"]
    channels = graph.spec(same[0].output).shape[-1] or 0
    extra = sum(size for size, _ in projections) + 4 * channels * len(projections)
    if not sizes_known(graph):
        return size, behind, extra, 0, 0
    work = sum(call_flops(graph, graph.calls[unit.core.node]) for unit in same)
    return size, behind, extra, work, sum(work for _, work in projections)


def _why_no_skip(graph, same, masks):
    """Why the calls of one layer cannot be skipped; empty where they can."""
    layer = graph.calls[same[0].core.node].operation
    for unit in same:
        if unit.skip_by is None and unit.extra:
            return "has several outputs"
        if unit.skip_by is None and unit.source is None:
            return "has no input"
        if unit.skip_by is None:
            return skip_kind(layer, graph.spec(unit.source), graph.spec(unit.core))[1]
    return "stops an implicit mask" if masks and not layer.supports_masking else ""


def depths(graph, rows):
    """Depth of every row of `find_operators`: its place along the longest path, from 1."""
    gated = {unit.core.node for same, _ in rows for unit in same}
    depth = {}
    for call in graph.calls:
        before = max((depth.get(value.node, 0) for value in call.inputs), default=0)
        depth[call.index] = before + (call.index in gated)
    return np.array([depth[same[0].core.node] for same, _ in rows])


def mask_maker(graph):
    """The first call that makes an implicit mask, or `None`."""
    for call in graph.calls:
        layer = call.operation
        if isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False):
            return call
    return None
