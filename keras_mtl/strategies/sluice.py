"""Sluice networks: columns that exchange subspaces, and heads that read all their layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_mtl.checks import check_count
from keras_mtl.fusion import Fusion
from keras_mtl.layers._columns import fits, not_negative, share
from keras_mtl.layers.sluice import INITIAL
from keras_mtl.strategies.columns import Columns
from keras_mtl.strategies.strategy import one_of

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


class Sluice(Columns):
    r"""After each stage $\tilde{h}_{ig} = Σ_{jh} α_{igjh} h_{jh}$ over tasks and subspaces.

    What the head of a task sees is $Σ_l β_l \tilde{h}_l$ over the places of its column. Places
    whose features cannot be brought to the last one's form (another rank, or an unknown size) are
    left out of this sum.

    The paper's penalty keeps the subspaces of the *parameters* before a place orthogonal. It
    leaves open which parameters of a block these are, once a layer is no plain matrix product;
    `orthogonality` is the weight of the penalty on the subspaces of the *features* instead, see
    `keras_mtl.layers.Sluice`. It is part of the loss, in training and in evaluation.

    Args:
        subspaces: int. G, of each column at each place.
        own: float. First weight of a subspace on itself, for `initial="own"`.
        initial: `"own"`, `"balanced"` (the default of the authors' program) or `"biased"`.
        orthogonality: float. Weight of the penalty; 0, as in the authors' program, leaves it out.
        last: float. First weight of the last place in β; the others share the rest evenly.
        granularity: `"stage"`, `"block"` or `"operator"`: after which units.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.Sluice().subspaces
    2

    Reference:
        [Latent multi-task architecture learning](https://arxiv.org/abs/1705.08142). The paper has
        recurrent layers of one size; see `keras_mtl.layers.Sluice` and `SluiceMixture` for what it
        leaves open.
    """

    name = "sluice"

    def __init__(
        self,
        *,
        subspaces: int = 2,
        own: float = 0.9,
        initial: Literal["own", "balanced", "biased"] = "own",
        orthogonality: float = 0.0,
        last: float = 0.9,
        granularity: Literal["stage", "block", "operator"] = "stage",
    ) -> None:
        super().__init__(granularity=granularity)
        one_of("initial", initial, INITIAL)
        self.subspaces = check_count("subspaces", subspaces)
        self.own = share("own", own)
        self.initial = initial
        self.orthogonality = not_negative("orthogonality", orthogonality)
        self.last = share("last", last)

    def fusions(self, unit: str, tasks: Sequence[str]) -> list[Fusion]:
        settings = {
            "num_tasks": len(tasks),
            "subspaces": self.subspaces,
            "own": self.own,
            "initial": self.initial,
            "orthogonality": self.orthogonality,
        }
        sources = [(task, unit) for task in tasks]
        return [Fusion(f"{unit}.sluice", "sluice", unit, sources, tasks, settings)]

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        found = super().decide(graph, units, tasks)
        if not found["fusions"]:
            return found
        top = units[-1]
        shapes = {unit.name: tuple(graph.spec(unit.output).shape) for unit in units}
        places = [
            fusion.name
            for fusion in found["fusions"]
            if fits(shapes[fusion.unit], shapes[top.name])
        ]
        mixtures = tuple(
            Fusion(
                f"{top.name}.mixture.{task}",
                "sluice_mixture",
                top.name,
                [(task, place) for place in (places[-1], *places[:-1])],
                (task,),
                {"num_places": len(places), "last": self.last},
            )
            for task in tasks
        )
        return {**found, "fusions": found["fusions"] + mixtures}
