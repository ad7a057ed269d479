"""ChannelSelection: the channels that each task needs of every call, under given masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.errors import ArchitectureError
from keras_mtl.graph.channels import channels_of, pruned
from keras_mtl.graph.costs import flops
from keras_mtl.graph.places import NoPlaceError, place_of

if TYPE_CHECKING:
    from keras_mtl.graph.backbone_graph import BackboneGraph, Value


class ChannelSelection:
    """Follows masks through a backbone: which channels a task needs of every call.

    A task that uses no channel of a place needs one all the same, since Keras has no operators
    without channels; it reads it with zeros.

    Args:
        graph: `BackboneGraph`.
        masks: mapping from an operator's key to a mapping from task to its mask, a text of 0 and 1.

    Attributes:
        at: dict. `Value` -> the masks of the tasks, where they apply.

    Raises:
        ArchitectureError: when an operator cannot be masked, or has another number of channels.
    """

    def __init__(self, graph: BackboneGraph, masks: Mapping[str, Mapping[str, str]]) -> None:
        self.graph = graph
        self.at, self._outputs, self._inputs = {}, {}, {}
        for key, by_task in masks.items():
            place = _place(graph, key, by_task)
            self.at[place.value] = dict(by_task)
            for index in (place.operator, *place.members, *place.after):
                self._outputs[index] = by_task
            for index, repeats in place.readers:
                self._inputs[index] = by_task, repeats

    def __bool__(self):
        return bool(self.at)

    def mask(self, task: str, value: Value) -> str | None:
        """The mask that a task puts on a value; `None` where it uses all of it."""
        mask = self.at.get(value, {}).get(task, "")
        return mask if "0" in mask else None

    def outputs(self, task: str, index: int) -> np.ndarray | None:
        """Boolean array: the output channels that a task needs of a call; `None`: all."""
        mask = self._outputs.get(index, {}).get(task, "")
        return kept(mask) if "0" in mask else None

    def inputs(self, task: str, index: int) -> np.ndarray | None:
        """Boolean array: the input channels that a task needs of a call; `None`: all."""
        by_task, repeats = self._inputs.get(index, ({}, 1))
        mask = by_task.get(task, "")
        return np.tile(kept(mask), repeats) if "0" in mask else None

    def reads_nothing(self, task: str, index: int) -> bool:
        """Whether a task uses none of the channels that a call reads."""
        by_task, _ = self._inputs.get(index, ({}, 1))
        return task in by_task and "1" not in by_task[task]

    def touches(self, index: int) -> bool:
        """Whether some of the masks cut a call."""
        return index in self._outputs or index in self._inputs


def bits(mask):
    """A mask as a boolean array."""
    return np.array([bit == "1" for bit in mask])


def kept(mask):
    """The channels that remain of a mask: those used, or the first one where none is."""
    found = bits(mask)
    if not found.any():
        found[0] = True
    return found


def union(arrays):
    """What is in any of several boolean arrays; `None`, all, where it is one of them."""
    return None if any(array is None for array in arrays) else np.any(arrays, axis=0)


def pruned_flops(graph, call, inputs, outputs):
    """FLOPs of one call at batch size 1 with some of its channels; `None`: all."""
    known = channels_of(call.operation)
    if not known.mixes:
        inputs = outputs
    (value,) = call.inputs
    shapes = [_narrowed(graph.spec(value).shape, inputs)]
    results = [_narrowed(call.outputs[0].shape, outputs)]
    if known.mixes:
        return flops(pruned(call.operation, results[0][-1]), shapes, results)
    return flops(call.operation, shapes, results)


def pruned_parameters(operation, parts):
    """The scalars of a layer's weights that are in any of several parts, each counted once.

    Args:
        operation: layer with `Channels`.
        parts: list of pairs of boolean arrays, input and output channels; `None`: all.
    """
    axes, total = channels_of(operation).axes, 0
    for weight in operation.weights:
        total += _covered(tuple(weight.shape), axes[weight.name], parts)
    return total


def _covered(shape, axes, parts):
    sizes = [1 if axis is None else shape[axis] for axis in axes]
    columns = [
        np.stack([np.ones(size, bool) if axis is None or mask is None else mask for mask in masks])
        for size, axis, masks in zip(sizes, axes, zip(*parts, strict=True), strict=True)
    ]
    rest = int(np.prod(shape)) // (sizes[0] * sizes[1])
    # Output channels that the same parts have are read with the same input channels.
    patterns, counts = np.unique(columns[1], axis=1, return_counts=True)
    inputs = [columns[0][pattern].any(axis=0).sum() for pattern in patterns.T]
    return rest * int(np.dot(inputs, counts))


def _narrowed(shape, channels):
    return tuple(shape) if channels is None else (*shape[:-1], int(channels.sum()))


def _place(graph, key, by_task):
    try:
        place = place_of(graph, key)
    except NoPlaceError as why:
        raise ArchitectureError(
            f"`masks` must be of operators whose channels can be masked. Received: masks for "
            f"{key!r}: {why}. Use `keras_mtl.graph.find_places`, which finds those that can."
        ) from None
    lengths = {len(mask) for mask in by_task.values()}
    if lengths != {place.channels}:
        raise ArchitectureError(
            f"`masks[{key!r}]` must have one entry for each of the operator's {place.channels} "
            f"channels. Received: masks of length {sorted(lengths)}."
        )
    return place
