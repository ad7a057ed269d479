"""CheckedModel: data for `fit`, `evaluate` and `predict`, looked at before anything moves."""

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl.callbacks.backup_and_resume import BackupAndResume
from keras_mtl.checks import check_dense
from keras_mtl.data.epoch_dataset import EpochDataset
from keras_mtl.data.joined_pass import JoinedPass
from keras_mtl.data.sampled_dataset import SampledDataset
from keras_mtl.errors import DataError
from keras_mtl.models import tensorflow_step
from keras_mtl.models.check_data import (
    check_batches,
    check_lengths,
    check_missing,
    check_not_empty,
    check_sets,
    check_task_sets,
)
from keras_mtl.models.history_rows import EpochEnd
from keras_mtl.models.identified_model import IdentifiedModel
from keras_mtl.models.labels import by_task, check_labels
from keras_mtl.models.set_data import for_prediction, for_training, is_by_set, once
from keras_mtl.report import say


class CheckedModel(IdentifiedModel):
    """A Keras model of tasks that takes data in many forms and refuses what does not fit.

    Subclasses have `tasks`, `input_sets`, `input_specs` and `output_specs`.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self._evaluating = False  # which rows Keras asks for after the last batch
        self._said_what_is_ignored = False

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        sample_weight: Any = None,
        epochs: int = 1,
        callbacks: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """`keras.Model.fit`, with the data checked first and interrupted runs continued.

        Args:
            x, y, sample_weight: arrays, or one dataset of `(x, y[, sample_weight])`; labels and
                weights are dicts by task name, or plain where the model has one task. (`predict`
                returns a dict in any case.) Labels of other tasks are ignored, and named once. Or
                `x` alone, where tasks have inputs of their own: a dict from input set to `(x, y)`
                or `(x, y, sample_weight)`, as `join_tasks` takes it.
            epochs: int.
            callbacks: list of Keras callbacks, or one; a `BackupAndResume` continues an interrupted
                run.
            **options: of `keras.Model.fit`. `validation_data` may also be a dict from input set to
                its data.

        Raises:
            DataError: before the first step, when data does not fit the tasks.
            NonFiniteError: when an input, the loss or a gradient is NaN; variables keep their last
                good values.
        """
        self._refuse_class_weight(options)
        if is_by_set(self, x, y):
            x = self.by_set(x, options, sample_weight)
        self.check_training_data(x, y, sample_weight)
        check_task_sets(self, getattr(x, "task_sets", None))
        x, y, sample_weight = self._own_part(x, y, sample_weight)
        validation = options.get("validation_data")
        if validation is not None:
            size = options.get("validation_batch_size") or getattr(x, "batch_size", None)
            options["validation_data"] = self._validation(validation, size)
        callbacks = _listed(callbacks)
        # Backups come last: they save what the other callbacks made of the epoch.
        callbacks.sort(key=lambda callback: isinstance(callback, BackupAndResume))
        with self.prepared(x, options), contextlib.ExitStack() as held:
            for backup in (c for c in callbacks if isinstance(c, BackupAndResume)):
                backup.begin(self, callbacks)
                held.callback(backup.release)
                first = epochs if backup.stopped else backup.next_epoch
                options["initial_epoch"] = max(options.get("initial_epoch", 0), first)
            return self._run(x, y, sample_weight, epochs, callbacks, options)

    def prepared(self, x: Any, options: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
        """A context in which the model trains on the data of `fit`, which have been checked."""
        return contextlib.nullcontext()

    def _run(self, x, y, sample_weight, epochs, callbacks, options):
        if y is None:
            options["shuffle"] = False  # a dataset is in its order already
        if isinstance(x, EpochDataset):
            # An epoch of fewer or more steps ends elsewhere in the data.
            steps = options.get("steps_per_epoch") or len(x)
            epoch, batch = divmod(options.get("initial_epoch", 0) * steps, len(x))
            options["steps_per_epoch"] = steps
            x = x.stream(epoch).skip(batch)
        with tensorflow_step.readable_errors(self):
            return super().fit(
                x,
                y,
                sample_weight=sample_weight,
                epochs=epochs,
                callbacks=[EpochEnd(), *callbacks],
                **options,
            )

    def check_training_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        """Raises `DataError` when the data of `fit` does not fit."""
        self.check_data(x, y, sample_weight)

    def by_set(self, data: Mapping[str, Any], options: dict[str, Any], sample_weight: Any) -> Any:
        """Data for `fit` from a dict from input set to its part, and `options` without theirs."""
        return for_training(self, data, options, sample_weight)

    def evaluate(
        self, x: Any = None, y: Any = None, *, sample_weight: Any = None, **options: Any
    ) -> Any:
        """`keras.Model.evaluate`; `x` alone may also be a dict by input set, as in `fit`."""
        if not options.get("_use_cached_eval_dataset"):
            size = options.pop("batch_size", None) if is_by_set(self, x, y) else None
            x = once(self, x, y, sample_weight, size)
            self.check_data(x, y, sample_weight)
            x, y, sample_weight = self._own_part(x, y, sample_weight)
        self._evaluating = True
        try:
            with tensorflow_step.readable_errors(self):
                return super().evaluate(x, y, sample_weight=sample_weight, **options)
        finally:
            self._evaluating = False

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, **options: Any
    ) -> Any:
        self._refuse_class_weight(options, "train_on_batch")
        self.check_training_data(x, y, sample_weight)
        batch = map(_tensors, self._own_part(x, y, sample_weight))
        with tensorflow_step.readable_errors(self):
            return super().train_on_batch(*batch, **options)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, **options: Any
    ) -> Any:
        self.check_data(x, y, sample_weight)
        batch = map(_tensors, self._own_part(x, y, sample_weight))
        with tensorflow_step.readable_errors(self):
            return super().test_on_batch(*batch, **options)

    def predict(self, x: Any, batch_size: int | None = None, **options: Any) -> dict[str, Any]:
        """`keras.Model.predict`; a dict from task to the predictions.

        Where tasks have inputs of their own, a task has as many predictions as its set has
        examples.

        Args:
            x: array or arrays, or a dataset. Where tasks have inputs of their own: a dict from
                input set to `x`, or to `(x, y)` as in `evaluate`. Where sets are missing, only the
                tasks that depend on none of them are predicted.
            batch_size: int or `None`.
            **options: of `keras.Model.predict`.
        """
        check_dense(getattr(x, "element_spec", x))
        if is_by_set(self, x):
            x, batch_size = for_prediction(self, x, batch_size), None
        elif None not in self.input_specs and (hasattr(x, "shape") or isinstance(x, (list, tuple))):
            check_sets(self, x)
        data = once(self, x)
        if isinstance(data, JoinedPass):
            data = data.of_sets(self.input_specs)
            check_sets(self, dict.fromkeys(data.num_examples), all_needed=False)
            x = data.batches()
        with tensorflow_step.readable_errors(self):
            found = super().predict(x, batch_size=batch_size, **options)
        if not isinstance(data, JoinedPass):
            return found
        sizes = {task: data.num_examples[self.input_sets[task]] for task in found}
        return {task: outputs[: sizes[task]] for task, outputs in found.items()}

    def check_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        """Raises `DataError` when arrays or a dataset do not fit the tasks."""
        if is_by_set(self, x, y):
            x = once(self, x, y, sample_weight)
        if y is not None:
            check_dense((x, y, sample_weight))
            y, sample_weight = by_task(self.tasks, y, sample_weight)
            check_lengths(x, y, sample_weight)
            arrays = (x, y) if sample_weight is None else (x, y, sample_weight)
            arrays = keras.tree.map_structure(_as_array, arrays)
            check_batches(self, arrays)
            for task in self.tasks:
                weight = arrays[2].get(task.name) if len(arrays) == 3 else None
                rows = self.output_specs[task.name], arrays[1][task.name], weight
                check_labels(task, *rows)
                check_missing(task, *rows)
        elif hasattr(x, "element_spec"):
            check_not_empty(x)
            check_batches(self, x.element_spec)
        elif isinstance(x, dict) and any(isinstance(part, tuple) for part in x.values()):
            name = self.task_names[0]
            raise DataError(
                "Tasks must have inputs of their own where data are a dict from input set to "
                "`(x, y)`. Received: such a dict, and tasks that all read the same. Name the sets: "
                f"`Task({name!r}, ..., inputs={next(iter(x))!r})`."
            )
        elif x is None or hasattr(x, "shape") or isinstance(x, (dict, list, tuple)):
            raise DataError(
                "`fit` needs labels: `fit(x, y)` with a dict of labels by task, or a dataset of "
                "`(x, y)`. Received: inputs alone."
            )

    def _validation(self, data, batch_size):
        """The validation data that Keras is to get, once they are found to fit."""
        data = once(self, data, batch_size=batch_size)
        parts = data if isinstance(data, (tuple, list)) else (data,)
        self.check_data(*parts)
        own = self._own_part(*parts)
        return tuple(part for part in own if part is not None) if own[1] is not None else own[0]

    def _own_part(self, x, y=None, sample_weight=None):
        """Data without what belongs to tasks that are not the model's."""
        if y is not None:
            y, sample_weight = by_task(self.tasks, y, sample_weight)
            y = {task: y[task] for task in self.task_names}
            return x, y, _every_weight(y, sample_weight)
        if isinstance(x, SampledDataset):
            return x.of_tasks(self.task_names), None, sample_weight
        if isinstance(x, (EpochDataset, JoinedPass)):
            x = x.of_sets(self.input_specs)
        return x.batches() if isinstance(x, JoinedPass) else x, None, sample_weight

    def ignore(self, labels: Collection[str], sets: Collection[str] = ()) -> None:
        """Says, once, what of the data belongs to tasks that are not the model's."""
        if self._said_what_is_ignored or not (labels or sets):
            return
        self._said_what_is_ignored = True
        found = [f"labels of {list(labels)}"] if labels else []
        found += [f"inputs of {list(sets)}"] if sets else []
        say(f"Ignored: {' and '.join(found)}. The model has the tasks {list(self.task_names)}.")

    def _refuse_class_weight(self, options, where="fit"):
        if options.get("class_weight") is not None:
            raise ValueError(
                "`class_weight` must be given to the task: `keras_mtl.Task(..., "
                f"class_weight={{0: 1.0, 1: 5.0}})`. Received: class_weight in `{where}`."
            )


def _listed(callbacks):
    """The callbacks of `fit` as a list; it takes one of them, too, as Keras does."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        raise TypeError(
            "`callbacks` must be a list of Keras callbacks, or one. Received: a `CallbackList`, "
            "whose model is set already. Pass its `callbacks`."
        )
    callbacks = [c for c in keras.tree.flatten(callbacks) if c is not None]
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                f"`callbacks` must be a list of Keras callbacks, or one. Received: {callback!r}."
            )
    return callbacks


def _every_weight(y, sample_weight):
    """Gives tasks without sample weights the weight 1: Keras wants an array for every output."""
    if y is None or sample_weight is None:
        return sample_weight
    given = {task: weight for task, weight in sample_weight.items() if weight is not None}
    return {task: given.get(task, np.ones(len(labels), "float32")) for task, labels in y.items()}


def _tensors(batch):
    return None if batch is None else keras.tree.map_structure(ops.convert_to_tensor, batch)


def _as_array(x):
    return x if hasattr(x, "shape") else np.asarray(x)
