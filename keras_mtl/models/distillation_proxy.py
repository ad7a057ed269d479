"""DistillationProxy: scores partitions of channels in a minute, without training the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl.checks import check_seed
from keras_mtl.data.join_tasks import join_tasks
from keras_mtl.data.sample_tasks import sample_tasks
from keras_mtl.errors import DataError
from keras_mtl.graph import INPUT, feature_model, read
from keras_mtl.graph.channel_selection import bits
from keras_mtl.metrics import relative_performance
from keras_mtl.metrics.relative_performance import directions
from keras_mtl.models.copies import BACKBONE, Copies, clone_head
from keras_mtl.models.layer_names import check_names_apart
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.models.student import Joined, Tail, TaskMask, squared_errors
from keras_mtl.models.update_scales import scales_of
from keras_mtl.task import Task, check_tasks

if TYPE_CHECKING:
    from keras_mtl.architecture import Architecture

BATCH = 256  # examples of a batch where nothing is trained


class DistillationProxy(MultiTaskModel):
    r"""Learns teachers' features with the last stages of the network, under a partition's masks.

    Every task's *teacher* is its trained single-task network. The *student* is the common network's
    last stages, shared by the tasks under the masks of a partition, with normalisation layers per
    task. What goes into it are the features of the task's own teacher; from there its blocks run as
    a chain on their own outputs, and the loss is the sum over the blocks of the mean squared error
    to the teacher's block outputs. The score of a partition is how well the teachers' heads do on
    the student's features, relative to the teachers: the mean of the ratios of their metrics.

    Teachers do not change, so their features are computed once (`prepare`), and a partition costs
    the training of a few layers. Masks are variables: all partitions use the same traced steps.

    Args:
        backbone: functional `keras.Model` with the common first weights, those from which the
            teachers and the final networks are trained.
        tasks: list of `Task`.
        teachers: dict from task name to its trained single-task model of this library.
        frozen: float or int. The share of stages, or their number, which the student leaves out,
            from the first: those that are frozen in training (`FeaturePartition(frozen=...)`).
        steps: int. Of one distillation, of one task each; the learning rate falls to a tenth after
            two thirds of them.
        batch_size: int.
        learning_rate: float.
        initial_weights: a model of this library with the first weights, or `None`: the backbone's.
        lower_is_better: as in `keras_mtl.relative_performance`, for metrics of the tasks that it
            does not know.
        seed: int.

    Attributes:
        targets: dict from task to `(what goes into the student, what is to come out)`, arrays; the
            second are the block outputs, flat and joined.
        teacher_results: task -> metric -> value of the teachers on validation data.

    Raises:
        UnsupportedBackboneError: when the last stages read more than one value of the first.
        ValueError: when a teacher is missing, `frozen` leaves no stage, or nothing says whether a
            metric is better when smaller.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((4,))
    >>> for number in (1, 2):
    ...     x = keras.layers.Dense(8, activation="relu", name=f"dense{number}")(x)
    >>> backbone = keras.Model(inputs, x)
    >>> tasks = [
    ...     keras_mtl.Task(name, keras.layers.Dense(1), "mse", ["mae"], inputs=name)
    ...     for name in ("a", "b")
    ... ]
    >>> teachers = {
    ...     task.name: keras_mtl.build(backbone, [task], "shared", seed=0) for task in tasks
    ... }
    >>> proxy = keras_mtl.models.DistillationProxy(
    ...     backbone, tasks, teachers, frozen=0, steps=4, learning_rate=0.1)
    >>> data = {name: (np.ones((8, 4)), np.zeros((8, 1))) for name in ("a", "b")}
    >>> proxy.prepare(data, data)
    >>> half = keras_mtl.strategies.FeaturePartition([[0.5, 0.5], [0.5, 0.5]], frozen=0)
    >>> sorted(proxy.score(keras_mtl.plan(backbone, tasks, half, seed=0)))
    ['a', 'b', 'score']

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Sections 4.2 and 5.1.
    """

    def __init__(
        self,
        backbone: keras.Model,
        tasks: Sequence[Task],
        teachers: Mapping[str, keras.Model],
        *,
        frozen: float = 2 / 3,
        steps: int = 3000,
        batch_size: int = 4,
        learning_rate: float = 1.0,
        initial_weights: keras.Model | None = None,
        lower_is_better: Mapping[str, bool] | None = None,
        seed: int | None = 0,
        name: str | None = None,
    ) -> None:
        tasks, seed = check_tasks(tasks), check_seed(seed)
        missing = [task.name for task in tasks if task.name not in teachers]
        if missing:
            raise ValueError(
                "`teachers` must have a trained model for every task. "
                f"Received: none for {missing}."
            )
        directions({task.name: [m.name for m in task.metrics] for task in tasks}, lower_is_better)
        graph = read(backbone)
        tail = Tail(graph, frozen)
        names = [task.name for task in tasks]
        trace = tail.trace(names)
        check_names_apart(graph, names, trace)
        source = BACKBONE if initial_weights is None else initial_weights.named_layers()
        copies = Copies(graph, trace, seed, source)
        masks = {
            (task, place.name): TaskMask(place.channels, name=f"{place.name}.mask.{task}")
            for task in names
            for place in tail.places.values()
        }
        inputs = {t: keras.Input(batch_shape=graph.spec(tail.source).shape, name=t) for t in names}
        blocks = {task: tail.run(copies, masks, task, inputs[task]) for task in names}
        joined = {task: Joined(name=f"{task}.blocks")(found) for task, found in blocks.items()}
        distilled = [Task(t, keras.layers.Identity(), squared_errors, inputs=t) for t in names]
        network = keras.Model(inputs, joined, name=f"{graph.name}.student")
        super().__init__(network, distilled, seed=seed, name=name)
        self.steps, self.batch_size = steps, batch_size
        self.lower_is_better = lower_is_better
        self._graph, self._tail, self._copies, self._masks = graph, tail, copies, masks
        self._given = tasks
        self._teachers = {t: feature_model(teachers[t], tail.locations()) for t in names}
        self._students = {t: keras.Model(inputs[t], found[-1]) for t, found in blocks.items()}
        self._judge = _judge(graph, tasks, teachers, seed)
        self.targets: Any = None
        self._held_out: Any = None
        self.teacher_results: Any = None
        self._scales = {task: self._scale_variables(task) for task in names}
        self._first = self.get_weights()
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(2 * steps / 3)], [learning_rate, learning_rate / 10]
        )
        self.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=1e-5))

    # Teachers' features ---------------------------------------------------------------------------

    def prepare(self, train: Any, validation: Any, limit: int | None = 3000) -> None:
        """Computes the teachers' features, and how well the teachers do on validation data.

        Args:
            train, validation: dict from input set to `(x, y)` arrays; or `(x, {task: y})` where all
                tasks read the same inputs.
            limit: int or `None`. At most so many examples of every task, the first ones.

        Raises:
            DataError: when data have another form, or a task's labels are missing.
        """
        targets, held_out, finals = {}, {}, {}
        for task in self._given:
            x, _ = _examples(train, task, limit)
            source, ends = self._features(task.name, x)
            targets[task.name] = source, ops.convert_to_numpy(Joined()(ends))
            x, y = _examples(validation, task, limit)
            source, ends = self._features(task.name, x)
            held_out[task.name] = source, y
            finals[task.name] = ends[-1], y
        self.teacher_results = self._judged(finals)
        self.targets, self._held_out = targets, held_out

    def _features(self, task, x):
        """What the student gets of a task's examples, and what it is to give: arrays."""
        model = self._teachers[task]
        found = model.predict([x], batch_size=BATCH, verbose=0)
        return (x, found) if self._tail.source.node == INPUT else (found[0], found[1:])

    def _judged(self, finals):
        """Task -> metric -> value of the teachers' heads on features of validation examples."""
        data = join_tasks(finals, BATCH, training=False)
        logs = self._judge.evaluate(data, verbose=0, return_dict=True)
        return self._judge.task_results(logs)

    # Partitions -----------------------------------------------------------------------------------

    def score(self, architecture: Architecture, seed: int | None = 0) -> dict[str, float]:
        """Distils under an architecture's masks, from the first weights.

        Args:
            architecture: `Architecture` of the backbone, from `FeaturePartition`.
            seed: int. Of the order of tasks and examples.

        Returns:
            A dict from task to the ratio of the student's metrics to the teacher's (in the way that
            more is better), and `"score"`, their mean.

        Raises:
            ValueError: before `prepare`, and for an architecture with masks elsewhere.
        """
        if self.targets is None:
            raise ValueError("`score` needs the teachers' features. Call `prepare(...)` first.")
        self.begin(architecture)
        turns = sample_tasks(self.targets, self.batch_size, steps_per_epoch=self.steps, seed=seed)
        self.fit(turns, verbose=0)
        return self.measure()

    def measure(self) -> dict[str, float]:
        """How well the teachers' heads do on what the student gives now; as `score` returns it."""
        finals = {
            task: (_outputs(self._students[task], x), y) for task, (x, y) in self._held_out.items()
        }
        found = relative_performance(
            self._judged(finals), self.teacher_results, lower_is_better=self.lower_is_better
        )
        ratios = {task: 1.0 + delta / 100 for task, delta in found.per_task.items()}
        return {**ratios, "score": 1.0 + found.total / 100}

    def begin(self, architecture: Architecture) -> None:
        """Goes back to the first weights, under the masks of an architecture."""
        places = {place.name: place for place in self._tail.places.values()}
        unknown = [name for name in architecture.masks if name not in places]
        if unknown:
            raise ValueError(
                "`architecture` must have masks in the student's stages only, which has "
                f"{sorted(places)}. Received: masks of {unknown[:3]}. Use one `frozen` for both."
            )
        self.set_weights(self._first)
        for optimizer in (self.optimizer, *self.task_optimizers.values()):
            for variable in optimizer.variables:
                variable.assign(ops.zeros_like(variable))
        for task in self.task_names:
            changed = {}
            for name, use in architecture.masks.items():
                self._masks[task, name].mask.assign(bits(use.forward[task]).astype("float32"))
                changed[name] = bits(use.backward[task])
            for name, place in places.items():
                changed.setdefault(name, np.ones(place.channels, bool))
            for key, factor in self._factors(task, changed).items():
                self._scales[task][key].assign(factor)

    def update_scales(self, task: str) -> dict[int, Any]:
        return dict(self._scales[task])

    def _scale_variables(self, task):
        every = {p.name: np.ones(p.channels, bool) for p in self._tail.places.values()}
        return {
            key: self.add_weight(
                name=f"scale_{task}_{number}",
                shape=factor.shape,
                initializer="ones",
                trainable=False,
                autocast=False,
            )
            for number, (key, factor) in enumerate(self._factors(task, every).items())
        }

    def _factors(self, task, changed):
        def layer(index):
            return self._tail.layer(self._copies, self._graph.calls[index], task)

        return scales_of(self._graph, changed, layer, own_normalisation=True)


