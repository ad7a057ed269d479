"""EvolutionStrategiesOracle: climbs by finite differences along random directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import keras_tuner
import numpy as np

from keras_mtl.checks import check_count, check_not_negative, check_positive
from keras_mtl.tuners.space_oracle import NOISE, SpaceOracle

if TYPE_CHECKING:
    from keras_mtl.partition import PartitionSpace


class EvolutionStrategiesOracle(SpaceOracle):
    """Moves a point of a space uphill, along random directions that are tried both ways.

    Generation 0 draws `starts` random points, of which the best is `points[0]`. Every later
    generation proposes `point + δ` and `point - δ` for each of `directions` vectors δ ~ N(0,
    deviation²), clipped to [0, 1]. With the scores r divided by (their standard deviation over the
    generation + `epsilon`), and the mean over the `kept` pairs whose larger score is the largest,

    `g = -mean((r⁺ - r⁻) δ) + decay · (shares)`, `v ← momentum · v + g`,
    `point ← clip(point - learning_rate · v, 0, 1)`

    where shares are the entries of the point that say how many channels a task uses (the diagonal
    of the forward matrix), and 0 elsewhere: tasks give up channels that do not help them. A
    candidate that failed (NaN) counts as the worst score of its generation; where all have failed,
    the point stays.

    A generation begins when the last one has ended to the last candidate; idle workers wait.

    Args:
        space: `keras_mtl.partition.PartitionSpace`.
        objective: string or `keras_tuner.Objective`; by default `"score"`, which is to be large.
        max_trials: int. Number of all candidates; generations of less than all pairs do not move
            the point.
        starts: int. Number of random points.
        directions: int. Number of pairs in a generation.
        kept: int. Number of pairs that count.
        deviation: float. How far candidates are from the point, in each number.
        learning_rate: float.
        momentum: float.
        decay: float. How much fewer channels are worth.
        epsilon: float. Keeps a generation of equal scores from counting much.
        **options: `seed`, `lease`, ... of `ResumableOracle`.

    Raises:
        ValueError: for unusable arguments, and on `reload` when the search began with others.

    Example:

    >>> from keras_mtl.partition import PartitionSpace
    >>> from keras_mtl.tuners import EvolutionStrategiesOracle
    >>> space = PartitionSpace(("depth", "normal"))
    >>> oracle = EvolutionStrategiesOracle(space, starts=2, seed=0)
    >>> oracle.propose(2) is None  # before the first two have ended
    True
    >>> oracle.observe(0, score=0.7), oracle.observe(1, score=0.8)
    (None, None)
    >>> up, down = (np.array([*oracle.propose(index).values()]) for index in (2, 3))
    >>> bool(np.allclose((up + down) / 2, oracle.points[0], atol=0.2))
    True

    Reference: [Simple random search of static linear policies is competitive for reinforcement
    learning](https://arxiv.org/abs/1803.07055), Algorithm 2; [Feature Partitioning for Efficient
    Multi-Task Architectures](https://arxiv.org/abs/1908.04339), Sections 4.1 and 5.2.
    """

    def __init__(
        self,
        space: PartitionSpace,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int = 1000,
        *,
        starts: int = 32,
        directions: int = 16,
        kept: int = 8,
        deviation: float = 0.05,
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        decay: float = 1e-3,
        epsilon: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(space, objective, max_trials, **options)
        self.starts = check_count("starts", starts)
        self.directions = check_count("directions", directions)
        self.kept = check_count("kept", kept)
        if kept > directions:
            raise ValueError(
                f"`kept` must be at most the number of directions, {directions}. "
                f"Received: kept={kept}."
            )
        self.deviation = check_positive("deviation", deviation)
        self.learning_rate = check_positive("learning_rate", learning_rate)
        self.momentum = check_not_negative("momentum", momentum)
        self.decay = check_not_negative("decay", decay)
        self.epsilon = check_not_negative("epsilon", epsilon)
        self.points = []
        self._velocity = [0.0] * len(space.names)
        self._scores = {}

    @classmethod
    def reference(
        cls,
        space: PartitionSpace,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int = 10_000,
        **options: Any,
    ) -> Self:
        """The settings of the authors' code, which differ from those of their paper."""
        settings = {"directions": 8, "kept": 7, "deviation": 0.04}
        settings |= {"learning_rate": 0.25, "momentum": 0.8}
        return cls(space, objective, max_trials, **{**settings, **options})

    def settings(self) -> dict[str, Any]:
        names = ("starts", "directions", "kept", "deviation", "learning_rate", "momentum", "decay")
        own = {name: getattr(self, name) for name in (*names, "epsilon")}
        return {**super().settings(), **own}

    def generation_of(self, index: int) -> int:
        return 0 if index < self.starts else 1 + (index - self.starts) // (2 * self.directions)

    def propose(self, index: int) -> Any:
        if index < self.starts:
            return self.candidate_of(self.draw(index))
        generation = self.generation_of(index)
        if generation > len(self.points):
            return None
        pair, down = divmod((index - self.starts) % (2 * self.directions), 2)
        noise = self._noise(generation, pair)
        point = np.asarray(self.points[generation - 1])
        return self.candidate_of(np.clip(point - noise if down else point + noise, 0.0, 1.0))

    def observe(self, index: int, score: float | None) -> None:
        failed = score is None or not math.isfinite(score)
        sign = 1.0 if self.objective.direction == "max" else -1.0
        self._scores[str(index)] = None if failed else sign * score
        generation = len(self.points)
        if len(self._scores) < (2 * self.directions if generation else self.starts):
            return
        scores: Any = [self._scores[key] for key in sorted(self._scores, key=int)]
        scores = np.array([math.nan if score is None else score for score in scores])
        all_failed = np.isnan(scores).all()
        scores = np.where(np.isnan(scores), 0.0 if all_failed else np.nanmin(scores), scores)
        if not generation:
            self.points.append(self.draw(int(scores.argmax())).tolist())
        elif all_failed:
            self.points.append(self.points[-1])
        else:
            self._step(generation, scores.reshape(-1, 2))
        self._scores = {}

    def _step(self, generation, scores):
        noise = np.array([self._noise(generation, pair) for pair in range(self.directions)])
        best = np.argsort(-scores.max(axis=1), kind="stable")[: self.kept]
        slope = (scores[best, 0] - scores[best, 1]) / (scores.std() + self.epsilon)
        point = np.asarray(self.points[-1])
        gradient = -(slope @ noise[best]) / self.kept
        gradient += self.decay * np.where(self.space.shares, point, 0.0)
        velocity = self.momentum * np.asarray(self._velocity) + gradient
        self._velocity = velocity.tolist()
        self.points.append(np.clip(point - self.learning_rate * velocity, 0.0, 1.0).tolist())

    def _noise(self, generation, pair):
        normal = self.generator(NOISE, generation, pair).standard_normal(len(self.space.names))
        return self.deviation * normal

    def get_state(self) -> dict[str, Any]:
        own: dict[str, Any] = {"points": list(self.points), "velocity": self._velocity}
        own["scores"] = dict(self._scores)
        return {**super().get_state(), "evolution_strategies": own}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        own = state["evolution_strategies"]
        self.points = own["points"]
        self._velocity, self._scores = own["velocity"], own["scores"]
