"""Stochastic depth on the shared network: blocks are dropped at random while it trains."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_mtl.strategies import AdaShare, Phase
from keras_mtl.strategies.adashare import AdaSharePlan, AdaShareSearch


class StochasticDepth(AdaShare):
    """All tasks share every block; block l of L is there with probability 1 − (1 − last)·l/L.

    In training one draw for each step decides for all tasks; in inference a block counts by its
    probability. Nothing is decided, so nothing is trained again.

    Args:
        last: float. The probability of the last block.
        **settings: of `AdaShare`.

    Reference:
        [Deep Networks with Stochastic Depth](https://arxiv.org/abs/1603.09382), equations 4 and 5.
    """

    name = "stochastic_depth"
    retrains = False

    def __init__(self, *, last=0.5, **settings):
        super().__init__(**settings)
        self.last = float(last)

    def open(self, graph, units, tasks, seed):
        return StochasticDepthSearch(self, graph, units, tasks)


class StochasticDepthSearch(AdaShareSearch):
    """Gates that are thrown, and never learned."""

    def plan(self, epochs, steps_per_epoch):
        return StochasticDepthPlan(self.strategy, len(self.units), epochs, steps_per_epoch)

    def survival(self):
        """Probabilities of shape `(blocks, 1)`."""
        depth = np.arange(1, len(self.units) + 1) / len(self.units)
        return (1.0 - (1.0 - self.strategy.last) * depth)[:, None].astype("float32")

    def draw(self, moment):
        there = ops.convert_to_tensor(self.survival())
        if moment.training:
            thrown = keras.random.uniform(self.survival().shape, seed=moment.noise())
            there = ops.cast(thrown < there, "float32")
        there = ops.repeat(there, len(self.columns), axis=1)
        return ops.stack([there, 1.0 - there], axis=-1)

    def regularisers(self, moment, drawn):
        return {}


@dataclasses.dataclass(frozen=True)
class StochasticDepthPlan(AdaSharePlan):
    """One phase, in which the weights move."""

    def phase(self, step):
        return Phase("search", self.num_units, ("weights",))

    @property
    def first_open_step(self):
        return 0
