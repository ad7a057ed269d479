"""Columns: every task has a network of its own, and the networks exchange features."""

import abc

from keras_mtl.architecture import OWN
from keras_mtl.graph import GRANULARITIES
from keras_mtl.strategies.strategy import FixedStrategy, one_of


class Columns(FixedStrategy):
    """Base of the strategies with one column per task and fixed fusions after units.

    Args:
        granularity: `"stage"` (after the last layer of every map size, as in the papers),
            `"block"` or `"operator"`: after which units the columns exchange features.
    """

    def __init__(self, *, granularity="stage"):
        one_of("granularity", granularity, GRANULARITIES)
        self.granularity = granularity

    @abc.abstractmethod
    def fusions(self, unit, tasks):
        """Returns the list of `Fusion` after one unit; there are two or more tasks."""

    def decide(self, graph, units, tasks):
        places = units if len(tasks) > 1 else ()
        return {
            "choices": {task: (OWN,) * len(units) for task in tasks},
            "fusions": tuple(f for unit in places for f in self.fusions(unit.name, tasks)),
        }
