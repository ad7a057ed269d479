import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.heads import ASPP


def test_shapes_and_weights():
    head = ASPP(5, width=4, rates=(1, 2), size=(7, 9))
    assert tuple(head(np.ones((2, 3, 4, 6))).shape) == (2, 7, 9, 5)
    assert head.compute_output_shape((None, 3, 4, 6)) == (None, 7, 9, 5)
    branch = 3 * 3 * 6 * 4 + 4 + 4 * 5 + 5
    assert head.count_params() == 2 * branch
    same_size = ASPP(5, width=4, rates=(1,))
    assert tuple(same_size(np.ones((2, 3, 4, 6))).shape) == (2, 3, 4, 5)
    assert same_size.compute_output_shape((None, None, 4, 6)) == (None, None, 4, 5)


def test_unknown_spatial_size():
    inputs = keras.Input((None, None, 3))
    outputs = ASPP(2, width=2, size=(8, 8))(inputs)
    assert outputs.shape == (None, 8, 8, 2)
    assert keras.Model(inputs, outputs)(np.ones((1, 5, 6, 3))).shape == (1, 8, 8, 2)


def test_hand_computed():
    head = ASPP(1, width=1, rates=(1, 2))
    head.build((None, 5, 5, 1))
    for dilated, projection, values in zip(
        head.dilated_convolutions,
        head.projections,
        [(1.0, -0.25, 2.0, 0.5), (-1.0, 3.0, 10.0, 0.0)],
        strict=True,
    ):
        for weight, value in zip((*dilated.weights, *projection.weights), values, strict=True):
            weight.assign(np.full(weight.shape, value))
    impulse = np.zeros((1, 5, 5, 1))
    impulse[0, 2, 2, 0] = 1

    near = np.zeros((5, 5))
    near[1:4, 1:4] = 1  # the nine pixels that see the impulse at rate 1
    far = np.zeros((5, 5))
    far[::2, ::2] = 1  # and at rate 2
    expected = 2 * np.maximum(near - 0.25, 0) + 0.5 + 10 * np.maximum(3 - far, 0)
    np.testing.assert_allclose(head(impulse)[0, :, :, 0], expected)


def test_resize_is_bilinear():
    head = ASPP(1, width=1, rates=(1,), size=(1, 4))
    head.build((None, 1, 2, 1))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    head.dilated_convolutions[0].set_weights([kernel, np.zeros(1)])
    head.projections[0].set_weights([np.full((1, 1, 1, 1), 2.0), np.ones(1)])
    outputs = head(np.reshape([1.0, 3.0], (1, 1, 2, 1)))
    np.testing.assert_allclose(np.ravel(outputs), [3, 4, 6, 7])


def test_every_weight_has_a_gradient():
    head = ASPP(2, width=3, size=(16, 16))
    inputs = np.random.default_rng(0).normal(size=(1, 8, 8, 2))
    head.build(inputs.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(head(inputs)))
    gradients = tape.gradient(loss, [weight.value for weight in head.trainable_weights])
    assert len(gradients) == 16
    assert all(np.any(np.array(gradient) != 0) for gradient in gradients)


@pytest.mark.parametrize("size", [None, (8, 8), (4, 4)])
def test_mixed_precision_keeps_the_policy(size):
    head = ASPP(2, width=3, rates=(1, 2), size=size, dtype="mixed_float16")
    outputs = head(np.ones((1, 4, 4, 3)))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert {weight.dtype for weight in head.weights} == {"float32"}


def test_serialises(tmp_path):
    head = ASPP(5, width=4, rates=(1, 3), size=(6, 8), name="head", dtype="mixed_float16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert type(copy) is ASPP
    assert copy.get_config() == head.get_config()
    config = head.get_config()
    given = {key: config[key] for key in ("filters", "width", "rates", "size", "name")}
    expected = {"filters": 5, "width": 4, "rates": (1, 3), "size": (6, 8), "name": "head"}
    assert given == expected

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, head(inputs))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


RATES = "`rates` must be a tuple of integers of at least 1. Received: rates="
SIZE = "`size` must be a tuple of 2 integers of at least 1. Received: size="


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"filters": "13"},
            ValueError,
            "`filters` must be an integer of at least 1. Received: filters='13'.",
        ),
        (
            {"filters": 0},
            ValueError,
            "`filters` must be an integer of at least 1. Received: filters=0.",
        ),
        (
            {"width": 1.5},
            ValueError,
            "`width` must be an integer of at least 1. Received: width=1.5.",
        ),
        (
            {"width": -1},
            ValueError,
            "`width` must be an integer of at least 1. Received: width=-1.",
        ),
        ({"rates": ()}, ValueError, f"{RATES}()."),
        ({"rates": 6}, ValueError, f"{RATES}6."),
        ({"rates": (6, 0)}, ValueError, f"{RATES}(6, 0)."),
        ({"size": 32}, ValueError, f"{SIZE}32."),
        ({"size": (32,)}, ValueError, f"{SIZE}(32,)."),
        ({"size": (32, 0.5)}, ValueError, f"{SIZE}(32, 0.5)."),
    ],
)
def test_constructor_errors(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ASPP(**{"filters": 2, **arguments})


@pytest.mark.parametrize("shape", [(None, 4), (None, 4, 4, None)])
def test_input_errors(shape):
    message = (
        "`inputs` must have the shape (batch, height, width, channels) with a known number of "
        f"channels. Received: inputs.shape={shape}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ASPP(2).build(shape)
