"""CrossStitch: contract, hand-computed values, gradients, masks, costs, refusals."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_mtl.graph import costs
from keras_mtl.layers import CrossStitch
from tests.contracts import assert_gradient_reaches, assert_serialises
from tests.layers.columns import run_columns_test, saved_and_loaded


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("shape", "tasks"), [((2, 4, 3, 5), 2), ((2, 3), 3), ((2, 6, 4), 1)])
def test_contract(shape, tasks, per_channel):
    config = {"num_tasks": tasks, "per_channel": per_channel}
    inputs = [normal(*shape, seed=i) for i in range(tasks)]
    layer = run_columns_test(CrossStitch, config, inputs, weights=1)
    expected = (tasks, tasks, shape[-1]) if per_channel else (tasks, tasks)
    assert tuple(layer.mixing.shape) == expected


def test_serialises():
    assert_serialises(CrossStitch, {"num_tasks": 3, "own": 0.5, "per_channel": False})


@pytest.mark.parametrize("per_channel", [True, False])
def test_first_values_by_hand(per_channel):
    layer = CrossStitch(3, 0.8, per_channel=per_channel)
    found = layer([np.full((1, 2), x) for x in (1.0, 10.0, 100.0)])
    # 0.8 + 1 + 10; 0.1 + 8 + 10; 0.1 + 1 + 80.
    np.testing.assert_allclose(np.concatenate(found)[:, 0], [11.8, 18.1, 81.1], rtol=1e-6)
    np.testing.assert_array_equal(*np.concatenate(found).T)


def test_hand_computed():
    layer = CrossStitch(2)
    layer.build([(None, 2), (None, 2)])
    layer.mixing.assign([[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [0.5, 1.0]]])
    first, second = layer([np.array([[1.0, 10.0]]), np.array([[2.0, 20.0]])])
    np.testing.assert_allclose(first, [[1 + 6, 20 + 80]])
    np.testing.assert_allclose(second, [[1, -10 + 20]])


@pytest.mark.parametrize("own", [0.0, 0.9])
def test_one_task_is_the_identity(own):
    x = normal(2, 3, 4)
    (found,) = CrossStitch(1, own)([x])
    np.testing.assert_array_equal(found, x)


def test_all_own_is_the_identity():
    inputs = [normal(2, 3, seed=i) for i in range(3)]
    for found, x in zip(CrossStitch(3, 1)(inputs), inputs, strict=True):
        np.testing.assert_array_equal(found, x)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.floats(0, 1), st.booleans())
def test_equal_columns_stay_as_they_are(tasks, own, per_channel):
    """At first every row of weights sums to 1."""
    x = normal(2, 3)
    for found in CrossStitch(tasks, own, per_channel=per_channel)([x] * tasks):
        np.testing.assert_allclose(found, x, rtol=1e-5)


def test_training_and_inference_are_the_same():
    inputs = [normal(2, 3, seed=i) for i in range(2)]
    layer = CrossStitch(2)
    for a, b in zip(layer(inputs, training=True), layer(inputs, training=False), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("per_channel", [True, False])
def test_gradient_reaches_every_variable(per_channel):
    layer = CrossStitch(2, per_channel=per_channel)
    inputs = [normal(2, 3, seed=i) for i in range(2)]
    layer(inputs)
    assert_gradient_reaches(layer, layer.trainable_variables, x=inputs)


@pytest.mark.parametrize(
    ("policy", "compute"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")]
)
def test_policy(policy, compute):
    layer = CrossStitch(2, dtype=policy)
    found = layer([normal(2, 3), normal(2, 3)])
    assert {keras.backend.standardize_dtype(x.dtype) for x in found} == {compute}
    assert layer.mixing.dtype == "float32"


def test_the_masks_are_handed_on():
    ids = np.array([[1, 2, 3, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    columns = [keras.layers.Embedding(9, 4, mask_zero=True)(inputs) for _ in range(2)]
    outputs = [keras.layers.LSTM(3)(x) for x in CrossStitch(2)(columns)]
    model = keras.Model(inputs, outputs)
    for whole, part in zip(model(ids), model(ids[:, :3]), strict=True):
        np.testing.assert_allclose(whole, part, rtol=1e-5)


def test_in_a_model_that_is_saved(tmp_path):
    columns = [keras.Input((None, None, 3)) for _ in range(2)]
    model = keras.Model(columns, CrossStitch(2, 0.6)(columns))
    (layer,) = [layer for layer in model.layers if isinstance(layer, CrossStitch)]
    layer.mixing.assign(normal(2, 2, 3))
    x = [normal(1, 4, 5, 3, seed=i) for i in range(2)]
    again = saved_and_loaded(model, tmp_path / "model.keras")
    for found, expected in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("per_channel", "expected"), [(True, 45), (False, 9)])
def test_costs(per_channel, expected):
    shape = (None, 4, 4, 5)
    layer = CrossStitch(3, per_channel=per_channel)
    layer.build([shape] * 3)
    found = CrossStitch.costs(shape, 3, per_channel=per_channel)
    assert found == (expected, 0) == (layer.count_params(), costs.flops(layer, [shape] * 3, []))


def test_errors_of_arguments():
    with pytest.raises(ValueError) as error:
        CrossStitch(0)
    assert (
        str(error.value) == "`num_tasks` must be an integer of at least 1. Received: num_tasks=0."
    )
    with pytest.raises(ValueError) as error:
        CrossStitch(2.0)
    assert (
        str(error.value) == "`num_tasks` must be an integer of at least 1. Received: num_tasks=2.0."
    )
    with pytest.raises(ValueError) as error:
        CrossStitch(2, -0.1)
    assert str(error.value) == "`own` must be between 0 and 1. Received: own=-0.1."


def test_errors_of_inputs():
    start = "`inputs` must be a list of 2 tensors of one shape, one for each task. Received: "
    for shapes in ([(1, 2)], [(1, 2), (1, 3)], [(1, 2)] * 3):
        with pytest.raises(ValueError) as error:
            CrossStitch(2)([ops.ones(shape) for shape in shapes])
        assert str(error.value) == f"{start}shapes={shapes}."
    with pytest.raises(ValueError) as error:
        CrossStitch(2)(np.ones((2, 3)))
    assert str(error.value) == "`inputs` must be a list of tensors. Received: shapes=(2, 3)."
    with pytest.raises(ValueError) as error:
        CrossStitch(2).build([(None, 3, None)] * 2)
    assert str(error.value) == (
        "`inputs` must have the shape (batch, ..., channels) with a known number of channels. "
        "Received: shapes=[(None, 3, None), (None, 3, None)]."
    )
