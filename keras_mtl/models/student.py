"""What a distillation student is made of: the last stages of a network, with changeable masks."""

import math

import keras
from keras import ops

from keras_mtl.assembly import Use, operations
from keras_mtl.errors import UnsupportedBackboneError
from keras_mtl.graph import INPUT, Value, find_places, find_units, first_stages


class Tail:
    """The stages of a backbone behind the frozen ones.

    Args:
        graph: `BackboneGraph`.
        frozen: float or int. The share of stages, or their number, that are left out.

    Attributes:
        source: `Value`. What it reads.
        calls: tuple of int. The indices of its calls.
        ends: tuple of `Value`. The output of each of its blocks, the features last.
        places: dict from `Value` to the `Place` whose mask stands there.

    Raises:
        UnsupportedBackboneError: when it reads anything beside what the frozen stages hand on.
    """

    def __init__(self, graph, frozen):
        still = first_stages(graph, frozen)
        blocks = [u for u in find_units(graph, "block") if not set(u.calls) <= still]
        inside = {index for block in blocks for index in block.calls}
        self.graph = graph
        self.calls = tuple(sorted(inside))
        read = {v: None for i in self.calls for v in graph.calls[i].inputs if v.node not in inside}
        if len(read) != 1:
            raise UnsupportedBackboneError(
                f"`backbone` must hand one value from its first {len(still)} layers on to the "
                f"others. Received: {len(read)} values, such as masks. Use another `frozen`."
            )
        (self.source,) = read
        self.ends = tuple(block.output for block in blocks if block.searchable)
        if self.ends[-1] != graph.output:
            self.ends = (*self.ends[:-1], graph.output)
        self.places = {p.value: p for p in find_places(graph) if p.operator in inside}

    def trace(self, tasks):
        """What it runs: one copy for all tasks, of normalization layers one per task."""
        calls = [self.graph.calls[index] for index in self.calls]
        uses = [Use(normalisation=task) for task in tasks]
        return [operations.Run((), call, use.copy_of(call)) for use in uses for call in calls]

    def layer(self, copies, call, task):
        """The layer with which a task runs a call."""
        return copies.layers[call.key, Use(normalisation=task).copy_of(call)]

    def run(self, copies, masks, task, x):
        """The outputs of the blocks; `masks` has a `TaskMask` for `(task, place)`."""

        def layer_of(call):
            layer, place = self.layer(copies, call, task), self.places.get(Value(call.index, 0))
            if place is None:
                return layer
            return lambda *args, **kwargs: masks[task, place.name](layer(*args, **kwargs))

        values = self.graph.run({self.source: x}, layer_of, self.calls)
        return [values[value] for value in self.ends]

    def locations(self):
        """The names of the layers whose outputs it reads and gives; without the input's."""
        values = [*self.ends] if self.source.node == INPUT else [self.source, *self.ends]
        return tuple(self.graph.calls[value.node].key for value in values)


class TaskMask(keras.layers.Layer):
    """A channel mask that can be changed without tracing anything anew."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.mask = self.add_weight(
            name="mask", shape=(channels,), initializer="ones", trainable=False, autocast=False
        )
        self.built = True

    def call(self, x):
        return ops.where(self.mask > 0.5, x, ops.zeros_like(x))


class Joined(keras.layers.Layer):
    r"""Several tensors as one: flat, each divided by $\sqrt{n}$ with its number of elements n.

    So the squared distance of two results is the sum of the mean squared errors.
    """

    def call(self, tensors):
        return ops.concatenate([_flat(tensor) for tensor in tensors], axis=-1)


def _flat(tensor):
    size = math.prod(tensor.shape[1:])
    return ops.reshape(tensor, (-1, size)) / math.sqrt(size)


def squared_errors(y_true, y_pred):
    """Squared distance of two vectors."""
    return ops.sum(ops.square(y_true - y_pred), axis=-1)
