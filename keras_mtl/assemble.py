"""One function makes every model: walk the units once per task, and remember every result.

A result is remembered by everything that decides it: the call, the parameter copy and the results
it reads. Tasks that have used the same copies on the same inputs therefore share the computation,
not only the parameters: a supernet whose first units are closed computes them once, a branched tree
computes every node once, a decided model has its common prefix once.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

from keras_mtl.architecture import OWN, SHARED, SKIP
from keras_mtl.graph import (
    INPUT,
    Unit,
    Value,
    context_calls,
    flops,
    is_normalisation,
    is_weighted,
    parameters,
)


@dataclasses.dataclass(frozen=True)
class Use:
    """Run the unit with one parameter copy; normalisation layers may have a copy of their own."""

    copy: str = SHARED
    normalisation: str | None = None


@dataclasses.dataclass(frozen=True)
class Skip:
    """Hand on the unit's skip value; `copy` names the parameters of its shortcut or projection."""

    copy: str = SHARED
    normalisation: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Mix:
    """Mix the results of several options with the weights of an open gate.

    Args:
        options: tuple of `Use` and `Skip`.
        weights: tensor of shape `(len(options),)`, or `None` where only structure is asked for.
        key: hashable. Two mixes with one key and equal inputs are one result.
    """

    options: tuple
    weights: Any
    key: Any


class Result(NamedTuple):
    """A computed tensor under a number that no other result has."""

    key: int
    tensor: Any


class Assembly:
    """The walk of `assemble`, kept for what it remembers: `memo` and, per task, `touched`.

    Args:
        graph: `BackboneGraph`.
        units: tuple of `Unit`, from `find_units`.
        executor: object with `run(call, copy, tensor_of) -> list of tensors`,
            `mix(unit, weights, tensors) -> tensor` and
            `project(unit, copy, tensor) -> tensor`.
    """

    def __init__(self, graph, units, executor):
        self.graph = graph
        self.units = units
        self.executor = executor
        self.memo = {}
        self.touched = {}
        self.numbers = itertools.count()
        self.context = sorted(context_calls(graph))

    def features(self, tasks, resolve, inputs):
        """Returns task -> `Result` of the backbone's output; see `assemble`."""
        common = {Value(INPUT, i): self._result(x) for i, x in enumerate(inputs)}
        found = {}
        for task in tasks:
            self.touched[task] = set()
            values = dict(common)
            for index in self.context:
                self._call(task, self.graph.calls[index], Use(), values)
            for unit in self.units:
                choice = resolve(task, unit) if unit.searchable else Use()
                if isinstance(choice, Use):  # all its outputs can be read, not only the last call's
                    for index in unit.calls:
                        self._call(task, self.graph.calls[index], choice, values)
                else:
                    values[unit.output] = self._choose(task, unit, choice, values)
            found[task] = values[self.graph.output]
        return found

    def _result(self, tensor):
        return Result(next(self.numbers), tensor)

    def _remember(self, task, key, make):
        if key not in self.memo:
            self.memo[key] = tuple(self._result(x) for x in make())
        self.touched[task].add(key)
        return self.memo[key]

    def _call(self, task, call, use, values):
        copy = copy_of(call, use)
        key = (call.index, copy, tuple(values[v].key for v in call.inputs))
        results = self._remember(
            task,
            key,
            lambda: self.executor.run(call, copy, lambda value: values[value].tensor),
        )
        for i, result in enumerate(results):
            values[Value(call.index, i)] = result

    def _choose(self, task, unit, choice, values):
        if isinstance(choice, Mix):
            results = [self._choose(task, unit, option, values) for option in choice.options]
            keys = tuple(result.key for result in results)
            if len(set(keys)) == 1:
                return results[0]
            key = ("mix", unit.name, choice.key, keys)
            tensors = [result.tensor for result in results]
            return self._remember(
                task, key, lambda: [self.executor.mix(unit, choice.weights, tensors)]
            )[0]
        if isinstance(choice, Skip) and unit.skip is None:
            source = values[unit.inputs[0]]
            key = ("project", unit.name, choice.copy, source.key)
            return self._remember(
                task, key, lambda: [self.executor.project(unit, choice.copy, source.tensor)]
            )[0]
        target = unit.skip if isinstance(choice, Skip) else unit.output
        inner = dict(values)
        for index in needed_calls(self.graph, unit, target):
            self._call(task, self.graph.calls[index], choice, inner)
        return inner[target]


def assemble(graph, units, tasks, resolve, executor, inputs):
    """Computes the features of every task; the one function behind every model.

    Args:
        graph: `BackboneGraph`.
        units: tuple of `Unit`, from `find_units(graph, granularity)`.
        tasks: iterable of task names.
        resolve: function of `(task, unit)` that returns a `Use`, `Skip` or `Mix`; asked for
            searchable units only, since the others belong to every path.
        executor: how a call is carried out, see `Assembly`: with Keras layers on symbolic or real
            tensors, or only counted.
        inputs: list of tensors in the order of `graph.inputs`.

    Returns:
        A dict from task to the tensor of its features.
    """
    found = Assembly(graph, units, executor).features(tasks, resolve, inputs)
    return {task: result.tensor for task, result in found.items()}


