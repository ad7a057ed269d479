"""Batches of one task at a time, and the rule that says whose turn it is."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from keras_mtl.data.epoch_dataset import finished, order_seeds
from keras_mtl.data.rounds import Rounds, seed_of

if TYPE_CHECKING:
    from keras_mtl.data.search_halves import ArrayHalf, DatasetHalf

SAMPLINGS = ("uniform", "proportional", "lagging")


class SampledDataset:
    """Gives a model of tasks with own data a batch of one task at each step.

    It holds nothing that moves: whose turn step `i` is depends on `(seed, i)` and, for `"lagging"`,
    on the running training accuracies at that step; batch `n` of a task depends on `(seed, task,
    n)`. The model counts the steps of every task and keeps the accuracies, so that an interrupted
    training finds its place again.

    Made by `keras_mtl.data.sample_tasks`.

    Args:
        halves: dict from the name of an input set to its examples, `ArrayHalf` or `DatasetHalf`.
        task_sets: dict from task to the input set that its labels come with.
        batch_size: int. Examples in a batch; all batches are full.
        sampling: `"uniform"`, `"proportional"` or `"lagging"`.
        steps_per_epoch: int, or `None` for as many as there are batches in all sets.
        shuffle: bool. Whether each round of a task's examples is shuffled.
        seed: int. Fixes the turns, and with task and round the order of the examples.
        temperature: float, T of `"lagging"`.
        bias: float, b of `"lagging"`.
        decay: float. Of the running accuracies.

    Example:

    >>> x = np.zeros((30, 1))
    >>> data = keras_mtl.data.sample_tasks({"a": (x, x), "b": (x[:10], x[:10])}, 10,
    ...     sampling="proportional")
    >>> data.probabilities()
    {'a': 0.75, 'b': 0.25}
    >>> [data.task_at(step) for step in range(6)]
    ['a', 'b', 'a', 'b', 'b', 'a']
    """

    def __init__(
        self,
        halves: Mapping[str, ArrayHalf | DatasetHalf],
        task_sets: Mapping[str, str],
        *,
        batch_size: int,
        sampling: Literal["uniform", "proportional", "lagging"],
        steps_per_epoch: int | None,
        shuffle: bool,
        seed: int | None,
        temperature: float,
        bias: float,
        decay: float,
    ) -> None:
        self._halves, self._given_steps = halves, steps_per_epoch
        self.task_sets = task_sets
        self.tasks = tuple(task_sets)
        self.num_examples = {name: half.size for name, half in halves.items()}
        self.batch_size = batch_size
        self.sampling = sampling
        self.shuffle = shuffle
        self.seed = seed
        self.temperature = temperature
        self.bias = bias
        self.decay = decay
        batches = sum(-(-half.size // batch_size) for half in halves.values())
        self._steps = batches if steps_per_epoch is None else steps_per_epoch
        (order_seed,) = order_seeds(seed, 1)
        # By task, so that a task keeps its order when others come and go.
        self._rounds = {
            task: Rounds(halves[name], seed_of(order_seed, task) if shuffle else None)
            for task, name in task_sets.items()
        }

    def __repr__(self):
        return (
            f"<SampledDataset: {len(self)} batches of {self.batch_size} in an epoch, each of one "
            f"task, sampling={self.sampling!r}, {self.num_examples} examples, "
            f"shuffle={self.shuffle}, seed={self.seed}>"
        )

    def __len__(self):
        return self._steps

    def cardinality(self) -> int:
        """The number of steps in an epoch, an int."""
        return self._steps

    def of_tasks(self, tasks: Collection[str]) -> SampledDataset:
        """The same without the tasks that are not among `tasks`; as if it had never had them."""
        task_sets = {task: name for task, name in self.task_sets.items() if task in tasks}
        return SampledDataset(
            {name: half for name, half in self._halves.items() if name in task_sets.values()},
            task_sets,
            batch_size=self.batch_size,
            sampling=self.sampling,
            steps_per_epoch=self._given_steps,
            shuffle=self.shuffle,
            seed=self.seed,
            temperature=self.temperature,
            bias=self.bias,
            decay=self.decay,
        )

    @property
    def needs_accuracies(self) -> bool:
        """Whether the turns depend on the running training accuracies."""
        return self.sampling == "lagging"

    def probabilities(self, accuracies: Mapping[str, float] | None = None) -> dict[str, float]:
        """Task -> the probability that a step is its.

        Args:
            accuracies: dict from task to its running training accuracy, for `"lagging"`.
        """
        if self.needs_accuracies:
            accuracy = np.array([accuracies[task] for task in self.tasks], "float64")
            logits = np.log(1.0 - accuracy + self.bias) / self.temperature
            weights = np.exp(logits - logits.max())
        elif self.sampling == "proportional":
            weights = np.array([self.num_examples[self.task_sets[task]] for task in self.tasks])
        else:
            weights = np.ones(len(self.tasks))
        return dict(zip(self.tasks, (weights / weights.sum()).tolist(), strict=True))

    def task_at(self, step: int, accuracies: Mapping[str, float] | None = None) -> str:
        """The task whose turn a step is.

        Args:
            step: int. The number of steps of all tasks before it.
            accuracies: as for `probabilities`.
        """
        probabilities = self.probabilities(accuracies)
        names = sorted(probabilities)  # the order of the data does not matter
        limits = np.cumsum([probabilities[name] for name in names])
        drawn = np.random.default_rng([self.seed, step]).random()
        return names[min(int(np.searchsorted(limits, drawn, side="right")), len(names) - 1)]

    def stream(self, task: str, first_batch: int = 0) -> tf.data.Dataset:
        """The batches of one task from number `first_batch` on, without end.

        Elements are `({set: x}, {task: y})`, with a third part `{task: w}` where the task has
        sample weights.
        """
        return finished(self._batches(task, first_batch), tf.data.INFINITE_CARDINALITY)

    def _batches(self, task, first_batch):
        input_set, start = self.task_sets[task], first_batch * self.batch_size

        def of_task(x, y, w=None):
            parts = ({input_set: x}, {task: y[task]})
            return parts if w is None or task not in w else (*parts, {task: w[task]})

        return self._rounds[task].batches(start, -1, self.batch_size).map(of_task)

    def clock(self) -> tf.data.Dataset:
        """An endless dataset of nothing, for `keras.Model.fit` to count its steps by."""
        return tf.data.Dataset.range(1).repeat().batch(self.batch_size)

    @functools.cached_property
    def element_spec(self) -> Any:
        """The structure of what the batches of all tasks have together."""
        specs = [self._batches(task, 0).element_spec for task in self.tasks]
        merged = [{}, {}, {}]
        for spec in specs:
            for whole, part in zip(merged, spec, strict=False):
                whole |= part
        return tuple(merged if merged[2] else merged[:2])
