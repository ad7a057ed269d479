"""Outer-loop searches on KerasTuner: they survive kills, and run on many machines.

Oracles propose candidates (plain data), tuners say what one is worth. `ResumableOracle` and
`ResumableTuner` are the bases; a method is an oracle in a file of its own.
"""

from keras_mtl.tuners.architecture_result import ArchitectureResult
from keras_mtl.tuners.architecture_tuner import ArchitectureTuner
from keras_mtl.tuners.branch_tuner import BranchTuner
from keras_mtl.tuners.candidate_oracle import CandidateOracle
from keras_mtl.tuners.resumable_oracle import ResumableOracle
from keras_mtl.tuners.resumable_tuner import ResumableTuner

__all__ = [
    "ArchitectureResult",
    "ArchitectureTuner",
    "BranchTuner",
    "CandidateOracle",
    "ResumableOracle",
    "ResumableTuner",
]
