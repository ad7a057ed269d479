"""PartitionResult: what one candidate of a `PartitionTuner` was worth."""

import dataclasses

from keras_mtl.partition import Partition
from keras_mtl.tuners.result_rows import ResultRow


@dataclasses.dataclass(frozen=True)
class PartitionResult(ResultRow):
    """A row of `PartitionTuner.results()`.

    Args:
        index: int. The place among the candidates.
        generation: int. To which generation of the search it belongs; 0 where it was drawn at
            random.
        partition: `Partition`.
        score: float, or `None` where there was none.
        metrics: dict from name to float: what the scoring function returned beside the score.
        seconds: float. What scoring took.
        message: string or `None`. Why there is no score.
    """

    index: int
    generation: int
    partition: Partition
    score: float | None
    metrics: dict
    seconds: float
    message: str | None = None

    candidate = "partition"
    kind = Partition

    @property
    def feature_use(self) -> float:
        """Mean share of channels that a task uses."""
        return self.partition.feature_use
