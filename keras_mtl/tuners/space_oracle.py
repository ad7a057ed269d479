"""SpaceOracle: base of the oracles whose candidates are points of a cube."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras_tuner
import numpy as np

from keras_mtl.tuners.resumable_oracle import ResumableOracle

if TYPE_CHECKING:
    from keras_mtl.partition import PartitionSpace

# What the random numbers of a search are for; the first part of a generator's key.
DRAW, NOISE, TRAINING = range(3)


class SpaceOracle(ResumableOracle):
    """Proposes points of a space, as dicts from name to number.

    The numbers are hyperparameters of KerasTuner's trials too. A subclass writes `propose`, and
    `generation_of` if it goes by generations.

    Args:
        space: what has `names`, `shares` and `draw(generator)`, such as
            `keras_mtl.partition.PartitionSpace`; a dataclass of plain data.
        objective: as in `ResumableOracle`; by default `"score"`, which is to be large.
        max_trials: int. The number of candidates.
        **options: `seed`, `lease`, ... of `ResumableOracle`.
    """

    def __init__(
        self,
        space: PartitionSpace,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int = 1000,
        **options: Any,
    ) -> None:
        objective = objective or keras_tuner.Objective("score", "max")
        super().__init__(objective, max_trials, **options)
        self.space = space

    points: Any = ()  # where a search by generations has been

    def generation_of(self, index: int) -> int:
        """The generation to which a candidate belongs; 0 for what is drawn at random."""
        return 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        response = super().populate_space(trial_id)
        if "values" in response:
            response["values"] |= self.propose(int(trial_id))
        return response

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "space": repr(self.space)}

    def draw(self, index: int) -> np.ndarray:
        """Random point number `index`."""
        return self.space.draw(self.generator(DRAW, index))

    def candidate_of(self, point: np.ndarray) -> dict[str, float]:
        """A point as plain data."""
        return dict(zip(self.space.names, point.tolist(), strict=True))
