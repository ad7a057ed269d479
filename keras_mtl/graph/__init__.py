"""Reading a backbone: its calls (`read`), its units (`find_units`), what they cost (`flops`).

What a search may do with an operator is in one table, `operators.py`; what cutting channels does to
a layer in another, `channels.py`, and where masks of channels can go in `places.py`.
"""

import keras_mtl.graph.layer_costs  # noqa: F401  fills the table of costs
from keras_mtl.graph.backbone_graph import (
    INPUT,
    BackboneGraph,
    Call,
    Value,
    is_functional,
    needed_inputs,
    read,
)
from keras_mtl.graph.call_costs import call_flops, projection_cost, sizes_known, unit_costs
from keras_mtl.graph.channel_selection import ChannelSelection
from keras_mtl.graph.channels import Channels, channels_of
from keras_mtl.graph.costs import flops, parameters, register_flops
from keras_mtl.graph.feature_model import FeatureModel, feature_model
from keras_mtl.graph.first_stages import first_stages
from keras_mtl.graph.operators import Support, register_operator, skip_kind, support
from keras_mtl.graph.places import Place, alternate_places, find_places, no_places, place_of
from keras_mtl.graph.units import (
    GRANULARITIES,
    Unit,
    can_project,
    context_calls,
    find_units,
    is_normalisation,
    is_weighted,
)

__all__ = [
    "GRANULARITIES",
    "INPUT",
    "BackboneGraph",
    "Call",
    "ChannelSelection",
    "Channels",
    "FeatureModel",
    "Place",
    "Support",
    "Unit",
    "Value",
    "alternate_places",
    "call_flops",
    "can_project",
    "channels_of",
    "context_calls",
    "feature_model",
    "find_places",
    "find_units",
    "first_stages",
    "flops",
    "is_functional",
    "is_normalisation",
    "is_weighted",
    "needed_inputs",
    "no_places",
    "parameters",
    "place_of",
    "projection_cost",
    "read",
    "register_flops",
    "register_operator",
    "sizes_known",
    "skip_kind",
    "support",
    "unit_costs",
]
