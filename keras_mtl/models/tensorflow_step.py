"""The part of training that needs TensorFlow: gradients of one group, checks in the step."""

import contextlib
import numbers
import re
import types
import typing

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.errors import DataError, NonFiniteError
from keras_mtl.models import labels

INFINITE = int(tf.data.INFINITE_CARDINALITY)

_MARK = "keras_mtl found a non-finite value: "
_PARTLY = "keras_mtl found labels that are missing in part: "
_UNKNOWN = "keras_mtl found an unknown label of the task "


def check_backend():
    """Refuses to train on another backend of Keras than TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "Training needs Keras' TensorFlow backend. "
            f"Received: keras.backend.backend()={backend!r}. Set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported."
        )


def update(
    model,
    batch,
    variables,
    optimizer,
    statistics,
    *,
    move_statistics=True,
    extra=None,
    scales=types.MappingProxyType({}),
):
    """Moves one group of variables by one batch; returns the loss.

    Only the group's own gradients are computed. Nothing is moved when the loss or a gradient is not
    finite.

    Args:
        model: `TaskModel`.
        batch: `Batch`, from `checked`.
        variables: list of variables to move.
        optimizer: Keras optimizer.
        statistics: list of the variables that a forward pass moves.
        move_statistics: bool. Whether they move, or keep their values.
        extra: function that returns a scalar to add to the loss, or `None`.
        scales: mapping from `id(variable)` to a factor of what the optimizer, momentum and weight
            decay would change: a number, or an array or variable that broadcasts to it. 0 keeps a
            value bit for bit; with the number 0 or an array of zeros no gradient is computed.
    """
    variables = [v for v in variables if not _is_number(scales.get(id(v)), 0.0)]
    values = [variable.value for variable in variables]
    before = _values(statistics)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for value in values:
            tape.watch(value)
        y_pred = model(batch.x, training=True)
        loss = model.compute_loss(
            batch.x, batch.y, y_pred, batch.sample_weight, training=True, examples=batch.examples
        )
        total = loss
        if extra is not None:
            # Gradients are summed over replicas; what is added is one for all of them.
            total = total + extra() / replicas()
        scaled = optimizer.scale_loss(total)
    # The statistics wait for the checks too: they go back to what they were, and on afterwards.
    after = _values(statistics)
    if batch.empty is not None:
        after = [tf.where(batch.empty, b, a) for a, b in zip(after, before, strict=True)]
    _assign(statistics, before)
    gradients = tape.gradient(scaled, values)
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    with tf.control_dependencies(_values(statistics)):
        checks = [_finite(total, "the loss")]
        if pairs and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            # Loss scaling meets infinite gradients on purpose, and leaves them out by itself.
            norm = tf.add_n([tf.reduce_sum(tf.cast(_dense(g), tf.float32)) for g, _ in pairs])
            checks.append(_finite(norm, "a gradient"))
    with tf.control_dependencies(checks):
        pairs = [(tf.identity(_dense(g)), v) for g, v in pairs]
        if move_statistics:
            _assign(statistics, [tf.identity(value) for value in after])
        partly = [v for _, v in pairs if not _is_number(scales.get(id(v), 1.0), 1.0)]
        before = _values(partly)
        # Inside, so that iterations are not counted where there is no batch or a check fails.
        _apply(optimizer, [g for g, _ in pairs], [v for _, v in pairs])
        _scale_updates(partly, before, [scales[id(v)] for v in partly])
        return tf.identity(loss)


def _apply(optimizer, gradients, variables):
    """Lets the optimizer move the variables.

    Without a distribution there is nothing to reduce. Reducing all the same would keep the traced
    graph, with all that it captures, in TensorFlow's registry of custom gradients for good. (Keras'
    loss scaling insists on a place where it could be reduced.)
    """
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if tf.distribute.has_strategy() or scaled:
        optimizer.apply(gradients, variables)
        return
    context = tf.distribute.get_replica_context()
    context.merge_call(lambda strategy: optimizer.apply(gradients, variables))


def _scale_updates(variables, old, scales):
    """Lets every variable go only as far from its old value as its scale says."""

    def blend(variable, before, scale):
        new = tf.convert_to_tensor(variable)
        factor = tf.cast(scale, new.dtype)
        moved = tf.where(tf.equal(factor, 1), new, before + factor * (new - before))
        # 0 keeps the value even where the optimizer has made it infinite.
        variable.assign(tf.where(tf.equal(factor, 0), before, moved))

    def blend_all(strategy, old):
        for variable, before, scale in zip(variables, old, scales, strict=True):
            strategy.extended.update(variable.value, blend, args=(before, scale), group=False)

    if variables:
        tf.distribute.get_replica_context().merge_call(blend_all, args=(old,))


def _is_number(scale, number):
    """Whether a scale is one known number all over.

    An array of zeros must not come into the graph: TensorFlow folds the choice that it makes, and
    then sometimes puts the old value back before the optimizer moves it (seen with 2.21).
    """
    known = isinstance(scale, (numbers.Real, np.ndarray))
    return known and bool(np.all(np.equal(scale, number)))


def _values(variables):
    return [tf.identity(variable.value) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _dense(gradient):
    return tf.convert_to_tensor(gradient)


def _finite(tensor, what):
    return tf.debugging.Assert(
        tf.reduce_all(tf.math.is_finite(tensor)), [_MARK + what], summarize=1, name="finite"
    )


def unless_partly_missing(tensor, wrong, metric=None, *, task):
    """Hands a tensor on, and lets the step fail where labels are missing in part.

    Args:
        tensor: what the rest of the step depends on.
        wrong: boolean tensor.
        metric: int or `None`. The number of the metric that cannot leave labels out; `None`: it is
            the loss.
        task: `Task`.
    """
    if tf.executing_eagerly():
        if wrong:
            raise DataError(task.refusal(metric))
        return tensor
    mark = f"{_PARTLY}{task.name}:{'' if metric is None else metric};"
    check = tf.debugging.Assert(tf.logical_not(wrong), [mark], summarize=1, name="whole")
    with tf.control_dependencies([check]):
        return tf.identity(tensor)


class Batch(typing.NamedTuple):
    """What a step is made on.

    Args:
        x: inputs.
        y: dict from task to labels.
        sample_weight: dict from task to weights, or `None`.
        empty: truth value, a tensor, of whether this replica of a distributed step has no example
            and `x` is made up; `None` without distribution.
    """

    x: typing.Any
    y: typing.Any
    sample_weight: typing.Any
    empty: typing.Any = None

    @property
    def examples(self):
        """The number of examples, without the made-up one."""
        rows = tf.shape(tf.nest.flatten(self.x)[0])[0]
        return rows if self.empty is None else rows - tf.cast(self.empty, rows.dtype)

    def after(self, checks):
        """The batch, whose inputs wait for checks."""
        with tf.control_dependencies(checks):
            return self._replace(x=tf.nest.map_structure(tf.identity, self.x))


def checked(model, batches):
    """Hands batches on, as `Batch`, when inputs are finite and class numbers are known."""
    batches = [_never_empty(model, batch) for batch in batches]
    inputs = [tensor for batch in batches for tensor in tf.nest.flatten(batch.x)]
    checks = [_finite(x, "the input") for x in inputs if x.dtype.is_floating]
    checks += [check for batch in batches for check in _known(model, batch)]
    return [batch.after(checks) for batch in batches]


def with_known_labels(model, data):
    """Hands a batch on, as `Batch`, when its class numbers are known."""
    batch = _never_empty(model, data)
    return batch.after(_known(model, batch))


def _never_empty(model, data):
    """The `Batch` of one replica, with a row of weight 0 where it has no example.

    A last batch may be smaller than the number of replicas. Means over no example, such as those of
    normalization layers, are NaN; a row that does not count leaves loss, metrics and gradients to
    the replicas that have examples.
    """
    batch = keras.utils.unpack_x_y_sample_weight(data)
    x, y, sample_weight = labels.batch_by_task(model.step_tasks(), batch)
    if replicas() == 1:
        return Batch(x, y, sample_weight)
    rows = tf.shape(tf.nest.flatten(x)[0])[0]
    empty = tf.equal(rows, 0)
    added = tf.cast(empty, rows.dtype)

    def filled(tensor):
        more = tf.zeros(tf.concat([added[None], tf.shape(tensor)[1:]], 0), tensor.dtype)
        return tf.ensure_shape(tf.concat([tensor, more], 0), (None, *tensor.shape[1:]))

    given = sample_weight or {}
    weights = {task: given.get(task, tf.ones(rows[None])) for task in y}
    return Batch(*tf.nest.map_structure(filled, (x, y, weights)), empty)


def _known(model, batch):
    """Checks that labels are in the range of their tasks' losses; a GPU would make NaN of them."""
    checks = []
    for task in model.step_tasks():
        limits = labels.label_range(task, model.output_specs[task.name])
        if limits is None or not isinstance(batch.y, dict) or task.name not in batch.y:
            continue
        weight = (batch.sample_weight or {}).get(task.name)
        values, wrong = labels.wrong_labels(task, batch.y[task.name], weight, limits)
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        found = tf.where(low < 0, low, high)
        mark = f"{_UNKNOWN}{task.name}:"
        checks.append(tf.debugging.Assert(~tf.reduce_any(wrong), [mark, found], name="known"))
    return checks


