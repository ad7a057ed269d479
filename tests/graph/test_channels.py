"""Which part of a layer's weights belongs to some channels, by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_mtl.graph.channels import channels_of, cut, pruned, spread

IN, OUT = np.array([True, False, True]), np.array([False, True])
# Layer of 3 input and 2 output channels -> weight -> its axes of input and output channels.
MIXING = {
    layers.Conv1D(2, 3): {"kernel": (1, 2), "bias": (None, 0)},
    layers.Conv2D(2, 3): {"kernel": (2, 3), "bias": (None, 0)},
    layers.Conv2DTranspose(2, 3): {"kernel": (3, 2), "bias": (None, 0)},
    layers.Dense(2): {"kernel": (0, 1), "bias": (None, 0)},
    layers.SeparableConv2D(2, 3): {
        "depthwise_kernel": (2, None),
        "pointwise_kernel": (2, 3),
        "bias": (None, 0),
    },
}


def built(layer):
    rank = {"Dense": 0, "Conv1D": 1}.get(type(layer).__name__, 2)
    layer.build((None, *[4] * rank, 3))
    return layer


@pytest.mark.parametrize("layer", MIXING, ids=lambda layer: type(layer).__name__)
def test_axes(layer):
    built(layer)
    axes = channels_of(layer).axes
    for weight in layer.weights:
        shape, (inputs, outputs) = tuple(weight.shape), MIXING[layer][weight.name]
        value = np.arange(np.prod(shape)).reshape(shape)
        wanted = list(shape)
        factor = np.ones(shape)
        for axis, mask in ((inputs, IN), (outputs, OUT)):
            if axis is not None:
                wanted[axis] = int(mask.sum())
                sizes = np.ones(len(shape), int)
                sizes[axis] = len(mask)
                factor = factor * mask.reshape(sizes)
        assert cut(value, axes[weight.name], IN, OUT).shape == tuple(wanted)
        found = spread(shape, axes[weight.name], IN, OUT)
        np.testing.assert_array_equal(np.broadcast_to(found, shape), factor)
    thinner = pruned(layer, 1)
    assert not thinner.built and built(thinner).weights[-1].shape == (1,)


def test_what_belongs_to_all_outputs_changes_with_any_of_them():
    """The depthwise part of a separable convolution, whose own outputs nobody masks."""
    axes = channels_of(built(layers.SeparableConv2D(2, 3))).axes["depthwise_kernel"]
    none = np.array([False, False])
    np.testing.assert_array_equal(spread((3, 3, 3, 1), axes, None, none), np.zeros((1, 1, 1, 1)))
    np.testing.assert_array_equal(spread((3, 3, 3, 1), axes, None, OUT), np.ones((1, 1, 1, 1)))


def test_layers_that_keep_channels_apart():
    for layer in (layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.PReLU()):
        layer.build((None, 4, 4, 3))
        known = channels_of(layer)
        assert not known.mixes
        for weight in layer.weights:
            axis = -2 if weight.name == "kernel" else -1
            shape = list(weight.shape)
            shape[axis] = 2
            assert cut(weight.numpy(), known.axes[weight.name], None, IN).shape == tuple(shape)


class Odd(layers.Conv2D):
    """May do anything in `call`."""


@pytest.mark.parametrize(
    "layer",
    [
        Odd(2, 3),
        layers.Conv2D(4, 3, groups=2),
        layers.Conv2D(4, 3, data_format="channels_first"),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.SeparableConv2D(4, 3, depth_multiplier=2),
        layers.Activation("softmax"),
        layers.DepthwiseConv2D(3, activation="softmax"),
        layers.LayerNormalization(),
        layers.MultiHeadAttention(2, 2),
        layers.Reshape((3,)),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_whose_channels_cannot_be_cut(layer):
    assert channels_of(layer) is None


def test_a_normalisation_over_another_axis():
    layer = layers.BatchNormalization(axis=1)
    layer.build((None, 4, 4, 3))
    assert channels_of(layer) is None


def test_quantised_layers_are_refused():
    layer = built(layers.Dense(2))
    layer.quantize("int8")
    assert channels_of(layer) is None
    adapted = layers.Dense(2, lora_rank=1)
    adapted.build((None, 3))
    assert channels_of(adapted) is None


def test_keras_functions():
    for function, fine in ((keras.ops.relu, True), (keras.ops.softmax, False)):
        model = keras.Model(inputs := keras.Input((3,)), function(inputs))
        (operation,) = [op for op in model.operations if not isinstance(op, layers.InputLayer)]
        assert (channels_of(operation) is not None) == fine
