"""From an Architecture to a trainable network, and to its costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl.architecture import SKIP
from keras_mtl.assembly import assemble, count, resolve_architecture
from keras_mtl.errors import ArchitectureError
from keras_mtl.graph import (
    ChannelSelection,
    can_project,
    find_units,
    is_normalisation,
    is_weighted,
)
from keras_mtl.models.copies import BACKBONE, Copies, clone_head, head_costs
from keras_mtl.models.functional import functional
from keras_mtl.models.layer_names import check_names_apart
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.task import input_sets

if TYPE_CHECKING:
    from keras_mtl.architecture import Architecture
    from keras_mtl.graph import BackboneGraph
    from keras_mtl.task import Task


def derive(
    graph: BackboneGraph,
    tasks: Sequence[Task],
    architecture: Architecture,
    *,
    seed: int,
    source: Any = BACKBONE,
    name: str | None = None,
) -> MultiTaskModel:
    """Makes the `MultiTaskModel` of an Architecture.

    Args:
        graph: `BackboneGraph`.
        tasks: tuple of `Task`.
        architecture: `Architecture` of this backbone and these tasks.
        seed: int.
        source: where first weights come from, see `Copies`.
        name: string.

    Returns:
        A `MultiTaskModel` whose `architecture` has its costs filled in.
    """
    units = find_units(graph, architecture.granularity)
    architecture = fitted(graph, units, tasks, architecture)
    sets = input_sets(tasks)
    check_input_sets(graph, sets)
    heads = {task.name: clone_head(task, graph.features, seed, source) for task in tasks}
    architecture, needs = priced(graph, units, sets, heads, architecture)
    check_names_apart(graph, tuple(sets), needs.operations, input_names(graph, sets))
    copies = Copies(graph, needs.operations, seed, source)
    frozen = _freeze(copies, graph, units, architecture.frozen)
    inputs = {name: _inputs(graph, name) for name in sets.values()}
    features = assemble(
        graph,
        units,
        sets,
        resolve_architecture(architecture),
        copies,
        inputs,
        architecture.fusions,
        selection=selected_channels(graph, architecture),
    )
    outputs = {task: heads[task](features[task]) for task in sets}
    packed = {name: graph.pack_inputs(tensors) for name, tensors in inputs.items()}
    network = functional(packed.get(None, packed), outputs, f"{graph.name}.network")
    names = [spec.name for spec in graph.inputs]
    return MultiTaskModel(
        network, tasks, architecture, seed=seed, name=name, frozen=frozen, input_names=names
    )


def with_costs(graph, tasks, architecture):
    """The Architecture with its costs filled in, without making its network."""
    units = find_units(graph, architecture.granularity)
    architecture = fitted(graph, units, tasks, architecture)
    heads = {task.name: clone_head(task, graph.features, 0) for task in tasks}
    return priced(graph, units, input_sets(tasks), heads, architecture)[0]


def priced(graph, units, sets, heads, architecture):
    """The Architecture with its costs filled in, and the `Needs` that were counted for them.

    Args:
        graph: `BackboneGraph`.
        units: its units of the architecture's granularity.
        sets: dict from task to its input set.
        heads: dict from task to its head.
        architecture: `Architecture` that fits them.
    """
    resolve = resolve_architecture(architecture)
    selection = selected_channels(graph, architecture)
    needs = count(graph, units, sets, resolve, architecture.fusions, selection)
    return architecture.replace(costs=with_heads(needs.costs, graph, heads)), needs


def check_input_sets(graph, sets):
    """Raises `ValueError` when the inputs of a set would have the name of something else."""
    taken = {call.key for call in graph.calls}
    for name in dict.fromkeys(sets.values()):
        names = [] if name is None else [_input_name(graph, name, spec) for spec in graph.inputs]
        for found in names:
            if found in taken:
                raise ValueError(
                    "`inputs` of a task must not name a layer of the backbone, or the inputs of "
                    f"another task. Received: inputs={name!r}, which makes the input {found!r}. "
                    "Choose another name."
                )
        taken |= set(names)


def input_names(graph, sets):
    """The names of a model's inputs: the backbone's, or made for every input set."""
    different = dict.fromkeys(sets.values())
    return [_input_name(graph, name, spec) for name in different for spec in graph.inputs]


def _input_name(graph, input_set, spec):
    if input_set is None:
        return spec.name
    # Keras wants the tensor of a one-tensor entry to be named like the entry.
    return input_set if len(graph.inputs) == 1 else f"{input_set}_{spec.name}"


def _inputs(graph, input_set):
    return [
        keras.Input(
            batch_shape=spec.shape, dtype=spec.dtype, name=_input_name(graph, input_set, spec)
        )
        for spec in graph.inputs
    ]


def with_heads(costs, graph, heads):
    """Adds the heads to the costs of `count`; `{}` where the backbone's sizes are not fixed."""
    if costs is None:
        return {}
    total = {kind: {**part, "tasks": dict(part["tasks"])} for kind, part in costs.items()}
    for task, head in heads.items():
        for kind, value in zip(
            ("parameters", "flops"), head_costs(head, graph.features), strict=True
        ):
            total[kind]["tasks"][task] += value
            total[kind]["together"] += value
    return total


