"""PartitionRun: where and with which seed a partition is scored."""

import dataclasses
import pathlib

import keras

from keras_mtl.tuners.resumable_tuner import ResumableTuner


@dataclasses.dataclass(frozen=True)
class PartitionRun:
    """What a scoring function of `PartitionTuner` is given beside the partition.

    Args:
        index: int. The place of the partition among the candidates.
        seed: int. Follows from the search's seed and the index. Python's and NumPy's global
            seeds are set to it already; give it to everything else that is random.
        folder: path. A folder for this candidate, which stays after a kill.
        tuner: the tuner that runs the search.
    """

    index: int
    seed: int
    folder: pathlib.Path
    tuner: ResumableTuner = dataclasses.field(repr=False)

    def heartbeat(self) -> keras.callbacks.Callback:
        """A Keras callback for `fit` and `evaluate`, that reports after every batch."""
        return self.tuner.heartbeat()

    def report(self) -> None:
        """Tells the chief of a search on many machines that scoring goes on.

        Scoring that takes longer than the `lease` of the oracle without a report is given to
        another worker. Call it as often as you like.
        """
        self.tuner.report()
