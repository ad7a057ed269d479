"""One function makes every model: walk the units once per task, and remember every result.

A result is remembered by everything that decides it: the call, the parameter copy and the results
it reads. Tasks that have used the same copies on the same inputs therefore share the computation,
not only the parameters: a supernet whose first units are closed computes them once, a branched tree
computes every node once, a decided model has its common prefix once.
"""

import dataclasses
import itertools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_mtl.architecture import OWN, SHARED, SKIP
from keras_mtl.graph import INPUT, Value, context_calls, is_normalisation, is_weighted


@dataclasses.dataclass(frozen=True)
class Use:
    """Run the unit with one parameter copy; normalisation layers may have a copy of their own."""

    copy: str = SHARED
    normalisation: str | None = None


@dataclasses.dataclass(frozen=True)
class Skip:
    """Hand on the unit's skip value; `copy` names the parameters of its shortcut or projection.

    With `normalisation`, the normalisation behind an operator still runs, by that copy of it;
    without, it is skipped with the operator.
    """

    copy: str = SHARED
    normalisation: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Mix:
    """Mix the results of several options with the weights of an open gate.

    Where options differ only in the copy of an operator that is linear in its weights, the copies
    are mixed instead of the results: the same by arithmetic, and one operator is run, not several.

    Args:
        options: tuple of `Use` and `Skip`.
        weights: tensor of shape `(len(options),)` or tuple of floats; `None` where only structure
            is asked for.
        key: hashable. Two mixes with one key and equal inputs are one result.
        normalisation: tuple of strings. The copies of the normalisation behind an operator, which
            runs after the mixing, on its result; several are averaged. `()`: before, by option.
        sampled: bool. Only the option with the largest weight is executed.
    """

    options: tuple
    weights: Any
    key: Any
    normalisation: tuple = ()
    sampled: bool = False

    def weight(self, position):
        """The weight of one option."""
        return None if self.weights is None else self.weights[position]


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
            `blend(call, copies, weights, tensor_of) -> tensor`,
            `mix(weights, tensors) -> tensor`, `switch(weights, groups, branches) -> tensors`,
            `project(unit, copy, tensor) -> tensor`, `normalise(unit, copy, tensor) -> tensor`,
            `activate(unit, tensor) -> tensor`, `fuse(fusion, tensors, gates) -> tensors` and
            `mask(value, mask, tensor) -> tensor`.
        gates: mapping from the name of a fusion to its open gates, see `assemble`.
        selection: `ChannelSelection` or `None`.
    """

    def __init__(self, graph, units, executor, gates=types.MappingProxyType({}), selection=None):
        self.graph = graph
        self.units = units
        self.executor = executor
        self.gates = gates
        self.selection = selection
        self.memo = {}
        self.touched = {}
        self.readable = {}
        self.numbers = itertools.count()
        self.context = sorted(context_calls(graph))

    def features(self, tasks, resolve, inputs, fusions=()):
        """Returns task -> `Result` of the backbone's output; see `assemble`."""
        if not isinstance(tasks, Mapping):
            tasks, inputs = dict.fromkeys(tasks), {None: inputs}
        common = {
            name: {Value(INPUT, i): self._result(x) for i, x in enumerate(tensors)}
            for name, tensors in inputs.items()
        }
        after = {}
        for fusion in fusions:
            after.setdefault(fusion.unit, []).append(fusion)
        read = {source for fusion in fusions for source in fusion.sources}
        values = {task: dict(common[input_set]) for task, input_set in tasks.items()}
        self.touched = {task: {} for task in tasks}
        for task in tasks:
            for index in self.context:
                self._call(task, self.graph.calls[index], Use(), values[task])
        for unit in self.units:
            for task in tasks:
                choice = resolve(task, unit) if unit.searchable else Use()
                self._unit(task, unit, choice, values[task])
                if (task, unit.name) in read:
                    kept = values[task][unit.output], dict(self.touched[task])
                    self.readable[task, unit.name] = kept
            for fusion in after.get(unit.name, ()):
                self._fuse(fusion, unit, values)
        return {task: values[task][self.graph.output] for task in tasks}

    def _fuse(self, fusion, unit, values):
        """Puts what a fusion gives into the place of its targets' outputs of the unit, or aside."""
        sources = [self.readable[source] for source in fusion.sources]
        results = [result for result, _ in sources]
        key = ("fuse", fusion.name, tuple(result.key for result in results))
        tensors, gates = [result.tensor for result in results], self.gates.get(fusion.name)
        fused = self._once(key, lambda: self.executor.fuse(fusion, tensors, gates))
        behind = {each: True for _, needed in sources for each in needed} | {key: True}
        for position, task in enumerate(fusion.targets):
            self.readable[task, fusion.name] = fused[position], behind
            if not fusion.aside:
                self.touched[task].update(behind)
                values[task][unit.output] = fused[position]

    def _result(self, tensor):
        return Result(next(self.numbers), tensor)

    def _once(self, key, make):
        if key not in self.memo:
            self.memo[key] = tuple(self._result(x) for x in make())
        return self.memo[key]

    def _remember(self, task, key, make):
        found = self._once(key, make)
        self.touched[task][key] = True
        return found

    def _call(self, task, call, use, values):
        copy = copy_of(call, use)
        key = (call.index, copy, tuple(values[v].key for v in call.inputs))
        results = self._remember(
            task,
            key,
            lambda: self.executor.run(call, copy, lambda value: values[value].tensor),
        )
        for i, result in enumerate(results):
            value = Value(call.index, i)
            values[value] = self._masked(task, value, result)

    def _masked(self, task, value, result):
        """What is left of a result for a task that does not use all of its channels."""
        mask = self.selection and self.selection.mask(task, value)
        if not mask:
            return result
        key = ("mask", value, mask, result.key)
        (masked,) = self._remember(
            task, key, lambda: [self.executor.mask(value, mask, result.tensor)]
        )
        return masked

    def _unit(self, task, unit, choice, values):
        """Writes what a unit hands on into `values`."""
        if isinstance(choice, Use):  # all its outputs can be read, not only the last call's
            for index in unit.calls:
                self._call(task, self.graph.calls[index], choice, values)
            return
        sets = choice.normalisation
        sets = sets if isinstance(sets, tuple) else (sets,) * (sets is not None)
        tail = unit.tail if sets else ()
        targets = (unit.core if tail else unit.output, *unit.extra)
        results = self._choose(task, unit, choice, targets, values)
        values.update(zip(targets, results, strict=True))
        for index in tail:
            self._normalise(task, unit, self.graph.calls[index], sets, values)

    def _normalise(self, task, unit, call, sets, values):
        """Runs a normalisation with one of its copies, or with the mean of several."""
        results = []
        for name in sets:
            self._call(task, call, Use(SHARED, name), values)
            results.append(values[Value(call.index, 0)])
        if len(results) > 1:
            mean = Mix((), (1.0 / len(results),) * len(results), "mean")
            values[Value(call.index, 0)] = self._mixed(task, unit, mean, results)

    def _choose(self, task, unit, choice, targets, values):
        """The results of one choice at `targets`, a tuple."""
        if isinstance(choice, Mix):
            groups, blends = self._groups(unit, choice.options, targets)
            mix = self._sample if choice.sampled else self._mix
            results = mix(task, unit, choice, groups, targets, values)
            return self._activated(task, unit, results) if blends else results
        if isinstance(choice, Skip):
            return self._activated(task, unit, (self._skipped(task, unit, choice, values),))
        return self._used(task, unit, choice, targets, values)

    def _used(self, task, unit, use, targets, values):
        inner = dict(values)
        for index in needed_calls(self.graph, unit, targets):
            self._call(task, self.graph.calls[index], use, inner)
        return tuple(inner[target] for target in targets)

    def _skipped(self, task, unit, skip, values):
        if unit.skip is None:
            return self._project(task, unit, skip, values[unit.source])
        return self._used(task, unit, skip, (unit.skip,), values)[0]

    def _activated(self, task, unit, results):
        """Runs the activation that an operator has in it on what was chosen instead."""
        if not unit.activated:
            return results
        (result,) = results
        key = ("activate", unit.name, result.key)
        return self._remember(task, key, lambda: [self.executor.activate(unit, result.tensor)])

    def _project(self, task, unit, skip, source):
        key = ("project", unit.name, skip.copy, source.key)
        (projected,) = self._remember(
            task, key, lambda: [self.executor.project(unit, skip.copy, source.tensor)]
        )
        copy = skip.normalisation or skip.copy
        key = ("normalise", unit.name, copy, projected.key)
        return self._remember(
            task, key, lambda: [self.executor.normalise(unit, copy, projected.tensor)]
        )[0]

    def _mix(self, task, unit, mix, groups, targets, values):
        found, weights = [], []
        for positions, blends in groups:
            if blends:
                found.append((self._blend(task, unit, mix, positions, values),))
                weights.append(None)
            else:
                (position,) = positions
                option = mix.options[position]
                found.append(self._plain(task, unit, option, targets, values, groups))
                weights.append(mix.weight(position))
        whole = not any(blends for _, blends in groups)
        mixed = dataclasses.replace(mix, weights=mix.weights if whole else tuple(weights))
        return tuple(self._mixed(task, unit, mixed, list(one)) for one in zip(*found, strict=True))

    def _plain(self, task, unit, option, targets, values, groups):
        """One option; without the activation where that runs behind the mixing."""
        if any(blends for _, blends in groups):
            return (self._skipped(task, unit, option, values),)
        return self._choose(task, unit, option, targets, values)

    def _mixed(self, task, unit, mix, results):
        keys = tuple(result.key for result in results)
        if len(set(keys)) == 1:
            return results[0]
        key = ("mix", unit.name, mix.key, keys)
        tensors = [result.tensor for result in results]
        return self._remember(task, key, lambda: [self.executor.mix(mix.weights, tensors)])[0]

    def _groups(self, unit, options, targets):
        """Pairs of options' positions and whether their copies are mixed; whether any are."""
        if not unit.linear or targets != (unit.core,):
            return [((i,), False) for i in range(len(options))], False
        uses = tuple(i for i, option in enumerate(options) if isinstance(option, Use))
        others = [((i,), False) for i in range(len(options)) if i not in uses]
        return [(uses, True), *others], True

    def _blend(self, task, unit, mix, positions, values):
        """The operator run once with its copies mixed; weighted, and without its activation."""
        call = self.graph.calls[unit.core.node]
        copies = tuple(mix.options[position].copy for position in positions)
        weights = tuple(mix.weight(position) for position in positions)
        key = ("blend", call.index, copies, mix.key, tuple(values[v].key for v in call.inputs))
        return self._remember(
            task,
            key,
            lambda: [
                self.executor.blend(call, copies, weights, lambda value: values[value].tensor)
            ],
        )[0]

    def _sample(self, task, unit, mix, groups, targets, values):
        """Only the branch that holds the largest weight is executed; its result is weighted."""

        def branch(positions, blends):
            def run():
                memo, self.memo = self.memo, dict(self.memo)
                try:  # what is computed in a branch is known in it alone
                    if blends:
                        blended = self._blend(task, unit, mix, positions, values).tensor
                        return [self.executor.mix((None,), [blended])]  # of the others' type
                    option, weight = mix.options[positions[0]], mix.weight(positions[0])
                    found = self._plain(task, unit, option, targets, values, groups)
                    return [self.executor.mix((weight,), [result.tensor]) for result in found]
                finally:
                    self.memo = memo

            return run

        inside = set(unit.calls)
        read = [v for i in unit.calls for v in self.graph.calls[i].inputs if v.node not in inside]
        key = ("sample", unit.name, mix.key, tuple(values[v].key for v in read))
        branches = [branch(*group) for group in groups]
        positions = [group[0] for group in groups]
        return self._remember(
            task, key, lambda: self.executor.switch(mix.weights, positions, branches)
        )