def fitted(graph, units, tasks, architecture):
    """Returns the plan with this backbone's names; raises unless it is for it and these tasks.

    Keras numbers the layers of a second, equal backbone on: with an equal fingerprint, units are
    known by their position.
    """
    searchable = tuple(unit.name for unit in units if unit.searchable)
    same = architecture.fingerprint == graph.fingerprint
    if same and len(architecture.units) == len(searchable):
        architecture = architecture.renamed(searchable)
    architecture.check_backbone(graph.fingerprint, searchable)
    names = tuple(task.name for task in tasks)
    if architecture.tasks != names:
        raise ArchitectureError(
            f"`architecture` must be for the tasks {list(names)}, in this order. "
            f"Received: an architecture for {list(architecture.tasks)}."
        )
    selected_channels(graph, architecture)
    for unit in units:
        skips = unit.searchable and any(architecture.choice(t, unit.name) == SKIP for t in names)
        if skips and not _can_skip(graph, unit, architecture.granularity):
            raise ArchitectureError(
                f"`architecture` must skip only what can be skipped. Received: 'skip' at "
                f"{unit.name!r}, whose output nothing of the shape of its input can replace."
            )
    return architecture


def selected_channels(graph, architecture):
    """The `ChannelSelection` of an architecture's masks; refuses masks that cannot be built."""
    if architecture.masks and architecture.fusions:
        raise ArchitectureError(
            "`architecture` must have masks or fusions, not both. Received: "
            f"{len(architecture.masks)} masks and {len(architecture.fusions)} fusions."
        )
    masks = {unit: use.forward for unit, use in architecture.masks.items()}
    selection = ChannelSelection(graph, masks)
    for call in graph.calls:
        skipped = [
            task
            for task in architecture.tasks
            if selection.touches(call.index)
            and call.key in architecture.units
            and architecture.choice(task, call.key) == SKIP
        ]
        if skipped:
            raise ArchitectureError(
                "`architecture` must not skip an operator whose channels are masked, or that "
                f"reads masked channels. Received: task {skipped[0]!r} skips {call.key!r}."
            )
    return selection


def _freeze(copies, graph, units, frozen):
    """Takes the operators of some units from the variables that training moves; their names."""
    keys = {graph.calls[i].key for unit in units if unit.name in frozen for i in unit.calls}
    names = []
    for (key, _), layer in copies.layers.items():
        if key in keys and is_weighted(layer) and not is_normalisation(layer):
            layer.trainable = False
            names.append(layer.name)
    return names


def _can_skip(graph, unit, granularity):
    if granularity == "operator":
        return unit.skip_by is not None
    return unit.skip is not None or can_project(graph, unit)
