"""Projection: contract, hand-computed value, training and inference, gradients, in a model."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.graph import find_units, read
from keras_mtl.layers import Projection
from tests import toys
from tests.contracts import assert_gradient_reaches, assert_serialises, run_layer_test


@pytest.mark.parametrize(
    ("shape", "strides", "size"),
    [
        ((2, 7, 7, 3), (2, 2), (3, 3)),
        ((2, 8, 6, 3), (1, 2), (8, 3)),
        ((2, 9, 3), (3,), (3,)),
        ((2, 4, 4, 4, 3), (2, 2, 4), (2, 2, 1)),
        ((2, 3), (), ()),
    ],
)
def test_contract(shape, strides, size):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = run_layer_test(
        Projection,
        {"filters": 5, "strides": strides, "size": size},
        x,
        expected_shape=(2, *size, 5),
        weights=5,
        trainable=3,
    )
    assert layer.compute_output_shape(shape) == (2, *size, 5)
    assert tuple(layer.convolution.kernel.shape) == (3, 5)


def test_serialises():
    assert_serialises(Projection, {"filters": 2, "strides": (2, 1), "size": (4, 5)})


def test_hand_computed():
    layer = Projection(1, strides=(2, 2), size=(2, 2))
    layer.build((None, 4, 4, 2))
    layer.convolution.kernel.assign([[10.0], [1.0]])
    layer.normalisation.epsilon = 0.0
    layer.normalisation.moving_mean.assign([1.0])
    layer.normalisation.moving_variance.assign([4.0])
    layer.normalisation.gamma.assign([6.0])
    layer.normalisation.beta.assign([0.5])
    x = np.stack([np.arange(16.0).reshape(4, 4), np.ones((4, 4))], axis=-1)[None]
    # Positions 0, 2, 8 and 10: 10 x + 1, less the mean 1, divided by 2, times 6, and 0.5.
    expected = 30 * np.array([[0.0, 2.0], [8.0, 10.0]]) + 0.5
    np.testing.assert_allclose(layer(x)[0, ..., 0], expected, rtol=1e-6)


def test_it_is_a_strided_convolution():
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 3)).astype("float32")
    layer = Projection(4, strides=(2, 2), size=(4, 4))
    found = np.asarray(layer(x))
    convolution = keras.layers.Conv2D(4, 1, strides=2, use_bias=False)
    convolution.build(x.shape)
    convolution.kernel.assign(np.asarray(layer.convolution.kernel)[None, None])
    np.testing.assert_allclose(found, convolution(x) / np.sqrt(1.001), rtol=1e-4, atol=1e-5)


def test_training_moves_the_statistics_and_inference_does_not():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(64, 3)).astype("float32")
    layer = Projection(2)
    inference = np.asarray(layer(x))
    before = np.asarray(layer.normalisation.moving_mean)
    np.testing.assert_array_equal(layer(x), inference)
    np.testing.assert_array_equal(layer.normalisation.moving_mean, before)
    training = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-4)
    assert not np.allclose(layer.normalisation.moving_mean, before)


def test_gradient_reaches_every_variable():
    layer = Projection(2, strides=(2,), size=(3,))
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    weight = np.random.default_rng(1).normal(size=(4, 3, 2)).astype("float32")
    layer(x)

    def loss():
        return keras.ops.sum(weight * layer(x, training=True))

    assert_gradient_reaches(layer, layer.trainable_variables, loss)
    assert len(layer.trainable_variables) == 3


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (2, 2), (1, 5)])
def test_sizes_of_a_strided_unit(size):
    """In a model it is given the strides that bring every size to the unit's output."""
    inputs = keras.Input((*size, 3))
    x = keras.layers.Conv2D(4, 1, name="stem")(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="down")(x)
    backbone = keras.Model(inputs, x)
    graph = read(backbone)
    units = [unit.name for unit in find_units(graph) if unit.searchable]
    choices = {"classes": ("shared", "skip")}
    plan = keras_mtl.Architecture(("classes",), units, choices)
    model = keras_mtl.build(backbone, toys.tasks(1), architecture=plan, seed=0)
    projection = model.network.get_layer("down.projection")
    assert projection.size == tuple(graph.features.shape[1:-1])
    outputs = model(toys.inputs(backbone, examples=2))
    assert np.isfinite(outputs["classes"]).all()
    taken = [s * (n - 1) for s, n in zip(projection.strides, projection.size, strict=True)]
    assert all(last < n for last, n in zip(taken, size, strict=True))  # reads inside the input
