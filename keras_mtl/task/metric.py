"""TaskMetric: a Keras metric as a row of `history`, which sees the present labels of a task."""

import inspect

import keras
from keras import ops

from keras_mtl.errors import DataError
from keras_mtl.task.loss import class_of
from keras_mtl.task.of_function import OfFunction
from keras_mtl.task.presence import partly, spread
from keras_mtl.task.settings import copied, settings_of, takes

_ACCURACIES = {
    "SparseCategoricalCrossentropy": keras.metrics.SparseCategoricalAccuracy,
    "CategoricalGeneralizedCrossEntropy": keras.metrics.SparseCategoricalAccuracy,
    "CategoricalCrossentropy": keras.metrics.CategoricalAccuracy,
    "CategoricalFocalCrossentropy": keras.metrics.CategoricalAccuracy,
    "BinaryCrossentropy": keras.metrics.BinaryAccuracy,
    "BinaryFocalCrossentropy": keras.metrics.BinaryAccuracy,
}


@keras.saving.register_keras_serializable("keras_mtl")
class FunctionMetric(OfFunction, keras.metrics.MeanMetricWrapper):
    """The mean of a function of `(y_true, y_pred)`, as a metric with a configuration."""

    def __init__(self, function, name=None):
        super().__init__(function, name=name or getattr(function, "__name__", "metric"))
        self.function = function

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = self.function(y_true, y_pred)
        if sample_weight is not None and len(values.shape) >= len(sample_weight.shape):
            # Where a label is missing the function may give NaN, which no weight of 0 takes away.
            given = spread(sample_weight, len(values.shape)) != 0
            values = ops.where(given, values, ops.zeros_like(values))
        keras.metrics.Mean.update_state(self, values, sample_weight)


class TaskMetric(keras.metrics.Metric):
    """A metric under the name of a row of `history`.

    Its result may be a number, an array, or a dict, whose entries become rows `<name>_<key>`.

    Args:
        metric: `keras.metrics.Metric`.
        name: string. The name of the row.
        weighted: bool. Whether it sees sample weights, or only which labels are present.
    """

    def __init__(self, metric, name, weighted=False):
        super().__init__(name=name)
        self.metric = metric
        self.weighted = weighted

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.metric.update_state(y_true, y_pred, sample_weight=sample_weight)

    def update_present(self, labels, y_pred, present, weight, guard):
        """Counts the present labels of a batch.

        Args:
            labels, y_pred: tensors; missing labels have some number.
            present: float tensor, 1 for every place whose label is there.
            weight: float tensor like `present`, 0 for missing labels.
            guard: function of a tensor and a boolean one that returns the first, and sees to it
                that the step fails where the second is true.
        """
        if not takes_weights(self.metric):
            return self._update_rows(labels, y_pred, present, guard)
        weight = weight if self.weighted else present
        if isinstance(self.metric, keras.metrics.IoU) and self.metric.sparse_y_true:
            # It wants a weight for every number.
            weight = spread(weight, len(labels.shape)) * ops.ones_like(labels, dtype="float32")
        if isinstance(self.metric, keras.metrics.IoU) and not self.weighted:
            weight = ops.cast(weight, self.metric.dtype)  # an integer type, by default
        if isinstance(self.metric, keras.metrics.PearsonCorrelation):
            # That of equal numbers is NaN, which no weight of 0 takes away.
            given = spread(present, len(labels.shape)) > 0
            rising = ops.arange(labels.shape[-1], dtype="float32")
            labels = ops.where(given, ops.cast(labels, "float32"), rising)
            y_pred = ops.where(given, y_pred, rising)
        try:
            self.metric.update_state(labels, y_pred, sample_weight=weight)
        except Exception as error:
            # One number for several labels, such as a correlation, takes no weights of labels.
            if not self._works_on_rows(labels, y_pred, present, guard):
                raise error
        return None

    def _works_on_rows(self, *arguments):
        try:
            self._update_rows(*arguments)
        except DataError:
            raise
        except Exception:
            return False
        return True

    def _update_rows(self, labels, y_pred, present, guard):
        """Hands on the examples that have labels, and no weights."""
        places = tuple(range(1, len(present.shape)))
        if places:
            y_pred = guard(y_pred, partly(present, places))
            present = ops.min(present, axis=places)
        some = ops.any(present > 0)
        # Most metrics make NaN of no examples, so they get one, and what they had comes back.
        first = ops.arange(ops.shape(present)[0]) == 0
        (rows,) = ops.nonzero(ops.where(some, present > 0, first))
        before = [(variable, ops.copy(variable)) for variable in self.metric.variables]
        self.metric.update_state(ops.take(labels, rows, 0), ops.take(y_pred, rows, 0))
        for variable, value in before:
            variable.assign(ops.where(some, variable, value))

    def result(self):
        result = self.metric.result()
        if isinstance(result, dict):
            return {f"{self.name}_{key}": value for key, value in result.items()}
        return result

    def reset_state(self):
        self.metric.reset_state()

    def get_config(self):
        metric = keras.saving.serialize_keras_object(self.metric)
        return {"metric": metric, "name": self.name, "weighted": self.weighted}


