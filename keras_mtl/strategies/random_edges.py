"""RandomEdges: the fused columns of MTL-NAS with edges drawn at random, or with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from keras_mtl.architecture import OWN
from keras_mtl.checks import check_seed
from keras_mtl.graph import GRANULARITIES
from keras_mtl.strategies.candidate_edges import candidate_fusions, chosen_fusions
from keras_mtl.strategies.edge_rule import edge_rule
from keras_mtl.strategies.strategy import FixedStrategy, one_of

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit
    from keras_mtl.strategies.edge_rule import EdgeRule


class RandomEdges(FixedStrategy):
    """Columns that are fused along some of the candidate edges of `MTLNAS`, without a search.

    What a search has to beat: as many edges at random places, or all of them (its supernet).

    Args:
        edges: `EdgeRule`. The candidates.
        share: float from 0 to 1. How large a part of all candidates is there, rounded to whole
            edges; 1 is the supernet.
        seed: int. Which ones.
        w_own: float. First weight of a column's own features; the others share the rest evenly.
        granularity: `"block"`, `"operator"` or `"stage"`: what a unit is.

    Raises:
        ValueError: when `share` is not between 0 and 1.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.RandomEdges(share=1.0).share
    1.0

    Reference:
        [MTL-NAS](https://arxiv.org/abs/2003.14058), section 4.5.
    """

    name = "random_edges"
    begins_trained = True

    def __init__(
        self,
        *,
        edges: EdgeRule | None = None,
        share: float = 0.5,
        seed: int = 0,
        w_own: float = 0.9,
        granularity: Literal["stage", "block", "operator"] = "block",
    ) -> None:
        one_of("granularity", granularity, GRANULARITIES)
        if not 0 <= share <= 1:
            raise ValueError(f"`share` must be between 0 and 1. Received: share={share}.")
        self.edges = edge_rule(edges)
        self.share = float(share)
        self.seed = check_seed(seed)
        self.w_own = float(w_own)
        self.granularity = granularity

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "edges": keras.saving.serialize_keras_object(self.edges)}

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        fusions = candidate_fusions(graph, units, tasks, self.edges, self.w_own)
        total = sum(len(fusion.sources) - 1 for fusion in fusions)
        chosen = np.zeros(total, bool)
        chosen[: round(self.share * total)] = True
        chosen = np.random.default_rng(self.seed).permutation(chosen)
        return {
            "choices": {task: (OWN,) * len(units) for task in tasks},
            "fusions": chosen_fusions(fusions, chosen),
        }
