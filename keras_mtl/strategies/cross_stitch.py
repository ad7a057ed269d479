"""Cross-stitch networks: columns that exchange features by learned linear combinations."""

from collections.abc import Sequence
from typing import Literal

from keras_mtl.fusion import Fusion
from keras_mtl.strategies.columns import Columns


class CrossStitch(Columns):
    """After each stage, x_i ← Σ_j a_ij·x_j, with a weight per channel and pair of tasks.

    Args:
        own: float. First weight of the own column; the others share the rest evenly.
        granularity: `"stage"`, `"block"` or `"operator"`: after which units.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.CrossStitch().own
    0.9

    Reference:
        [Cross-stitch Networks](https://arxiv.org/abs/1604.03539), equation 1. The paper has two
        tasks; the even rest for more is ours, as is the place (it stitches after pooling and fully
        connected layers of AlexNet).
    """

    name = "cross_stitch"

    def __init__(
        self, *, own: float = 0.9, granularity: Literal["stage", "block", "operator"] = "stage"
    ) -> None:
        super().__init__(granularity=granularity)
        self.own = float(own)

    def fusions(self, unit: str, tasks: Sequence[str]) -> list[Fusion]:
        sources = [(task, unit) for task in tasks]
        settings = {"num_tasks": len(tasks), "own": self.own}
        return [Fusion(f"{unit}.stitch", "cross_stitch", unit, sources, tasks, settings)]
