"""The rows of `history`, and what happens to them when an epoch ends."""

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
    """Tells the loss weighting how the epoch went, before any other callback sees it."""

    def on_epoch_end(self, epoch, logs=None):
        if not logs:
            raise DataError("The dataset must not be empty. Received: a dataset without batches.")
        losses = {task: float(logs[f"{task}_loss"]) for task in self.model.task_names}
        self.model.loss_weighting.epoch_ended(losses)
