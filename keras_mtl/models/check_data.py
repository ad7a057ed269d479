"""Looks at data before the first step: names, structure and shapes, in the user's words."""

import itertools

import keras
import numpy as np

from keras_mtl.checks import check_dense
from keras_mtl.errors import DataError, suggestion
from keras_mtl.models import tensorflow_step
from keras_mtl.models.labels import batch_by_task
from keras_mtl.report import say
from keras_mtl.task import saved_parts
from keras_mtl.task.loss import declared_axes

ACCURACY = "accuracy"  # the name of the metric by which lagging tasks are found


def check_batches(model, data, *, batched=True):
    """Raises `DataError` unless `data` is `(x, y[, sample_weight])` for the model's tasks.

    Args:
        model: a model with `tasks` and `input_specs`.
        data: nested structure of arrays or of specs with a `shape`.
        batched: bool. Whether shapes have a batch axis.
    """
    check_dense(data)
    data = batch_by_task(model.tasks, data)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise DataError(
            "The data must be `(x, y)` or `(x, y, sample_weight)`, with labels for every task. "
            f"Received: {_describe(data)}."
        )
    x, y = data[:2]
    names = [task.name for task in model.tasks]
    unknown = _check_inputs(model, x)
    _check_owners(model, y)
    extra = check_names("Labels", y, names)
    if len(data) == 3 and data[2] is not None:
        check_names("Sample weights", data[2], [*names, *extra], all_needed=False)
    model.ignore(extra, unknown)
    weights = (data[2] if len(data) == 3 else None) or {}
    check_nothing_lost(model.tasks)
    for task in model.tasks:
        rows = model.output_specs[task.name], y[task.name], weights.get(task.name)
        _check_class_weight(task, *rows[:2])
        _check_labels(task, *rows[:2])
        _check_weights(task, *rows)


def check_lengths(x, y, sample_weight=None):
    """Raises `DataError` unless arrays of inputs, labels and sample weights have one length."""
    lengths = {len(a) for a in keras.tree.flatten((x, y)) if hasattr(a, "__len__")}
    if len(lengths) > 1:
        raise DataError(
            f"Inputs and labels must have one length. Received: lengths {sorted(lengths)}."
        )
    weights = sample_weight if isinstance(sample_weight, dict) else {}
    for task, weight in weights.items():
        given = None if weight is None else len(np.atleast_1d(np.asarray(weight)))
        if given is not None and given not in lengths:
            raise DataError(
                f"Sample weights of task {task!r} must be as many as the examples, "
                f"{', '.join(map(str, lengths))}. Received: {given}."
            )


def check_nothing_lost(tasks):
    """Raises `ValueError` when a loss or metric was not found when the tasks were loaded."""
    lost = [(task, *part) for task in tasks for part in task.lost_parts()]
    if not lost:
        return
    task, kind, name, config = lost[0]
    own = saved_parts.custom_name(config)
    more = f" ({len(lost)} losses and metrics are lacking.)" if len(lost) > 1 else ""
    objects = f"pass `custom_objects={{{own!r}: ...}}` to `load_model`, or " if own else ""
    raise ValueError(
        f"Task {task.name!r} must have its {kind}. Received: a loaded model whose {kind} {name!r} "
        f"Keras could not find.{more} To train or evaluate, {objects}load with `compile=False` and "
        "call `model.replace_losses(tasks)`, then `compile`; predicting and exporting work without."
    )


def _check_owners(model, labels):
    """Raises `DataError` when labels stand under the name of an input set that is no task."""
    sets = [name for name in model.input_specs if name not in (None, *model.task_names)]
    for name in sets if isinstance(labels, dict) else ():
        readers = [task for task, read in model.input_sets.items() if read == name]
        if name in labels and any(task not in labels for task in readers):
            raise DataError(
                f"Labels of the set {name!r} must be a dict by task name: "
                f"`{{{name!r}: (x, {{{readers[0]!r}: y}})}}`. Received: labels without a name, for "
                f"the tasks {readers}."
            )


