"""Task: name, head, loss, metrics and weight, and what counts as a missing label."""

import math
import numbers
import re

import keras
import numpy as np
from keras import ops

from keras_mtl.class_weights import checked_class_weight, weights_by_class
from keras_mtl.logits import check_logits

_RESERVED = {
    "serve": "the endpoint that computes every task",
    "serving_default": "the default endpoint of a SavedModel",
    "loss": "the total loss in `history`",
    "val": "the mark of validation results in `history`",
    "temperature": "the gates' temperature in `history`",
}
_ACCURACIES = {
    "SparseCategoricalCrossentropy": keras.metrics.SparseCategoricalAccuracy,
    "CategoricalCrossentropy": keras.metrics.CategoricalAccuracy,
    "CategoricalFocalCrossentropy": keras.metrics.CategoricalAccuracy,
    "BinaryCrossentropy": keras.metrics.BinaryAccuracy,
    "BinaryFocalCrossentropy": keras.metrics.BinaryAccuracy,
}


@keras.saving.register_keras_serializable("keras_mtl")
class FunctionLoss(keras.losses.Loss):
    """A loss function of `(y_true, y_pred)`, as an object with a configuration."""

    def __init__(self, function, name=None):
        super().__init__(name=name or getattr(function, "__name__", "loss"), reduction="none")
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)

    def get_config(self):
        return {"function": keras.saving.serialize_keras_object(self.function), "name": self.name}

    @classmethod
    def from_config(cls, config):
        function = keras.saving.deserialize_keras_object(config["function"])
        return cls(function, config["name"])


@keras.saving.register_keras_serializable("keras_mtl")
class FunctionMetric(keras.metrics.MeanMetricWrapper):
    """The mean of a function of `(y_true, y_pred)`, as a metric with a configuration."""

    def __init__(self, function, name=None):
        super().__init__(function, name=name or getattr(function, "__name__", "metric"))
        self.function = function

    def get_config(self):
        return {"function": keras.saving.serialize_keras_object(self.function), "name": self.name}

    @classmethod
    def from_config(cls, config):
        function = config["function"]
        if not callable(function):
            function = keras.saving.deserialize_keras_object(function)
        return cls(function, config["name"])


