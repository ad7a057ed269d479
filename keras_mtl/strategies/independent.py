"""Independent: one trunk per task, nothing shared."""

from keras_mtl.architecture import OWN
from keras_mtl.strategies.strategy import FixedStrategy


class Independent(FixedStrategy):
    """One trunk per task; what K single-task networks are, in one model.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.Independent().decide(None, ("u",), ("a", "b"))
    {'choices': {'a': ('own',), 'b': ('own',)}}
    """

    name = "independent"

    def decide(self, graph, units, tasks):
        return {"choices": {task: (OWN,) * len(units) for task in tasks}}
