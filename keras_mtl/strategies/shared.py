"""Shared: one trunk for all tasks (hard parameter sharing)."""

from keras_mtl.architecture import SHARED
from keras_mtl.strategies.strategy import FixedStrategy, check_normalisation


class Shared(FixedStrategy):
    """One trunk for all tasks; only the heads are their own.

    Args:
        normalisation: `"shared"` or `"task"`.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.Shared().decide(None, ("u", "v"), ("a", "b"))
    {'choices': {'a': ('shared', 'shared'), 'b': ('shared', 'shared')}}

    Reference:
        Caruana, Multitask Learning, 1997.
    """

    name = "shared"

    def __init__(self, *, normalisation="shared"):
        self.normalisation = check_normalisation(normalisation)

    def decide(self, graph, units, tasks):
        return {"choices": {task: (SHARED,) * len(units) for task in tasks}}
