"""NDDRFusion: contract, first weights, hand-computed values, gates, pruning, costs, refusals."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_mtl.graph import costs
from keras_mtl.layers import NDDRFusion
from keras_mtl.layers._columns import fit_channels, resize
from tests.contracts import assert_gradient_reaches, assert_serialises, run_layer_test
from tests.layers.columns import saved_and_loaded

ROOT = np.sqrt(1 + 1e-3)  # what batch normalisation divides by at first


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def trained(layer, own, sources, seed=0):
    """Builds a layer for these maps and gives it weights and statistics as if it had learned."""
    layer(own, sources)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.uniform(0.2, 1.0, np.shape(w)) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize(
    ("own", "sources", "normalise"),
    [
        ((2, 6, 4, 3), [(2, 6, 4, 3), (2, 3, 2, 5)], True),
        ((2, 6, 4, 3), [(2, 6, 4, 3), (2, 3, 2, 5)], False),
        ((2, 5, 3), [(2, 10, 3)], True),
        ((2, 4, 3, 2, 3), [(2, 2, 3, 4, 3)], False),
        ((2, 3), [(2, 3), (2, 2), (2, 7)], True),
        ((2, 4, 4, 3), [], True),
    ],
)
def test_contract(own, sources, normalise):
    layer = run_layer_test(
        NDDRFusion,
        {"normalise": normalise},
        normal(*own),
        [normal(*shape, seed=1) for shape in sources],
        expected_shape=own,
        weights=5 if normalise else 1,
        trainable=3 if normalise else 1,
        call_options={"gates": np.linspace(0.2, 0.8, len(sources))},
    )
    assert layer.compute_output_shape((None, *own[1:]), sources) == (None, *own[1:])
    rows = own[-1] + sum(shape[-1] for shape in sources)
    assert tuple(layer.kernel.shape) == (rows, own[-1])


def test_serialises():
    options = {"w_own": 0.4, "normalise": False}
    assert_serialises(NDDRFusion, options, other=("activation",))
    for activation in ("tanh", None):
        again = NDDRFusion.from_config(NDDRFusion(activation=activation).get_config())
        assert again.activation is keras.activations.get(activation)


def test_first_kernel_by_hand():
    layer = NDDRFusion(0.7)
    layer.build((None, 2), [(None, 2), (None, 3), (None, 1)])
    expected = [
        [0.7, 0.0],
        [0.0, 0.7],
        [0.1, 0.0],
        [0.0, 0.1],
        [0.1, 0.0],  # wider than the column: its third channel starts at 0
        [0.0, 0.1],
        [0.0, 0.0],
        [0.1, 0.0],  # narrower: the column's second channel gets nothing from it
    ]
    np.testing.assert_allclose(layer.kernel, expected, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(1, 4), st.integers(1, 5))
def test_first_weights_sum_to_one(w_own, sources, channels):
    layer = NDDRFusion(w_own)
    layer.build((None, channels), [(None, channels)] * sources)
    np.testing.assert_allclose(np.sum(layer.kernel, axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(("w_own", "sources"), [(1.0, 2), (1.0, 0), (0.9, 0)])
def test_the_exact_identity_at_first(w_own, sources):
    """With `w_own=1`, and without sources whatever `w_own` is."""
    own = normal(2, 4, 4, 3)
    others = [normal(2, 2, 4, 5, seed=i) for i in range(sources)]
    bare = NDDRFusion(w_own, normalise=False, activation=None)
    np.testing.assert_array_equal(bare(own, others), own)
    np.testing.assert_array_equal(bare.kernel[:3], np.eye(3))
    assert not np.any(bare.kernel[3:])
    # What normalisation, with the first statistics, and ReLU add:
    found = NDDRFusion(w_own)(own, others, training=False)
    np.testing.assert_allclose(found, np.maximum(own / ROOT, 0), rtol=1e-5)


def test_in_training_the_batch_is_normalised_even_with_the_identity():
    own = normal(64, 4) * 5 + 3
    found = NDDRFusion(1.0, activation=None)(own, [own], training=True)
    expected = (own - own.mean(axis=0)) / np.sqrt(own.var(axis=0) + 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_hand_computed():
    layer = NDDRFusion()
    layer.build((None, 2), [(None, 2), (None, 1)])
    layer.kernel.assign([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, -1.0], [2.0, 0.0]])
    layer.normalisation.epsilon = 0.0
    layer.normalisation.moving_mean.assign([1.0, 0.0])
    layer.normalisation.moving_variance.assign([4.0, 1.0])
    own, first, second = [[1.0, 2.0]], [[10.0, 20.0]], [[100.0]]
    found = layer(np.array(own), [np.array(first), np.array(second)], gates=[0.5, 0.1])
    # 1 + 0.5 * 10 + 0.1 * 200 = 26, less 1, by 2; 2 + 0.5 * (10 - 20) = -3, and ReLU.
    np.testing.assert_allclose(found, [[12.5, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([0.0, 4.0], [0.0, 1.0, 3.0, 4.0]),
        ([1.0, 3.0, 5.0, 9.0], [2.0, 7.0]),
        ([1.0, 2.0, 6.0], [2.0]),
        ([7.0], [7.0, 7.0, 7.0]),
    ],
)
def test_resizing_by_hand(before, after):
    found = resize(np.array(before, "float32")[None, :, None], (len(after),))
    np.testing.assert_allclose(found[0, :, 0], after, rtol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (2, 6), (5, 1)])
def test_resizing_is_one_axis_after_the_other(size):
    x = normal(2, 4, 3, 5)
    rows = np.asarray(resize(x.reshape(2, 4, 15), size[:1])).reshape(2, size[0], 3, 5)
    columns = resize(rows.transpose(0, 2, 1, 3).reshape(2, 3, -1), size[1:])
    expected = np.asarray(columns).reshape(2, size[1], size[0], 5).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(resize(x, size), expected, rtol=1e-4, atol=1e-5)
    # As one slice of a map with three spatial axes.
    np.testing.assert_allclose(resize(x[:, None], (1, *size))[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_fitting_channels_by_hand():
    x = np.array([[1.0, 2.0, 3.0]])
    assert [np.asarray(fit_channels(x, n)).tolist() for n in (2, 3, 4)] == [
        [[1.0, 2.0]],
        [[1.0, 2.0, 3.0]],
        [[1.0, 2.0, 3.0, 0.0]],
    ]


def test_it_is_a_convolution_of_the_gated_concatenation():
    own, same, small = normal(2, 6, 6, 4), normal(2, 6, 6, 4, seed=1), normal(2, 3, 3, 5, seed=2)
    layer = trained(NDDRFusion(normalise=False, activation=None), own, [same, small])
    resized = ops.image.resize(small, (6, 6), data_format="channels_last")
    concatenated = ops.concatenate([own, 0.3 * same, 0.8 * resized], axis=-1)
    expected = ops.conv(concatenated, ops.convert_to_tensor(layer.kernel)[None, None])
    found = layer(own, [same, small], gates=[0.3, 0.8])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gates_come_in_any_form():
    own, sources = normal(3, 4), [normal(3, 4, seed=1), normal(3, 4, seed=2)]
    layer = trained(NDDRFusion(), own, sources)
    variable = keras.Variable([0.25, 0.5])
    expected = np.asarray(layer(own, sources, gates=np.array([0.25, 0.5])))
    for gates in (
        [0.25, 0.5],
        tuple(np.float32([0.25, 0.5])),
        variable,
        [variable[0], variable[1]],
    ):
        np.testing.assert_array_equal(layer(own, sources, gates=gates), expected)
    np.testing.assert_array_equal(layer(own, sources, gates=[1, 1]), layer(own, sources))


@pytest.mark.parametrize(("w_own", "zero"), [(1.0, True), (0.9, False)])
@pytest.mark.parametrize("training", [True, False])
def test_first_gradient_of_the_gates(w_own, zero, training):
    """With `w_own=1` it is exactly 0 until the kernel has moved."""
    own, sources = normal(4, 6, 6, 3), [normal(4, 3, 3, 3, seed=i) for i in (1, 2)]
    layer = NDDRFusion(w_own)
    gates = tf.constant([0.5, 0.5])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(gates)
            outputs = layer(own, sources, gates=gates, training=training)
            total = ops.sum(ops.square(outputs - normal(4, 6, 6, 3, seed=3)))
        return np.asarray(tape.gradient(total, gates))

    found = gradient()
    assert found.shape == (2,)
    assert np.all((found == 0) == zero)
    layer.kernel.assign(layer.kernel + 0.1)
    assert np.all(gradient() != 0)


@pytest.mark.parametrize(
    ("policy", "compute"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")]
)
def test_policy(policy, compute):
    own = ops.cast(normal(2, 4, 4, 3), compute)
    sources = [ops.cast(normal(2, 2, 2, 3, seed=1), compute)]
    layer = NDDRFusion(1.0, dtype=policy)
    assert keras.backend.standardize_dtype(layer(own, sources, gates=[0.5]).dtype) == compute
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert keras.backend.standardize_dtype(layer(normal(2, 4, 4, 3), sources).dtype) == compute
    smaller = layer.pruned([False])
    assert smaller.compute_dtype == compute


def test_gates_stay_float32_under_a_policy():
    layer = NDDRFusion(0.0, normalise=False, activation=None, dtype="mixed_float16")
    layer.build((None, 1), [(None, 1)])
    layer.kernel.assign([[0.0], [1e4]])
    gate = tf.constant([1e-8])  # 0 in float16
    with tf.GradientTape() as tape:
        tape.watch(gate)
        outputs = layer(np.ones((1, 1)), [np.ones((1, 1))], gates=gate)
        total = ops.sum(ops.cast(outputs, "float32"))
    np.testing.assert_allclose(outputs, [[1e-4]], rtol=1e-3)
    gradient = tape.gradient(total, gate)
    assert gradient.dtype == tf.float32
    np.testing.assert_allclose(gradient, [1e4], rtol=1e-3)


def test_training_moves_the_statistics_and_inference_does_not():
    own, source = normal(32, 3) + 2, normal(32, 3, seed=1)
    layer = NDDRFusion(1.0)
    inference = np.asarray(layer(own, [source]))
    np.testing.assert_array_equal(layer.normalisation.moving_mean, np.zeros(3))
    layer(own, [source], training=True)
    mean = layer.normalisation.moving_mean
    np.testing.assert_allclose(mean, 0.05 * own.mean(axis=0), rtol=1e-4)  # momentum 0.95
    assert not np.allclose(layer(own, [source]), inference)


@pytest.mark.parametrize(("normalise", "variables"), [(True, 3), (False, 1)])
def test_gradient_reaches_every_variable(normalise, variables):
    layer = NDDRFusion(normalise=normalise)
    own, sources = normal(4, 6, 3), [normal(4, 3, 5, seed=1)]
    layer(own, sources)

    def loss():
        return ops.sum(normal(4, 6, 3, seed=2) * layer(own, sources, training=True))

    assert_gradient_reaches(layer, layer.trainable_variables, loss)
    assert len(layer.trainable_variables) == variables


@pytest.mark.parametrize(
    ("keep", "normalise"),
    [
        *((keep, True) for keep in itertools.product([True, False], repeat=3)),
        ((False, True, True), False),
    ],
)
def test_pruned_equals_hard_gates(keep, normalise):
    own = normal(2, 4, 4, 3)
    sources = [normal(2, 4, 4, 3, seed=1), normal(2, 2, 2, 5, seed=2), normal(2, 8, 8, 2, seed=3)]
    layer = trained(NDDRFusion(0.6, normalise=normalise, activation="tanh"), own, sources)
    smaller = layer.pruned(keep)
    kept = [source for source, stays in zip(sources, keep, strict=True) if stays]
    expected = np.asarray(layer(own, sources, gates=np.array(keep, "float32")))
    np.testing.assert_allclose(smaller(own, kept), expected, atol=1e-5)
    shapes = [source.shape for source in kept]
    assert smaller.count_params() == NDDRFusion.costs(own.shape, shapes, normalise=normalise)[0]
    assert smaller.name == layer.name
    # It is a layer of its own.
    smaller.kernel.assign(0 * smaller.kernel)
    np.testing.assert_array_equal(layer(own, sources, gates=np.array(keep, "float32")), expected)


def test_pruned_again():
    own, sources = normal(2, 3), [normal(2, 3, seed=i) for i in (1, 2, 3)]
    layer = trained(NDDRFusion(), own, sources)
    twice = layer.pruned(np.array([True, True, False])).pruned([False, True])
    expected = layer(own, sources, gates=[0, 1, 0])
    np.testing.assert_allclose(twice(own, [sources[1]]), expected, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), max_size=3),
    st.booleans(),
)
def test_costs_are_those_of_the_built_layer(widths, size, normalise):
    own = (None, *size, widths[0])
    sources = [(None, *size, width) for width in widths[1:]]
    layer = NDDRFusion(normalise=normalise)
    layer.build(own, sources)
    parameters, flops = NDDRFusion.costs(own, sources, normalise=normalise)
    assert parameters == layer.count_params() == costs.parameters(layer)
    gates = [(len(sources),)]  # the gates are an input of the call too
    assert flops == costs.flops(layer, [own, *sources, *gates], [own])
    whole = (None, *size, sum(widths))
    dense = keras.layers.Dense(widths[0], use_bias=False)
    assert flops == costs.flops(dense, [whole], [own])


def test_costs_by_hand():
    # 10 rows by 4 channels, 4 numbers for each channel's normalisation; 2 x 36 positions x 40.
    own, sources = (None, 6, 6, 4), [(None, 3, 3, 4), (None, 6, 6, 2)]
    assert NDDRFusion.costs(own, sources) == (40 + 16, 2880)
    assert NDDRFusion.costs(own, sources, normalise=False) == (40, 2880)
    assert NDDRFusion.costs((8, 4), []) == (16 + 16, 32)


def test_the_mask_is_handed_on():
    ids = np.array([[1, 2, 3, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    own = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    fused = NDDRFusion()(own, [keras.layers.Dense(2)(own)])
    model = keras.Model(inputs, keras.layers.LSTM(3)(fused))
    np.testing.assert_allclose(model(ids), model(ids[:, :3]), rtol=1e-5)


@pytest.mark.parametrize("sources", [0, 2])
def test_in_a_model_that_is_saved(tmp_path, sources):
    own = keras.Input((None, 3))
    others = [keras.Input((None, 2 + i)) for i in range(sources)]
    gates = [keras.Input((), batch_size=1, name=f"gate_{i}") for i in range(sources)]
    outputs = NDDRFusion()(own, others, gates=[gate[0] for gate in gates])
    model = keras.Model([own, *others, *gates], outputs)
    assert model.output_shape == (None, None, 3)
    x = [normal(1, 7, tensor.shape[-1]) for tensor in (own, *others)] + [np.array([0.5])] * sources
    again = saved_and_loaded(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))


def test_errors_of_arguments():
    with pytest.raises(ValueError) as error:
        NDDRFusion(1.1)
    assert str(error.value) == "`w_own` must be between 0 and 1. Received: w_own=1.1."
    with pytest.raises(ValueError, match=r"Received: w_own=nan\.$"):
        NDDRFusion(float("nan"))
    with pytest.raises(TypeError) as error:
        NDDRFusion("1")
    assert str(error.value) == "`w_own` must be a number. Received: w_own='1'."


@pytest.mark.parametrize(
    ("own", "sources"),
    [
        ((None, 4, 4, 3), [(None, 4, 4, 3), (None, 4, 3)]),
        ((None, 4, 4, 3), [(None, 4, 4, None)]),
        ((None, None, 4, 3), [(None, 4, 4, 3)]),
        ((None, None, 4, 3), [(None, None, 2, 3)]),
        ((None, 4, 4, None), []),
        ((None,), []),
    ],
)
def test_errors_of_shapes(own, sources):
    with pytest.raises(ValueError) as error:
        NDDRFusion().build(own, sources)
    assert str(error.value) == (
        "`sources` must be maps of one rank, (batch, ..., channels), with known channels, and with "
        f"known sizes where these differ. Received: shapes={sources} to fit {own}."
    )


def test_errors_of_a_call():
    own = normal(2, 3)
    layer = NDDRFusion()
    message = "`sources` must be a list of tensors. Received: shapes=(2, 3)."
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(own, own)
    layer(own, [own, own])
    with pytest.raises(ValueError) as error:
        layer(own, [own])
    assert (
        "`sources` must be a list of 2 tensors, as many as the layer was built for. Received: "
        "list of length 1. Call `pruned` for a layer of fewer sources."
    ) in str(error.value)
    for gates, shape in (([0.5], (1,)), (np.ones((2, 1)), (2, 1)), (0.5, ())):
        with pytest.raises(ValueError) as error:
            layer(own, [own, own], gates=gates)
        assert (
            "`gates` must have one number for each source. "
            f"Received: gates of shape {shape} for 2 sources."
        ) in str(error.value)


def test_errors_of_pruned_and_costs():
    layer = NDDRFusion()
    with pytest.raises(ValueError) as error:
        layer.pruned([True])
    assert str(error.value) == (
        "`pruned` must follow the building of the layer. Received: built=False for a layer without "
        "weights. Call the layer, or `build` with its shapes, first."
    )
    layer.build((None, 3), [(None, 3), (None, 3)])
    for keep in ([True], [0, 1], [1.0, 0.0]):
        with pytest.raises(ValueError) as error:
            layer.pruned(keep)
        assert str(error.value) == (
            f"`keep` must have a bool for each of the 2 sources. Received: keep={keep}."
        )
    with pytest.raises(ValueError) as error:
        NDDRFusion.costs((None, None, 3), [(None, 4, 3)])
    assert str(error.value) == (
        "`own_shape` and the channels of `source_shapes` must be known. "
        "Received: own_shape=(None, None, 3), source_shapes=[(None, 4, 3)]."
    )