def check_names(what, labels, names, all_needed=True):
    """Raises `DataError` unless `labels` is a dict with the tasks' names.

    Names of other tasks may be there too where nothing is missing: data of many tasks train a model
    of a few. Where something is missing, an unknown name is a slip of the pen.

    Returns:
        A list of the names that are not the tasks'.
    """
    if not isinstance(labels, dict):
        raise DataError(
            f"{what} must be a dict from task name to values, for the tasks {names}. "
            f"Received: {_describe(labels)}."
        )
    unknown = [name for name in labels if name not in names]
    missing = [name for name in names if name not in labels] if all_needed else []
    if unknown and (missing or not all_needed):
        raise DataError(
            f"{what} must be for the tasks {names}. Received: {what.lower()} for the unknown task "
            f"{unknown[0]!r}." + suggestion(unknown[0], names)
        )
    if missing:
        raise DataError(
            f"{what} must be given for every task of {names}. Received: none for {missing}. Where "
            "labels are missing, give NaN, the task's `ignore` value or weight 0."
        )
    return unknown


def check_sets(model, data, *, all_needed=True):
    """Raises `DataError` unless data are a dict by the input sets that the model's tasks read.

    Args:
        model: `TaskModel` with input sets.
        data: what should be a dict from input set to its part.
        all_needed: bool. Whether all sets must be there, or those of one task or more. An unknown
            name is allowed where none is missing.

    Returns:
        A list of the sets that no task reads.
    """
    names = list(model.input_specs)
    given = set(data) if isinstance(data, dict) else set()
    unknown = [name for name in data if name not in names] if given else []
    missing = [name for name in names if name not in given]
    if not missing:
        return unknown
    guess = suggestion(unknown[0], missing) if unknown else ""
    if all_needed or unknown or not given:
        raise DataError(
            f"The inputs must be a dict with one entry for each of {names}, since every task has "
            f"its own. Received: {_describe(data)}.{guess} Use `keras_mtl.data.join_tasks`."
        )
    needed = {task.name: list(model.needed_sets(task.name)) for task in model.tasks}
    if not any(given.issuperset(sets) for sets in needed.values()):
        raise DataError(
            f"The inputs must have all the sets that a task depends on: {needed}. Received: "
            f"{_describe(data)}."
        )
    return unknown


def check_not_empty(dataset):
    """Raises `DataError` for a dataset that is known to be empty."""
    cardinality = int(dataset.cardinality())
    if cardinality == 0:
        raise DataError("The dataset must not be empty. Received: a dataset without batches.")


def check_task_sets(model, task_sets):
    """Raises `DataError` when joined data have a task's labels in the set of another."""
    for task, input_set in model.input_sets.items():
        found = (task_sets or {}).get(task, input_set)
        if found != input_set:
            raise DataError(
                f"The labels of task {task!r} must come with its inputs {input_set!r}. Received: "
                f"labels of {task!r} in the set {found!r}. Check `Task(inputs=...)` and the data."
            )


def check_turns(model, data):
    """Raises `DataError` unless the tasks of a model can take turns with a `SampledDataset`."""
    if model.architecture is not None and model.architecture.fusions:
        raise DataError(
            "Tasks that take turns must not exchange features. Received: an architecture with "
            f"{len(model.architecture.fusions)} fusions. Use `keras_mtl.data.join_tasks`."
        )
    names = list(model.task_names)
    unknown = [task for task in data.tasks if task not in names]
    missing = [task for task in names if task not in data.tasks]
    if missing:
        raise DataError(
            f"`sample_tasks` must have data of the tasks {names}. Received: data of "
            f"{list(data.tasks)}." + (suggestion(unknown[0], names) if unknown else "")
        )
    if None in model.input_specs:
        raise DataError(
            "Tasks that take turns must have inputs of their own. Received: tasks that all read "
            f"the same. Name them: `Task({names[0]!r}, ..., inputs={names[0]!r})`."
        )
    if data.needs_accuracies:
        lacking = [t.name for t in model.tasks if all(m.name != ACCURACY for m in t.metrics)]
        if lacking:
            raise DataError(
                '`sampling="lagging"` goes by the tasks\' training accuracy, so that every task '
                f"must have the metric {ACCURACY!r}. Received: none of {lacking[0]!r}."
            )
    settings = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    for name in ("use_ema", "gradient_accumulation_steps"):
        if getattr(settings, name, None):
            raise DataError(
                f"`optimizer` must not have `{name}` where tasks take turns: it would go on "
                f"between the steps of a task. Received: {name}={getattr(settings, name)}."
            )


