"""EdgeRule: from which units of one column to which units of another features may flow."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_mtl.strategies.settings import Settings


@keras.saving.register_keras_serializable("keras_mtl")
class EdgeRule(Settings):
    """Candidate edges between two columns: units of one stage, near each other, never backwards.

    A unit may read the units of another column that give maps of one size with its own, at the
    same depth or less than `distance` units before. A rule of your own is a subclass with another
    `allows`, registered with `keras.saving.register_keras_serializable`.

    Args:
        distance: int of at least 1. How near: 1 allows the same depth only.
        same_stage: bool. Whether both units must give maps of one size; if not, maps are resized.
        smallest_stage: int. Stages of fewer units have no edges. ResNet-50 has 37 edges in each
            direction with the stem as a stage of its own, and 36 with `smallest_stage=2`.

    Raises:
        ValueError: when an argument is below 1.

    Example:

    >>> from keras_mtl.strategies import EdgeRule
    >>> EdgeRule().edges([(8, 8), (8, 8), (4, 4)])
    [(0, 0), (0, 1), (1, 1), (2, 2)]

    Reference:
        [MTL-NAS](https://arxiv.org/abs/2003.14058), section 3.1, and the rule of its code.
    """

    def __init__(self, distance: int = 3, same_stage: bool = True, smallest_stage: int = 1) -> None:
        for name, value in (("distance", distance), ("smallest_stage", smallest_stage)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be an integer of at least 1. Received: {name}={value!r}."
                )
        self.distance = distance
        self.same_stage = bool(same_stage)
        self.smallest_stage = smallest_stage

    def allows(self, source: int, target: int, stages: Sequence[int]) -> bool:
        """Whether unit number `target` may read unit number `source` of another column.

        Args:
            source, target: int. Positions of units, `source` at most `target`.
            stages: list of int. The number of every unit's stage, from 0.
        """
        one_stage = stages[source] == stages[target] or not self.same_stage
        large = min(stages.count(stages[i]) for i in (source, target)) >= self.smallest_stage
        return one_stage and large and target - source < self.distance

    def edges(self, sizes: Sequence[Any]) -> list[tuple[int, int]]:
        """All edges of one direction.

        Args:
            sizes: list of tuples. The spatial size of what each unit gives, in order; neighbours of
                one size are a stage.

        Returns:
            A list of `(source, target)` positions, sorted by target and source.
        """
        stages = []
        for i, size in enumerate(sizes):
            stages.append(stages[-1] + (size != sizes[i - 1]) if stages else 0)
        return [
            (source, target)
            for target in range(len(stages))
            for source in range(target + 1)
            if self.allows(source, target, stages)
        ]


def edge_rule(edges):
    """An `EdgeRule` from `None` (the default one), a rule or what was saved of one."""
    if edges is None:
        return EdgeRule()
    if isinstance(edges, dict):
        edges = keras.saving.deserialize_keras_object(edges)
    if not isinstance(edges, EdgeRule):
        raise ValueError(
            f"`edges` must be an `EdgeRule`, or a subclass of yours. Received: edges={edges!r}."
        )
    return edges
