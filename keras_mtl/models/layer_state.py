"""What layers know beside their weights: vocabularies, tables, statistics of the data."""

import pathlib
import tempfile

import keras

from keras_mtl.errors import UnsupportedBackboneError
from keras_mtl.graph import is_weighted
from keras_mtl.models.inner_layers import inner_layers, pairs

_Layer = keras.layers.Layer


def has_state(operation):
    """Whether an operation may know something that neither its configuration nor weights hold."""
    return isinstance(operation, _Layer) and any(
        _has_assets(x) or _has_own_variables(x) for x in (operation, *inner_layers(operation))
    )


def hand_state(clone, original):
    """Gives a clone what its original was adapted to; weights keep the clone's values.

    Through Keras' own pairs, as when a model is saved: `save_own_variables` and
    `load_own_variables`, `save_assets` and `load_assets`, also of the layers inside.
    """
    if not isinstance(original, _Layer):
        return
    alike = [pair for pair in pairs(clone, original) if type(pair[0]) is type(pair[1])]
    for new, old in alike:
        # A head that was never called has no weights yet, nor is there anything to know of them.
        if len(new.weights) == len(old.weights) and _has_own_variables(new):
            _hand_own_variables(new, old)
    for new, old in alike:
        if _has_assets(old):
            _hand_assets(new, old)


def _has_assets(operation):
    own = getattr(type(operation), "save_assets", None)
    return own is not getattr(_Layer, "save_assets", None)


def _has_own_variables(operation):
    """Whether a layer saves more than its weights; by Keras' methods only what is of the data."""
    for name in ("save_own_variables", "load_own_variables"):
        method = getattr(type(operation), name)
        kerass = method.__module__.startswith("keras.")
        if method is not getattr(_Layer, name) and not (kerass and is_weighted(operation)):
            return True
    return False


def _hand_own_variables(clone, original):
    store = {}
    try:
        original.save_own_variables(store)
    except AttributeError:  # Keras' lookups with tf-idf weights, as long as nothing is adapted
        return
    weights = clone.weights if is_weighted(clone) else []
    values = [keras.ops.convert_to_numpy(variable) for variable in weights]
    try:
        clone.load_own_variables(store)
    except AttributeError:  # the same lookups, where Keras cannot load them either
        raise UnsupportedBackboneError(
            f"`backbone` must have layers that this version of Keras can load. Received: layer "
            f"{original.name!r} of type {type(original).__name__}, adapted, with Keras "
            f"{keras.__version__}. Install a newer Keras."
        ) from None
    for variable, value in zip(weights, values, strict=True):
        variable.assign(value)


def _hand_assets(clone, original):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as present:
        original.save_assets(folder)
        clone.save_assets(present)
        if _content(folder) != _content(present):  # an empty vocabulary cannot be loaded
            clone.load_assets(folder)


def _content(folder):
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}
