"""Training in which tasks take turns: every step is one task's alone."""

import contextlib

import keras
from keras import ops

from keras_mtl.models import tensorflow_step
from keras_mtl.models.check_data import ACCURACY
from keras_mtl.report import say


class TaskSteps:
    """What a `MultiTaskModel` needs to let its tasks take turns.

    Every task has a network of its path alone, an optimizer, a traced train function and a stream
    of batches. Whose turn a step is follows from the data's rule and from what the model holds: the
    steps of every task so far, and the running training accuracies.

    It stands in the place of Keras' train function while `fit` runs.

    Args:
        model: `MultiTaskModel`.
    """

    def __init__(self, model):
        self.model = model
        self.data = None  # a `SampledDataset` while `fit` runs
        self._verbose = False
        self._networks = {}
        self._functions = {}
        self._iterators = {}
        self._measures = {}
        self._observed = None

    # State -----------------------------------------------------------------------------------

    def counts(self):
        """Task -> the number of its steps so far."""
        return self._by_task(self.model.turn_counts)

    def accuracies(self):
        """Task -> its running training accuracy; 0 until it has been followed."""
        return self._by_task(self.model.turn_accuracies)

    def _by_task(self, variable):
        values = tensorflow_step.read_now(variable).tolist()
        return dict(zip(self.model.task_names, values, strict=True))

    def network(self, task):
        """The functional model of one task's path and head."""
        if task not in self._networks:
            self._networks[task] = self.model.task_network(task)
        return self._networks[task]

    def variables(self, task):
        """The trainable variables that a step of a task may move."""
        return [
            *self.network(task).trainable_variables,
            *self.model.loss_weighting.trainable_variables,
        ]

    def make_optimizers(self):
        """Gives every task an optimizer like the model's, over the variables of its path."""
        optimizers = {}
        with self.model.distribute_strategy.scope():
            for task in self.model.task_names:
                optimizers[task] = optimizer = optimizer_like(self.model.optimizer)
                optimizer.build(self.variables(task))
        self.model.task_optimizers = optimizers

    # Fit -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def taking_turns(self, data, verbose):
        """While it lasts, the model's train function makes steps of one task."""
        model = self.model
        self.data, self._verbose = data, verbose
        if not model.task_optimizers:
            self.make_optimizers()
        if data.needs_accuracies:
            with model.distribute_strategy.scope():
                self._measures = {task.name: _accuracy(task) for task in model.tasks}
        joint, model.train_function = model.train_function, self
        try:
            yield
        finally:
            model.train_function = joint
            self.data = None
            self._iterators = {}  # they hold memory, and have read ahead

    def __call__(self, clock):
        data = self.data
        step = sum(self.counts().values())
        task = data.task_at(step, self.accuracies() if data.needs_accuracies else None)
        function, iterator = self._function(task), self._iterator(task)
        self.model.step_task = task
        try:
            return function(iterator)
        finally:
            self.model.step_task = None

    def _function(self, task):
        # The decay is a number in the traced graph.
        key = task, self.data.needs_accuracies and self.data.decay
        if key not in self._functions:
            if self._verbose:
                say(f"Tracing the step of task {task!r} ...")
            self.network(task)
            self.model.make_train_function(force=True)
            self._functions[key] = self.model.train_function
            self.model.train_function = self
        return self._functions[key]

    def _iterator(self, task):
        if task not in self._iterators:
            batches = self.data.stream(task, self.counts()[task])
            distribute = self.model.distribute_strategy.experimental_distribute_dataset
            self._iterators[task] = iter(distribute(batches))
        return self._iterators[task]

    # The traced step -------------------------------------------------------------------------

    def train_step(self, data):
        """One update of what the task uses; traced once for every task."""
        model, task = self.model, self.model.step_task
        (batch,) = tensorflow_step.checked(model, [data])
        layers = [layer for layer in self.network(task).layers if layer.trainable]
        loss = tensorflow_step.update(
            model,
            batch,
            self.variables(task),
            model.task_optimizers[task],
            [v for layer in layers for v in layer.non_trainable_weights],
            scales=model.step_scales(),
        )
        own = [float(name == task) for name in model.task_names]
        # The model's optimizer only counts: learning-rate schedules go by the steps of all tasks.
        tensorflow_step.advance(model.optimizer.iterations, loss)
        tensorflow_step.advance(model.turn_counts, loss, own)
        if self.data.needs_accuracies:
            change = (1.0 - self.data.decay) * self._surprise(ops.convert_to_tensor(own, "float32"))
            tensorflow_step.advance(model.turn_accuracies, loss, change)
        return model.get_metrics_result()

    def observe(self, y, y_pred, sample_weight):
        """Measures the accuracy of the step's batch, where the turns depend on it."""
        if not self.data.needs_accuracies:
            return
        (task,) = self.model.step_tasks()
        labels = y[task.name], y_pred[task.name], (sample_weight or {}).get(task.name)
        metric = self._measures[task.name]
        metric.reset_state()
        task.update_metrics([metric], *labels)
        _, _, present = task.loss_per_label(*labels)
        self._observed = metric.result(), ops.sum(present)

    def _surprise(self, own):
        """How far the batch's accuracy lies from the running one; 0 where nothing was measured."""
        accuracy, count = self._observed
        right = ops.cast(accuracy, "float32") * count
        right, count = map(tensorflow_step.summed_over_replicas, (right, count))
        found = right / ops.maximum(count, 1.0) - self.model.turn_accuracies
        return own * ops.minimum(count, 1.0) * found


def optimizer_like(main):
    """A new optimizer with the settings of `main`, and always its learning rate."""
    if isinstance(main, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(
            optimizer_like(main.inner_optimizer),
            initial_scale=main.initial_scale,
            dynamic_growth_steps=main.dynamic_growth_steps,
        )
    settings = {**main.get_config(), "learning_rate": lambda: main.learning_rate}
    copy = type(main).from_config(settings)
    # `exclude_from_weight_decay` leaves no trace in the configuration.
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(main, name):
            setattr(copy, name, getattr(main, name))
    return copy


def _accuracy(task):
    return next(m for m in task.new_metrics() if m.name == f"{task.name}_{ACCURACY}")
