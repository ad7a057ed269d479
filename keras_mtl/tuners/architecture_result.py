"""ArchitectureResult: what one candidate of an `ArchitectureTuner` was worth."""

import dataclasses

from keras_mtl.architecture import Architecture
from keras_mtl.tuners.result_rows import ResultRow


@dataclasses.dataclass(frozen=True)
class ArchitectureResult(ResultRow):
    """A row of `ArchitectureTuner.results()`.

    Args:
        index: int. The place among the candidates.
        architecture: `Architecture`, with its costs.
        score: float, or `None` where the training failed.
        metrics: dict from name to float, or to lists of floats where a metric's result is an array:
            the last epoch's logs, and `val_...` of the validation.
        seconds: float. What building, training and validation took.
        message: string or `None`. Why the training failed.
    """

    index: int
    architecture: Architecture
    score: float | None
    metrics: dict
    seconds: float
    message: str | None = None

    candidate = "architecture"
    kind = Architecture

    @property
    def parameters(self) -> int:
        """Number of parameters of all tasks together."""
        return self.architecture.parameters()

    @property
    def flops(self) -> int:
        """FLOPs of one example for all tasks together."""
        return self.architecture.flops()
