"""MaskedConv: values by hand, and gradients that are exactly zero or exactly those of the layer."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_mtl.layers import MaskedConv
from tests.contracts import jsonable

FORWARD = {"a": "1110", "b": "0111"}
BACKWARD = {"a": "1100", "b": "0001"}
KINDS = {
    "conv1d": (lambda: layers.Conv1D(4, 3, padding="same"), (2, 6, 3)),
    "conv2d": (lambda: layers.Conv2D(4, 3, activation="tanh"), (2, 5, 5, 3)),
    "conv3d": (lambda: layers.Conv3D(4, 2), (1, 3, 3, 3, 2)),
    "transposed": (lambda: layers.Conv2DTranspose(4, 2, strides=2), (2, 3, 3, 3)),
    "separable": (lambda: layers.SeparableConv2D(4, 3), (2, 5, 5, 3)),
    "dense": (lambda: layers.Dense(4, activation="sigmoid"), (2, 3)),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3), (2, 6, 4)),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(3), (2, 5, 5, 4)),
}


def inputs(shape):
    return tf.constant(np.random.default_rng(0).normal(size=shape), "float32")


def gradients(call, variables, x):
    """Of the sum of squares, with respect to variables and the inputs."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(tf.square(call(x)))
    *found, of_inputs = tape.gradient(total, [*(v.value for v in variables), x])
    return [np.asarray(g) for g in found], np.asarray(of_inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(kind):
    make, shape = KINDS[kind]
    layer, x = MaskedConv(make(), FORWARD, BACKWARD), inputs(shape)
    for variable in (layer(x, task="a"), layer.layer.weights)[1]:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    weights = layer.layer.weights
    for task in FORWARD:
        used = np.array([bit == "1" for bit in FORWARD[task]])
        changed = np.array([bit == "1" for bit in BACKWARD[task]])
        y = layer(x, task=task)
        assert np.all(np.asarray(y)[..., ~used] == 0)
        np.testing.assert_array_equal(
            np.asarray(y)[..., used], np.asarray(layer.layer(x))[..., used]
        )
        found, of_inputs = gradients(lambda x, t=task: layer(x, task=t), weights, x)
        # The whole forward mask, without any stop: what flows to the inputs.
        plain, expected = gradients(
            lambda x, u=used: layer.layer(x) * tf.cast(u, "float32"), weights, x
        )
        np.testing.assert_allclose(of_inputs, expected, rtol=1e-5, atol=1e-6)
        for weight, gradient, whole in zip(weights, found, plain, strict=True):
            if weight.name == "depthwise_kernel":  # belongs to all channels of the result
                np.testing.assert_allclose(gradient, whole, rtol=1e-5, atol=1e-5)
                continue
            axis = -2 if kind in ("transposed", "depthwise1d", "depthwise2d") else -1
            axis = -1 if weight.name == "bias" else axis
            gradient, whole = np.moveaxis(gradient, axis, -1), np.moveaxis(whole, axis, -1)
            assert np.all(gradient[..., ~changed] == 0)
            assert np.all(np.any(whole[..., changed] != 0, axis=tuple(range(whole.ndim - 1))))
            np.testing.assert_allclose(
                gradient[..., changed], whole[..., changed], rtol=1e-5, atol=1e-5
            )


def test_by_hand():
    layer = MaskedConv(layers.Dense(2), {"a": "11", "b": "01"}, {"a": "10", "b": "01"})
    x = tf.constant([[1.0, 2.0]])
    layer(x, task="a")
    layer.layer.set_weights([np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0])])
    np.testing.assert_array_equal(layer(x, task="a"), [[17, 30]])
    np.testing.assert_array_equal(layer(x, task="b"), [[0, 30]])
    found, of_inputs = gradients(lambda x: layer(x, task="a"), layer.layer.weights, x)
    np.testing.assert_array_equal(found[0], [[34, 0], [68, 0]])  # 2 y x, for channel 0 alone
    np.testing.assert_array_equal(found[1], [34, 0])
    np.testing.assert_array_equal(of_inputs, [[34 + 2 * 60, 3 * 34 + 4 * 60]])


