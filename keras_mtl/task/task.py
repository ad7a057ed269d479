"""Task: name, head, loss, metrics and weight, and what counts as a missing label."""

from __future__ import annotations

import copy
import functools
import math
import numbers
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_mtl.errors import DataError
from keras_mtl.task import saved_parts
from keras_mtl.task.class_weights import checked_class_weight, weights_by_class
from keras_mtl.task.logits import check_logits
from keras_mtl.task.loss import (
    as_loss,
    declared_axes,
    excludes_by_zeros,
    takes_mask,
    values_of,
)
from keras_mtl.task.metric import as_metrics, fresh_metric, plain_number, takes_weights
from keras_mtl.task.presence import (
    filled,
    folded,
    masked_weight,
    partly,
    present_labels,
    reduced_axes,
    spread,
)
from keras_mtl.task.settings import settings_of

_RESERVED = {
    "serve": "the endpoint that computes every task",
    "serving_default": "the default endpoint of a SavedModel",
    "loss": "the total loss in `history`",
    "val": "the mark of validation results in `history`",
    "temperature": "the gates' temperature in `history`",
    **dict.fromkeys(("shared", "own", "skip"), "a choice of an architecture"),
    **dict.fromkeys(
        (
            "signatures",
            "variables",
            "trainable_variables",
            "non_trainable_variables",
            "graph_debug_info",
            "tensorflow_version",
            "tensorflow_git_version",
        ),
        "an attribute of a loaded SavedModel",
    ),
}


