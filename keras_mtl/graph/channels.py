"""How layers hang on channels: which axes of their weights, and what keeps channels apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers


@dataclasses.dataclass(frozen=True)
class Channels:
    """What cutting channels does to a layer of one class.

    Args:
        mixes: bool. Whether every output channel reads all input channels, as in a convolution;
            otherwise channel c of the output is made of channel c of the input.
        width: string. The constructor's argument with the number of output channels, if any.
        axes: mapping from the name of a weight to its axes of input and output channels, negative
            numbers or `None`. Of a layer that does not mix, the second one only.
    """

    mixes: bool
    width: str = ""
    axes: Mapping = dataclasses.field(default_factory=dict)


def channels_of(operation: keras.Operation) -> Channels | None:
    """The `Channels` of an operation; `None` where its channels cannot be cut."""
    if not isinstance(operation, layers.Layer):
        keras_own = type(operation).__module__.startswith("keras.")
        return APART if keras_own and type(operation).__name__ in _OPERATIONS else None
    registered = keras.saving.get_registered_name(type(operation))
    # Subclasses are left out: they may do anything in `call`.
    found = _TABLE.get(type(operation), _BY_NAME.get(registered))
    if found is None or not _plain(operation):
        return None
    if not found.mixes and not is_elementwise(operation):
        return None
    return found if {weight.name for weight in operation.weights} <= set(found.axes) else None


def keeps_zero(operation):
    """Whether a layer without weights keeps channels apart, and 0 where it is 0."""
    return type(operation) in _KEEPING_ZERO and channels_of(operation) is not None


def _plain(layer):
    """Whether a layer of a known class has no option that mixes channels or turns axes."""
    if getattr(layer, "data_format", None) == "channels_first":
        return False
    if getattr(layer, "groups", 1) != 1 or getattr(layer, "depth_multiplier", 1) != 1:
        return False
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return False
    if isinstance(layer, layers.BatchNormalization):
        return layer.axis in (-1, layer.input_spec.ndim - 1)
    return True


def is_elementwise(layer):
    """Whether a layer's activation, if it has one, keeps channels apart, unlike a softmax."""
    activation = getattr(layer, "activation", None)
    return activation is None or activation in _ACTIVATIONS


def pruned(layer, outputs, name=None):
    """A new layer like one that mixes channels, not built, with so many output channels."""
    config = {**layer.get_config(), "name": name or layer.name}
    width = channels_of(layer).width
    return type(layer).from_config({**config, width: outputs} if width else config)


def cut(weight, axes, inputs, outputs):
    """The part of a weight's value that belongs to some channels.

    Args:
        weight: array.
        axes: pair of axes, of `Channels.axes`.
        inputs, outputs: boolean arrays, one entry for each channel; `None`: all.
    """
    for axis, kept in zip(axes, (inputs, outputs), strict=True):
        if axis is not None and kept is not None:
            weight = np.compress(kept, weight, axis)
    return weight


def spread(shape, axes, inputs, outputs):
    """1 where a weight belongs to some channels and 0 elsewhere, as it broadcasts to the weight."""
    found = np.ones((1,) * len(shape), "float32")
    for axis, kept in zip(axes, (inputs, outputs), strict=True):
        if axis is not None and kept is not None:
            sizes = [1] * len(shape)
            sizes[axis] = len(kept)
            found = found * np.reshape(kept, sizes)
    if axes[1] is None and outputs is not None and not outputs.any():
        return found * np.float32(0)  # it belongs to all output channels, and there is none
    return found


_AXIS = (None, -1)
APART = Channels(False)
_DENSE = {"kernel": (-2, -1), "bias": _AXIS}
_CONVOLUTION = Channels(True, "filters", _DENSE)
_TRANSPOSED = Channels(True, "filters", {"kernel": (-1, -2), "bias": _AXIS})
_SEPARABLE = Channels(
    True,
    "filters",
    {"depthwise_kernel": (-2, None), "pointwise_kernel": (-2, -1), "bias": _AXIS},
)
_DEPTHWISE = Channels(False, "", {"kernel": (None, -2), "bias": _AXIS})
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
_NORMALISATION = Channels(False, "", dict.fromkeys(_STATISTICS, _AXIS))
_PRELU = Channels(False, "", {"alpha": _AXIS})

_KEEPING_ZERO = (
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
)
_ELEMENTWISE = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU),
    *(layers.GaussianNoise, layers.GaussianDropout),
)
_TABLE = {
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _CONVOLUTION),
    **dict.fromkeys(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _TRANSPOSED
    ),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _SEPARABLE),
    layers.Dense: Channels(True, "units", _DENSE),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _DEPTHWISE),
    layers.BatchNormalization: _NORMALISATION,
    layers.PReLU: _PRELU,
    **dict.fromkeys((*_KEEPING_ZERO, *_ELEMENTWISE), APART),
}
_BY_NAME = {"keras_mtl>ChannelMask": APART}
_ACTIVATIONS = tuple(
    getattr(keras.activations, name)
    for name in (
        *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
        *("sigmoid", "hard_sigmoid", "log_sigmoid", "hard_silu", "tanh", "hard_tanh"),
        *("softplus", "softsign", "exponential", "linear", "tanh_shrink", "hard_shrink"),
    )
)
_OPERATIONS = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Mish"),
    *("Sigmoid", "HardSigmoid", "LogSigmoid", "HardSilu", "Tanh", "HardTanh"),
    *("Softplus", "Softsign", "Exp"),
)