def assemble(
    graph,
    units,
    tasks,
    resolve,
    executor,
    inputs,
    fusions=(),
    gates=types.MappingProxyType({}),
    selection=None,
):
    """Computes the features of every task; the one function behind every model.

    Args:
        graph: `BackboneGraph`.
        units: tuple of `Unit`, from `find_units(graph, granularity)`.
        tasks: iterable of task names; or a mapping from task name to the name of its inputs,
            where tasks have their own data.
        resolve: function of `(task, unit)` that returns a `Use`, `Skip` or `Mix`; asked for
            searchable units only, since the others belong to every path.
        executor: how a call is carried out, see `Assembly`: with Keras layers on symbolic or real
            tensors, or only counted.
        inputs: list of tensors in the order of `graph.inputs`; or a mapping from the names of
            inputs to such lists.
        fusions: sequence of `Fusion`. What is exchanged between the tasks' paths after a unit; all
            fusions of a unit read of the paths what was there before them.
        gates: mapping from the name of a fusion to one number for each of its sources but the
            first; fusions that are not in it read all sources fully.
        selection: `ChannelSelection` or `None`. The channels that tasks use, where not all. Tasks
            that use the same channels of the same result share what follows.

    Returns:
        A dict from task to the tensor of its features.
    """
    assembly = Assembly(graph, units, executor, gates, selection)
    found = assembly.features(tasks, resolve, inputs, fusions)
    return {task: result.tensor for task, result in found.items()}


def copy_of(call, use):
    """The parameter copy that a call runs with; `None` where it has no parameters."""
    if not is_weighted(call.operation):
        return None
    if use.normalisation is not None and is_normalisation(call.operation):
        return use.normalisation
    return use.copy


def needed_calls(graph, unit, targets):
    """The calls of a unit on which one of the `targets` depends, in order."""
    inside, needed, stack = set(unit.calls), set(), [value.node for value in targets]
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
            return Skip(task if architecture.projections == "task" else SHARED, normalisation)
        return Use({OWN: task}.get(choice, choice), normalisation)

    return resolve
