"""The rows of `history`, and what happens to them when an epoch ends."""

import math

import keras

from keras_mtl.errors import DataError


class Rows:
    """The metric objects behind `history`; a plain object, so that Keras saves none of them."""

    def __init__(self, loss, tasks, metrics, terms):
        self.loss = loss
        self.tasks = tasks
        self.metrics = metrics
        self.terms = terms

    def of_evaluation(self):
        return [self.loss, *self.tasks.values(), *(m for ms in self.metrics.values() for m in ms)]

    def all(self):
        return [*self.of_evaluation(), *self.terms.values()]


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
