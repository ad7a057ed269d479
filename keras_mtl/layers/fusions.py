"""The layers that mix tasks' paths, by the `kind` of a `Fusion`: made, run and counted."""

from typing import Any, NamedTuple

from keras_mtl.errors import ArchitectureError
from keras_mtl.layers.cross_stitch import CrossStitch
from keras_mtl.layers.nddr_fusion import NDDRFusion
from keras_mtl.layers.sluice import Sluice
from keras_mtl.layers.sluice_mixture import SluiceMixture
from keras_mtl.layers.task_attention import TaskAttention


class FusionKind(NamedTuple):
    """What a kind of fusion is.

    Args:
        layer: class. Its constructor takes the settings of the fusion.
        run: function of `(layer, tensors, gates)` that returns a list of tensors, one for each
            target; `gates` are `None`, or one number for each tensor but the first.
        costs: function of `(shapes, settings)` that returns parameters and FLOPs.
    """

    layer: Any
    run: Any
    costs: Any


FUSIONS = {
    "nddr": FusionKind(
        NDDRFusion,
        lambda layer, tensors, gates: [layer(tensors[0], tensors[1:], gates=gates)],
        lambda shapes, settings: NDDRFusion.costs(
            shapes[0], shapes[1:], normalise=settings.get("normalise", True)
        ),
    ),
    "cross_stitch": FusionKind(
        CrossStitch,
        lambda layer, tensors, gates: layer(tensors),
        lambda shapes, settings: CrossStitch.costs(
            shapes[0], len(shapes), per_channel=settings.get("per_channel", True)
        ),
    ),
    "sluice": FusionKind(
        Sluice,
        lambda layer, tensors, gates: layer(tensors),
        lambda shapes, settings: Sluice.costs(len(shapes), settings.get("subspaces", 2)),
    ),
    "sluice_mixture": FusionKind(
        SluiceMixture,
        # A fusion reads its own place first, the layer has it last.
        lambda layer, tensors, gates: [layer([*tensors[1:], tensors[0]])],
        lambda shapes, settings: SluiceMixture.costs(len(shapes)),
    ),
    "task_attention": FusionKind(
        TaskAttention,
        lambda layer, tensors, gates: [layer(*tensors)],
        lambda shapes, settings: TaskAttention.costs(
            *shapes, reduction=settings.get("reduction", 4)
        ),
    ),
}


def fusion_kind(fusion):
    """The `FusionKind` of a `Fusion`; says which kinds there are."""
    if fusion.kind not in FUSIONS:
        raise ArchitectureError(
            f"`kind` of a fusion must be one of {sorted(FUSIONS)}. Received: {fusion!r}."
        )
    return FUSIONS[fusion.kind]


def fusion_costs(fusion, shapes):
    """Parameters and FLOPs of a fusion that reads features of these shapes."""
    return fusion_kind(fusion).costs(shapes, fusion.settings)