def copy_of(call, use):
    """The parameter copy that a call runs with; `None` where it has no parameters."""
    if not is_weighted(call.operation):
        return None
    if use.normalisation is not None and is_normalisation(call.operation):
        return use.normalisation
    return use.copy


def needed_calls(graph, unit, value):
    """The calls of a unit on which `value` depends, in order."""
    inside, needed, stack = set(unit.calls), set(), [value.node]
    while stack:
        index = stack.pop()
        if index in inside and index not in needed:
            needed.add(index)
            stack += [v.node for v in graph.calls[index].inputs]
    return sorted(needed)


def resolve_architecture(architecture):
    """Turns an Architecture into the `resolve` function of `assemble`."""
    position = {name: i for i, name in enumerate(architecture.units)}

    def resolve(task, unit):
        choice = architecture.choices[task][position[unit.name]]
        normalisation = task if architecture.normalisation == "task" else None
        if choice == SKIP:
            return Skip(normalisation=normalisation)
        return Use({OWN: task}.get(choice, choice), normalisation)

    return resolve


def projection_cost(graph, unit):
    """Parameters and FLOPs of the 1x1 projection with normalisation that may replace a unit."""
    source, target = graph.spec(unit.inputs[0]).shape, graph.spec(unit.output).shape
    count, positions = source[-1] * target[-1], 1
    for size in target[1:-1]:
        positions *= size
    return count + 4 * target[-1], 2 * count * positions


class Counter:
    """An executor that computes nothing: it notes which copies are used and what they cost."""

    def __init__(self, graph):
        self.graph = graph

    def run(self, call, copy, tensor_of):
        return [None] * len(call.outputs)

    def mix(self, unit, weights, tensors):
        return None

    def project(self, unit, copy, tensor):
        return None


def count(graph, units, tasks, resolve):
    """What a set of paths needs, without making a model.

    Returns:
        `copies`, a list of `(call key, copy)` in order of first use; `projections`, a list of
        `(unit name, copy)`; and `costs`, a dict
        `{"parameters" | "flops": {"tasks": {task: int}, "together": int}}` without the heads, or
        `None` where the backbone leaves sizes open.
    """
    assembly = Assembly(graph, units, Counter(graph))
    assembly.features(tasks, resolve, [None] * len(graph.inputs))
    by_name = {unit.name: unit for unit in units}
    copies, projections = {}, {}
    for key in assembly.memo:
        if key[0] == "project":
            projections[key[1:3]] = by_name[key[1]]
        elif key[0] != "mix" and key[1] is not None:
            copies[graph.calls[key[0]].key, key[1]] = graph.calls[key[0]]

    def cost(keys):
        size, work, seen = 0, 0, set()
        for key in keys:
            if key[0] == "project":
                extra_size, extra_work = projection_cost(graph, by_name[key[1]])
                work += extra_work
                size += 0 if key[:3] in seen else extra_size
                seen.add(key[:3])
            elif key[0] != "mix":
                call = graph.calls[key[0]]
                work += call_flops(graph, call)
                if key[1] is not None and (call.key, key[1]) not in seen:
                    seen.add((call.key, key[1]))
                    size += parameters(call.operation)
        return {"parameters": size, "flops": work}

    specs = [x for call in graph.calls for x in call.outputs]
    if any(None in spec.shape[1:] for spec in specs):
        return list(copies), list(projections), None
    alone = {task: cost(assembly.touched[task]) for task in tasks}
    together = cost(set().union(*assembly.touched.values()))
    costs = {
        kind: {"tasks": {t: alone[t][kind] for t in tasks}, "together": together[kind]}
        for kind in ("parameters", "flops")
    }
    return list(copies), list(projections), costs


def call_flops(graph, call):
    """FLOPs of one call at batch size 1."""
    inputs = [tuple(graph.spec(v).shape) for v in call.inputs]
    return flops(call.operation, inputs, [tuple(x.shape) for x in call.outputs])


def unit_costs(graph, unit: Unit):
    """Parameters and FLOPs of running a unit, beyond those of skipping it."""
    calls = set(unit.calls)
    if unit.skip is not None:
        calls -= set(needed_calls(graph, unit, unit.skip))
    size = {graph.calls[i].key: parameters(graph.calls[i].operation) for i in calls}
    if any(None in x.shape[1:] for i in unit.calls for x in graph.calls[i].outputs):
        return sum(size.values()), 0
    return sum(size.values()), sum(call_flops(graph, graph.calls[i]) for i in calls)