class Task:
    """One thing to predict from the shared features.

    Its loss is the mean over its *present* labels: a label is missing when it is NaN (in any of its
    channels), equal to `ignore` or the loss's `ignore_class`, masked in the predictions (by a layer
    such as `Embedding(mask_zero=True)`), or has weight 0. A batch without present labels has
    loss 0. With `reduction="mean_with_sample_weight"` the mean is over the weights.

    A loss that makes one value of several labels (of a picture, of a sequence) cannot be told
    afterwards that some of them are missing. `keras.losses.Dice` and `Tversky` leave missing labels
    out. So does a loss with a third argument `mask`, which gets 1.0 for present labels and 0.0 for
    missing ones (and all 1.0 in an example without any label, whose value is not used). With other
    losses, an example must have all of its labels or none.

    Args:
        name: string. Names the output, the labels, the endpoint and the rows of `history`.
        head: `keras.layers.Layer` or functional model, from features to predictions. Models clone
            it; the object given here is never changed.
        loss: Keras loss, its name, or a function `(y_true, y_pred) -> loss per label` or
            `(y_true, y_pred, mask) -> loss per example`.
        metrics: list of Keras metrics, names (`"accuracy"` follows the loss) or functions. They see
            which labels are present, and never sample weights. One whose `update_state` takes no
            `sample_weight` gets the examples that have labels.
        weight: float. Factor of the task's loss in the total; `model.set_task_weight` changes it
            while `fit` runs.
        ignore: number or `None`. A label value that means "missing", such as 255.
        inputs: string or `None`. Where tasks have data of their own: the name of the input set that
            this task reads, as in `keras_mtl.data.join_tasks`; tasks may share a set. `None`: all
            tasks read the same input.
        weighted_metrics: like `metrics`; they see the sample weights.
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

    A depth loss that does not mind the scale, over the pixels that were measured:

    >>> from keras import ops
    >>> def scale_invariant(y_true, y_pred, mask):
    ...     error = mask * (ops.log(y_pred) - ops.log(y_true))
    ...     count = ops.sum(mask, axis=(1, 2, 3))
    ...     mean = ops.sum(error, axis=(1, 2, 3)) / count
    ...     return ops.sum(error**2, axis=(1, 2, 3)) / count - mean**2
    >>> head = keras.layers.Conv2D(1, 1, activation="softplus")
    >>> task = keras_mtl.Task("depth", head, scale_invariant, ["mae"])
    """

    def __init__(
        self,
        name: str,
        head: keras.layers.Layer,
        loss: str | Callable[..., Any],
        metrics: Sequence[Any] = (),
        *,
        weight: float = 1.0,
        ignore: float | None = None,
        inputs: str | None = None,
        weighted_metrics: Sequence[Any] = (),
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        self.name = _check_name(name)
        if not isinstance(head, keras.layers.Layer):
            raise TypeError(
                f"`head` of task {name!r} must be a Keras layer or functional model. "
                f"Received: head={head!r}."
            )
        self.head = head
        self.loss = as_loss(loss, name)
        self._declared_axes = declared_axes(self.loss)
        self.metrics = as_metrics(metrics, self.loss, name)
        self.weighted_metrics = as_metrics(weighted_metrics, self.loss, name, "weighted_metrics")
        names = [metric.name for metric in self.all_metrics]
        if len(set(names)) != len(names) or "loss" in names:
            raise ValueError(
                f"`metrics` of task {name!r} must have different names, and none 'loss'. "
                f"Received: {names}."
            )
        chosen = isinstance(loss, keras.losses.Loss)
        check_logits(name, head, self.loss, self.all_metrics, chosen=chosen)
        if not isinstance(weight, numbers.Real) or not math.isfinite(weight) or weight < 0:
            raise ValueError(
                f"`weight` of task {name!r} must be a number of at least 0. "
                f"Received: weight={weight!r}."
            )
        self.weight = float(weight)
        self.ignore = ignore
        ignored = (ignore, settings_of(self.loss).get("ignore_class"))
        self._missing = [value for value in ignored if value is not None]
        self.inputs = _check_inputs(inputs, name)
        self.class_weight = checked_class_weight(class_weight, name)

    def __repr__(self):
        return f"<Task {self.name!r} loss={self.loss.name!r} head={self.head.name!r}>"

    @property
    def all_metrics(self) -> tuple[Any, ...]:
        """The metrics, then the weighted ones."""
        return (*self.metrics, *self.weighted_metrics)

    # Losses -------------------------------------------------------------------------------------

    def labels(self, y_true: Any, sample_weight: Any = None) -> tuple[Any, Any]:
        """Splits labels into values without holes, and a float mask of the present ones."""
        labels, present = present_labels(y_true, self._missing)
        if sample_weight is not None:
            rank = len(labels.shape)
            weight = spread(sample_weight, rank, self._weightless_axis(labels))
            present = ops.logical_and(present, ops.not_equal(weight, 0))
            labels = filled(labels, present)
        return labels, ops.cast(present, "float32")

    def loss_per_label(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        guard: Callable[..., Any] | None = None,
    ) -> tuple[Any, Any, Any]:
        """Returns the loss of every label, its weight, its presence (float32, one shape).

        Missing labels have weight and presence 0, and a loss that is finite.

        Args:
            y_true, y_pred, sample_weight: arrays or tensors of one batch.
            guard: function of a tensor and a boolean one; it returns the first, and sees to it that
                the step fails where the second is true. By default that is an error at once.

        Raises:
            DataError: when the loss gives no value per example, or one value for several labels of
                which only some are present.
        """
        labels, y_pred, present, weight = self._aligned(y_true, y_pred, sample_weight)
        try:
            values, mask = values_of(self.loss, labels, y_pred, present)
        except (TypeError, ValueError) as error:
            raise self.unfitting(y_true.shape[1:], y_pred.shape[1:], error) from error
        axes = self._axes_of_loss(labels.shape, y_pred.shape, values.shape, y_true)
        values = ops.cast(values, "float32")
        if self._needs_whole(labels.shape, y_pred.shape, axes):
            values = (guard or self._refuse_partly)(values, partly(present, axes))
        whole = excludes_by_zeros(self.loss) or takes_mask(self.loss)
        present = folded(present, values, axes, ops.max if whole else ops.min)
        if mask is not None:
            present = present * ops.cast(mask, "float32")
        weights = present
        if weight is not None:
            places = set(axes) - self._channel(labels.shape, y_pred.shape)
            weights = present * ops.cast(self._weight_of(weight, values, places), "float32")
        values = ops.where(present > 0, values, ops.zeros_like(values))
        return values, weights, present

    @property
    def is_mean_over_weights(self) -> bool:
        """Whether the loss is divided by the sum of the weights, not by the number of labels."""
        return self.loss.reduction == "mean_with_sample_weight"

    def unfitting(
        self, labels: Sequence, outputs: Sequence, error: Exception, metric: Any = None
    ) -> DataError:
        """The `DataError` of a loss or metric that fails on labels and outputs of some shapes."""
        kind, name = ("metric", metric.name) if metric else ("loss", self.loss.name)
        if isinstance(error, DataError):
            return error
        return DataError(
            f"The {kind} of task {self.name!r} must fit labels of shape {('batch', *labels)} and "
            f"outputs of shape {('batch', *outputs)}. Received: {kind} {name!r}, which says: "
            f"{str(error).strip().splitlines()[0]}"
        )

    def refusal(self, metric: int | None = None) -> str:
        """What there is to say of an example whose labels are missing in part.

        Args:
            metric: int or `None`. The number of the metric that cannot leave them out; `None`: it
                is the loss.
        """
        if metric is None:
            return (
                f"Labels of task {self.name!r} must be all present or all missing in an example, "
                f"since its loss {self.loss.name!r} gives one value for several labels. Received: "
                "an example with missing labels among present ones. Let the loss take a third "
                "argument `mask`, which is 1 for present labels, or use a loss per label."
            )
        name = self.all_metrics[metric].name
        return (
            f"Labels of task {self.name!r} must be all present or all missing in an example, since "
            f"its metric {name!r} cannot leave labels out. Received: an example with missing "
            "labels among present ones. Let its `update_state` take `sample_weight` per label."
        )

    def check_missing(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Looks at all labels of a training for those that are missing in part where none may be.

        Args:
            y_true, sample_weight: all labels, and their weights or `None`.
            y_pred: some prediction for one example.

        Raises:
            DataError: when the loss or a metric cannot leave them out, or none is left.
        """
        values, *_ = self.loss_per_label(y_true[:1], y_pred, guard=lambda tensor, _: tensor)
        labels, y_pred, present, _ = self._aligned(y_true, y_pred, sample_weight)
        one = (1, *labels.shape[1:])
        axes = self._axes_of_loss(one, y_pred.shape, values.shape, y_true)
        if self._needs_whole(one, y_pred.shape, axes) and partly(present, axes):
            raise DataError(self.refusal())
        channel = tuple(self._channel(labels.shape, y_pred.shape))
        places = ops.min(present, axis=channel) if channel else present
        inner = tuple(range(1, len(places.shape)))
        for i, metric in enumerate(self.metrics):
            if inner and not takes_weights(metric) and partly(places, inner):
                raise DataError(self.refusal(i))
        excludes = excludes_by_zeros(self.loss) or takes_mask(self.loss)
        if channel and not excludes:
            self._say_what_is_broken(ops.max(present, axis=channel), places)

    def _say_what_is_broken(self, some, every):
        """Some and all numbers of a label: it counts where all are there."""
        broken, whole, count = (int(ops.sum(x)) for x in (some - every, every, some))
        if broken and not whole:
            raise DataError(
                f"Labels of task {self.name!r} must be whole: one of several numbers counts as "
                f"missing where a number is missing. Received: {count} labels, none of which is "
                "whole. Make a task of each number, or let the loss take a third argument `mask`, "
                "which is 1 for present numbers."
            )
        if broken:
            warnings.warn(
                f"Task {self.name!r} does without {broken} of its {count} labels, of which some "
                "numbers are missing and others are there. Make a task of each number, or let the "
                "loss take a third argument `mask`, which is 1 for present numbers.",
                stacklevel=2,
            )

    def _aligned(self, y_true, y_pred, sample_weight):
        """Labels without holes, predictions and presence with axes that fit, and the weights."""
        if getattr(getattr(y_true, "shape", None), "rank", 0) is None:
            raise DataError(
                f"Labels of task {self.name!r} must have a known number of axes. Received: labels "
                "of unknown shape. Use `tf.ensure_shape`, or give the dataset a full signature."
            )
        y_true = ops.convert_to_tensor(y_true)
        sample_weight = masked_weight(sample_weight, y_pred, len(y_true.shape))
        labels, present = self.labels(y_true, sample_weight)
        y_pred = ops.convert_to_tensor(y_pred)
        weight = weights_by_class(self.class_weight, self.loss, labels, y_pred, sample_weight)
        ends = self._declared_axes in (None, (-1,), (len(y_pred.shape) - 1,))
        fewer = len(y_pred.shape) == len(labels.shape) + 1
        if fewer and y_pred.shape[-1] == 1 and (ends or len(self._declared_axes) > 1):
            labels, present = ops.expand_dims(labels, -1), ops.expand_dims(present, -1)
        return labels, y_pred, present, weight

    def _channel(self, labels, y_pred):
        """The axis that holds the channels of one label, in a set; empty for class numbers."""
        if len(labels) != len(y_pred) or len(labels) < 2:
            return set()
        declared = self._declared_axes
        single = declared is not None and len(declared) == 1
        return {declared[0] % len(labels) if single else len(labels) - 1}

    def _weightless_axis(self, labels):
        """Where weights of one axis less than labels get theirs."""
        declared = self._declared_axes
        if declared is None or len(declared) > 1:
            return -1
        classes = isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy)
        inside = -len(labels.shape) <= declared[0] < len(labels.shape)
        return declared[0] if inside and (not classes or labels.shape[declared[0]] == 1) else -1

    def _axes_of_loss(self, labels, y_pred, values, y_true):
        batches = {shape[0] for shape in (labels, y_pred) if shape[0] is not None}
        alone = len(values) == 0 or (values[0] is not None and values[0] not in batches)
        axes = None if alone else reduced_axes(labels, values, self._declared_axes)
        if axes is None:
            raise DataError(
                f"The loss of task {self.name!r} must return one value per label. Received: shape "
                f"{tuple(values)} for labels of shape {('batch', *y_true.shape[1:])}. Let it not "
                "take the mean over the batch."
            )
        return axes

    def _needs_whole(self, labels, y_pred, axes):
        """Whether a loss must have all labels of an example, because it mixes them."""
        if excludes_by_zeros(self.loss) or takes_mask(self.loss):
            return False
        return bool(set(axes) - self._channel(labels, y_pred))

    def _weight_of(self, weight, values, places):
        extra = ops.convert_to_tensor(weight).shape[len(values.shape) :]
        if places and any(size != 1 for size in extra):
            raise DataError(
                f"Sample weights of task {self.name!r} must be one number per example, since its "
                f"loss {self.loss.name!r} gives one value for several labels. Received: shape "
                f"{('batch', *weight.shape[1:])}. Mark missing labels by NaN or `ignore`."
            )
        return spread(weight, len(values.shape))

    def _refuse_partly(self, tensor, wrong, metric=None):
        if bool(wrong):
            raise DataError(self.refusal(metric))
        return tensor

    # Metrics ------------------------------------------------------------------------------------

    def update_metrics(
        self,
        metrics: Sequence[Any],
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        guard: Any = None,
    ) -> None:
        """Updates metric objects, from `new_metrics`, with the present labels only.

        Args:
            metrics: list of `TaskMetric`.
            y_true, y_pred, sample_weight: arrays or tensors of one batch.
            guard: as in `loss_per_label`, with the number of the metric as a third argument.
        """
        labels, y_pred, present, weight = self._aligned(y_true, y_pred, sample_weight)
        y_pred = ops.cast(y_pred, "float32")
        channel = tuple(self._channel(labels.shape, y_pred.shape))
        places = ops.min(present, axis=channel) if channel else present
        weights = places
        if weight is not None:
            weight = ops.cast(weight, "float32")
            same = len(weight.shape) == len(labels.shape) and weight.shape[-1] != 1
            weights = present * weight if same else places * spread(weight, len(places.shape))
        guard = guard or self._refuse_partly
        for i, metric in enumerate(metrics):
            check = functools.partial(guard, metric=i)
            try:
                metric.update_present(labels, y_pred, places, weights, check)
            except (TypeError, ValueError) as error:
                shapes = y_true.shape[1:], y_pred.shape[1:]
                raise self.unfitting(*shapes, error, metric) from error

    def new_metrics(self) -> list[Any]:
        """Fresh metric objects named `<task>_<metric>`, one set for each model."""
        return [
            fresh_metric(metric, f"{self.name}_{metric.name}", i >= len(self.metrics))
            for i, metric in enumerate(self.all_metrics)
        ]

    def results(self, logs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """The task's metrics in logs: metric -> value, a float or an array.

        A metric whose result is a dict has an entry `<metric>_<key>` for each of its keys.
        """
        found, names = {}, [metric.name for metric in self.all_metrics]
        for name in names:
            row = f"{prefix}{self.name}_{name}"
            parts = [key for key in logs if key == row] or [
                key
                for key in logs
                if key.startswith(f"{row}_")
                and key.removeprefix(f"{prefix}{self.name}_") not in names
            ]
            if not parts:
                raise KeyError(row)
            begin = len(f"{prefix}{self.name}_")
            found |= {key[begin:]: plain_number(logs[key]) for key in parts}
        return found

    def with_losses_of(self, other: Task) -> Task:
        """This task with the loss and the metrics of another, and with what it ignores."""
        task = copy.copy(other)
        task.head, task.weight, task.inputs = self.head, self.weight, self.inputs
        return task

    def reading(self, inputs: str | None) -> Task:
        """This task with another set of inputs."""
        task = copy.copy(self)
        task.inputs = inputs
        return task

    # Saving -------------------------------------------------------------------------------------

    def lost_parts(self) -> list[tuple[str, str, Any]]:
        """What could not be found when the task was loaded: a list of `(kind, name, config)`."""
        parts = [("loss", self.loss), *(("metric", metric) for metric in self.all_metrics)]
        lost = (saved_parts.LostLoss, saved_parts.LostMetric)
        return [(kind, part.name, part.config) for kind, part in parts if isinstance(part, lost)]

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "head": keras.saving.serialize_keras_object(self.head),
            "loss": saved_parts.to_config(self.loss),
            "metrics": [saved_parts.to_config(metric) for metric in self.metrics],
            "weight": self.weight,
            "ignore": self.ignore,
            "inputs": self.inputs,
            "weighted_metrics": [saved_parts.to_config(m) for m in self.weighted_metrics],
            # As pairs: JSON makes texts of the keys of a dict.
            "class_weight": self.class_weight and [list(x) for x in self.class_weight.items()],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes the task once more; a loss or metric that is not found is one that is lost.

        A model of such a task predicts, and says at `compile` what it lacks.
        """
        config = dict(config)
        config["head"] = keras.saving.deserialize_keras_object(config["head"])
        config["loss"] = saved_parts.loss_from_config(config["loss"])
        for part in ("metrics", "weighted_metrics"):
            config[part] = [saved_parts.metric_from_config(m) for m in config.get(part, ())]
        if config.get("class_weight") is not None:
            config["class_weight"] = dict(config["class_weight"])
        return cls(**config)


def task_configs(tasks):
    """The configurations of a model's tasks; warns of what cannot be found when it is loaded."""
    configs = [task.get_config() for task in tasks]
    lost, sources = [], {}
    for task, config in zip(tasks, configs, strict=True):
        parts = [config["loss"], *config["metrics"], *config["weighted_metrics"]]
        for i, (part, written) in enumerate(
            zip((task.loss, *task.all_metrics), parts, strict=True)
        ):
            if saved_parts.is_lost(written):
                kind = "metric" if i else "loss"
                lost.append((f"the {kind} {part.name!r} of task {task.name!r}", written))
                sources.setdefault(saved_parts.custom_name(written), []).append(part)
    for _, written in lost:
        made = sources.get(saved_parts.custom_name(written), ())
        if len({id(saved_parts.source_of(part)) for part in made}) > 1:
            written["shared"] = True  # one name in `custom_objects` cannot stand for several
    if lost:
        warnings.warn(
            f"The model is saved without {', '.join(name for name, _ in lost)}, which Keras cannot "
            "find again: it will load for predictions, and lack them at `compile`. Register them "
            "with `@keras.saving.register_keras_serializable()`, each under a name of its own and "
            "classes with `get_config`, or give them when loading, by `custom_objects` or "
            "`model.replace_losses(tasks)`.",
            stacklevel=2,
        )
    return configs


def check_tasks(tasks: Any) -> tuple[Task, ...]:
    """Returns the tasks as a tuple, or says what is wrong with them."""
    if isinstance(tasks, Task):
        tasks = [tasks]
    if isinstance(tasks, (str, bytes, Mapping)) or not isinstance(tasks, Iterable):
        raise TypeError(
            "`tasks` must be a list of `keras_mtl.Task` objects, or one. "
            f"Received: tasks={tasks!r}."
        )
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
