"""Every example of several input sets once, for validation, test and prediction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_mtl.data.epoch_dataset import finished
from keras_mtl.data.rounds import in_rounds

if TYPE_CHECKING:
    from keras_mtl.data.search_halves import ArrayHalf, DatasetHalf


class JoinedPass:
    """Gives a model of tasks with own data every example of every input set exactly once.

    Elements are `({set: x}, {task: y}, {task: sample_weight})`. Sets come in source order. Where a
    shorter set has ended its rows are repeats with sample weight 0, which no loss and no metric
    counts; `predict` leaves their predictions out.

    Made by `keras_mtl.data.join_tasks(..., training=False)`.

    Args:
        halves: dict from the name of an input set to its examples, `ArrayHalf` or `DatasetHalf`.
        task_sets: dict from task to the input set that its labels come with.
        batch_size: int. Examples of each set in a batch.

    Example:

    >>> books, music = np.arange(3.0)[:, None], np.arange(1.0)[:, None]
    >>> data = keras_mtl.data.join_tasks(
    ...     {"books": (books, books), "music": (music, music)}, batch_size=2, training=False
    ... )
    >>> data
    <JoinedPass: 2 batches of 2 from each set, {'books': 3, 'music': 1} examples>
    >>> [w["music"].numpy().tolist() for x, y, w in data]
    [[1.0, 0.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        halves: Mapping[str, ArrayHalf | DatasetHalf],
        task_sets: Mapping[str, str],
        *,
        batch_size: int,
    ) -> None:
        self._halves = halves
        self._rounds = in_rounds(halves, None)
        self.task_sets = task_sets
        self.num_examples = self._rounds.size
        self.batch_size = batch_size

    def __repr__(self):
        return (
            f"<JoinedPass: {len(self)} batches of {self.batch_size} from each set, "
            f"{self.num_examples} examples>"
        )

    def __len__(self):
        return self._rounds.examples_per_epoch(self.batch_size) // self.batch_size

    def __iter__(self):
        return iter(self.batches())

    def cardinality(self) -> int:
        """The number of batches, an int."""
        return len(self)

    @property
    def element_spec(self) -> Any:
        """The structure, shapes and types of an element, as `tf.data.Dataset` has it."""
        return self.batches().element_spec

    def batches(self) -> tf.data.Dataset:
        """The batches as a `tf.data.Dataset`, which no longer knows which rows are repeats."""
        return finished(self._rounds.one_pass(self.batch_size), len(self))

    def of_sets(self, names: Collection[str]) -> JoinedPass:
        """The same without the input sets that are not among `names`."""
        halves = {name: half for name, half in self._halves.items() if name in names}
        tasks = {task: name for task, name in self.task_sets.items() if name in names}
        return JoinedPass(halves, tasks, batch_size=self.batch_size)
