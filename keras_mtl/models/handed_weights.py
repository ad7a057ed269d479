"""First weights from one trained model or several."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_mtl.architecture import OWN, SHARED, SKIP
from keras_mtl.errors import ArchitectureError, suggestion
from keras_mtl.graph import find_units
from keras_mtl.models.layer_names import layer_name
from keras_mtl.report import say


class Given(NamedTuple):
    """The weights of a layer that no model has; `None`: it begins as it was made."""

    weights: list | None


def layers_of_model(model, graph, tasks, granularity, architecture=None):
    """The layers of one model by name, without the sources that fusions do not read any more.

    What a task that the model has not needs of its own begins as that of the backbone. Tasks that
    the model has not, or has in vain, are said in a line.

    Args:
        model: a model of this library.
        graph: `BackboneGraph` of the new model.
        tasks: tuple of `Task`, the new model's.
        granularity: string. That of the new model's units.
        architecture: the new model's, or `None` where that is a search.

    Returns:
        A dict from the name of a layer to the layer, one cut down, or something with its weights.
    """
    layers = model.named_layers()
    names = [task.name for task in tasks]
    new = [task for task in tasks if task.name not in model.task_names]
    for task in new:
        layers = {**_first_layers(graph, task, granularity), **layers}
    given = {fusion.name: fusion for fusion in model.fusions}
    if set(names) != set(model.task_names):
        # A mixture of other paths has other weights.
        kept = {fusion.name: fusion for fusion in architecture.fusions} if architecture else {}
        for name, fusion in given.items():
            if name not in kept or kept[name].sources != fusion.sources:
                layers.pop(name, None)
        say(_of_other_tasks(model, names, bool(given)))
    for fusion in architecture.fusions if architecture else ():
        if fusion.name not in layers:
            continue
        before = given.get(fusion.name, fusion)
        keep = [source in fusion.sources for source in before.sources[1:]]
        if not all(keep):
            layers[fusion.name] = _pruned(fusion, layers[fusion.name], keep)
    return layers


def _first_layers(graph, task, granularity):
    """What a new task has of its own: name -> the backbone's layer, or what begins as it is."""
    own = {layer_name(call.key, task.name): call.operation for call in graph.calls}
    for unit in find_units(graph, granularity):
        for kind in ("projection", "normalisation"):
            own[layer_name(f"{unit.name}.{kind}", task.name)] = Given(None)
    return {**own, f"{task.name}.head": task.head if task.head.built else Given(None)}


def _of_other_tasks(model, names, has_fusions):
    """A line that says which tasks do not begin with weights of a model, and which it has over."""
    parts = [f"`initial_weights` is a model of the tasks {list(model.task_names)}."]
    left = [name for name in model.task_names if name not in names]
    if new := [name for name in names if name not in model.task_names]:
        near = "".join(suggestion(name, left) for name in new)
        parts.append(f"New, with a head of its own that begins anew: {', '.join(new)}.{near}")
    if left:
        parts.append(f"Left out: {', '.join(left)}.")
    if has_fusions:
        parts.append("What tasks exchange begins anew where other tasks take part.")
    return " ".join(parts)


def _pruned(fusion, layer, keep):
    """A fusion's layer without the sources that are not kept."""
    if not hasattr(layer, "pruned"):
        raise ArchitectureError(
            f"`architecture` must have every source of the fusion {fusion.name!r} that "
            f"`initial_weights` has, or no such fusion: only NDDR fusions lose sources, and this "
            f"is of kind {fusion.kind!r}. Received: {len(keep) - sum(keep)} sources less."
        )
    return layer.pruned(keep)


def mean_of_models(graph, tasks, models, architecture=None):
    """Where the first weights of a model come from when every task has been trained apart.

    A copy of several tasks begins as the mean of these tasks' layers, a task's own one and its head
    as they were. Without an architecture (a search has shared and own copies of everything) a
    shared copy is the mean over all tasks.

    Args:
        graph: `BackboneGraph`.
        tasks: tuple of `Task`.
        models: mapping from task name to a model of this library.
        architecture: `Architecture` that fits the graph, or `None`.

    Returns:
        A dict from the name of a layer to something with its `weights`.
    """
    names = [task.name for task in tasks]
    trained = {task: models[task].named_layers() for task in names}
    users = {}
    for task in names:
        for key, copy in _used(graph, task, architecture):
            users.setdefault((key, copy), []).append(task)
    source = {
        layer_name(key, copy): _mean([_layer(trained[task], key, task) for task in users_of])
        for (key, copy), users_of in users.items()
    }
    for task in names:
        source[f"{task}.head"] = trained[task].get(f"{task}.head")
    return {name: given for name, given in source.items() if given is not None}


def _used(graph, task, architecture):
    """The `(call key, copy)` that a task may need, each once."""
    keys = [call.key for call in graph.calls]
    used = dict.fromkeys((key, copy) for key in keys for copy in (SHARED, task))
    if architecture is not None:
        for unit in find_units(graph, architecture.granularity):
            if unit.name not in architecture.units:
                continue
            choice = architecture.choice(task, unit.name)
            for i in unit.calls:
                if choice not in (SHARED, SKIP):
                    del used[keys[i], SHARED]
                    used[keys[i], task if choice == OWN else choice] = None
    return used


def _layer(trained, key, task):
    return trained.get(layer_name(key, task)) or trained.get(key)


def _mean(layers):
    if None in layers:
        return None  # `hand_weights` says which one is missing, if it is needed.
    shapes = [[tuple(v.shape) for v in layer.weights] for layer in layers]
    if shapes.count(shapes[0]) != len(shapes):
        raise ValueError(
            "`initial_weights` must be models of one backbone, where several tasks share a layer. "
            f"Received: layer {layers[0].name!r} with weights of shapes {shapes}."
        )
    values = zip(*(layer.weights for layer in layers), strict=True)
    return Given([_mean_of([ops.convert_to_numpy(x) for x in same]) for same in values])


def _mean_of(arrays):
    return np.mean(arrays, axis=0, dtype="float64").astype(arrays[0].dtype)
