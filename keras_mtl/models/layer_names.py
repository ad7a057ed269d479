"""The names of a model's layers, by which weights are handed on: each is of one thing only."""

from keras_mtl.architecture import SHARED
from keras_mtl.assembly import operations
from keras_mtl.graph import is_weighted


def layer_name(key, copy):
    """The name of a clone in every model; weights are handed from model to model by it."""
    return key if copy in (None, SHARED) else f"{key}.{copy}"


def by_name(layers):
    """Name -> layer.

    Raises:
        ValueError: when two of them have one name.
    """
    named = {}
    for layer in layers:
        if named.setdefault(layer.name, layer) is not layer:
            raise ValueError(
                "Layers of a model must have different names: weights are handed on by them. "
                f"Received: {layer.name!r} twice. Rename one of the layers."
            )
    return named


def check_names_apart(graph, tasks, trace=(), inputs=()):
    """Refuses a backbone whose layers are called like something that a model adds to them.

    Copies count for every task, whether this model has them or not: it may take first weights from
    another one, or hand its own on.

    Args:
        graph: `BackboneGraph`.
        tasks: tuple of task names.
        trace: iterable of `Operation`. What the model runs, beside the tasks' copies.
        inputs: sequence of string. Names of the model's inputs.

    Raises:
        ValueError: when two things would have one name.
    """
    weighted = {call.key: is_weighted(call.operation) for call in graph.calls}
    branches = [copy for each in trace for _, copy in each.copies if copy != SHARED]
    copies = dict.fromkeys([*tasks, *branches])
    found = [(key, f"layer {key!r}") for key in weighted]
    found += [
        (layer_name(key, copy), f"the copy of layer {key!r} for {copy!r}")
        for key, has_weights in weighted.items()
        if has_weights
        for copy in copies
    ]
    found += [(name, f"the input {name!r}") for name in inputs]
    found += [(f"{task}.head", f"the head of task {task!r}") for task in tasks]
    found += dict.fromkeys(_added(graph, trace))
    taken = {}
    for name, what in found:
        if name in taken:
            raise ValueError(
                "`backbone` must have layers that are not called like another part of the model. "
                f"Received: {taken[name]} and {what}, which would both have the name {name!r}. "
                "Rename the layer, or the task."
            )
        taken[name] = what


def _added(graph, trace):
    """Names of what a model has beside layers of the backbone and heads, and what they are."""
    masks = {}
    for operation in trace:
        match operation:
            case operations.Project(unit=unit, copy=copy):
                name = layer_name(f"{unit.name}.projection", copy)
                yield name, f"the projection of unit {unit.name!r} for {copy!r}"
            case operations.Normalize(unit=unit, copy=copy):
                name = layer_name(f"{unit.name}.normalisation", copy)
                yield name, f"the normalisation of unit {unit.name!r} for {copy!r}"
            case operations.Activate(unit=unit):
                yield f"{unit.name}.activation", f"the activation of unit {unit.name!r}"
            case operations.Fuse(fusion=fusion):
                yield fusion.name, f"the fusion {fusion.name!r} after unit {fusion.unit!r}"
            case operations.Mask(value=value, mask=mask):  # those of one place are numbered
                key = graph.calls[value.node].key
                numbers = masks.setdefault(value, {})
                number = numbers.setdefault(mask, 1 + len(numbers))
                yield f"{key}.mask{number}", f"a mask of layer {key!r}"
