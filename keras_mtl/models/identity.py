"""What two models must agree in to share weights or a training, as plain data."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping

import numpy as np

LINE = 120  # characters of a value in a message
LONG = 100  # items of a list, such as a vocabulary, above which a hash stands for it

# What objects may differ in: names are numbered on, seeds and first values are not the function.
_FREE = {"name", "seed", "trainable", "dtype", "build_config", "registered_name", "module"}
_FREE |= {"inbound_nodes", "input_layers", "output_layers"}  # of models in models, by name
_FREE |= {"vocabulary_size"}  # follows from the vocabulary, which may be loaded after the weights


def plain(value):
    """A value as JSON holds it; functions and objects by their names and settings."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(map(str, value))
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        if len(items) <= LONG:
            return items
        return f"{len(items)} items, {hashlib.sha256(json.dumps(items).encode()).hexdigest()[:12]}"
    if hasattr(value, "get_config"):
        return of_object(value)
    return _of_function(value)


def _of_function(function):
    """The name of a function, and the numbers that it was made with where there are some."""
    if isinstance(function, functools.partial):
        given = [*function.args, function.keywords]
        return {"function": plain(function.func), "arguments": plain(given)}
    name = getattr(function, "__qualname__", type(function).__name__)
    # Functions that another one has made are told apart by what they hold of it.
    cells = getattr(function, "__closure__", None) or ()
    names = function.__code__.co_freevars if cells else ()
    held = {}
    for free, cell in zip(names, cells, strict=True):
        with contextlib.suppress(ValueError):  # nothing in it yet
            if isinstance(cell.cell_contents, (bool, int, float, str)):
                held[free] = cell.cell_contents
    return {"function": name, "held": held} if held else name


def of_object(thing):
    """The class and the settings of an object with a configuration."""
    try:
        settings = plain(thing.get_config())
    except Exception:  # a class of the user's that has none, or none that Keras can write
        settings = {}
    return {"class": type(thing).__name__, "settings": _stripped(settings)}


def of_layers(layers):
    """The classes and settings of layers in order; names, seeds and first values are left out."""
    return [[layer.name, of_object(layer)] for layer in layers]


def of_architecture(architecture):
    """What an `Architecture` says, by the places of units: Keras numbers equal backbones on."""
    units, fusions = architecture.units, architecture.fusions
    place = {unit: i for i, unit in enumerate(units)}
    place |= {fusion.name: f"fusion {i}" for i, fusion in enumerate(fusions)}
    return {
        "choices": {task: list(row) for task, row in architecture.choices.items()},
        "masks": [
            plain(architecture.masks[unit].to_data()) if unit in architecture.masks else None
            for unit in units
        ],
        "fusions": [
            {
                "kind": fusion.kind,
                "unit": place[fusion.unit],
                "sources": [[task, place[read]] for task, read in fusion.sources],
                "targets": list(fusion.targets),
                "settings": plain(fusion.settings),
                "aside": fusion.aside,
            }
            for fusion in fusions
        ],
        "frozen": [unit in architecture.frozen for unit in units],
        "granularity": architecture.granularity,
        "normalisation": architecture.normalisation,
        "projections": architecture.projections,
        "fingerprint": architecture.fingerprint or None,  # `None`: not known
        "units": list(units),
    }


def of_optimizers(optimizers):
    """The classes and settings of optimizers by name, and apart their learning rates.

    A rate is a number, which may have moved since, or a schedule's class and settings.
    """
    found = {
        name: of_object(getattr(optimizer, "inner_optimizer", optimizer))
        for name, optimizer in optimizers.items()
        if optimizer is not None
    }
    rates = {name: kind["settings"].pop("learning_rate", None) for name, kind in found.items()}
    return {"optimizers": found, "learning_rates": rates}


def of_tasks(tasks):
    """What decides the losses of tasks: the loss and every plain setting of a `Task`."""
    apart = ("name", "head", "metrics", "weighted_metrics", "loss", "inputs")
    found = {}
    for task in tasks:
        function = getattr(task.loss, "function", None)
        loss = plain(function) if function is not None else of_object(task.loss)
        others = {k: plain(v) for k, v in vars(task).items() if k not in apart and k[:1] != "_"}
        found[task.name] = {"loss": loss, **others}
    return found


def difference(found, own):
    """The first place in which two identities differ.

    What only one of them has is no difference: files of earlier versions say less.

    Args:
        found: dict, from a file.
        own: dict, of the model.

    Returns:
        `None`, or a tuple of the place and the values that are found and own, as texts.
    """
    found = _of_this_version(found, own)
    # A hash says least, and is asked last; names of units only stand for their places.
    order = sorted((key for key in own if key != "units"), key=lambda key: key == "fingerprint")
    for key in order:
        if key in found and None not in (found[key], own[key]):
            place = _first(found[key], own[key], (key,))
            if place is not None:
                path, *values = place
                return _words(path, own.get("units", [])), *map(_text, values, values[::-1])
    return None


def _of_this_version(found, own):
    """The first files had masks by the names of units, and none where there are none."""
    if "choices" not in found or "units" in found:
        return found
    masks = found.get("masks", {})
    masks = [masks.get(unit) for unit in own.get("units", ())]
    return {**found, "kind": "network", "masks": masks}


def _first(found, own, path):
    if isinstance(found, dict) and isinstance(own, dict):
        pairs = [(key, found[key], own[key]) for key in own if key in found]
    elif isinstance(found, list) and isinstance(own, list):
        if len(found) != len(own):
            return path, _only(found, own), _only(own, found)
        if len(own) == 2 and path[0] == "layers" and isinstance(own[1], dict):
            return _first(found[1], own[1], (path[0], own[0]))  # a layer and its name
        pairs = [(i, *both) for i, both in enumerate(zip(found, own, strict=True))]
    else:
        return None if found == own or repr(found) == repr(own) else (path, found, own)  # NaN
    for key, *values in pairs:
        place = _first(*values, (*path, key))
        if place is not None:
            return place
    return None


def _only(items, others):
    """The items that the others lack, or all where only their number differs."""
    only = [item for item in items if item not in others]
    return f"{len(items)} of them" if items and not only else only


def _words(path, units):
    text = path[0]
    for key in path[1:]:
        by_unit = isinstance(key, int) and path[0] in ("choices", "masks", "frozen")
        text += f"[{units[key] if by_unit else key!r}]"
    return text


def _text(value, other):
    """A value as a line of text, from shortly before where it differs from the other."""
    text, other = repr(value), repr(other)
    pairs = enumerate(zip(text, other, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(text), len(other)))
    begin = max(0, same - LINE // 4) if len(text) > LINE else 0
    end = "..." if len(text) > begin + LINE else ""
    return f"{'...' if begin else ''}{text[begin : begin + LINE]}{end}"


def _stripped(settings):
    if isinstance(settings, dict):
        return {
            key: _stripped(value)
            for key, value in settings.items()
            if key not in _FREE and not key.endswith("initializer")
        }
    if isinstance(settings, list):
        return [_stripped(value) for value in settings]
    return settings


def of_search(search):
    """The strategy of a search and what its network is made of."""
    heads = {task: of_object(head) for task, head in search.heads.items()}
    return {
        "search": {
            "name": search.strategy.name,
            "settings": plain(search.strategy.get_config()),
        },
        "granularity": search.strategy.granularity,
        "layers": of_layers(search.graph.backbone.layers),
        "heads": heads,
        "fingerprint": search.graph.fingerprint,
    }
