"""FeaturePartition: tasks share one network by channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from keras_mtl.architecture import SHARED
from keras_mtl.channel_use import ChannelUse
from keras_mtl.checks import check_seed
from keras_mtl.errors import UnsupportedBackboneError, suggestion
from keras_mtl.graph import alternate_places, find_places, first_stages, no_places
from keras_mtl.partition import find_backward_masks, find_masks
from keras_mtl.partition._checks import check_matrix
from keras_mtl.strategies.strategy import (
    FixedStrategy,
    check_normalisation,
    child_seed,
    one_of,
)

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit
    from keras_mtl.partition import Partition

LAYERS = ("alternate", "all")


class FeaturePartition(FixedStrategy):
    """Every task uses, and may change, some of the channels of every other operator.

    Two matrices say how many channels each task has and how many every two have in common; which
    channels these are is drawn by the seed, anew for every operator. In the papers' words: P of the
    forward masks and P of the backward masks. The baselines of the paper, for N tasks:

    - independent: forward 1/N on the diagonal, 0 off it;
    - share half: 0.5 + 0.5/N on the diagonal, (N - 2)/(N - 1) off it, which is an overlap of half
      of all channels;
    - share all: ones, the default;
    - share forward only: forward ones, backward that of independent.

    Args:
        forward: matrix `(tasks, tasks)` of values from 0 to 1, as `partition_matrix` reads it.
            `None`: all tasks share all channels.
        backward: the same, as `backward_matrix` reads it. `None`: every task may change all
            channels that it uses.
        layers: `"alternate"` (the first of each pair of operators, as in the paper), `"all"` (all
            operators that can be masked) or a sequence of their names.
        frozen: float or int. The share of stages, or their number, whose operators no task
            changes, from the first. They have no masks.
        seed: int of at least 0.
        normalisation: `"task"` or `"shared"`: whose normalisation layers.
        tasks: sequence of string, or `None`. The tasks of the matrices' rows, where the model may
            have them in another order.

    Raises:
        ValueError: for matrices, layers or other settings that cannot be.
        UnsupportedBackboneError: by `build`, when nothing can be masked.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((4,))
    >>> for number in (1, 2):
    ...     x = keras.layers.Dense(8, activation="relu", name=f"dense{number}")(x)
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> strategy = keras_mtl.strategies.FeaturePartition([[0.5, 0.0], [0.0, 0.5]], seed=0)
    >>> plan = keras_mtl.plan(keras.Model(inputs, x), tasks, strategy)
    >>> {unit: [use.share(task) for task in plan.tasks] for unit, use in plan.masks.items()}
    {'dense1': [0.5, 0.5]}

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Sections 3 and 5.
    """

    name = "feature_partition"
    granularity = "operator"

    def __init__(
        self,
        forward: ArrayLike | None = None,
        backward: ArrayLike | None = None,
        *,
        layers: str | Sequence[str] = "alternate",
        frozen: float = 2 / 3,
        seed: int = 0,
        normalisation: Literal["shared", "task"] = "task",
        tasks: Sequence[str] | None = None,
    ) -> None:
        self.forward = _matrix("forward", forward)
        self.backward = _matrix("backward", backward)
        if isinstance(layers, str):
            one_of("layers", layers, LAYERS)
        self.layers = layers if isinstance(layers, str) else list(layers)
        whole = isinstance(frozen, int) and not isinstance(frozen, bool) and frozen >= 0
        if not whole and not (isinstance(frozen, float) and 0 <= frozen < 1):
            raise ValueError(
                "`frozen` must be a number of stages, or a share of them from 0 to below 1. "
                f"Received: frozen={frozen!r}."
            )
        self.frozen = frozen
        self.seed = check_seed(seed)
        self.normalisation = check_normalisation(normalisation)
        self.tasks = None if tasks is None else list(tasks)

    @classmethod
    def of(cls, partition: Partition, **settings: Any) -> Self:
        """The strategy of a `keras_mtl.partition.Partition`; other settings as named arguments."""
        return cls(partition.forward, partition.backward, tasks=partition.tasks, **settings)

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        rows = list(tasks) if self.tasks is None else self.tasks
        if set(rows) != set(tasks):
            raise ValueError(
                f"`tasks` must be those of the model, {list(tasks)}. Received: tasks={rows}."
            )
        for name in ("forward", "backward"):
            matrix = getattr(self, name)
            if matrix is not None and len(matrix) != len(rows):
                raise ValueError(
                    f"`{name}` must have a row and a column for each of the {len(rows)} tasks. "
                    f"Received: {len(matrix)} rows."
                )
        still = first_stages(graph, self.frozen)
        masks = {}
        for number, place in enumerate(self._places(graph, still)):
            masks[place.name] = self._use(place.channels, rows, child_seed(self.seed, number))
        return {
            "choices": {task: (SHARED,) * len(units) for task in tasks},
            "masks": masks,
            "frozen": tuple(
                unit.name for unit in units if unit.calls[0] in still and not unit.normalises
            ),
        }

    def _use(self, channels, tasks, seed):
        ones = np.ones((len(tasks), len(tasks)))
        forward = find_masks(ones if self.forward is None else self.forward, channels, seed)
        backward = forward
        if self.backward is not None:
            backward = find_backward_masks(self.backward, forward, seed)
        by_task = [dict(zip(tasks, masks, strict=True)) for masks in (forward, backward)]
        return ChannelUse(*by_task)

    def _places(self, graph, still):
        """The places to mask, none of them in a frozen stage."""
        every = [place for place in find_places(graph) if place.operator not in still]
        if not isinstance(self.layers, str):
            known = {place.name: place for place in every}
            for name in self.layers:
                if name not in known:
                    why = no_places(graph).get(name, "there is no such operator, or it is frozen")
                    raise ValueError(
                        "`layers` must name operators whose channels can be masked. Received: "
                        f"{name!r}: {why}." + suggestion(name, known)
                    )
            return [place for place in every if place.name in self.layers]
        if self.layers == "alternate":
            every = [p for p in alternate_places(graph) if p.operator not in still]
        if not every:
            reasons = list(no_places(graph).items())[:3]
            raise UnsupportedBackboneError(
                "`backbone` must have operators whose channels can be masked, behind the frozen "
                f"stages (frozen={self.frozen!r}). Received: none. "
                + " ".join(f"{key!r}: {why}." for key, why in reasons)
            )
        return every


def _matrix(name, value):
    return None if value is None else check_matrix(name, value).tolist()