def as_metrics(metrics, loss, task, argument="metrics"):
    """Tuple of the Keras metrics of a task, from objects, classes, names or functions."""
    if isinstance(metrics, (str, keras.metrics.Metric)) or callable(metrics):
        metrics = [metrics]
    found = tuple(_as_metric(metric, loss, task, argument) for metric in metrics or ())
    deaf = [metric.name for metric in found if not takes_weights(metric)]
    if argument == "weighted_metrics" and deaf:
        raise ValueError(
            f"`weighted_metrics` of task {task!r} must take `sample_weight` in `update_state`. "
            f"Received: {deaf[0]!r}, which does not. Pass it in `metrics`."
        )
    return found


def fresh_metric(metric, name, weighted=False):
    """A `TaskMetric` of a metric object of its own.

    Where an object cannot be made once more it is used itself, as in Keras.
    """
    if isinstance(metric, FunctionMetric):  # its function needs no registration here
        return TaskMetric(FunctionMetric(metric.function, name), name, weighted)
    return TaskMetric(copied(metric, name=name) or metric, name, weighted)


def takes_weights(metric):
    """Whether a metric takes sample weights."""
    return takes(metric.update_state, "sample_weight") or any(
        p.kind is inspect.Parameter.VAR_KEYWORD
        for p in inspect.signature(metric.update_state).parameters.values()
    )


def plain_number(value):
    """A result of a metric as a float, or as an array where it has several numbers."""
    value = ops.convert_to_numpy(value)
    return float(value) if value.ndim == 0 else value


def _as_metric(metric, loss, task, argument):
    if isinstance(metric, str) and metric in ("accuracy", "acc"):
        return _accuracy(loss, task, argument)
    if isinstance(metric, str):
        try:
            metric = keras.metrics.get(metric)
        except ValueError as error:
            raise ValueError(
                f"`{argument}` of task {task!r} must be known to Keras. Received: {metric!r}."
            ) from error
        metric = class_of(metric, keras.metrics, keras.metrics.Metric) or metric
    if isinstance(metric, type) and issubclass(metric, keras.metrics.Metric):
        return metric()
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if callable(metric):
        return FunctionMetric(metric)
    raise TypeError(
        f"`{argument}` of task {task!r} must hold Keras metrics, names or functions. "
        f"Received: {metric!r}."
    )


def _accuracy(loss, task, argument):
    known = _ACCURACIES.get(type(loss).__name__)
    if known is None:
        raise ValueError(
            f"`{argument}` of task {task!r}: 'accuracy' needs a crossentropy loss to know its "
            f"kind. Received: loss={loss.name!r}. Pass the metric object instead."
        )
    if known is keras.metrics.BinaryAccuracy:
        threshold = 0.0 if settings_of(loss)["from_logits"] else 0.5
        return known(name="accuracy", threshold=threshold)
    return known(name="accuracy")
