"""PartitionTuner: searches for partitions, by whatever score."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras_tuner.engine.trial import Trial

from keras_mtl.errors import NonFiniteError, suggestion
from keras_mtl.partition import PartitionSpace
from keras_mtl.tuners.evolution_strategies_oracle import EvolutionStrategiesOracle
from keras_mtl.tuners.partition_result import PartitionResult
from keras_mtl.tuners.partition_run import PartitionRun
from keras_mtl.tuners.random_oracle import RandomOracle
from keras_mtl.tuners.result_rows import RESULT, best_row
from keras_mtl.tuners.resumable_tuner import ResumableTuner
from keras_mtl.tuners.space_oracle import TRAINING, SpaceOracle

if TYPE_CHECKING:
    from keras_mtl.partition import Partition

ORACLES = {"evolution_strategies": EvolutionStrategiesOracle, "random": RandomOracle}


class PartitionTuner(ResumableTuner):
    """Searches for the partition with the best score, on one machine or many; keeps every result.

    The score comes from a function: a distillation proxy, a full training, or anything else that
    says what a partition is worth. A search that was interrupted goes on when the same script is
    started again: what has a result is not scored again, what was interrupted begins anew. A score
    of NaN, or a training that runs into it (`NonFiniteError`), is a result without a score; any
    other error ends the search.

    Args:
        score: function of a `Partition` and a `PartitionRun` that returns a number, the larger the
            better; or a dict of numbers with `"score"` among them, of which the others are kept as
            metrics.
        space: `PartitionSpace`, or a sequence of task names for all partitions of these.
        oracle: `"evolution_strategies"`, `"random"`, or an oracle of that space, with settings of
            its own.
        max_trials: int. How many partitions are scored; by default 1000. An oracle that is given
            has its own.
        **options: `directory`, `project_name`, `overwrite`, `idle_seconds` and `chief_timeout` of
            `ResumableTuner`; and of the oracle, where it is named, its settings, such as
            `learning_rate`, and `seed` (candidates and the seeds of their scoring follow from it),
            `lease` and others of `ResumableOracle`.

    Raises:
        TypeError, ValueError: for unusable arguments, and for a score that is no number.

    Example:

    >>> import tempfile
    >>> from keras_mtl.tuners import PartitionTuner
    >>> def score(partition, run):
    ...     return -abs(partition.feature_use - 0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tuner = PartitionTuner(
    ...         score, ("depth", "normal"), "random", max_trials=8, directory=folder,
    ...         project_name="search")
    ...     tuner.search(verbose=0)
    ...     best = tuner.best_result()
    >>> best.index, round(best.feature_use, 2)
    (1, 0.51)

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 4.
    """

    def __init__(
        self,
        score: Callable[[Partition, PartitionRun], Any],
        space: PartitionSpace | Sequence[str],
        oracle: str | SpaceOracle = "evolution_strategies",
        *,
        max_trials: int | None = None,
        directory: os.PathLike[str] | str,
        project_name: str,
        overwrite: bool = False,
        idle_seconds: float = 2.0,
        chief_timeout: float = 600.0,
        **options: Any,
    ) -> None:
        if not callable(score):
            raise TypeError(
                "`score` must be a function of a partition and a run that returns a number. "
                f"Received: score={score!r}."
            )
        self.space = space if isinstance(space, PartitionSpace) else PartitionSpace(space)
        self._score = score
        if max_trials is not None:
            options["max_trials"] = max_trials
        super().__init__(
            _as_oracle(oracle, self.space, options),
            directory=directory,
            project_name=project_name,
            overwrite=overwrite,
            idle_seconds=idle_seconds,
            chief_timeout=chief_timeout,
        )

    def search(self, *, verbose: int = 1) -> None:  # type: ignore[override]
        """Scores partitions until all candidates have a result.

        Args:
            verbose: 1 says a line for each candidate, 0 nothing.
        """
        super().search(verbose=verbose)

    def results(self) -> list[PartitionResult]:
        """The rows of all candidates that have a result, as `PartitionResult`, in their order."""
        return PartitionResult.load_all(self.project_dir)

    def history(self) -> list[tuple[float, float, int | None]]:
        """Rows `(feature_use, score, generation)` that `keras_mtl.plot.partition_search` draws."""
        return [
            (row.feature_use, row.score, row.generation)
            for row in self.results()
            if row.score is not None
        ]

    def best_result(self) -> PartitionResult:
        """The row with the best score, the first one of equals."""
        return best_row(self.results(), self._local.objective)

    def best_partition(self) -> Partition:
        """The `Partition` with the best score."""
        return self.best_result().partition

    def last_partition(self) -> Partition:
        """The `Partition` at which evolution strategies have arrived, as the chief knows.

        It was not scored itself, so that no luck of a noisy score is in it.
        """
        if not self._local.points:
            raise ValueError(
                "`search` must have ended a generation of evolution strategies first. Received: "
                f"oracle={type(self._local).__name__} without one."
            )
        return self.space.partition(self._local.points[-1])

    # One candidate ------------------------------------------------------------------------------

    def train(self, trial: Trial, candidate: Any) -> dict[str, float]:
        path = self.folder(trial.trial_id) / RESULT
        result = PartitionResult.load_or_set_aside(path)
        partition = self.space.partition([candidate[name] for name in self.space.names])
        # There is one when a kill came between its file and its report, or the oracle's are lost.
        if result is None or result.partition != partition:
            result = self._scored(int(trial.trial_id), partition, path.parent)
            result.save(path)
        return {**result.metrics, "score": math.nan if result.score is None else result.score}

    def _scored(self, index, partition, folder):
        seed = int(self._local.generator(TRAINING, index).integers(2**31))
        folder.mkdir(parents=True, exist_ok=True)
        # Not TensorFlow's: with another global seed it prepares all traced functions anew.
        random.seed(seed)
        np.random.seed(seed)
        began = time.monotonic()
        try:
            metrics = _as_metrics(self._score(partition, PartitionRun(index, seed, folder, self)))
            score = metrics.pop("score")
            message = None if math.isfinite(score) else f"score is {score}"
        except NonFiniteError as error:
            score, metrics, message = math.nan, {}, str(error)
        return PartitionResult(
            index=index,
            generation=self._local.generation_of(index),
            partition=partition,
            score=None if message else score,
            metrics=metrics,
            seconds=time.monotonic() - began,
            message=message,
        )


def _as_oracle(oracle, space, options):
    if isinstance(oracle, str):
        if oracle not in ORACLES:
            raise ValueError(
                f"`oracle` must be one of {sorted(ORACLES)}, or an oracle. Received: "
                f"oracle={oracle!r}.{suggestion(oracle, ORACLES)}"
            )
        return ORACLES[oracle](space, **options)
    if not isinstance(oracle, SpaceOracle):
        raise TypeError(
            f"`oracle` must be one of {sorted(ORACLES)}, or an oracle of partitions. Received: "
            f"oracle={oracle!r}."
        )
    if options:
        raise ValueError(
            f"`{next(iter(options))}` must be given to the oracle, not beside it. Received: "
            f"{options} and oracle={oracle!r}."
        )
    if oracle.space != space:
        raise ValueError(
            f"`oracle` must be of the given space. Received: oracle.space={oracle.space}, "
            f"space={space}."
        )
    if oracle.objective.name != "score":
        raise ValueError(
            "`oracle` must have the objective 'score'. Received: "
            f"objective={oracle.objective.name!r}."
        )
    return oracle


def _as_metrics(found):
    metrics = dict(found) if isinstance(found, Mapping) else {"score": found}
    try:
        if "score" not in metrics:
            raise TypeError("no 'score'")
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError):
        raise TypeError(
            "`score` must return a number, or a dict of numbers with 'score' among them. "
            f"Received: {found!r}."
        ) from None