def replicas():
    """The number of replicas of a distributed step; 1 without distribution."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replicas_of(model):
    """The number of replicas that a model is trained on."""
    return model.distribute_strategy.num_replicas_in_sync


def summed_over_replicas(tensor):
    """The sum of a tensor over the replicas of a distributed step."""
    context = tf.distribute.get_replica_context()
    if context is None or replicas() == 1:
        return tensor
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def advance(step, loss, by=1):
    """Counts a step, but only when there was a batch to compute a loss from.

    Keras' last, empty call of a dataset of unknown length runs everything that does not depend on
    the batch.
    """
    with tf.control_dependencies([loss]):
        step.assign(step + tf.cast(tf.identity(by), step.dtype))


def read_now(variable):
    """A variable's value as an array, even inside a function that is being traced."""
    with tf.init_scope():
        return variable.numpy()


def as_numbers(results):
    """Results of metrics with scalars as floats; as they are in a function that is being traced.

    Older versions of Keras hand on to the user what they get.
    """
    if not tf.executing_eagerly():
        return results
    return {name: x if np.ndim(x) else float(x) for name, x in results.items()}


@contextlib.contextmanager
def readable_errors(model):
    """Turns TensorFlow's reports of failed checks and of short data into one sentence."""
    try:
        yield
    except TypeError as error:
        if "output_signature" not in str(error):
            raise
        raise DataError(
            "Batches of a generator or a `PyDataset` must hold arrays, in dicts where they are "
            "several. Received: a list. Give `(x, {task: y})`, and `np.asarray(list)`."
        ) from None
    except tf.errors.FailedPreconditionError as error:
        counts = re.search(r"expected to contain (\d+) elements but contained \D*(\d+)", str(error))
        if counts is None:
            raise
        raise DataError(
            f"The dataset must have the {counts[1]} batches that it says it has, every time that "
            f"it is read. Received: {counts[2]} batches. Give a generator that begins anew "
            "whenever it is called, or check `assert_cardinality`."
        ) from None
    except tf.errors.InvalidArgumentError as error:
        message = str(error)
        if found := re.search(_PARTLY + r"([\w.-]+):(\d*);", message):
            (task,) = [task for task in model.tasks if task.name == found[1]]
            raise DataError(task.refusal(int(found[2]) if found[2] else None)) from None
        if "operation AddN" in message and replicas_of(model) > 1:
            # Keras takes the mean of the replicas' first examples to see what they are like.
            raise DataError(
                f"The first batch must divide evenly among the {replicas_of(model)} replicas. "
                "Received: one that does not. Use a batch size that is a multiple of "
                f"{replicas_of(model)} and not larger than the data."
            ) from None
        if found := re.search(_UNKNOWN + r"([\w.-]+):\D*?(-?\d[\d.]*(?:e[-+]?\d+)?)", message):
            (task,) = [task for task in model.tasks if task.name == found[1]]
            output = model.output_specs[task.name]
            raise DataError(labels.refusal(task, float(found[2]), output)) from None
        if _MARK not in message:
            raise
        what = message.split(_MARK, 1)[1].split("'")[0].split("\n")[0].strip(" ]")
        raise NonFiniteError(
            f"Training stopped: {what} has become NaN or infinite. The variables of model "
            f"{model.name!r} keep their last good values. Clean the data (labels may be NaN, "
            "inputs may not), or lower the learning rate."
        ) from None


def count_batches(dataset):
    """The number of elements, by reading the dataset once."""
    return int(dataset.reduce(np.int64(0), lambda count, _: count + 1))


def with_cardinality(dataset, length):
    """The dataset with a known length."""
    return dataset.apply(tf.data.experimental.assert_cardinality(length))
