"""The stages nearest to the input, which tasks may share without training them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_mtl.graph.units import find_units

if TYPE_CHECKING:
    from keras_mtl.graph.backbone_graph import BackboneGraph


def first_stages(graph: BackboneGraph, share: float) -> set[int]:
    """Indices of the calls in the first stages of a backbone.

    Args:
        graph: `BackboneGraph`.
        share: float from 0 to below 1, the share of stages, rounded down; or int, their number.

    Returns:
        A set of int. A stage is a stretch of units that give maps of one size.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((8, 8, 3))
    >>> for name in ("low", "middle", "high"):
    ...     x = keras.layers.Conv2D(4, 3, 2, padding="same", name=name)(x)
    >>> graph = keras_mtl.graph.read(keras.Model(inputs, x))
    >>> [graph.calls[index].key for index in sorted(keras_mtl.graph.first_stages(graph, 2 / 3))]
    ['low', 'middle']
    """
    stages = [unit for unit in find_units(graph, "stage") if unit.searchable]
    # A little more than the share: 2 / 3 of 3 stages are 2, whatever rounding says.
    count = int(share * len(stages) + 1e-9) if isinstance(share, float) else share
    return {index for stage in stages[:count] for index in stage.calls}