class Task:
    """One thing to predict from the shared features.

    Its loss is the mean over its *present* labels: a label is missing when it is NaN (in any of its
    channels), equal to `ignore`, or has weight 0. A batch without present labels has loss 0.

    Args:
        name: string. Names the output, the labels, the endpoint and the rows of `history`.
        head: `keras.layers.Layer` or functional model, from features to predictions. Models clone
            it; the object given here is never changed.
        loss: Keras loss, its name, or a function `(y_true, y_pred) -> loss per label`.
        metrics: list of Keras metrics, names (`"accuracy"` follows the loss) or functions.
        weight: float. Factor of the task's loss in the total; `model.set_task_weight` changes it
            while `fit` runs.
        ignore: number or `None`. A label value that means "missing", such as 255.
        inputs: string or `None`. Where tasks have data of their own: the name of the input set that
            this task reads, as in `keras_mtl.data.join_tasks`; tasks may share a set. `None`: all
            tasks read the same input.
        class_weight: dict from class number to a factor of the loss of its labels, or `None`; 1
            for classes that are not in it. The loss and weighted metrics see it as sample weights.

    Raises:
        TypeError, ValueError: when a part is of the wrong kind, or the name cannot be used.

    Example:

    >>> import keras, keras_mtl
    >>> task = keras_mtl.Task("depth", head=keras.layers.Dense(1), loss="mae", weight=2.0)
    >>> labels, present = task.labels([[1.0], [float("nan")]])
    >>> present.numpy().tolist()
    [[1.0], [0.0]]
    """

    def __init__(
        self,
        name,
        head,
        loss,
        metrics=(),
        *,
        weight=1.0,
        ignore=None,
        inputs=None,
        class_weight=None,
    ):
        self.name = _check_name(name)
        if not isinstance(head, keras.layers.Layer):
            raise TypeError(
                f"`head` of task {name!r} must be a Keras layer or functional model. "
                f"Received: head={head!r}."
            )
        self.head = head
        self.loss = _as_loss(loss, name)
        if isinstance(metrics, (str, keras.metrics.Metric)) or callable(metrics):
            metrics = [metrics]
        self.metrics = tuple(_as_metric(metric, self.loss, name) for metric in metrics)
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names) or "loss" in names:
            raise ValueError(
                f"`metrics` of task {name!r} must have different names, and none 'loss'. "
                f"Received: {names}."
            )
        chosen = isinstance(loss, keras.losses.Loss)
        check_logits(name, head, self.loss, self.metrics, chosen=chosen)
        if not isinstance(weight, numbers.Real) or not math.isfinite(weight) or weight < 0:
            raise ValueError(
                f"`weight` of task {name!r} must be a number of at least 0. "
                f"Received: weight={weight!r}."
            )
        self.weight = float(weight)
        self.ignore = ignore
        self.inputs = _check_inputs(inputs, name)
        self.class_weight = checked_class_weight(class_weight, name)

    def __repr__(self):
        return f"<Task {self.name!r} loss={self.loss.name!r} head={self.head.name!r}>"

    def labels(self, y_true, sample_weight=None):
        """Splits labels into values without holes, and a float mask of the present ones."""
        y_true = ops.convert_to_tensor(y_true)
        present = ops.ones_like(y_true, dtype="bool")
        floating = keras.backend.is_float_dtype(y_true.dtype)
        if floating:
            present = ops.logical_not(ops.isnan(y_true))
        if self.ignore is not None and _fits_type(self.ignore, y_true.dtype):
            ignore = ops.convert_to_tensor(self.ignore, dtype=y_true.dtype)
            present = ops.logical_and(present, ops.not_equal(y_true, ignore))
        if sample_weight is not None:
            given = ops.not_equal(_with_rank(sample_weight, len(y_true.shape)), 0)
            present = ops.logical_and(present, given)
        # 1 is inside the domain of losses with a logarithm or a quotient; integers are classes.
        fill = ops.ones_like(y_true) if floating else ops.zeros_like(y_true)
        return ops.where(present, y_true, fill), ops.cast(present, "float32")

    def loss_per_label(self, y_true, y_pred, sample_weight=None):
        """Returns the loss of every label, its weight, its presence (float32, one shape).

        Missing labels have weight and presence 0, and a loss that is finite.
        """
        return self._per_label(y_true, y_pred, sample_weight, self.class_weight)

    def _per_label(self, y_true, y_pred, sample_weight, class_weight):
        labels, present = self.labels(y_true, sample_weight)
        y_pred = ops.cast(y_pred, "float32")
        sample_weight = weights_by_class(class_weight, self.loss, labels, y_pred, sample_weight)
        if len(y_pred.shape) == len(labels.shape) + 1 and y_pred.shape[-1] == 1:
            labels, present = ops.expand_dims(labels, -1), ops.expand_dims(present, -1)
        if keras.backend.is_float_dtype(labels.dtype):
            labels = ops.cast(labels, "float32")
        values = ops.cast(self.loss.call(labels, y_pred), "float32")
        while len(present.shape) > len(values.shape):
            present = ops.min(present, axis=-1)
        weight = present
        if sample_weight is not None:
            weight = present * ops.cast(_with_rank(sample_weight, len(values.shape)), "float32")
        values = ops.where(present > 0, values, ops.zeros_like(values))
        return values, weight, present

    def update_metrics(self, metrics, y_true, y_pred, sample_weight=None):
        """Updates metric objects with the present labels only."""
        labels, _ = self.labels(y_true, sample_weight)
        y_pred = ops.cast(y_pred, "float32")
        if len(y_pred.shape) == len(labels.shape) + 1 and y_pred.shape[-1] == 1:
            labels = ops.expand_dims(labels, -1)
        _, weight, _ = self._per_label(y_true, y_pred, sample_weight, class_weight=None)
        for metric in metrics:
            metric.update_state(labels, y_pred, sample_weight=weight)

    def new_metrics(self):
        """Fresh metric objects named `<task>_<metric>`, one set for each model."""
        fresh = []
        for metric in self.metrics:
            name = f"{self.name}_{metric.name}"
            if isinstance(metric, FunctionMetric):  # its function needs no registration here
                fresh.append(FunctionMetric(metric.function, name))
            else:
                fresh.append(type(metric).from_config({**metric.get_config(), "name": name}))
        return fresh

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "head": serialize(self.head),
            "loss": serialize(self.loss),
            "metrics": [serialize(metric) for metric in self.metrics],
            "weight": self.weight,
            "ignore": self.ignore,
            "inputs": self.inputs,
            # As pairs: JSON makes texts of the keys of a dict.
            "class_weight": self.class_weight and [list(x) for x in self.class_weight.items()],
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("head", "loss", "metrics"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        if config["class_weight"] is not None:
            config["class_weight"] = dict(config["class_weight"])
        return cls(**config)


def check_tasks(tasks):
    """Returns the tasks as a tuple, or says what is wrong with them."""
    if isinstance(tasks, Task):
        tasks = [tasks]
    tasks = tuple(tasks)
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"`tasks` must hold `keras_mtl.Task` objects. Received: {task!r}.")
    names = [task.name for task in tasks]
    if not names or len(set(names)) != len(names):
        raise ValueError(
            f"`tasks` must be one or more tasks with different names. Received: names={names}."
        )
    inputs = {task.name: task.inputs for task in tasks}
    if None in inputs.values() and any(inputs.values()):
        raise ValueError(
            f"`inputs` must be given for all tasks or for none. Received: inputs={inputs}. "
            "Pass one name to all tasks that read the same data."
        )
    return tasks