def test_the_kernel_that_reads_masked_channels():
    first = {"a": "110", "b": "011"}
    layer = MaskedConv(layers.Dense(2), {"a": "11", "b": "11"}, backward_inputs=first)
    x = inputs((4, 3))
    layer(x, task="a")
    (kernel, bias), _ = gradients(lambda x: layer(x, task="a"), layer.layer.weights, x)
    assert np.all(kernel[2] == 0) and np.all(kernel[:2] != 0) and np.all(bias != 0)


def test_normalisation_of_a_task_and_activation_behind_it():
    layer = MaskedConv(layers.Dense(4), FORWARD, BACKWARD, normalise=True, activation="relu")
    x = inputs((16, 3))
    assert len((layer(x, task="a"), layer.weights)[1]) == 2 + 2 * 4
    for task, other in (("a", "b"), ("b", "a")):
        before = [v.numpy() for v in layer.normalisations[other].weights]
        y = np.asarray(layer(x, task=task, training=True))
        assert np.all(y >= 0)
        assert all(map(np.array_equal, before, layer.normalisations[other].weights))
        z = np.asarray(layer.layer(x))
        expected = np.maximum((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3), 0)
        expected *= [bit == "1" for bit in FORWARD[task]]
        np.testing.assert_allclose(y, expected, atol=1e-4)
        assert not np.array_equal(y, layer(x, task=task, training=False))


def test_in_a_functional_model_and_saved(tmp_path):
    image = keras.Input((6, 6, 3))
    shared = MaskedConv(layers.Conv2D(4, 3), FORWARD, BACKWARD, normalise=True, name="shared")
    outputs = {task: shared(image, task=task) for task in FORWARD}
    model = keras.Model(image, outputs)
    assert len(model.trainable_variables) == 2 + 2 * 2
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = inputs((2, 6, 6, 3))
    for task in FORWARD:
        np.testing.assert_array_equal(again(x)[task], model(x)[task])


def test_settings_survive():
    make = lambda: MaskedConv(  # noqa: E731
        layers.Dense(4),
        FORWARD,
        BACKWARD,
        backward_inputs=FORWARD,
        normalise=True,
        activation="relu",
        name="mine",
    )
    config = jsonable(make().get_config())
    again = MaskedConv.from_config(config)
    assert jsonable(again.get_config()) == config
    assert again.use == make().use and again.normalise and again.name == "mine"


def test_it_computes_in_lower_precision():
    layer = MaskedConv(layers.Dense(4, dtype="mixed_float16"), FORWARD, dtype="mixed_float16")
    assert keras.backend.standardize_dtype(layer(inputs((2, 3)), task="a").dtype) == "float16"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: MaskedConv(layers.Conv2D(4, 3, groups=2, name="c"), FORWARD),
            TypeError,
            "`layer` must be a convolution or dense layer whose channels can be masked. "
            "Received: layer=<Conv2D name=c, built=False>.",
        ),
        (
            lambda: MaskedConv("conv", FORWARD),
            TypeError,
            "`layer` must be a convolution or dense layer whose channels can be masked. "
            "Received: layer='conv'.",
        ),
        (
            lambda: MaskedConv(layers.Dense(4), FORWARD, backward_inputs={"a": "1"}),
            ValueError,
            "`backward_inputs` must have a mask for each of the tasks ['a', 'b']. Received: masks "
            "for ['a'].",
        ),
        (
            lambda: MaskedConv(layers.Dense(5), FORWARD)(np.ones((1, 3)), task="a"),
            ValueError,
            "`forward` must have masks of 5 channels, as the layer has. Received: masks of length "
            "4.",
        ),
        (
            lambda: MaskedConv(layers.Dense(4), FORWARD, backward_inputs=FORWARD)(
                np.ones((1, 3)), task="a"
            ),
            ValueError,
            "`backward_inputs` must have masks of 3 channels, as the layer has. Received: masks of "
            "length 4.",
        ),
    ],
)
def test_refusals(make, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        make()


def test_an_unknown_task():
    layer = MaskedConv(layers.Dense(4), FORWARD)
    with pytest.raises(
        ValueError, match=r"`task` must be one of \['a', 'b'\]\. Received: task='c'"
    ):
        layer(np.ones((1, 3)), task="c")
