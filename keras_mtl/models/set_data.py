"""Data of tasks with inputs of their own, as `fit`, `evaluate` and `predict` take them: dicts."""

import functools

import keras

from keras_mtl.data.epoch_dataset import EpochDataset
from keras_mtl.data.join_tasks import join_tasks
from keras_mtl.data.sampled_dataset import SampledDataset
from keras_mtl.errors import DataError
from keras_mtl.models.check_data import check_arrays, check_sets

BATCH = 32


def is_by_set(model, x, y=None):
    """Whether data are a dict from input set to what belongs to it, labels and all."""
    return y is None and isinstance(x, dict) and None not in model.input_specs


def for_training(model, data, options, sample_weight=None):
    """The `JoinedDataset` of a dict; takes from the options of `fit` what is about batches.

    Args:
        model: `TaskModel` with input sets.
        data: dict from input set to `(x, y)` or `(x, y, sample_weight)`, as `join_tasks` takes it.
        options: dict, the options of `fit`; changed.
        sample_weight: what `fit` got.
    """
    if options.pop("validation_split", 0.0):
        raise DataError(
            "`validation_split` must not be given with a dict from input set to data. Received: "
            f"data of {list(data)}. Give `validation_data`, a dict like the data."
        )
    size = _size(options.pop("batch_size", None))
    shuffle, seed = bool(options.pop("shuffle", True)), model.seed or 0
    return join_tasks(_own(model, data, sample_weight), size, shuffle=shuffle, seed=seed)


def once(model, x, y=None, sample_weight=None, batch_size=None):
    """Data for evaluation: of a dict the `JoinedPass`; refuses what goes round without an end."""
    if isinstance(x, (EpochDataset, SampledDataset)):
        raise DataError(
            "Evaluation and prediction need every example once. Received: a "
            f"{type(x).__name__}, whose batches are for training. Give the data that it was made "
            "of: arrays, a `tf.data.Dataset`, or the dict from input set to data."
        )
    if is_by_set(model, x, y):
        return join_tasks(_own(model, x, sample_weight), _size(batch_size), training=False)
    return x


def for_prediction(model, data, batch_size=None):
    """The `JoinedPass` of inputs alone, of the sets that the tasks need which can be predicted.

    Args:
        model: `TaskModel` with input sets.
        data: dict from input set to `x`, or to `(x, y[, sample_weight])`; arrays, or a
            `tf.data.Dataset` of such batches.
        batch_size: int or `None`.
    """
    unknown = check_sets(model, data, all_needed=False)
    model.ignore([], unknown)
    tasks = [t for t in model.task_names if set(model.needed_sets(t)) <= set(data)]
    sets = {name for task in tasks for name in model.needed_sets(task)}
    specs = {name: specs for name, specs in model.input_specs.items() if name in sets}
    inputs = {name: _inputs_of(data[name], specs[name]) for name in specs}
    joined = join_tasks(inputs, _size(batch_size), training=False)
    for name, found in joined.element_spec[0].items():
        check_arrays(found, specs[name], f" of set {name!r}")
    return joined


def _size(batch_size):
    return BATCH if batch_size is None else batch_size


def _own(model, data, sample_weight=None):
    """A dict without the input sets that no task of the model reads."""
    if sample_weight is not None:
        raise DataError(
            "`sample_weight` must not be given with a dict from input set to data. Received: data "
            f"of {list(data)}. Give it as the third part of each set's data."
        )
    unknown = check_sets(model, data)
    model.ignore([], unknown)
    return {name: _named(model, name, part) for name, part in data.items() if name not in unknown}


def _named(model, input_set, part):
    """The data of a set; plain labels are those of its only task, whatever the set is called."""
    readers = [task for task, read in model.input_sets.items() if read == input_set]
    if len(readers) > 1:
        return part
    if isinstance(part, tuple) and len(part) > 1:
        return _of_task(readers[0], *part)
    streamed = hasattr(part, "element_spec") and isinstance(part.element_spec, tuple)
    if streamed and len(part.element_spec) > 1 and not isinstance(part.element_spec[1], dict):
        return part.map(functools.partial(_of_task, readers[0]))
    return part


def _of_task(task, x, y, *weights):
    return (x, y if isinstance(y, dict) else {task: y}, *weights)


def _inputs_of(part, specs):
    """The inputs of a set, from `x`, `(x, y)` or `(x, y, w)`; and no labels."""
    count = len(specs)
    if hasattr(part, "element_spec"):
        return part.map(lambda *batch: (_inputs(batch, count), {}))
    return _inputs(part if isinstance(part, tuple) else (part,), count), {}


def _inputs(parts, count):
    several = 1 < count == len(parts) and not any(map(keras.tree.is_nested, parts))
    return list(parts) if several else parts[0]
