"""Projection: contract, hand-computed value, training and inference, gradients, in a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.graph import find_units, read
from keras_mtl.layers import Projection
from keras_mtl.layers.projection import centred_positions
from tests import toys
from tests.contracts import assert_gradient_reaches, assert_serialises, run_layer_test


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 7, 7, 3), (3, 3)),
        ((2, 8, 6, 3), (8, 3)),
        ((2, 9, 3), (3,)),
        ((2, 4, 4, 4, 3), (2, 2, 1)),
        ((2, 3), ()),
    ],
)
def test_contract(shape, size, normalise):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = run_layer_test(
        Projection,
        {"filters": 5, "size": size, "normalise": normalise},
        x,
        expected_shape=(2, *size, 5),
        weights=5 if normalise else 1,
        trainable=3 if normalise else 1,
    )
    assert layer.compute_output_shape(shape) == (2, *size, 5)
    assert tuple(layer.convolution.kernel.shape) == (3, 5)


def test_serialises():
    assert_serialises(Projection, {"filters": 2, "size": (4, None), "normalise": False})


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8, 4, [0, 2, 4, 6]),  # 3x3, stride 2, "same"
        (7, 4, [0, 2, 4, 6]),
        (8, 6, [1, 2, 3, 4, 5, 6]),  # 3x3, "valid"
        (7, 3, [1, 3, 5]),  # 3x3, stride 2, "valid"
        (5, 2, [1, 3]),
        (35, 17, list(range(1, 34, 2))),
        (9, 3, [1, 4, 7]),  # 3x3, stride 3
        (224, 56, list(range(1, 222, 4))),  # 4x4, stride 4: between 1 and 2 in every window
        (5, 1, [2]),
        (1, 1, [0]),
    ],
)
def test_positions_by_hand(size, wanted, expected):
    assert list(range(size))[centred_positions(size, wanted)] == expected


def test_positions_are_evenly_spaced_inside_the_input():
    for size in range(1, 40):
        for wanted in range(1, size + 1):
            taken = list(range(size))[centred_positions(size, wanted)]
            assert len(taken) == wanted
            assert len(set(np.diff(taken))) <= 1
            assert abs(taken[0] - (size - 1 - taken[-1])) <= 1


def test_hand_computed():
    layer = Projection(1, size=(2, 2))
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
    layer = Projection(4, size=(4, 4), normalise=False)
    found = np.asarray(layer(x))
    convolution = keras.layers.Conv2D(4, 1, strides=2, use_bias=False)
    convolution.build(x.shape)
    convolution.kernel.assign(np.asarray(layer.convolution.kernel)[None, None])
    np.testing.assert_allclose(found, convolution(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [7, 8, 14])
def test_gradients_are_those_of_a_strided_convolution(padding, size):
    # In float64, which oneDNN leaves alone: its own gradient of a strided 1x1 convolution writes
    # beyond its memory for odd batches.
    x = np.random.default_rng(0).normal(size=(3, size, size, 4))
    options = {"use_bias": False, "padding": padding, "dtype": "float64"}
    convolution = keras.layers.Conv2D(5, 1, strides=2, **options)
    wanted, *wanted_gradients = gradients(convolution, x)
    layer = Projection(5, size=wanted.shape[1:-1], normalise=False, dtype="float64")
    layer.build(x.shape)
    layer.convolution.kernel.assign(convolution.kernel[0, 0])
    found, by_input, by_kernel = gradients(layer, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(by_input, wanted_gradients[0], rtol=1e-9)
    np.testing.assert_allclose(by_kernel[None, None], wanted_gradients[1], rtol=1e-9)


def gradients(layer, x):
    """The output, and the gradients of the sum of its squares by the input and the kernel."""
    x = tf.constant(x)
    layer(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x)
        loss = tf.reduce_sum(output**2)
    return [np.asarray(t) for t in (output, *tape.gradient(loss, [x, layer.weights[0].value]))]


def test_it_reads_the_centres_of_a_valid_convolution():
    kernel = np.zeros((3, 3, 3, 4), "float32")
    kernel[1, 1] = np.random.default_rng(0).normal(size=(3, 4))
    convolution = keras.layers.Conv2D(4, 3, strides=(1, 2), use_bias=False)
    convolution.build((None, 8, 7, 3))
    convolution.kernel.assign(kernel)
    x = np.random.default_rng(1).normal(size=(2, 8, 7, 3)).astype("float32")
    layer = Projection(4, size=(6, 3), normalise=False)
    layer.build(x.shape)
    layer.convolution.kernel.assign(kernel[1, 1])
    np.testing.assert_allclose(layer(x), convolution(x), rtol=1e-4, atol=1e-5)


def test_unknown_lengths_are_kept():
    inputs = keras.Input((None, 8, 3))
    layer = Projection(2, size=(None, 4))
    model = keras.Model(inputs, layer(inputs))
    assert model.output.shape == (None, None, 4, 2)
    assert layer.compute_output_shape((None, 9, 8, 3)) == (None, 9, 4, 2)
    for length in (3, 5):
        assert model(np.ones((1, length, 8, 3))).shape == (1, length, 4, 2)


def test_the_mask_is_handed_on():
    ids = np.array([[1, 2, 3, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, keras.layers.LSTM(3)(Projection(2, size=(None,))(x)))
    np.testing.assert_allclose(model(ids), model(ids[:, :3]), rtol=1e-5)
    projection = Projection(2, size=(3,))
    embedded = keras.ops.ones((1, 6, 4))
    projection(embedded)
    found = projection.compute_mask(embedded, keras.ops.convert_to_tensor(ids != 0))
    np.testing.assert_array_equal(found, [[True, True, False]])  # of positions 0, 2 and 4
    assert projection.compute_mask(embedded, None) is None


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


@pytest.mark.parametrize(("normalise", "variables"), [(True, 3), (False, 1)])
def test_gradient_reaches_every_variable(normalise, variables):
    layer = Projection(2, size=(3,), normalise=normalise)
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    weight = np.random.default_rng(1).normal(size=(4, 3, 2)).astype("float32")
    layer(x)

    def loss():
        return keras.ops.sum(weight * layer(x, training=True))

    assert_gradient_reaches(layer, layer.trainable_variables, loss)
    assert len(layer.trainable_variables) == variables


@pytest.mark.parametrize("size", [(9, 3), (3,), (3, 3, 3), (0, 3)])
def test_errors(size):
    with pytest.raises(ValueError) as error:
        Projection(2, size=size).build((None, 8, 8, 3))
    assert str(error.value) == (
        "`size` must have an entry for every spatial axis of the input, not larger than it. "
        f"Received: size={size} for an input of shape (None, 8, 8, 3)."
    )


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (2, 2), (1, 5)])
def test_sizes_of_a_strided_unit(size):
    """In a model it brings every size to the unit's output."""
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
