"""RandomOracle: points of a space, drawn at random."""

from typing import Any

from keras_mtl.tuners.space_oracle import SpaceOracle


class RandomOracle(SpaceOracle):
    """Proposes points as the space draws them: uniformly, or restricted around a share.

    With the same seed and space, the first points are those that an `EvolutionStrategiesOracle`
    starts with.

    Args:
        space: `keras_mtl.partition.PartitionSpace`.
        objective: string or `keras_tuner.Objective`; by default `"score"`, which is to be large.
        max_trials: int.
        **options: `seed`, `lease`, ... of `ResumableOracle`.

    Example:

    >>> from keras_mtl.partition import PartitionSpace
    >>> from keras_mtl.tuners import RandomOracle
    >>> oracle = RandomOracle(PartitionSpace(("depth", "normal"), backward=False), seed=0)
    >>> {name: round(value, 2) for name, value in oracle.propose(0).items()}
    {'forward.0.0': 0.64, 'forward.0.1': 0.27, 'forward.1.1': 0.04}

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 4.1.
    """

    def propose(self, index: int) -> Any:
        return self.candidate_of(self.draw(index))
