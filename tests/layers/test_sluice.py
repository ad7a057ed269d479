"""Sluice: contract, hand-computed values, odd widths, penalty, gradients, costs, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_mtl.graph import costs
from keras_mtl.layers import CrossStitch, Sluice
from keras_mtl.layers.sluice import orthogonality_penalty, split
from tests.contracts import assert_gradient_reaches, assert_serialises
from tests.layers.columns import run_columns_test, saved_and_loaded


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("initial", ["own", "balanced", "biased"])
@pytest.mark.parametrize(
    ("shape", "tasks", "subspaces"), [((2, 4, 3, 5), 2, 2), ((2, 7), 3, 2), ((2, 6, 4), 1, 3)]
)
def test_contract(shape, tasks, subspaces, initial):
    config = {"num_tasks": tasks, "subspaces": subspaces, "initial": initial}
    inputs = [normal(*shape, seed=i) for i in range(tasks)]
    layer = run_columns_test(Sluice, config, inputs, weights=1)
    assert tuple(layer.alpha.shape) == (tasks, subspaces, tasks, subspaces)


def test_serialises():
    options = {"subspaces": 3, "own": 0.5, "initial": "balanced", "orthogonality": 0.1}
    assert_serialises(Sluice, {"num_tasks": 3, **options})


def first_alpha(*arguments, **options):
    """The paper's matrix of a new layer: rows and columns A1, A2, B1, B2."""
    layer = Sluice(*arguments, **options)
    layer.build([(None, 12)] * layer.num_tasks)
    size = layer.num_tasks * layer.subspaces
    return np.reshape(layer.alpha, (size, size))


def test_first_values_by_hand():
    own = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    np.testing.assert_allclose(first_alpha(2, own=0.7), own, rtol=1e-6)
    np.testing.assert_allclose(first_alpha(2, initial="balanced"), np.full((4, 4), 0.25))
    second, first = [0.05, 0.95, 0.05, 0.95], [0.95, 0.05, 0.95, 0.05]
    expected = [second, second, first, first]
    np.testing.assert_allclose(first_alpha(2, initial="biased"), expected, rtol=1e-5)


def test_hand_computed():
    layer = Sluice(2)
    layer.build([(None, 4), (None, 4)])
    alpha = np.zeros((2, 2, 2, 2))
    alpha[0, 0, 0, 0] = 1.0  # A1 <- A1 + 2 A2 + 3 B1
    alpha[0, 0, 0, 1] = 2.0
    alpha[0, 0, 1, 0] = 3.0
    alpha[1, 1, 0, 0] = -1.0  # B2 <- 4 B2 - A1
    alpha[1, 1, 1, 1] = 4.0
    layer.alpha.assign(alpha)
    first, second = layer([np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[10.0, 20.0, 30.0, 40.0]])])
    np.testing.assert_allclose(first, [[1 + 6 + 30, 2 + 8 + 60, 0, 0]])
    np.testing.assert_allclose(second, [[0, 0, 120 - 1, 160 - 2]])


def test_odd_widths_by_hand():
    layer = Sluice(1)
    layer.build([(None, 3)])
    layer.alpha.assign([[[[1.0, 10.0]], [[100.0, 1.0]]]])
    # Subspaces (1, 2) and (3): the narrow one gets a 0, of the wide one the last is cut off.
    (found,) = layer([np.array([[1.0, 2.0, 3.0]])])
    np.testing.assert_allclose(found, [[1 + 30, 2, 100 + 3]])


