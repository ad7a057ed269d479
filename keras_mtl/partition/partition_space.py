"""PartitionSpace: the numbers that a search for partitions may choose."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_mtl.checks import check_names, check_not_negative, is_number
from keras_mtl.partition.partition import Partition


@dataclasses.dataclass(frozen=True)
class PartitionSpace:
    """All partitions of some tasks, as points of a cube, and a way to draw some of them.

    A point has a number from 0 to 1 for every entry of the upper triangle, with its diagonal, of
    the forward matrix and then of the backward one.

    Args:
        tasks: sequence of string. Task names.
        share: float, a sequence of one for each task, or `None`. Where given, the share of channels
            that a task uses is drawn around it; otherwise uniformly, as all other numbers are.
        deviation: float. Standard deviation of the drawn shares, which are clipped to [0, 1]; with
            0 only the overlaps differ.
        backward: bool. Whether backward matrices are searched too, or every task changes all
            channels that it uses.

    Raises:
        ValueError: for other tasks, shares or deviations.

    Example:

    >>> from keras_mtl.partition import PartitionSpace
    >>> space = PartitionSpace(("depth", "normal"), share=0.5, deviation=0.0, backward=False)
    >>> space.names
    ('forward.0.0', 'forward.0.1', 'forward.1.1')
    >>> space.partition(space.draw(np.random.default_rng(0))).feature_use
    0.5

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 4.1 and Figure 5.
    """

    tasks: Sequence
    share: float | tuple | None = None
    deviation: float = 0.2
    backward: bool = True

    def __post_init__(self):
        object.__setattr__(self, "tasks", check_names("tasks", self.tasks))
        object.__setattr__(self, "share", _check_share(self.share, self.tasks))
        check_not_negative("deviation", self.deviation)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """A name for every number of a point."""
        kinds = ("forward", "backward") if self.backward else ("forward",)
        rows, columns = np.triu_indices(len(self.tasks))
        return tuple(
            f"{kind}.{i}.{j}" for kind in kinds for i, j in zip(rows, columns, strict=True)
        )

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """Boolean array: which numbers of a point are the shares of channels that tasks use."""
        own = {f"forward.{i}.{i}" for i in range(len(self.tasks))}
        return np.array([name in own for name in self.names])

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """A random point: a float64 array with a number for every name."""
        point = generator.random(len(self.names))
        if self.share is not None:
            noise = self.deviation * generator.standard_normal(len(self.tasks))
            point[self.shares] = np.clip(np.asarray(self.share) + noise, 0.0, 1.0)
        return point

    def partition(self, point: ArrayLike) -> Partition:
        """The `Partition` of a point."""
        size = len(self.tasks)
        upper = np.triu_indices(size)
        matrices = np.zeros((2 if self.backward else 1, size, size))
        matrices[:, *upper] = np.reshape(point, (len(matrices), -1))
        return Partition(self.tasks, *matrices)


def _check_share(share, tasks):
    if share is None:
        return None
    shares = (share,) * len(tasks) if is_number(share) else tuple(share)
    if len(shares) != len(tasks) or not all(is_number(x) and 0 <= x <= 1 for x in shares):
        raise ValueError(
            "`share` must be a number from 0 to 1, or one for each of the "
            f"{len(tasks)} tasks. Received: share={share!r}."
        )
    return tuple(map(float, shares))
