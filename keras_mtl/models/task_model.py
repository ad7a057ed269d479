"""TaskModel: what every multi-task model does with losses, metrics and labels, by task name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_mtl.errors import suggestion
from keras_mtl.models import loss_weighting as weighting
from keras_mtl.models import tensorflow_step
from keras_mtl.models.check_data import check_names, check_nothing_lost, check_sets
from keras_mtl.models.checked_model import CheckedModel
from keras_mtl.models.history_rows import Rows
from keras_mtl.models.identity import of_object, of_optimizers, of_tasks
from keras_mtl.models.inner_layers import inner_layers
from keras_mtl.models.multipliers import factors_of
from keras_mtl.models.optimizers import check_optimizers
from keras_mtl.task import check_tasks, input_sets

if TYPE_CHECKING:
    from keras_mtl.models.loss_weighting import LossWeighting
    from keras_mtl.task import Task


class TaskModel(CheckedModel):
    """A Keras model with one output per task, trained by the tasks' own losses and metrics.

    Labels, sample weights and outputs are dicts by task name; there is no routing by position. The
    loss of a task is the mean over its present labels and 0 where none is present; the total is
    their sum by the task weights and the loss weighting. `history` has a row for every term.

    The row `loss` of an evaluation is the total of the tasks' rows, so that it does not depend on
    the batch size whatever labels are missing. In training it is the mean of the steps' totals,
    each weighted by its number of examples.
    """

    def __init__(self, tasks: Sequence[Task], name: str | None = None) -> None:
        super().__init__(name=name)
        self.tasks = check_tasks(tasks)
        self._task_weights = self.add_weight(
            name="task_weights",
            shape=(len(self.tasks),),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(
                [task.weight for task in self.tasks], dtype=dtype
            ),
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        # In a list: Keras forgets a layer that is taken out of one, but no replaced attribute.
        self._loss_weightings = []
        self._rows: Any = None
        self._multipliers = {}
        self.step_task = None  # whose step is run or traced, where tasks take turns

    # What is trained ----------------------------------------------------------------------------

    def __setattr__(self, name, value):
        # TensorFlow leaves out the assignment of a value that an attribute has already. A model
        # counts as trainable while layers in it are frozen, and these are to be reached.
        if name == "trainable":
            for layer in (self, *inner_layers(self)):
                type(layer).trainable.fset(layer, value)
            self.freeze_fixed()
        else:
            super().__setattr__(name, value)

    def freeze_fixed(self) -> None:
        """Freezes what `trainable = True` leaves as it is."""

    # What subclasses and callers can ask --------------------------------------------------------

    @property
    def task_names(self) -> tuple[str, ...]:
        """Tuple of the tasks' names, in order."""
        return tuple(task.name for task in self.tasks)

    @property
    def input_sets(self) -> dict[str, str | None]:
        """Task -> the name of its own inputs, or `None` where all tasks read the same."""
        return input_sets(self.tasks)

    def needed_sets(self, task: str) -> tuple[str | None, ...]:
        """Tuple of the input sets that a task depends on: its own, unless features are exchanged.

        `(None,)` where all tasks read the same input.
        """
        return (self.input_sets[task],)

    @property
    def loss_weighting(self) -> LossWeighting | None:
        """The `LossWeighting`, or `None` before `compile`."""
        return self._loss_weightings[0] if self._loss_weightings else None

    @property
    def search_is_open(self) -> bool:
        """Whether scores count: always, but for a search that is still warming up or opening."""
        return True

    def check_task(self, task: str) -> None:
        """Raises `ValueError` unless a name is that of a task."""
        if task not in self.task_names:
            raise ValueError(
                f"`task` must be one of {list(self.task_names)}. Received: task={task!r}."
                + suggestion(task, self.task_names)
            )

    def set_task_weight(self, task: str, weight: float) -> None:
        """Changes the factor of one task's loss, also while `fit` runs."""
        self.check_task(task)
        values = ops.convert_to_numpy(self._task_weights).copy()
        values[self.task_names.index(task)] = weight
        self._task_weights.assign(values)

    def replace_losses(self, tasks: Sequence[Task]) -> None:
        """Takes losses and metrics from tasks of the same names; `compile` comes next.

        For a model that was loaded without losses that Keras could not find.

        Args:
            tasks: list of `Task`, one of each name in `task_names`.
        """
        given = {task.name: task for task in check_tasks(tasks)}
        if set(given) != set(self.task_names):
            raise ValueError(
                f"`tasks` must be for {list(self.task_names)}. Received: tasks {list(given)}."
            )
        self.tasks = tuple(task.with_losses_of(given[task.name]) for task in self.tasks)
        self.compiled = False

    def task_weight(self, task: str) -> float:
        """The factor of one task's loss."""
        self.check_task(task)
        return float(ops.convert_to_numpy(self._task_weights)[self.task_names.index(task)])

    def weight_variables(self) -> list[Any]:
        """The trainable variables that the weights' optimizer moves."""
        return self.trainable_variables

    def update_scales(self, task: str) -> dict[int, Any]:
        """How far a step of one task may move variables: `id(variable)` -> factor.

        A number, or an array or variable that broadcasts; 0 keeps values bit for bit.
        """
        return {}

    def step_scales(self) -> dict[int, Any]:
        """`id(variable)` -> factor of its updates in the step that is traced."""
        scales = factors_of(self._multipliers, self.named_layers())
        if self.step_task is not None:
            own = self.loss_weighting.update_scales(self.step_task)
            own |= self.update_scales(self.step_task)
            scales |= {key: scale * scales.get(key, 1.0) for key, scale in own.items()}
        return scales

    def turns(self) -> dict[str, int]:
        """Task -> number of its steps so far, where tasks take turns; `{}` where they do not."""
        return {}

    def task_results(self, logs: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
        """Sorts the metrics of `evaluate(..., return_dict=True)`: task -> metric -> value.

        A value is a float, or an array for a metric with several numbers (one per class, say). A
        metric whose result is a dict has an entry `<metric>_<key>` for each of its keys.

        With `prefix="val_"` it sorts the logs of an epoch instead.
        """
        return {task.name: task.results(logs, prefix) for task in self.tasks}

    def statistics(self) -> list[Any]:
        """The variables that a forward pass moves: those of normalisation layers in training."""
        layers = [layer for layer in self.named_layers().values() if layer.trainable]
        known = {id(v): v for layer in layers for v in layer.non_trainable_weights}
        return list(known.values())

    def flat_inputs(self, inputs: Any) -> dict[str | None, list[Any]]:
        """Name of an input set (or `None`) -> list of tensors in the order of `input_specs`.

        Without the sets that are not there: some tasks can be computed all the same.
        """
        if None not in self.input_specs and self.step_task is None:
            check_sets(self, inputs, all_needed=False)
        flat = {}
        for name, specs in self.input_specs.items():
            if name is not None and name not in inputs:
                continue
            given = inputs if name is None else inputs[name]
            if isinstance(given, dict) and all(spec.name in given for spec in specs):
                given = [given[spec.name] for spec in specs]
            flat[name] = [
                ops.convert_to_tensor(x, dtype=spec.dtype)
                for x, spec in zip(keras.tree.flatten(given), specs, strict=True)
            ]
        return flat

    # Compile -------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "adam",
        *,
        loss_weighting: str | LossWeighting | None = None,
        multipliers: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        """Prepares training; losses and metrics come from the tasks.

        Args:
            optimizer: Keras optimizer or its name.
            loss_weighting: `None`, `"uncertainty"`, `"dwa"` or a `LossWeighting`.
            multipliers: dict from the name of a layer (with its copies), or a part of several
                layers' names, to a factor of what training changes in its weights: a learning rate
                of its own. With 0 they keep their values bit for bit; no gradient is computed for
                them.
            **options: `run_eagerly`, `jit_compile`, `auto_scale_loss` of `keras.Model.compile`.
                `jit_compile` is off by default: XLA leaves out the checks for NaN.
        """
        tensorflow_step.check_backend()
        self._refuse_options(options)
        check_nothing_lost(self.tasks)
        optimizer = keras.optimizers.get(optimizer)
        check_optimizers({"optimizer": optimizer}, [self.weight_variables()])
        options.setdefault("jit_compile", False)
        if self.loss_weighting is None or loss_weighting is not None:
            new = weighting.get(loss_weighting)
            new.setup(self.tasks)
            self._loss_weightings.clear()
            self._loss_weightings.append(new)
        factors_of(multipliers, self.named_layers())  # refuses what does not fit
        self._multipliers = dict(multipliers or {})
        super().compile(optimizer=optimizer, loss=None, **options)
        self.optimizer.build(self.weight_variables())
        # Whatever `floatx` is: counts in half precision would soon stop growing.
        mean = functools.partial(keras.metrics.Mean, dtype="float32")
        self._rows = Rows(
            loss=mean(name="loss"),
            tasks={task.name: mean(name=f"{task.name}_loss") for task in self.tasks},
            metrics={task.name: task.new_metrics() for task in self.tasks},
            terms={name: mean(name=name) for name in self.term_names()},
        )
        names = [row.name for row in self.metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                "`tasks` must give every row of `history` a name of its own. "
                f"Received: more than one row {twice[0]!r}. Rename the task or its metric."
            )

    def _refuse_options(self, options):
        taken = [n for n in ("loss", "metrics", "loss_weights", "weighted_metrics") if n in options]
        if taken:
            raise ValueError(
                f"`compile` takes losses, metrics and weights from the tasks. Received: {taken}. "
                "Set them on `keras_mtl.Task`."
            )
        if options.get("steps_per_execution", 1) != 1:
            raise ValueError(
                "`steps_per_execution` must be 1: the model looks at its step before each one. "
                f"Received: steps_per_execution={options['steps_per_execution']}."
            )

    def settings(self) -> dict[str, Any]:
        weighting = self.loss_weighting
        multipliers = sorted(self._multipliers.items())
        names = ("optimizer", "policy_optimizer", "warmup_optimizer")
        return {
            **super().settings(),
            "task": of_tasks(self.tasks),
            "loss_weighting": weighting and of_object(weighting),
            "frozen_layers": sorted(
                name for name, layer in self.named_layers().items() if not layer.trainable
            ),
            "multipliers": [f"{key}: {factor}" for key, factor in multipliers],
            **of_optimizers({name: getattr(self, name, None) for name in names}),
        }

    def term_names(self) -> tuple[str, ...]:
        """Names of the rows that `history` has beside losses and metrics."""
        return ()

    def get_compile_config(self) -> dict[str, Any] | None:
        if not self.compiled:
            return None
        serialize = keras.saving.serialize_keras_object
        return {
            "optimizer": serialize(self.optimizer),
            "loss_weighting": serialize(self.loss_weighting),
            "multipliers": dict(self._multipliers),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._rows.all() if self._rows else []

    # Losses and metrics --------------------------------------------------------------------------

    def step_tasks(self) -> list[Task]:
        """The tasks that have data in a step: all, or the one whose turn it is."""
        return [task for task in self.tasks if self.step_task in (None, task.name)]

    def step_losses(self) -> list[Any]:
        """What layers and regularisers add to the loss of a step."""
        return self.losses

    def task_losses(
        self, y: Any, y_pred: Mapping[str, Any], sample_weight: Any = None
    ) -> dict[str, tuple[Any, Any]]:
        """Returns task -> (sum of the losses of present labels, what their mean divides by).

        That is the number of present labels, or the sum of their weights where the loss says so.
        """
        tasks = self.step_tasks()
        self.ignore(check_names("Labels", y, [task.name for task in tasks]))
        found = {}
        for task in tasks:
            weight = (sample_weight or {}).get(task.name)
            guard = functools.partial(tensorflow_step.unless_partly_missing, task=task)
            values, weight, present = task.loss_per_label(
                y[task.name], y_pred[task.name], weight, guard
            )
            divisor = weight if task.is_mean_over_weights else present
            found[task.name] = (ops.sum(values * weight), ops.sum(divisor))
        return found

    def observe(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        """Sees the labels and predictions of every batch; for models that go by them."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool | None = True,
        examples: Any = None,
    ) -> Any:
        """As Keras' own; `examples` is how many the row `loss` counts, by default all of them."""
        self.observe(y, y_pred, sample_weight)
        # In a distributed step every replica has its part of the batch. Losses are means over all
        # of them, and since gradients are summed over replicas, each takes its share of the total.
        replicas = tensorflow_step.replicas()
        sums = self.task_losses(y, y_pred, sample_weight)
        means, present = {}, {}
        for task in self.task_names:
            nothing = ops.zeros((), "float32")
            total, count = sums.get(task, (nothing, nothing))
            total, count = map(tensorflow_step.summed_over_replicas, (total, count))
            means[task] = ops.divide_no_nan(total, count)
            present[task] = ops.cast(count > 0, "float32")
        added = ops.zeros((), "float32")
        if losses := self.step_losses():
            added = added + ops.cast(sum(losses), "float32")
        total = self._total(means, present) + added
        if self.rows_open:
            for task, (loss, count) in sums.items():
                mean = ops.divide_no_nan(loss, count)
                self._rows.tasks[task].update_state(mean, sample_weight=count)
            # In evaluation the tasks' part of the total comes from their rows.
            if examples is None:
                examples = ops.shape(next(iter(y_pred.values())))[0]
            self._rows.loss.update_state(total if training else added, sample_weight=examples)
            for task in self.step_tasks():
                task.update_metrics(
                    self._rows.metrics[task.name],
                    y[task.name],
                    y_pred[task.name],
                    (sample_weight or {}).get(task.name),
                    functools.partial(tensorflow_step.unless_partly_missing, task=task),
                )
        return total / replicas

    def _total(self, means, present):
        """One number from the tasks' mean losses."""
        weighted = {
            task: self._task_weights[i] * means[task] for i, task in enumerate(self.task_names)
        }
        return self.loss_weighting.total(weighted, present)

    rows_open = True  # whether `compute_loss` writes to `history`; read while tracing

    def train_step(self, data: Any) -> dict[str, Any]:
        (batch,) = tensorflow_step.checked(self, [data])
        tensorflow_step.update(
            self,
            batch,
            self.weight_variables(),
            self.optimizer,
            self.statistics(),
            scales=self.step_scales(),
        )
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, Any]:
        batch = tensorflow_step.with_known_labels(self, data)
        y_pred = self(batch.x, training=False)
        self.compute_loss(
            batch.x, batch.y, y_pred, batch.sample_weight, training=False, examples=batch.examples
        )
        return self._rows.of_evaluation(self._total)

    def get_metrics_result(self) -> dict[str, Any]:
        # Also called outside of a step, where a distributed row has the sum over the replicas.
        rows = self._rows
        results = rows.of_evaluation(self._total) if self._evaluating else rows.results()
        return tensorflow_step.as_numbers(results)