def with_length(dataset):
    """Returns a dataset of known length and that length; counts the batches where it must."""
    length = int(dataset.cardinality())
    if length == tensorflow_step.INFINITE:
        raise DataError(
            "The dataset must end, or `steps_per_epoch` be given. Received: an endless dataset."
        )
    if length < 0:
        say("Counting the batches of a dataset of unknown length, once ...")
        length = tensorflow_step.count_batches(dataset)
        if length == 0:
            raise DataError("The dataset must not be empty. Received: a dataset without batches.")
        dataset = tensorflow_step.with_cardinality(dataset, length)
    return dataset, length


def check_lasts(dataset, steps, epochs):
    """Raises `DataError` for a dataset that is known to end within one of several epochs.

    Keras reads one that ends between two epochs again.
    """
    length = int(dataset.cardinality())
    wanted = steps * epochs
    if 0 <= length < wanted and length % steps:
        raise DataError(
            f"The dataset must have a batch for each of the {wanted} steps ({epochs} epochs of "
            f"{steps}). Received: {length} batches. Use `.repeat()`, or leave `steps_per_epoch` "
            "out."
        )


def _check_inputs(model, x):
    """Raises unless the inputs fit; returns the input sets that no task reads."""
    if None in model.input_specs:
        check_arrays(x, model.input_specs[None])
        return []
    unknown = check_sets(model, x)
    for name, specs in model.input_specs.items():
        check_arrays(x[name], specs, f" of set {name!r}")
    return unknown


def check_arrays(x, specs, where=""):
    """Raises `DataError` unless inputs are as many as the specs, and of their shapes."""
    if isinstance(x, dict):
        names = [spec.name for spec in specs]
        missing = [name for name in names if name not in x]
        flat = [x[name] for name in names] if not missing else keras.tree.flatten(x)
    else:
        flat = keras.tree.flatten(x)
    if len(flat) != len(specs):
        raise DataError(
            f"The inputs must be {len(specs)}: {[spec.name for spec in specs]}. "
            f"Received: {len(flat)} inputs."
        )
    for array, spec in zip(flat, specs, strict=True):
        shape = _shape(array)
        if shape is None and hasattr(array, "shape"):
            raise DataError(
                f"Input {spec.name!r}{where} must have a known number of axes. Received: a dataset "
                f"without shapes. Use `tf.ensure_shape(x, {(None, *spec.shape[1:])})` in its "
                "`map`, or give it a full signature."
            )
        if shape is not None and not _fits(shape[1:], spec.shape[1:]):
            raise DataError(
                f"Input {spec.name!r}{where} must have shape {('batch', *spec.shape[1:])}. "
                f"Received: shape {shape}."
            )
        if shape is not None and shape[0] == 0:
            raise DataError(f"The data must not be empty. Received: input of shape {shape}.")


def _check_labels(task, output, labels):
    """Compares label and output shapes, then tries the loss on two made-up examples."""
    shape = _shape(labels)
    if shape is None or None in output.shape[1:] or None in shape[1:]:
        return
    expected = tuple(output.shape[1:])
    given = tuple(shape[1:])
    fitting = _label_shapes(task.loss, expected)
    if fitting and given not in fitting:
        raise DataError(
            f"Labels of task {task.name!r} must have shape {('batch', *expected)} like its output, "
            f"or {('batch', *fitting[1])} for class numbers. Received: shape "
            f"{(shape[0] and 'batch', *given)}. Check the labels or the head."
        )
    try:
        values, weight, _ = task.loss_per_label(*_made_up(labels, given, expected))
        fits = tuple(values.shape) == tuple(weight.shape)
    except DataError:
        raise
    except Exception as error:  # every backend, and a loss of the user's, has its own
        raise task.unfitting(given, expected, error) from None
    if not fits:
        raise DataError(
            f"The loss of task {task.name!r} must return one value per label. Received: shape "
            f"{tuple(values.shape)} for labels of shape {('batch', *given)}. Let it not take the "
            "mean over the batch."
        )


