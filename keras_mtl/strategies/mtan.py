"""MTAN: one trunk for all tasks, from which each task selects features by attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl.architecture import SHARED
from keras_mtl.checks import check_count
from keras_mtl.fusion import Fusion
from keras_mtl.graph import find_units
from keras_mtl.strategies.strategy import FixedStrategy

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


class MTAN(FixedStrategy):
    """A shared trunk; for every task and stage a `TaskAttention` that selects from it.

    At the end of a stage the mask of a task reads the trunk before the stage's last block (where a
    stage is a single block, behind it), and what the task selected at the stage before. The trunk
    itself goes on unattended; what a task selects at the last stage are its features.

    What the paper leaves open: where the stages of a backbone are. Here a stage is a run of blocks
    whose outputs have one size, as elsewhere in the library; the stem is one too. The authors'
    program for ResNets attends to the four stages of blocks alone.

    Args:
        reduction: int. Channels of the features for each one inside masks and between them; 4 in
            the authors' program for ResNets, 1 in that for SegNet.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.MTAN().reduction
    4

    Reference:
        [End-to-End Multi-Task Learning with Attention](https://arxiv.org/abs/1803.10704), its
        encoder; see `keras_mtl.layers.TaskAttention`. The paper's decoder, with masks of its own,
        is the head's matter.
    """

    name = "mtan"

    def __init__(self, *, reduction: int = 4) -> None:
        self.reduction = check_count("reduction", reduction)

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        stages = _stages(graph, units)
        return {
            "choices": {task: (SHARED,) * len(units) for task in tasks},
            "fusions": tuple(f for task in tasks for f in self._attention(graph, stages, task)),
        }

    def _attention(self, graph, stages, task):
        """The chain of one task's masks."""
        fusions, previous = [], ()
        for stage in stages:
            last = stage[-1]
            # Blocks of an unknown size may differ in it.
            open_size = None in graph.spec(last.output).shape[1:-1]
            before = last if open_size else stage[-2:][0]
            fusion = Fusion(
                f"{last.name}.attention.{task}",
                "task_attention",
                last.name,
                ((task, last.name), (task, before.name), *previous),
                (task,),
                {"reduction": self.reduction},
                aside=stage is not stages[-1],
            )
            fusions.append(fusion)
            previous = ((task, fusion.name),)
        return fusions


def _stages(graph, units):
    """The units with a choice of every stage, in order; stages without any are left out."""
    found = []
    for stage in find_units(graph, "stage"):
        calls = set(stage.calls)
        found.append([unit for unit in units if calls.issuperset(unit.calls)])
    return [stage for stage in found if stage]
