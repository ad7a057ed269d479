"""First weights from one trained model or several."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_mtl.architecture import OWN, SHARED, SKIP
from keras_mtl.errors import ArchitectureError
from keras_mtl.graph import find_units
from keras_mtl.models.copies import layer_name


class Given(NamedTuple):
    """The weights of a layer that no model has; see `hand_weights`."""

    weights: list


def layers_of_model(model, architecture=None):
    """The layers of one model by name, without the sources that fusions do not read any more.

    Args:
        model: a model of this library.
        architecture: the new model's, or `None` where that is a search.

    Returns:
        A dict from the name of a layer to the layer, or one cut down.
    """
    layers = model.named_layers()
    given = {fusion.name: fusion for fusion in model.fusions}
    for fusion in architecture.fusions if architecture else ():
        before = given.get(fusion.name, fusion)
        keep = [source in fusion.sources for source in before.sources[1:]]
        if not all(keep):
            layers[fusion.name] = _pruned(fusion, layers[fusion.name], keep)
    return layers


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
    values = zip(*(layer.weights for layer in layers), strict=True)
    return Given([_mean_of([ops.convert_to_numpy(x) for x in same]) for same in values])


def _mean_of(arrays):
    return np.mean(arrays, axis=0, dtype="float64").astype(arrays[0].dtype)
