"""SpaceOracle: base of the oracles whose candidates are points of a cube."""

import keras_tuner

from keras_mtl.tuners.resumable_oracle import ResumableOracle

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

    def __init__(self, space, objective=None, max_trials=1000, **options):
        objective = objective or keras_tuner.Objective("score", "max")
        super().__init__(objective, max_trials, **options)
        self.space = space

    points = ()  # where a search by generations has been

    def generation_of(self, index):
        """The generation to which a candidate belongs; 0 for what is drawn at random."""
        return 0

    def populate_space(self, trial_id):
        response = super().populate_space(trial_id)
        if "values" in response:
            response["values"] |= self.propose(int(trial_id))
        return response

    def settings(self):
        return {**super().settings(), "space": repr(self.space)}

    def draw(self, index):
        """Random point number `index`."""
        return self.space.draw(self.generator(DRAW, index))

    def candidate_of(self, point):
        """A point as plain data."""
        return dict(zip(self.space.names, point.tolist(), strict=True))