def _judge(graph, tasks, teachers, seed):
    """The teachers' heads as one model, from features to what tasks are measured by."""
    inputs, outputs, judged = {}, {}, []
    for task in tasks:
        source = teachers[task.name].named_layers()
        inputs[task.name] = keras.Input(batch_shape=graph.features.shape, name=task.name)
        outputs[task.name] = clone_head(task, graph.features, seed, source)(inputs[task.name])
        judged.append(task.reading(task.name))
    model = MultiTaskModel(keras.Model(inputs, outputs), judged)
    model.compile()
    return model


def _outputs(model, x):
    """What a model gives for all examples; `predict` takes longer to start than this to end."""
    batches = [model.predict_on_batch(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return np.concatenate(batches)


def _examples(data, task, limit):
    """The inputs and labels of one task, at most `limit`."""
    part = data
    if task.inputs is not None:
        part = data.get(task.inputs) if isinstance(data, dict) else None
    pair = isinstance(part, (tuple, list)) and len(part) == 2
    y = part[1] if pair else None
    if isinstance(y, dict):
        y = y.get(task.name)
    if y is None:
        form = "`(x, y)` with labels by task" if task.inputs is None else "a dict by input set"
        found = f"a dict with {list(data)}" if isinstance(data, dict) else type(data).__name__
        own = f", and tasks without inputs of their own, `Task(..., inputs={task.name!r})`"
        raise DataError(
            f"The data of `prepare` must be {form}, with labels of task {task.name!r}. Received: "
            f"{found}{own if task.inputs is None and isinstance(data, dict) else ''}."
        )
    x = part[0]
    return x[:limit], y[:limit]
