"""Keras layers that a supernet needs; each usable alone, on every Keras backend."""

from keras_mtl.layers.architecture_layer import ArchitectureLayer
from keras_mtl.layers.channel_mask import ChannelMask
from keras_mtl.layers.cross_stitch import CrossStitch
from keras_mtl.layers.gumbel_gate import GumbelGate
from keras_mtl.layers.masked_conv import MaskedConv
from keras_mtl.layers.nddr_fusion import NDDRFusion
from keras_mtl.layers.projection import Projection
from keras_mtl.layers.select_or_skip import SelectOrSkip
from keras_mtl.layers.sluice import Sluice
from keras_mtl.layers.sluice_mixture import SluiceMixture
from keras_mtl.layers.step_seed import StepSeed
from keras_mtl.layers.task_attention import TaskAttention

__all__ = [
    "ArchitectureLayer",
    "ChannelMask",
    "CrossStitch",
    "GumbelGate",
    "MaskedConv",
    "NDDRFusion",
    "Projection",
    "SelectOrSkip",
    "Sluice",
    "SluiceMixture",
    "StepSeed",
    "TaskAttention",
]
