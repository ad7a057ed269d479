"""The rows of `history`, and what happens to them when an epoch ends."""

import math

import keras
from keras import ops

from keras_mtl.errors import DataError


class Rows:
    """The metric objects behind `history`; a plain object, so that Keras saves none of them.

    Args:
        loss: `keras.metrics.Mean`: of the steps' totals in training, of what layers and
            regularisers add in evaluation.
        tasks: dict from task to the `keras.metrics.Mean` of its loss over present labels.
        metrics: dict from task to its metrics.
        terms: dict from name to the mean of a term that only training has.
    """

    def __init__(self, loss, tasks, metrics, terms):
        self.loss = loss
        self.tasks = tasks
        self.metrics = metrics
        self.terms = terms

    def all(self):
        """Every metric object, for Keras to reset."""
        return [self.loss, *self._of_tasks(), *self.terms.values()]

    def results(self):
        """Name -> value of every row of training."""
        return _results(self.all())

    def of_evaluation(self, total):
        """Name -> value of the rows of an evaluation.

        Args:
            total: function of the tasks' mean losses, and of which of them are present (1 or 0),
                that returns their total.
        """
        means = {task: row.result() for task, row in self.tasks.items()}
        present = {
            task: ops.cast(ops.convert_to_tensor(row.count) > 0, "float32")
            for task, row in self.tasks.items()
        }
        loss = total(means, present) + self.loss.result()
        return {self.loss.name: loss, **_results(self._of_tasks())}

    def _of_tasks(self):
        return [*self.tasks.values(), *(m for found in self.metrics.values() for m in found)]


def _results(rows):
    """Name -> value; a result that is a dict has its own names, as in Keras."""
    found = {}
    for row in rows:
        result = row.result()
        found |= result if isinstance(result, dict) else {row.name: result}
    return found


class EpochEnd(keras.callbacks.Callback):
    """Tells the loss weighting how the epoch went, before any other callback sees it.

    Where tasks take turns, the rows of one that had none in the epoch become NaN.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._turns = self.model.turns()

    def on_epoch_end(self, epoch, logs=None):
        if not logs:
            raise DataError("The dataset must not be empty. Received: a dataset without batches.")
        _with_arrays(logs)
        now = self.model.turns()
        for task in self.model.tasks:
            if now and now[task.name] == self._turns[task.name]:
                # Keras says 0, which would be a perfect loss.
                names = ["loss", *task.results(logs)]
                logs.update(
                    {f"{task.name}_{n}": logs[f"{task.name}_{n}"] * math.nan for n in names}
                )
        losses = {task: float(logs[f"{task}_loss"]) for task in self.model.task_names}
        self.model.loss_weighting.epoch_ended(losses)


def _with_arrays(logs):
    """Turns results of several numbers from tensors into arrays."""
    for name, value in logs.items():
        if getattr(value, "shape", ()) != ():
            logs[name] = keras.ops.convert_to_numpy(value)
