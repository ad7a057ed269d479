"""Columns: every task has a network of its own, and the networks exchange features."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_mtl.architecture import OWN
from keras_mtl.fusion import Fusion
from keras_mtl.graph import GRANULARITIES
from keras_mtl.strategies.strategy import FixedStrategy, one_of

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


class Columns(FixedStrategy):
    """Base of the strategies with one column per task and fixed fusions after units.

    Args:
        granularity: `"stage"` (after the last layer of every map size, as in the papers),
            `"block"` or `"operator"`: after which units the columns exchange features.
    """

    begins_trained = True

    def __init__(self, *, granularity: Literal["stage", "block", "operator"] = "stage") -> None:
        one_of("granularity", granularity, GRANULARITIES)
        self.granularity = granularity

    @abc.abstractmethod
    def fusions(self, unit: str, tasks: Sequence[str]) -> list[Fusion]:
        """Returns the list of `Fusion` after one unit; there are two or more tasks."""

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        places = units if len(tasks) > 1 else ()
        return {
            "choices": {task: (OWN,) * len(units) for task in tasks},
            "fusions": tuple(f for unit in places for f in self.fusions(unit.name, tasks)),
        }


def nddr_fusion(unit, task, others, w_own):
    """The `Fusion` in which a task reads its own output of a unit, and others by 1x1 convolution.

    Args:
        unit: string. After which unit.
        task: string. Whose output is replaced.
        others: sequence of `(task, unit)`. What else is read.
        w_own: float. First weight of the own output.
    """
    settings = {"w_own": w_own}
    return Fusion(f"{unit}.nddr.{task}", "nddr", unit, [(task, unit), *others], (task,), settings)
