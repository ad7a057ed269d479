"""Units: the stretches of a backbone that are chosen as one piece."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras

from keras_mtl.architecture import GRANULARITIES
from keras_mtl.graph.backbone_graph import INPUT, Value
from keras_mtl.graph.operators import skip_kind, support

if TYPE_CHECKING:
    from keras_mtl.graph.backbone_graph import BackboneGraph

NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
_PADDINGS = (
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
)


def is_normalisation(operation: keras.Operation) -> bool:
    """Whether an operation is a normalisation layer, which belongs to the operator before it."""
    return isinstance(operation, NORMALISATIONS)


def is_weighted(operation: keras.Operation) -> bool:
    """Whether an operation has weights of the network (fixed input statistics do not count)."""
    return bool(getattr(operation, "weights", ())) and not isinstance(
        operation, keras.layers.Normalization
    )


@dataclasses.dataclass(frozen=True)
class Unit:
    """A stretch of calls with one output.

    Args:
        name: string. The name of its first weighted operation.
        calls: tuple of int. The indices of its calls, in order.
        inputs: tuple of `Value`. What it reads from outside, without context values.
        output: `Value`. What it hands on.
        skip: `None`, or the `Value` that takes the output's place when the unit is skipped.
        skip_by: `"shortcut"` (the branch of a final `Add` with fewer weighted operations),
            `"identity"` (input and output have one shape), `"projection"` (of an operator, where
            a 1x1 projection of its source can stand in) or `None` (always on).
        searchable: bool. Whether an Architecture has a choice here: it has weights, or several
            operations. Pooling, reshaping and the like belong to every task's path.
        source: `None`, or the `Value` that a skip begins with.
        tail: tuple of int. The last of `calls`, if they are the normalisation of an operator.
        extra: tuple of `Value`. Outputs of an operator beside the first that are read outside.
        linear: bool. Whether it is one operator whose output is linear in its weights, before its
            activation.
        activated: bool. Whether it is linear and has an activation in it.
        normalises: bool. Whether it is a normalisation that stands behind no operator.
    """

    name: str
    calls: tuple
    inputs: tuple
    output: Value
    skip: Value | None
    skip_by: str | None
    searchable: bool
    source: Value | None = None
    tail: tuple = ()
    extra: tuple = ()
    linear: bool = False
    activated: bool = False
    normalises: bool = False

    @property
    def core(self) -> Value:
        """The `Value` before the tail: what the operator itself hands on."""
        return Value(self.calls[-1 - len(self.tail)], 0)


def context_calls(graph: BackboneGraph) -> set[int]:
    """Indices of the calls that compute values from the inputs without weights (masks, rescaling).

    Such values are available everywhere; they neither belong to a unit nor block a cut.
    """
    context = set()
    for call in graph.calls:
        known = all(v.node == INPUT or v.node in context for v in call.inputs)
        if known and not is_weighted(call.operation):
            context.add(call.index)
    # A backbone without weights before its output has no units at all: nothing is context then.
    return context if graph.output.node not in context else set()


def find_units(graph: BackboneGraph, granularity: str = "block") -> tuple[Unit, ...]:
    """Cuts a backbone into units.

    Args:
        graph: `BackboneGraph`.
        granularity: `"block"` (stretches between cuts), `"operator"` (single weighted operators
            with their normalisation) or `"stage"` (blocks of one spatial size).

    Returns:
        A tuple of `Unit` in order of execution that together hold every call but the context's.

    Raises:
        ValueError: for another granularity.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((8,))
    >>> for _ in range(2):
    ...     x = keras.layers.Add()([x, keras.layers.Dense(8, activation="relu")(x)])
    >>> graph = keras_mtl.graph.read(keras.Model(inputs, x))
    >>> [unit.skip_by for unit in keras_mtl.graph.find_units(graph)]
    ['shortcut', 'shortcut']
    """
    if granularity not in GRANULARITIES:
        raise ValueError(
            f"`granularity` must be one of {GRANULARITIES}. Received: granularity={granularity!r}."
        )
    finder = _Finder(graph)
    if granularity == "operator":
        return finder.units(finder.operators(), finder.operator)
    groups = finder.blocks()
    if granularity == "stage":
        groups = finder.stages(groups)
    return finder.units(groups, finder.unit)


def can_project(graph: BackboneGraph, unit: Unit) -> bool:
    """Whether a 1x1 projection can stand in for a unit: one input, no larger output."""
    if unit.skip is not None or len(unit.inputs) != 1:
        return False
    source, target = graph.spec(unit.inputs[0]), graph.spec(unit.output)
    sizes = zip(source.shape[1:-1], target.shape[1:-1], strict=False)
    return (
        len(source.shape) == len(target.shape)
        and "float" in str(source.dtype)
        and all(a is not None and b is not None and a >= b for a, b in sizes)
    )


class _Finder:
    """Holds what the granularities share: who reads what, and what is context."""

    def __init__(self, graph):
        self.graph = graph
        self.context = context_calls(graph)
        self.order = [c.index for c in graph.calls if c.index not in self.context]
        self.readers = {}
        for call in graph.calls:
            for value in call.inputs:
                self.readers.setdefault(value, []).append(call.index)

    def is_context(self, value):
        return value.node == INPUT or value.node in self.context

    def operation(self, index):
        return self.graph.calls[index].operation

    def shape(self, value):
        return tuple(self.graph.spec(value).shape)

    def same_shape(self, index):
        """Whether a call keeps the shape of its only input."""
        call = self.graph.calls[index]
        values = [v for v in call.inputs if not self.is_context(v)]
        return (
            len(values) == 1
            and len(call.outputs) == 1
            and self.shape(values[0]) == tuple(call.outputs[0].shape)
        )

    def stretches(self):
        """The calls between cuts: a cut lies where only the last call's value is still read."""
        last_read = {value: max(readers) for value, readers in self.readers.items()}
        last_read[self.graph.output] = len(self.graph.calls)
        stretches, current, live = [], [], {}
        for index in self.order:
            current.append(index)
            for i in range(len(self.graph.calls[index].outputs)):
                value = Value(index, i)
                if value in last_read:
                    live[value] = last_read[value]
            live = {v: last for v, last in live.items() if last > index}
            if set(live) == {Value(index, 0)}:
                stretches.append(current)
                current = []
        if current:
            stretches.append(current)
        return stretches

    def blocks(self):
        """Stretches of several calls are blocks; single calls are cut at the weighted ones."""
        groups, padding = [], []
        kind = None  # of the last group: "block", "chain" (may grow) or "fixed"
        for stretch in self.stretches():
            first = stretch[0]
            operation = self.operation(first)
            if len(stretch) > 1:
                groups.append(padding + stretch)
                kind, padding = "block", []
            elif isinstance(operation, _PADDINGS):
                padding = padding + stretch
            elif is_weighted(operation) and not is_normalisation(operation):
                groups.append(padding + stretch)
                kind, padding = "chain", []
            elif is_normalisation(operation):
                if kind == "chain" and not padding:
                    groups[-1] += stretch
                else:
                    groups.append(padding + stretch)
                    kind, padding = "chain", []
            elif kind in ("chain", "block") and self.same_shape(first) and not padding:
                groups[-1] += stretch
            else:
                groups.append(padding + stretch)
                kind, padding = "fixed", []
        if padding:
            groups.append(padding)
        return groups

    def stages(self, blocks):
        """Joins neighbouring blocks whose outputs have one spatial size."""
        groups, size = [], None
        for block in blocks:
            shape = self.shape(Value(block[-1], 0))
            now = (len(shape), shape[1:-1])
            if groups and now == size:
                groups[-1] = groups[-1] + block
            else:
                groups.append(list(block))
            size = now
        return groups

    def operators(self):
        """Every weighted operator with the normalisation that alone reads it; other calls apart."""
        groups, home = [], {}
        for index in self.order:
            call = self.graph.calls[index]
            if is_normalisation(call.operation):
                source = call.inputs[0]
                if source.node in home and self.readers[source] == [index]:
                    group = home[source.node]
                    if group[-1] == source.node:
                        group.append(index)
                        home[index] = group
                        continue
            groups.append([index])
            if is_weighted(call.operation) and not is_normalisation(call.operation):
                home[index] = groups[-1]
        return groups

    def units(self, groups, make):
        names, units = set(), []
        for group in groups:
            weighted = [i for i in group if is_weighted(self.operation(i))]
            name = self.graph.calls[(weighted or group)[0]].key
            while name in names:
                name += "_"
            names.add(name)
            units.append(make(name, tuple(group), weighted))
        return tuple(units)

    def reads(self, calls):
        """What the calls read from outside, in order."""
        read = [v for index in calls for v in self.graph.calls[index].inputs]
        return [v for v in dict.fromkeys(read) if v.node not in calls]

    def operator(self, name, calls, weighted):
        """The unit of one operator, its normalisation behind it."""
        read = self.reads(calls)
        inputs = tuple(v for v in read if not self.is_context(v))
        call = self.graph.calls[calls[0]]
        output = Value(calls[-1], 0)
        if not weighted or is_normalisation(call.operation):
            return Unit(
                name, calls, inputs, output, None, None, bool(weighted), normalises=bool(weighted)
            )
        source, core = call.first_input, Value(calls[0], 0)
        others = [Value(calls[0], i) for i in range(1, len(call.outputs))]
        extra = tuple(v for v in others if v in self.readers or v == self.graph.output)
        known = support(call.operation)
        kind = None
        if source is not None and known.skip and not extra:
            specs = self.graph.spec(source), self.graph.spec(core)
            kind, _ = skip_kind(call.operation, *specs)
        skip = source if kind == "identity" else None
        return Unit(
            name,
            calls,
            inputs,
            output,
            skip,
            kind,
            True,
            source=source,
            tail=calls[1:],
            extra=extra,
            linear=known.linear,
            activated=known.activated,
        )

    def unit(self, name, calls, weighted):
        read = self.reads(calls)
        inputs = [v for v in read if not self.is_context(v)]
        output = Value(calls[-1], 0)
        operators = [i for i in weighted if not is_normalisation(self.operation(i))]
        searchable = bool(weighted)
        skip, skip_by = None, None
        source = (inputs or read)[0] if len(inputs or read) == 1 else None
        if operators and source is not None:
            # The first unit reads the backbone's input; it may have a shortcut around it.
            skip, skip_by = self.shortcut(calls, source), "shortcut"
            if skip is None and inputs and self.shape(source) == self.shape(output):
                skip, skip_by = source, "identity"
        skip_by = skip_by if skip is not None else None
        source = inputs[0] if inputs else None
        return Unit(name, calls, tuple(inputs), output, skip, skip_by, searchable, source)

    def shortcut(self, calls, source):
        """The lighter branch of the last `Add`, if everything after it keeps the shape."""
        inside = set(calls)
        last = len(calls) - 1
        while last > 0 and not self.is_add(calls[last]):
            if is_weighted(self.operation(calls[last])) or not self.same_shape(calls[last]):
                return None
            last -= 1
        if not self.is_add(calls[last]):
            return None
        branches = [
            v for v in self.graph.calls[calls[last]].inputs if v == source or not self.is_context(v)
        ]
        if len(branches) != 2:
            return None
        weights = [self.weighted_before(v, inside) for v in branches]
        # What both branches need lies before the fork: the shortcut would not go around the unit.
        if len(weights[0]) == len(weights[1]) or weights[0] & weights[1]:
            return None
        lighter = branches[0 if len(weights[0]) < len(weights[1]) else 1]
        if self.shape(lighter) != self.shape(Value(calls[last], 0)):
            return None
        return lighter if lighter.node in inside or lighter == source else None

    def is_add(self, index):
        operation = self.operation(index)
        # `x + y` in a functional model is an operation whose class is not public.
        return isinstance(operation, keras.layers.Add) or (
            type(operation).__name__ == "Add" and len(self.graph.calls[index].inputs) == 2
        )

    def weighted_before(self, value, inside):
        """The weighted operators inside the unit on which `value` depends."""
        return {
            i
            for i in self.graph.ancestors([value], inside)
            if is_weighted(self.operation(i)) and not is_normalisation(self.operation(i))
        }
