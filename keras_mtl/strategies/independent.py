"""Independent: one trunk per task, nothing shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl.architecture import OWN
from keras_mtl.strategies.strategy import FixedStrategy

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


class Independent(FixedStrategy):
    """One trunk per task; what K single-task networks are, in one model.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.Independent().decide(None, ("u",), ("a", "b"))
    {'choices': {'a': ('own',), 'b': ('own',)}}
    """

    name = "independent"

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        return {"choices": {task: (OWN,) * len(units) for task in tasks}}
