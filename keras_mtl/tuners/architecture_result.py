"""ArchitectureResult: what one candidate of an `ArchitectureTuner` was worth."""

import dataclasses

from keras_mtl.architecture import Architecture
from keras_mtl.tuners.files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class ArchitectureResult:
    """A row of `ArchitectureTuner.results()`.

    Args:
        index: int. The place among the candidates.
        architecture: `Architecture`, with its costs.
        score: float, or `None` where the training failed.
        metrics: dict from name to float: the last epoch's logs, and `val_...` of the validation.
        seconds: float. What building, training and validation took.
        message: string or `None`. Why the training failed.
    """

    index: int
    architecture: Architecture
    score: float | None
    metrics: dict
    seconds: float
    message: str | None = None

    @property
    def parameters(self):
        """Number of parameters of all tasks together."""
        return self.architecture.parameters()

    @property
    def flops(self):
        """FLOPs of one example for all tasks together."""
        return self.architecture.flops()

    def save(self, path):
        """Writes the row as JSON, whole or not at all."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        write_json(path, {**data, "architecture": self.architecture.to_json()})

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote; `None` where there is no file."""
        data = read_json(path)
        if data is None:
            return None
        return cls(**{**data, "architecture": Architecture.from_json(data["architecture"])})
