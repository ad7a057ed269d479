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
from keras_mtl.assembly import operations
from keras_mtl.assembly.choices import Mix, Skip, Use
from keras_mtl.graph import INPUT, Value, context_calls


class Result(NamedTuple):
    """A computed tensor under a number that no other result has."""

    number: int
    tensor: Any


class Assembly:
    """The walk of `assemble`, and the trace that it leaves.

    Args:
        graph: `BackboneGraph`.
        units: tuple of `Unit`, from `find_units`.
        executor: `Executor`.
        gates: mapping from the name of a fusion to its open gates, see `assemble`.
        selection: `ChannelSelection` or `None`.

    Attributes:
        trace: dict from task to a dict whose keys are its operations, in order.
    """

    def __init__(self, graph, units, executor, gates=types.MappingProxyType({}), selection=None):
        self.graph = graph
        self.units = units
        self.executor = executor
        self.gates = gates
        self.selection = selection
        self.trace = {}
        self._memo = {}  # `Operation` -> its results
        self._readable = {}  # (task, name of a unit or fusion) -> result, and the trace behind it
        self._numbers = itertools.count()
        self._context = sorted(context_calls(graph))
        self._outputs = {unit.name: unit.output for unit in units}

    def features(self, tasks, resolve, inputs, fusions=()):
        """Returns task -> `Result` of the backbone's output; see `assemble`."""
        if not isinstance(tasks, Mapping):
            tasks = dict.fromkeys(tasks)
        if not isinstance(inputs, Mapping):
            inputs = dict.fromkeys(tasks.values(), inputs)
        common = {
            name: {Value(INPUT, i): self._result(x) for i, x in enumerate(tensors)}
            for name, tensors in inputs.items()
        }
        after = {}
        for fusion in fusions:
            after.setdefault(fusion.unit, []).append(fusion)
            self._outputs[fusion.name] = self._outputs[fusion.unit]
        read = {source for fusion in fusions for source in fusion.sources}
        values = {task: dict(common[input_set]) for task, input_set in tasks.items()}
        self.trace = {task: {} for task in tasks}
        for task in tasks:
            for index in self._context:
                self._call(task, self.graph.calls[index], Use(), values[task])
        for unit in self.units:
            for task in tasks:
                choice = resolve(task, unit) if unit.searchable else Use()
                self._unit(task, unit, choice, values[task])
                if (task, unit.name) in read:
                    kept = values[task][unit.output], dict(self.trace[task])
                    self._readable[task, unit.name] = kept
            for fusion in after.get(unit.name, ()):
                self._fuse(fusion, unit, values)
        return {task: values[task][self.graph.output] for task in tasks}

    def _fuse(self, fusion, unit, values):
        """Puts what a fusion gives into the place of its targets' outputs of the unit, or aside."""
        sources = [self._readable[source] for source in fusion.sources]
        results = [result for result, _ in sources]
        specs = tuple(self._spec(name) for _, name in fusion.sources)
        operation = operations.Fuse(_numbers(results), fusion, specs)
        fused = self._once(operation, results, self.gates.get(fusion.name))
        behind = {each: True for _, needed in sources for each in needed} | {operation: True}
        for position, task in enumerate(fusion.targets):
            self._readable[task, fusion.name] = fused[position], behind
            if not fusion.aside:
                self.trace[task].update(behind)
                values[task][unit.output] = fused[position]

    def _result(self, tensor):
        return Result(next(self._numbers), tensor)

    def _once(self, operation, results, weights=None):
        """The results of an operation on others, computed where they are not known yet."""
        if operation not in self._memo:
            tensors = [result.tensor for result in results]
            found = operation.carry_out(self.executor, tensors, weights)
            self._memo[operation] = tuple(map(self._result, found))
        return self._memo[operation]

    def _remember(self, task, operation, results, weights=None):
        found = self._once(operation, results, weights)
        self.trace[task][operation] = True
        return found

    def _call(self, task, call, use, values):
        read = [values[value] for value in call.inputs]
        operation = operations.Run(_numbers(read), call, use.copy_of(call))
        for i, result in enumerate(self._remember(task, operation, read)):
            value = Value(call.index, i)
            values[value] = self._masked(task, value, result)

    def _masked(self, task, value, result):
        """What is left of a result for a task that does not use all of its channels."""
        mask = self.selection and self.selection.mask(task, value)
        if not mask:
            return result
        return self._remember(task, operations.Mask((result.number,), value, mask), [result])[0]

    def _unit(self, task, unit, choice, values):
        """Writes what a unit hands on into `values`."""
        if isinstance(choice, Use):  # all its outputs can be read, not only the last call's
            for index in unit.calls:
                self._call(task, self.graph.calls[index], choice, values)
            return
        tail = unit.tail if choice.behind else ()
        targets = (unit.core if tail else unit.output, *unit.extra)
        results = self._choose(task, unit, choice, targets, values)
        values.update(zip(targets, results, strict=True))
        for index in tail:
            self._normalize(task, unit, self.graph.calls[index], choice.behind, values)

    def _normalize(self, task, unit, call, sets, values):
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
        for index in self.graph.ancestors(targets, unit.calls):
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
        return self._remember(task, operations.Activate(_numbers(results), unit), results)

    def _project(self, task, unit, skip, source):
        operation = operations.Project((source.number,), unit, skip.copy)
        (projected,) = self._remember(task, operation, [source])
        copy = skip.normalisation or skip.copy
        operation = operations.Normalize((projected.number,), unit, copy)
        return self._remember(task, operation, [projected])[0]

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
        numbers = _numbers(results)
        if len(set(numbers)) == 1:
            return results[0]
        return self._remember(task, operations.Mix(numbers, unit, mix.key), results, mix.weights)[0]

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
        read = [values[value] for value in call.inputs]
        operation = operations.Blend(_numbers(read), call, copies, mix.key)
        return self._remember(task, operation, read, weights)[0]

    def _sample(self, task, unit, mix, groups, targets, values):
        """Only the branch that holds the largest weight is executed; its result is weighted."""

        def branch(positions, blends):
            def run():
                memo, self._memo = self._memo, dict(self._memo)
                try:  # what is computed in a branch is known in it alone
                    if blends:
                        blended = self._blend(task, unit, mix, positions, values).tensor
                        return [self.executor.mix((None,), [blended])]  # of the others' type
                    option, weight = mix.options[positions[0]], mix.weight(positions[0])
                    found = self._plain(task, unit, option, targets, values, groups)
                    return [self.executor.mix((weight,), [result.tensor]) for result in found]
                finally:
                    self._memo = memo

            return run

        inside = set(unit.calls)
        outside = (v for i in unit.calls for v in self.graph.calls[i].inputs)
        read = [values[v] for v in outside if v.node not in inside]
        branches = tuple(branch(*group) for group in groups)
        positions = tuple(group[0] for group in groups)
        operation = operations.Sample(_numbers(read), unit, mix.key, positions, branches)
        return self._remember(task, operation, read, mix.weights)

    def _spec(self, name):
        """The shape of what a unit, or a fusion behind one, gives."""
        return self.graph.spec(self._outputs[name])


def _numbers(results):
    return tuple(result.number for result in results)


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
        executor: `Executor`. How operations are carried out: with Keras layers on symbolic or real
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
