"""Outer-loop searches on KerasTuner: they survive kills, and run on many machines.

Oracles propose candidates (plain data), tuners say what one is worth. `ResumableOracle` and
`ResumableTuner` are the bases; a method is an oracle in a file of its own.
"""

from keras_mtl.tuners.architecture_result import ArchitectureResult
from keras_mtl.tuners.architecture_tuner import ArchitectureTuner
from keras_mtl.tuners.branch_tuner import BranchTuner
from keras_mtl.tuners.candidate_oracle import CandidateOracle
from keras_mtl.tuners.evolution_strategies_oracle import EvolutionStrategiesOracle
from keras_mtl.tuners.partition_result import PartitionResult
from keras_mtl.tuners.partition_run import PartitionRun
from keras_mtl.tuners.partition_tuner import PartitionTuner
from keras_mtl.tuners.random_oracle import RandomOracle
from keras_mtl.tuners.resumable_oracle import ResumableOracle
from keras_mtl.tuners.resumable_tuner import ResumableTuner
from keras_mtl.tuners.space_oracle import SpaceOracle

__all__ = [
    "ArchitectureResult",
    "ArchitectureTuner",
    "BranchTuner",
    "CandidateOracle",
    "EvolutionStrategiesOracle",
    "PartitionResult",
    "PartitionRun",
    "PartitionTuner",
    "RandomOracle",
    "ResumableOracle",
    "ResumableTuner",
    "SpaceOracle",
]
