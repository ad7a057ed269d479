"""Partition: which share of every layer each task uses and changes, as plain data."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Self

import numpy as np

from keras_mtl import versioned_json
from keras_mtl.checks import check_names, check_seed
from keras_mtl.partition._checks import check_matrix
from keras_mtl.partition.find_masks import find_backward_masks, find_masks

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Partition(versioned_json.Saved):
    """What a search proposes: a matrix for the forward masks of all layers, and one for backward.

    It holds for layers of any width; `masks` finds the channels of one layer. The class methods
    give the partitions that others are compared with.

    Args:
        tasks: sequence of string. Task names, in the order of rows and columns.
        forward: array `(tasks, tasks)` of values from 0 to 1, as `partition_matrix` reads it: the
            diagonal is the share of channels that a task uses. Kept as a read-only float64 copy,
            mirrored from its upper triangle.
        backward: array `(tasks, tasks)` of values from 0 to 1, as `backward_matrix` reads it: the
            diagonal is the fraction of its channels that a task changes. `None`: all of them.

    Raises:
        ValueError: when a matrix is not square, of other tasks, or has values outside [0, 1].

    Example:

    >>> from keras_mtl.partition import Partition
    >>> partition = Partition(("depth", "normal"), [[0.5, 0.5], [0.5, 1.0]])
    >>> partition.feature_use
    0.75
    >>> forward, backward = partition.masks(channels=8, seed=0)
    >>> forward.sum(axis=1).tolist(), (forward == backward).all().item()
    ([4, 8], True)
    >>> Partition.from_json(partition.to_json()) == partition
    True

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """

    tasks: Sequence
    forward: np.ndarray
    backward: np.ndarray | None = None

    def __post_init__(self):
        fill = object.__setattr__
        fill(self, "tasks", check_names("tasks", self.tasks))
        if self.backward is None:
            fill(self, "backward", np.ones((len(self.tasks), len(self.tasks))))
        for name in ("forward", "backward"):
            matrix = check_matrix(name, getattr(self, name))
            if len(matrix) != len(self.tasks):
                raise ValueError(
                    f"`{name}` must have a row and a column for each of the {len(self.tasks)} "
                    f"tasks. Received: shape {matrix.shape}."
                )
            matrix.flags.writeable = False
            fill(self, name, matrix)

    # Partitions to compare with -----------------------------------------------------------------

    @classmethod
    def independent(cls, tasks: Sequence[str]) -> Self:
        """Every task has its own channels, all equally many."""
        return cls(tasks, _even(tasks, 1 / max(len(tasks), 1), 0.0))

    @classmethod
    def share_half(cls, tasks: Sequence[str]) -> Self:
        """All tasks share half of the channels, and the other half is split evenly."""
        number = max(len(tasks), 1)
        overlap = max(number - 2, 0) / max(number - 1, 1)
        return cls(tasks, _even(tasks, 0.5 + 0.5 / number, overlap))

    @classmethod
    def share_all(cls, tasks: Sequence[str]) -> Self:
        """Every task uses and changes all channels."""
        return cls(tasks, _even(tasks, 1.0, 1.0))

    @classmethod
    def share_forward_only(cls, tasks: Sequence[str]) -> Self:
        """Every task uses all channels, and changes its own."""
        return cls(tasks, _even(tasks, 1.0, 1.0), cls.independent(tasks).forward)

    # What it says -------------------------------------------------------------------------------

    @property
    def feature_use(self) -> float:
        """Mean share of channels that a task uses."""
        return float(self.forward.diagonal().mean())

    def masks(
        self, channels: int, seed: int | None, *, diagonal_weight: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the masks of one layer.

        Args:
            channels, seed, diagonal_weight: as in `find_masks`. Pass another seed for every layer.

        Returns:
            Two boolean arrays `(tasks, channels)`: the channels that each task uses, and among
            them those that it changes.
        """
        seed = check_seed(seed)
        forward = find_masks(self.forward, channels, seed, diagonal_weight=diagonal_weight)
        backward = find_backward_masks(
            self.backward, forward, seed, diagonal_weight=diagonal_weight
        )
        return forward, backward

    def __eq__(self, other):
        if not isinstance(other, Partition):
            return NotImplemented
        return self.tasks == other.tasks and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("forward", "backward")
        )

    def __hash__(self):
        return hash((self.tasks, self.forward.tobytes(), self.backward.tobytes()))

    def __reduce__(self):
        return Partition, (self.tasks, np.array(self.forward), np.array(self.backward))

    def __repr__(self):
        tasks = list(self.tasks) if len(self.tasks) <= 6 else len(self.tasks)
        return f"<Partition tasks={tasks} feature_use={self.feature_use:.3f}>"

    # JSON ---------------------------------------------------------------------------------------

    def to_json(self, indent: int | None = None) -> str:
        """All of it as a JSON string."""
        matrices = {name: getattr(self, name).tolist() for name in ("forward", "backward")}
        data = {"format_version": FORMAT_VERSION, "tasks": list(self.tasks), **matrices}
        return json.dumps(data, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `to_json` wrote; refuses broken text and unknown versions."""
        data = versioned_json.parse(text, "a partition", FORMAT_VERSION, ValueError)
        if set(data) != {"tasks", "forward", "backward"}:
            raise ValueError(
                "`text` must have the fields `tasks`, `forward` and `backward` of a partition. "
                f"Received: the fields {sorted(data)}."
            )
        return cls(**data)


def _even(tasks, share, overlap):
    matrix = np.full((len(tasks), len(tasks)), overlap)
    np.fill_diagonal(matrix, share)
    return matrix
