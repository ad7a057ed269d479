"""SluiceMixture: contract, hand-computed values, other shapes, gradients, costs, refusals."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.graph import costs
from keras_mtl.layers import SluiceMixture
from tests.contracts import assert_gradient_reaches, assert_serialises, run_layer_test


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 4), (2, 4), (2, 4)],
        [(2, 8, 8, 3), (2, 4, 4, 6), (2, 2, 2, 5)],
        [(2, 3, 4), (2, 6, 2)],
        [(2, 3, 4)],
    ],
)
def test_contract(shapes):
    inputs = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    layer = run_layer_test(
        SluiceMixture, {"num_places": len(shapes)}, inputs, expected_shape=shapes[-1], weights=1
    )
    assert layer.compute_output_shape(shapes) == shapes[-1]
    assert tuple(layer.beta.shape) == (len(shapes),)


def test_serialises():
    assert_serialises(SluiceMixture, {"num_places": 3, "last": 0.5})


def test_first_values_by_hand():
    found = SluiceMixture(3)([np.full((1, 1), x) for x in (1.0, 10.0, 100.0)])
    np.testing.assert_allclose(found, [[0.05 + 0.5 + 90]], rtol=1e-6)


def test_hand_computed_with_other_shapes():
    layer = SluiceMixture(3)
    inputs = [np.array([[[0.0], [4.0]]]), np.ones((1, 4, 3)), np.full((1, 4, 2), 10.0)]
    layer.build([x.shape for x in inputs])
    layer.beta.assign([1.0, 100.0, 3.0])
    # The first is resized to (0, 1, 3, 4) and has one channel, of the second two are taken.
    expected = [[130, 130], [131, 130], [133, 130], [134, 130]]
    np.testing.assert_allclose(layer(inputs)[0], expected, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.floats(0, 1))
def test_equal_places_stay_as_they_are(places, last):
    x = normal(2, 3)
    np.testing.assert_allclose(SluiceMixture(places, last=last)([x] * places), x, rtol=1e-5)


def test_training_and_inference_are_the_same():
    inputs = [normal(2, 4, seed=i) for i in range(2)]
    layer = SluiceMixture(2)
    np.testing.assert_array_equal(layer(inputs, training=True), layer(inputs, training=False))


def test_gradient_reaches_every_variable():
    layer = SluiceMixture(2)
    inputs = [normal(2, 4, 4, 3), normal(2, 2, 2, 5, seed=1)]
    layer(inputs)
    assert_gradient_reaches(layer, layer.trainable_variables, x=inputs)


@pytest.mark.parametrize(
    ("policy", "compute"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")]
)
def test_policy(policy, compute):
    layer = SluiceMixture(2, dtype=policy)
    found = layer([normal(2, 4, 4, 3), normal(2, 2, 2, 5, seed=1)])
    assert keras.backend.standardize_dtype(found.dtype) == compute
    assert layer.beta.dtype == "float32"


def test_the_last_mask_is_handed_on():
    ids = np.array([[1, 2, 3, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    places = [keras.layers.Embedding(9, width, mask_zero=True)(inputs) for width in (2, 4)]
    model = keras.Model(inputs, keras.layers.LSTM(3)(SluiceMixture(2)(places)))
    np.testing.assert_allclose(model(ids), model(ids[:, :3]), rtol=1e-5)


def test_costs():
    layer = SluiceMixture(3)
    shapes = [(None, 4, 4, 5)] * 3
    layer.build(shapes)
    found = (layer.count_params(), costs.flops(layer, shapes, shapes[:1]))
    assert SluiceMixture.costs(3) == (3, 0) == found


def test_errors():
    with pytest.raises(ValueError) as error:
        SluiceMixture(0)
    assert (
        str(error.value) == "`num_places` must be an integer of at least 1. Received: num_places=0."
    )
    with pytest.raises(ValueError) as error:
        SluiceMixture(2, last=1.5)
    assert str(error.value) == "`last` must be between 0 and 1. Received: last=1.5."
    with pytest.raises(ValueError) as error:
        SluiceMixture(2)([np.ones((1, 2))])
    assert str(error.value) == (
        "`inputs` must be a list of 2 tensors, one for each place. Received: shapes=[(1, 2)]."
    )
    with pytest.raises(ValueError) as error:
        SluiceMixture(2)([np.ones((1, 2)), np.ones((1, 4, 2))])
    assert str(error.value) == (
        "`inputs` must be maps of one rank, (batch, ..., channels), with known channels, and with "
        "known sizes where these differ. Received: shapes=[(1, 2), (1, 4, 2)] to fit (1, 4, 2)."
    )