def input_sets(tasks):
    """Task name -> the name of its own inputs, or `None` where all tasks read the same."""
    return {task.name: task.inputs for task in tasks}


def _check_name(name):
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name):
        raise ValueError(
            "`name` of a task must begin with a letter and have only letters, digits, '_', '.' "
            f"and '-', since it names an endpoint and rows of `history`. Received: name={name!r}."
        )
    if name in _RESERVED or name.startswith("val_"):
        why = _RESERVED.get(name, _RESERVED["val"])
        raise ValueError(
            f"`name` of a task must not be taken: {name!r} is {why}. Received: name={name!r}. "
            "Choose another name."
        )
    return name


def _check_inputs(inputs, name):
    if inputs is None:
        return None
    if not isinstance(inputs, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", inputs):
        raise ValueError(
            f"`inputs` of task {name!r} must begin with a letter and have only letters, digits and "
            f"'_', since it names a set of inputs, or be None. Received: inputs={inputs!r}."
        )
    return inputs


def _as_loss(loss, name):
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError as error:
            raise ValueError(
                f"`loss` of task {name!r} must be known to Keras. Received: loss={loss!r}."
            ) from error
    if isinstance(loss, keras.losses.Loss):
        return loss
    known = _class_of(loss, keras.losses, keras.losses.Loss)
    if known is not None:
        return known()
    if callable(loss):
        return FunctionLoss(loss)
    raise TypeError(
        f"`loss` of task {name!r} must be a Keras loss, its name, or a function of "
        f"(y_true, y_pred). Received: loss={loss!r}."
    )


def _as_metric(metric, loss, name):
    if metric in ("accuracy", "acc"):
        known = _ACCURACIES.get(type(loss).__name__)
        if known is None:
            raise ValueError(
                f"`metrics` of task {name!r}: 'accuracy' needs a crossentropy loss to know its "
                f"kind. Received: loss={loss.name!r}. Pass the metric object instead."
            )
        if known is keras.metrics.BinaryAccuracy:
            return known(
                name="accuracy", threshold=0.0 if loss.get_config()["from_logits"] else 0.5
            )
        return known(name="accuracy")
    if isinstance(metric, str):
        try:
            metric = keras.metrics.get(metric)
        except ValueError as error:
            raise ValueError(
                f"`metrics` of task {name!r} must be known to Keras. Received: {metric!r}."
            ) from error
        metric = _class_of(metric, keras.metrics, keras.metrics.Metric) or metric
    if isinstance(metric, type) and issubclass(metric, keras.metrics.Metric):
        return metric()
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if callable(metric):
        return FunctionMetric(metric)
    raise TypeError(
        f"`metrics` of task {name!r} must hold Keras metrics, names or functions. "
        f"Received: {metric!r}."
    )


def _fits_type(value, dtype):
    """Whether labels of a type can have a value; -1 in unsigned bytes would turn into 255."""
    dtype = keras.backend.standardize_dtype(dtype)
    return "float" in dtype or np.array(value).astype(dtype) == value


def _with_rank(tensor, rank):
    tensor = ops.convert_to_tensor(tensor)
    while len(tensor.shape) > rank:
        tensor = ops.squeeze(tensor, axis=-1)
    while len(tensor.shape) < rank:
        tensor = ops.expand_dims(tensor, -1)
    return tensor


def _class_of(function, module, base):
    """The class behind one of Keras' functions: "mae" gives `mean_absolute_error`."""
    for known in vars(module).values():
        if isinstance(known, type) and issubclass(known, base):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", known.__name__).lower()
            if name == getattr(function, "__name__", None):
                return known
    return None
