"""Where a backbone may branch: locations, the stretches between them, and what these cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import keras

from keras_mtl.graph import call_flops, find_units, parameters, read, sizes_known

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit

KINDS = ("parameters", "flops")
# A tree parts between units of this granularity, which follow one another on every task's way.
GRANULARITY = "block"


def find_locations(
    backbone: keras.Model, granularity: Literal["stage", "block", "operator"] = "stage"
) -> tuple[str, ...]:
    """Names of the layers at which tasks may be compared and a tree may branch.

    Args:
        backbone: functional `keras.Model`.
        granularity: `"stage"` (the last layer before the maps become smaller, as in the paper),
            `"block"` or `"operator"`.

    Returns:
        A tuple of names of layers, from the input to the features, each of which
        `keras_mtl.strategies.Branched` and `representation_dissimilarity` accept: the last layer of
        every unit that has weights; of operators side by side in one block, the last one; before a
        layer that is called several times or has several outputs, the last one that is not.

    Example:

    >>> import keras, keras_mtl
    >>> x = image = keras.Input((8, 8, 3))
    >>> for stage in ("low", "high"):
    ...     x = keras.layers.Conv2D(4, 3, padding="same", name=f"{stage}_conv")(x)
    ...     x = keras.layers.ReLU(name=stage)(x)
    ...     x = keras.layers.MaxPooling2D(name=f"{stage}_pool")(x)
    >>> keras_mtl.affinity.find_locations(keras.Model(image, x), "block")
    ('low', 'high')
    """
    graph = read(backbone)
    blocks = find_units(graph, GRANULARITY)
    return _ends(graph, blocks, find_units(graph, granularity))


def segments(graph, units, locations):
    """Cuts the units at the locations: a tuple of tuples of units, one for each location.

    A segment ends with the unit that holds its location; what comes after the last location belongs
    to the last segment.
    """
    ends = [_unit_of(graph, units, name) for name in locations]
    if any(a >= b for a, b in itertools.pairwise(ends)):
        raise ValueError(
            "`locations` must lie in different units, in order from the input to the features. "
            f"Received: locations={list(locations)}, in units {[units[i].name for i in ends]}."
        )
    begins = [0, *(end + 1 for end in ends[:-1])]
    return tuple(
        tuple(units[begin:end])
        for begin, end in zip(begins, [*begins[1:], len(units)], strict=True)
    )


def segment_sizes(
    graph: BackboneGraph,
    units: Sequence[Unit],
    locations: Sequence[str],
    kind: Literal["parameters", "flops"] = "parameters",
) -> list[int]:
    """What one copy of every segment costs, in parameters or FLOPs; heads are not in it.

    Returns:
        A list of int, one for each location: the `sizes` of `Tree.size` and `search_trees`.

    Raises:
        ValueError: for another kind, unknown locations, or FLOPs of a backbone without fixed sizes.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}.")
    if kind == "flops" and not sizes_known(graph):
        raise ValueError(
            "`kind` must be 'parameters' for a backbone whose input sizes are open. "
            "Received: kind='flops'. Give every input a fixed shape, or count parameters."
        )
    sizes = []
    for segment in segments(graph, units, locations):
        calls = [graph.calls[i] for unit in segment if unit.searchable for i in unit.calls]
        if kind == "flops":
            sizes.append(sum(call_flops(graph, call) for call in calls))
        else:
            weights = {call.key: parameters(call.operation) for call in calls}
            sizes.append(sum(weights.values()))
    return sizes


def _unit_of(graph, units, name):
    places = _blocks_of(graph, units, name)
    if len(places) != 1:
        raise ValueError(
            f"`locations` must name layers of the backbone that are in one unit each. Received: "
            f"{name!r}, which is in {len(places)} units. Units end with "
            f"{list(_ends(graph, units, units))}."
        )
    return places[0]


def _ends(graph, blocks, units):
    """The last layer of every unit with weights that may be a location, one for each block."""
    found = {}
    for unit in units:
        names = (graph.calls[i].key for i in reversed(unit.calls) if unit.searchable)
        name = next((name for name in names if _can_be_location(graph, name)), None)
        if name is not None:
            found[_blocks_of(graph, blocks, name)[0]] = name
    return tuple(found[place] for place in sorted(found))


def _blocks_of(graph, units, name):
    """The places of the units in which a layer is called."""
    return [
        i for i, unit in enumerate(units) if any(graph.calls[c].key == name for c in unit.calls)
    ]


def _can_be_location(graph, name):
    """Whether a name means one place and one value: its layer is called once, for one output."""
    calls = [call for call in graph.calls if call.key == name]
    return len(calls) == 1 and len(calls[0].outputs) == 1
