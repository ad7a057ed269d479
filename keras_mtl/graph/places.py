"""Where channel masks can go: operators whose channels end in the kernels of other operators.

::

    basic block     conv1 - BN - ReLU -[mask]- conv2 - BN - Add         conv1's channels
    bottleneck      1x1 - BN - ReLU -[mask]- 3x3 - BN - ReLU - 1x1 ...  the first 1x1's ("all":
                                                                        those of the 3x3 as well)
    inverted        1x1 - BN - ReLU - depthwise - BN - ReLU -[mask]- 1x1 - BN - Add
    residual                    the wide channels, from the expansion to the projection
    VGG             conv1 - ReLU -[mask]- pool - conv2 - ReLU - conv3 - ReLU -[mask]- conv4 ...
    MLP             dense1 - ReLU -[mask]- dense2 ...

A mask stands behind everything that keeps channels apart (bias, normalisation, non-linearity,
depthwise convolution), so that a masked channel is exactly 0 for what reads it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import keras

from keras_mtl.graph.backbone_graph import Value
from keras_mtl.graph.channels import channels_of, is_elementwise, keeps_zero
from keras_mtl.graph.units import find_units, is_weighted

if TYPE_CHECKING:
    from keras_mtl.graph.backbone_graph import BackboneGraph


@dataclasses.dataclass(frozen=True)
class Place:
    """An operator whose output channels can be masked, and all that hangs on them.

    Args:
        name: string. The operator's key, which is also its unit's name.
        operator: int. The index of its call.
        channels: int. How many there are.
        members: tuple of int. The calls behind it that keep channels apart, up to the mask.
        value: `Value`. What is masked.
        after: tuple of int. The calls behind the mask that keep channels apart and 0 as it is.
        readers: tuple of `(call index, repeats)`. The operators whose kernels read the channels;
            behind a `Flatten`, every channel so many times.
    """

    name: str
    operator: int
    channels: int
    members: tuple
    value: Value
    after: tuple
    readers: tuple


class NoPlaceError(ValueError):
    """The channels of an operator cannot be masked; the message says why."""


def find_places(graph: BackboneGraph) -> tuple[Place, ...]:
    """All operators of a backbone whose channels can be masked.

    Args:
        graph: `BackboneGraph`.

    Returns:
        A tuple of `Place`, in order of execution.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((8,))
    >>> for number in range(3):
    ...     x = keras.layers.Dense(4, activation="relu", name=f"dense{number}")(x)
    >>> graph = keras_mtl.graph.read(keras.Model(inputs, x))
    >>> [place.name for place in keras_mtl.graph.find_places(graph)]
    ['dense0', 'dense1']
    """
    return tuple(found for found in _traced(graph).values() if isinstance(found, Place))


def no_places(graph: BackboneGraph) -> dict[str, str]:
    """Why the other operators of a backbone cannot be masked: key -> reason."""
    found = {key: str(why) for key, why in _traced(graph).items() if not isinstance(why, Place)}
    return {key: why for key, why in found.items() if why != _NO_OPERATOR}


def alternate_places(graph: BackboneGraph) -> tuple[Place, ...]:
    """The places after every other operator: the first of each pair.

    Between two masks lies an operator whose outputs are not masked: with disjoint masks after every
    operator, two tasks would use a quarter of the weights each. Pairs are those within a block of
    the backbone, or around a depthwise convolution, first; what is left pairs up across blocks, as
    the convolutions of a VGG do.

    Args:
        graph: `BackboneGraph`.

    Returns:
        A tuple of `Place`, in order of execution.

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """
    places = find_places(graph)
    block_of = {i: block.name for block in find_units(graph) for i in block.calls}

    def first(place):
        members = [graph.calls[i].operation for i in place.members]
        if any("kernel" in channels_of(member).axes for member in members):
            return True
        calls = (place.operator, *(reader for reader, _ in place.readers))
        return len({block_of.get(i) for i in calls}) == 1

    chosen, reading = {}, set()
    for preferred in (True, False):
        for place in places:
            readers = {reader for reader, _ in place.readers}
            beside = place.operator in reading or readers & set(chosen)
            if first(place) == preferred and not beside:
                chosen[place.operator] = place
                reading |= readers
    return tuple(chosen[operator] for operator in sorted(chosen))


def place_of(graph: BackboneGraph, key: str) -> Place:
    """The `Place` of an operator by its key; raises `NoPlaceError` where there is none."""
    (index, *_) = [call.index for call in graph.calls if call.key == key] or [None]
    if index is None:
        raise NoPlaceError("there is no layer of this name")
    return _Tracer(graph).place(index)


def _traced(graph):
    tracer, found = _Tracer(graph), {}
    for call in graph.calls:
        if is_weighted(call.operation) and call.key not in found:
            try:
                found[call.key] = tracer.place(call.index)
            except NoPlaceError as why:
                found[call.key] = why
    return found


_NO_OPERATOR = "it is no convolution or dense layer whose channels can be cut"


class _Tracer:
    def __init__(self, graph):
        self.graph = graph
        self.readers, self.times = {}, {}
        for call in graph.calls:
            self.times[call.key] = self.times.get(call.key, 0) + 1
            for value in call.inputs:
                self.readers.setdefault(value, []).append(call.index)

    def place(self, index):
        call = self.graph.calls[index]
        known = channels_of(call.operation)
        if known is None or not known.mixes:
            raise NoPlaceError(_NO_OPERATOR)
        if not is_elementwise(call.operation):
            raise NoPlaceError("its activation does not keep channels apart")
        self.check_once(call)
        value, members = Value(index, 0), []
        while (following := self.single_reader(value)) is not None:
            members.append(following)
            value = Value(following, 0)
        after, readers = self.behind(value)
        channels = call.outputs[0].shape[-1]
        return Place(call.key, index, channels, tuple(members), value, after, readers)

    def check_once(self, call):
        if self.times[call.key] > 1 and is_weighted(call.operation):
            raise NoPlaceError(f"layer {call.key!r} is called {self.times[call.key]} times")

    def single_reader(self, value):
        """The call that alone reads a value and keeps its channels apart, or `None`."""
        readers = self.readers.get(value, [])
        if value == self.graph.output or len(readers) != 1:
            return None
        call = self.graph.calls[readers[0]]
        known = channels_of(call.operation)
        if known is None or known.mixes or len(call.outputs) != 1:
            return None
        self.check_once(call)
        return readers[0]

    def behind(self, value):
        """The calls between a mask and the kernels that read it, and those kernels' calls."""
        after, readers, stack = [], [], [(value, 1)]
        while stack:
            value, repeats = stack.pop(0)
            if value == self.graph.output:
                raise NoPlaceError("its channels reach the backbone's output")
            for index in self.readers[value]:
                call = self.graph.calls[index]
                known = channels_of(call.operation)
                if known is not None and known.mixes and call.inputs == (value,):
                    self.check_once(call)
                    readers.append((index, repeats))
                elif keeps_zero(call.operation):
                    after.append(index)
                    stack.append((Value(index, 0), repeats))
                elif self.flattens(call):
                    positions = math.prod(self.graph.spec(value).shape[1:-1])
                    after.append(index)
                    stack.append((Value(index, 0), repeats * positions))
                else:
                    kind = type(call.operation).__name__
                    raise NoPlaceError(f"its channels reach {call.key!r} ({kind})")
        return tuple(after), tuple(readers)

    def flattens(self, call):
        layer = call.operation
        return (
            type(layer) is keras.layers.Flatten
            and layer.data_format == "channels_last"
            and None not in self.graph.spec(call.inputs[0]).shape[1:]
        )