def _label_shapes(loss, output):
    """The shapes that labels of one example may have; none where Keras' losses do not say."""
    free = isinstance(loss, keras.losses.CTC)  # its labels are shorter than its predictions
    if not type(loss).__module__.startswith("keras.") or free or not output:
        return ()
    declared = declared_axes(loss) or (-1,)
    axis = declared[0] if len(declared) == 1 else -1
    axis = (axis if axis < 0 else axis - 1) % len(output)
    return output, output[:axis] + output[axis + 1 :], (*output[:axis], 1, *output[axis + 1 :])


def _made_up(labels, *shapes):
    """Labels, predictions and so on of some examples, as many as no other axis has places."""
    count = next(n for n in itertools.count(2) if not any(n in shape for shape in shapes))
    label_type = getattr(labels, "dtype", np.dtype("float32")).name
    yield np.ones((count, *shapes[0]), label_type)
    yield np.full((count, *shapes[1]), 0.5, "float32")
    yield from (np.ones((count, *shape), "float32") for shape in shapes[2:])


def _check_class_weight(task, output, labels):
    """Refuses weights by class where a label has several classes at once."""
    binary = keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy
    shape = _shape(labels)
    several = isinstance(task.loss, binary) and shape is not None and output.shape[-1] != 1
    if task.class_weight and several and len(shape) == len(output.shape):
        raise DataError(
            f"`class_weight` of task {task.name!r} must have one class for every label. Received: "
            f"loss {task.loss.name!r} with {output.shape[-1]} outputs, each of which is a class. "
            "Use sample weights, or a task for each output."
        )


def _check_weights(task, output, labels, weights):
    """Tries sample weights on the loss of some made-up examples."""
    shapes = [_shape(labels), tuple(output.shape), _shape(weights)]
    if any(shape is None or None in shape[1:] for shape in shapes):
        return
    try:
        made_up = _made_up(labels, *(shape[1:] for shape in shapes))
        values, weight, _ = task.loss_per_label(*made_up)
        fits = tuple(values.shape) == tuple(weight.shape)
    except DataError:
        raise
    except Exception:  # as above
        fits = False
    if not fits:
        raise DataError(
            f"Sample weights of task {task.name!r} must be one number per example or per label. "
            f"Received: shape {shapes[2]} for labels of shape {shapes[0]}."
        )


def check_missing(task, output, labels, weights):
    """Looks at arrays of labels for examples that are missing in part where none may be.

    Where data are no arrays, or sizes are open, the step looks at every batch.
    """
    known = isinstance(labels, np.ndarray) and isinstance(weights, (np.ndarray, type(None)))
    if not known or None in output.shape[1:] or not len(labels):
        return
    _, predictions = _made_up(labels, labels.shape[1:], tuple(output.shape[1:]))
    task.check_missing(labels, predictions[:1], weights)


def _shape(array):
    shape = getattr(array, "shape", None)
    if shape is None:
        return None
    if hasattr(shape, "rank"):  # a TensorFlow shape, which may be unknown
        return None if shape.rank is None else tuple(shape.as_list())
    return tuple(shape)


def _fits(given, expected):
    if len(given) != len(expected):
        return False
    return all(a is None or b is None or a == b for a, b in zip(given, expected, strict=True))


def _describe(data):
    if isinstance(data, dict):
        return f"a dict with keys {list(data)}"
    shape = _shape(data)
    kind = type(data).__name__
    return f"{kind} of shape {shape}" if shape is not None else kind
