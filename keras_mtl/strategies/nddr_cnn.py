"""NDDR-CNN: columns whose features are concatenated and reduced by 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from keras_mtl.strategies.columns import Columns, nddr_fusion

if TYPE_CHECKING:
    from keras_mtl.fusion import Fusion


class NDDRCNN(Columns):
    """After each stage every task reads all columns through an `NDDRFusion` of its own.

    Args:
        w_own: float. First weight of the own column; the others share the rest evenly.
        granularity: `"stage"`, `"block"` or `"operator"`: after which units.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.NDDRCNN().w_own
    0.9

    Reference:
        [NDDR-CNN](https://arxiv.org/abs/1801.08297); the fusion as in
        [MTL-NAS](https://arxiv.org/abs/2003.14058), with batch normalisation and ReLU.
    """

    name = "nddr_cnn"

    def __init__(
        self, *, w_own: float = 0.9, granularity: Literal["stage", "block", "operator"] = "stage"
    ) -> None:
        super().__init__(granularity=granularity)
        self.w_own = float(w_own)

    def fusions(self, unit: str, tasks: Sequence[str]) -> list[Fusion]:
        return [
            nddr_fusion(unit, task, [(other, unit) for other in tasks if other != task], self.w_own)
            for task in tasks
        ]
