"""One batch of every input set at each step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from keras_mtl.data.epoch_dataset import EpochDataset, order_seeds
from keras_mtl.data.rounds import in_rounds

if TYPE_CHECKING:
    from keras_mtl.data.search_halves import ArrayHalf, DatasetHalf


class JoinedDataset(EpochDataset):
    """Gives a model of tasks with own data one batch of every input set at each step.

    Elements are `({set: x}, {task: y})` or, where any set has sample weights,
    `({set: x}, {task: y}, {task: w})`. All batches have `batch_size` examples of every set; row `i`
    of one set has nothing to do with row `i` of another. An epoch has as many batches as the
    largest set fills. Every set is read in rounds that run on over batches and epochs: each round
    holds all its examples once, in an order of its own.

    Batch `i` of epoch `e` depends on `(seed, e, i)` alone, as in `keras_mtl.data.SearchDataset`.
    The order of a set is its own, whichever others there are.

    Made by `keras_mtl.data.join_tasks`.

    Args:
        halves: dict from the name of an input set to its examples, `ArrayHalf` or `DatasetHalf`.
        batch_size: int. Examples of each set in a batch.
        shuffle: bool. Whether each round is shuffled, or read in source order.
        seed: int. Together with set and round it fixes the order.

    Example:

    >>> books, music = np.arange(5.0)[:, None], np.arange(3.0)[:, None]
    >>> data = keras_mtl.data.join_tasks(
    ...     {"books": (books, books), "music": (music, music)}, batch_size=2, shuffle=False
    ... )
    >>> [x["music"].numpy().ravel().tolist() for x, y in data.epoch(0)]
    [[0.0, 1.0], [2.0, 0.0], [1.0, 2.0]]
    """

    def __init__(
        self,
        halves: Mapping[str, ArrayHalf | DatasetHalf],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
    ) -> None:
        (order_seed,) = order_seeds(seed, 1)
        self._halves = halves
        self._rounds = in_rounds(halves, order_seed if shuffle else None)
        self.num_examples = self._rounds.size
        examples = self._rounds.examples_per_epoch(batch_size)
        super().__init__(examples, batch_size=batch_size, shuffle=shuffle, seed=seed)

    def __repr__(self):
        return (
            f"<JoinedDataset: {len(self)} batches of {self.batch_size} from each set, "
            f"{self.num_examples} examples, shuffle={self.shuffle}, seed={self.seed}>"
        )

    def of_sets(self, names: Collection[str]) -> EpochDataset:
        halves = {name: half for name, half in self._halves.items() if name in names}
        settings: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
        }
        return self._with_tasks_of(names, JoinedDataset(halves, **settings))

    def _batches(self, start):
        return self._rounds.batches(start, self._examples, self.batch_size)
