"""Shared: one trunk for all tasks (hard parameter sharing)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_mtl.architecture import SHARED
from keras_mtl.strategies.strategy import FixedStrategy, check_normalisation

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


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

    def __init__(self, *, normalisation: Literal["shared", "task"] = "shared") -> None:
        self.normalisation = check_normalisation(normalisation)

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        return {"choices": {task: (SHARED,) * len(units) for task in tasks}}
