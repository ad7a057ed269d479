"""Reading a backbone: its calls (`read`), its units (`find_units`), what they cost (`flops`).

What a search may do with an operator is in one table, `operators.py`.
"""

import keras_mtl.graph.layer_costs  # noqa: F401  fills the table of costs
from keras_mtl.graph.backbone_graph import INPUT, BackboneGraph, Call, Value, is_functional, read
from keras_mtl.graph.costs import flops, parameters, register_flops
from keras_mtl.graph.first_layers import first_layers
from keras_mtl.graph.operators import Support, register_operator, skip_kind, support
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
    "Support",
    "Unit",
    "Value",
    "can_project",
    "context_calls",
    "find_units",
    "first_layers",
    "flops",
    "is_functional",
    "is_normalisation",
    "is_weighted",
    "parameters",
    "read",
    "register_flops",
    "register_operator",
    "skip_kind",
    "support",
]