def test_subspaces_by_hand():
    assert [x.tolist() for x in split(np.arange(8.0), 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.floats(0, 1), st.integers(1, 5))
def test_with_one_subspace_it_is_a_cross_stitch_unit(tasks, own, channels):
    inputs = [normal(2, channels, seed=i) for i in range(tasks)]
    expected = CrossStitch(tasks, own, per_channel=False)(inputs)
    for found, wanted in zip(Sluice(tasks, 1, own=own)(inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(3, 8))
def test_all_own_is_the_identity(tasks, subspaces, channels):
    inputs = [normal(2, channels, seed=i) for i in range(tasks)]
    for found, x in zip(Sluice(tasks, subspaces, own=1)(inputs), inputs, strict=True):
        np.testing.assert_array_equal(found, x)


def test_equal_subspaces_keep_their_values_at_first():
    x = np.tile(normal(2, 3), 2)
    for initial, factor in (("own", 1), ("balanced", 1), ("biased", 2)):
        for found in Sluice(2, initial=initial)([x, x]):
            np.testing.assert_allclose(found, factor * x, rtol=1e-5)


def test_training_and_inference_are_the_same():
    inputs = [normal(2, 4, seed=i) for i in range(2)]
    layer = Sluice(2)
    for a, b in zip(layer(inputs, training=True), layer(inputs, training=False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradient_reaches_every_variable():
    layer = Sluice(2)
    inputs = [normal(2, 5, seed=i) for i in range(2)]
    layer(inputs)
    assert_gradient_reaches(layer, layer.trainable_variables, x=inputs)


def test_penalty_of_a_kernel_by_hand():
    # Columns (1, 0), (1, 2) and (3, 1), (0, 1): products 3, 0, 5, 2.
    kernel = np.array([[1.0, 1.0, 3.0, 0.0], [0.0, 2.0, 1.0, 1.0]])
    assert float(orthogonality_penalty(kernel)) == 9 + 0 + 25 + 4
    # Of three channels the first two are one subspace: products 3 and 5.
    assert float(orthogonality_penalty(kernel[:, :3])) == 9 + 25
    # Every pair of four subspaces: 1, 3, 0, 5, 2 and 1.
    assert float(orthogonality_penalty(kernel, 4)) == 1 + 9 + 0 + 25 + 4 + 1
    assert float(orthogonality_penalty(kernel, 1)) == 0


def test_penalty_of_a_convolution_is_that_of_its_rows():
    kernel = normal(3, 3, 5, 6)
    rows = kernel.reshape(-1, 6)
    expected = np.sum((rows[:, :3].T @ rows[:, 3:]) ** 2)
    np.testing.assert_allclose(orthogonality_penalty(kernel), expected, rtol=1e-4)
    orthogonal = np.linalg.qr(normal(45, 6))[0]
    np.testing.assert_allclose(orthogonality_penalty(orthogonal), 0, atol=1e-9)
    half = orthogonality_penalty(ops.cast(kernel, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"


def test_penalty_of_features_by_hand():
    first = np.array([[1.0, 2.0], [3.0, 4.0]])  # (2 + 12) / 2 = 7
    second = np.array([[1.0, 0.0], [1.0, 4.0]])  # 4 / 2 = 2
    layer = Sluice(2, orthogonality=0.1)
    layer([first, second])
    (loss,) = layer.losses
    np.testing.assert_allclose(loss, 0.1 * (49 + 4), rtol=1e-5)
    layer([np.tile(first, (5, 1)), np.tile(second, (5, 1))])
    np.testing.assert_allclose(layer.losses[-1], 0.1 * (49 + 4), rtol=1e-5)
    without = Sluice(2)
    without([first, second])
    assert without.losses == []


def test_penalty_in_a_model_with_unknown_sizes():
    columns = [keras.Input((None, None, 4)) for _ in range(2)]
    model = keras.Model(columns, Sluice(2, orthogonality=1.0)(columns))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 4))] * 2)
    def penalty_and_gradient(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            model([x, y])
            (loss,) = model.losses
        return loss, tape.gradient(loss, x)

    x, y = normal(2, 3, 5, 4), np.zeros((2, 3, 5, 4), "float32")
    before, gradient = penalty_and_gradient(x, y)
    rows = x.reshape(-1, 4)
    expected = np.sum((rows[:, :2].T @ rows[:, 2:] / 30) ** 2)
    np.testing.assert_allclose(before, expected, rtol=1e-4)
    assert penalty_and_gradient(x - gradient, y)[0] < before


@pytest.mark.parametrize(
    ("policy", "compute"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")]
)
def test_policy(policy, compute):
    layer = Sluice(2, orthogonality=0.1, dtype=policy)
    found = layer([100 * normal(2, 5), 100 * normal(2, 5, seed=1)])
    assert {keras.backend.standardize_dtype(x.dtype) for x in found} == {compute}
    assert layer.alpha.dtype == "float32"
    (loss,) = layer.losses
    assert np.isfinite(loss) and loss.dtype == "float32"


def test_in_a_model_that_is_saved(tmp_path):
    columns = [keras.Input((None, None, 3)) for _ in range(2)]
    model = keras.Model(columns, Sluice(2, initial="biased")(columns))
    x = [normal(1, 4, 5, 3, seed=i) for i in range(2)]
    again = saved_and_loaded(model, tmp_path / "model.keras")
    for found, expected in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_costs():
    shape = (None, 4, 4, 5)
    layer = Sluice(3)
    layer.build([shape] * 3)
    found = (layer.count_params(), costs.flops(layer, [shape] * 3, []))
    assert Sluice.costs(3) == (36, 0) == found
    assert Sluice.costs(2, 1) == (4, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tasks": 0}, "`num_tasks` must be an integer of at least 1. Received: num_tasks=0."),
        ({"subspaces": 0}, "`subspaces` must be an integer of at least 1. Received: subspaces=0."),
        ({"own": 2}, "`own` must be between 0 and 1. Received: own=2."),
        (
            {"initial": "even"},
            "`initial` must be one of ('own', 'balanced', 'biased'). Received: initial='even'.",
        ),
        (
            {"orthogonality": -1},
            "`orthogonality` must be a number of at least 0. Received: orthogonality=-1.",
        ),
        (
            {"orthogonality": "1"},
            "`orthogonality` must be a number of at least 0. Received: orthogonality='1'.",
        ),
    ],
)
def test_errors_of_arguments(options, message):
    with pytest.raises(ValueError) as error:
        Sluice(**{"num_tasks": 2, **options})
    assert str(error.value) == message


def test_errors_of_inputs():
    with pytest.raises(ValueError) as error:
        Sluice(2)([np.ones((1, 4)), np.ones((1, 5))])
    assert str(error.value) == (
        "`inputs` must be a list of 2 tensors of one shape, one for each task. "
        "Received: shapes=[(1, 4), (1, 5)]."
    )
    with pytest.raises(ValueError) as error:
        Sluice(1, 3)([np.ones((1, 2))])
    assert str(error.value) == (
        "`inputs` must have a channel for each of the 3 subspaces. Received: 2 channels."
    )
