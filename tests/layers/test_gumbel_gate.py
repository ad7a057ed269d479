"""GumbelGate: contract, hand-computed value, training and inference, gradients, refusals."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_mtl.layers import ArchitectureLayer, GumbelGate
from tests.contracts import assert_gradient_reaches, assert_serialises, run_layer_test


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def with_uniform(monkeypatch, uniform):
    """Lets the gate draw given uniform numbers."""
    monkeypatch.setattr(
        keras.random,
        "uniform",
        lambda shape, *_, **__: ops.broadcast_to(ops.cast(uniform, "float32"), shape),
    )


# 1. Contract --------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("pinned", [True, False])
def test_contract(pinned, training):
    gate = run_layer_test(
        GumbelGate,
        {"shape": (2, 3), "num_choices": 4, "pinned": pinned, "initial": [0.4, 0.3, 0.2, 0.1]},
        call_options={"temperature": 1.5, "seed": 3, "training": training},
        expected_shape=(2, 3, 4),
        weights=1,
    )
    assert gate.weights[0].shape == (2, 3, 3 if pinned else 4)
    assert gate.architecture_variables == [gate.logits_variable] == gate.trainable_variables
    assert isinstance(gate, ArchitectureLayer)
    np.testing.assert_allclose(
        ops.sum(gate(temperature=1.5, seed=3, training=training), axis=-1), 1, atol=1e-6
    )


def test_serialises():
    arguments = {
        "num_choices": 3,
        "pinned": False,
        "initial": [1.0, 2.0, 3.0],
        "shape": (2,),
        "available": [[True, False, True], [True, True, True]],
    }
    assert_serialises(GumbelGate, arguments)


def test_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        gate = GumbelGate((2, 2))
        assert gate(temperature=1.0, seed=0, training=True).dtype == "float32"
        assert gate.logits_variable.dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


# 2. Hand-computed values --------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_a_draw_by_hand(monkeypatch, temperature):
    # Equation 2 with π = (σ(0.7), 1 - σ(0.7)) and two given uniform numbers.
    uniform = np.array([0.3, 0.9])
    with_uniform(monkeypatch, uniform)
    gate = GumbelGate((1,), initial=[0.7, 0.0])
    alpha = 1 / (1 + np.exp(-0.7))
    log_pi = np.log([alpha, 1 - alpha])
    gumbel = -np.log(-np.log(uniform))
    expected = softmax((log_pi + gumbel) / temperature)
    found = gate(temperature=temperature, seed=0, training=True)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_one_draw_in_plain_numbers(monkeypatch):
    # u = exp(-1) for both: G = 0, so that v = softmax((ln 3, 0) / 1) = (3/4, 1/4).
    with_uniform(monkeypatch, np.exp(-1.0))
    gate = GumbelGate((), initial=[np.log(3.0).item(), 0.0])
    np.testing.assert_allclose(
        gate(temperature=1.0, seed=0, training=True), [0.75, 0.25], rtol=1e-6
    )
    # At temperature 1/2: (9/10, 1/10).
    np.testing.assert_allclose(gate(temperature=0.5, seed=0, training=True), [0.9, 0.1], rtol=1e-6)


def test_probabilities_by_hand():
    pinned = GumbelGate((2,), initial=[np.log(3.0).item(), 0.0])
    np.testing.assert_allclose(pinned.probabilities(), [[0.75, 0.25]] * 2, rtol=1e-6)
    np.testing.assert_allclose(pinned.log_probabilities(), np.log([[0.75, 0.25]] * 2), rtol=1e-6)
    np.testing.assert_array_equal(pinned.logits()[..., 1], [0, 0])
    free = GumbelGate((1,), pinned=False, initial=0.5)
    np.testing.assert_array_equal(free.logits(), [[0.5, 0.5]])
    np.testing.assert_allclose(free.probabilities(), [[0.5, 0.5]])


def test_a_pinned_gate_keeps_the_differences_of_its_first_logits():
    gate = GumbelGate((1,), num_choices=3, initial=[3.0, 1.0, 2.0])
    np.testing.assert_array_equal(gate.logits(), [[1.0, -1.0, 0.0]])
    free = GumbelGate((1,), num_choices=3, pinned=False, initial=[3.0, 1.0, 2.0])
    np.testing.assert_allclose(gate.probabilities(), free.probabilities(), rtol=1e-6)


def test_options_that_a_gate_does_not_have_by_hand(monkeypatch):
    available = [[True, True, True], [True, False, True], [True, False, False]]
    logits = [0.0, 9.0, np.log(3.0).item()]
    gate = GumbelGate((3,), 3, pinned=False, initial=logits, available=available)
    expected = [softmax(np.array(logits)), [0.25, 0, 0.75], [1, 0, 0]]
    np.testing.assert_allclose(gate.probabilities(), expected, rtol=1e-5)
    assert (np.asarray(gate.probabilities())[~np.array(available)] == 0).all()
    np.testing.assert_array_equal(gate(temperature=1.0), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    with_uniform(monkeypatch, np.exp(-1.0))  # G = 0
    drawn = np.asarray(gate(temperature=0.5, seed=0, training=True))
    np.testing.assert_allclose(drawn[1:], [[0.1, 0, 0.9], [1, 0, 0]], rtol=1e-5)
    assert (drawn[~np.array(available)] == 0).all()


def test_log_probabilities_do_not_underflow():
    gate = GumbelGate((1,), initial=[-200.0, 0.0])
    np.testing.assert_allclose(gate.log_probabilities(), [[-200.0, 0.0]])


@pytest.mark.parametrize("uniform", [1e-7, 1.0])
def test_extreme_draws_stay_finite(monkeypatch, uniform):
    with_uniform(monkeypatch, uniform)
    drawn = np.asarray(
        GumbelGate((3,), initial=[80.0, 0.0])(temperature=0.01, seed=0, training=True)
    )
    assert np.isfinite(drawn).all()


# 3. Training and inference ------------------------------------------------------------------------


def test_inference_is_the_most_likely_option():
    gate = GumbelGate((3,))
    gate.logits_variable.assign([[0.1], [-0.1], [0.0]])
    np.testing.assert_array_equal(
        gate(temperature=1.0), [[1, 0], [0, 1], [1, 0]]
    )  # a tie: the first
    three = GumbelGate((1,), num_choices=3, pinned=False, initial=[1.0, 3.0, 2.0])
    np.testing.assert_array_equal(three(temperature=9.0), [[0, 1, 0]])


def test_training_is_soft_and_sampled():
    gate = GumbelGate((50,))
    seed = keras.random.SeedGenerator(1)
    first, second = (np.asarray(gate(temperature=1.0, seed=seed, training=True)) for _ in range(2))
    assert not np.allclose(first, second)
    assert ((first > 0) & (first < 1)).all()
    assert len(np.unique(first[:, 0])) == 50  # every gate has its own noise
    repeated = [np.asarray(gate(temperature=1.0, seed=5, training=True)) for _ in range(2)]
    np.testing.assert_array_equal(*repeated)


def test_at_a_low_temperature_the_mean_decision_is_the_probability():
    alpha, draws = 0.8, 20_000
    gate = GumbelGate((draws,), initial=[np.log(alpha / (1 - alpha)).item(), 0.0])
    drawn = np.asarray(gate(temperature=0.01, seed=0, training=True))[:, 0]
    assert np.mean((drawn < 0.01) | (drawn > 0.99)) > 0.97  # nearly one-hot
    assert abs(drawn.mean() - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / draws)
    # At any temperature the larger part follows the distribution exactly.
    warm = np.asarray(gate(temperature=5.0, seed=1, training=True))[:, 0]
    assert abs((warm > 0.5).mean() - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / draws)
    assert 0.5 < warm.mean() < 0.6  # but its mean does not


def test_three_options_follow_their_distribution():
    gate = GumbelGate((20_000,), num_choices=3, initial=[1.0, 0.5, 0.0])
    drawn = np.asarray(gate(temperature=0.01, seed=0, training=True)).mean(axis=0)
    np.testing.assert_allclose(drawn, softmax(np.array([1.0, 0.5, 0.0])), atol=0.015)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_options_that_a_gate_does_not_have_are_never_drawn(temperature):
    available = np.tile([True, False, True], (5_000, 1))
    gate = GumbelGate(
        (5_000,), 3, pinned=False, initial=[0.0, 80.0, 0.0], available=available.tolist()
    )
    drawn = np.asarray(gate(temperature=temperature, seed=0, training=True))
    assert (drawn[:, 1] == 0).all()
    assert abs((drawn.argmax(axis=1) == 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(5_000)
    np.testing.assert_allclose(drawn.sum(axis=1), 1, atol=1e-6)


def test_temperature_is_not_frozen_in_a_traced_function():
    gate = GumbelGate((4,), initial=[1.0, 0.0])
    temperature = keras.Variable(5.0, trainable=False)
    traces = []

    @tf.function
    def draw():
        traces.append(1)
        return gate(temperature=temperature, seed=7, training=True)

    warm = np.asarray(draw())
    temperature.assign(0.05)
    cold = np.asarray(draw())
    assert len(traces) == 1
    np.testing.assert_allclose(
        cold, gate(temperature=0.05, seed=7, training=True), rtol=1e-4, atol=1e-6
    )
    # The same noise at τ and τ': log-odds are in the ratio τ'/τ.
    odds = [np.log(x[:, 0] / x[:, 1]) for x in (warm, np.asarray(draw()))]
    usable = np.abs(odds[1]) < 60
    np.testing.assert_allclose(odds[0][usable] * 100, odds[1][usable], rtol=1e-2)


def test_logits_are_not_frozen_in_a_traced_function():
    gate = GumbelGate((1,))

    @tf.function
    def decide():
        return gate(temperature=1.0)

    assert np.asarray(decide()).tolist() == [[1.0, 0.0]]
    gate.logits_variable.assign([[-1.0]])
    assert np.asarray(decide()).tolist() == [[0.0, 1.0]]


# 4. Gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", [True, False])
def test_gradient_reaches_the_logits(pinned):
    gate = GumbelGate((2,), pinned=pinned)
    weight = np.array([[1.0, 2.0], [3.0, 5.0]], "float32")

    def loss():
        return ops.sum(weight * gate(temperature=1.0, seed=0, training=True))

    assert_gradient_reaches(gate, gate.architecture_variables, loss)


def test_logits_of_options_that_a_gate_does_not_have_get_no_gradient():
    available = [[True, False, True], [True, True, True]]
    gate = GumbelGate((2,), 3, pinned=False, available=available)
    weight = np.array([1.0, 5.0, 3.0], "float32")
    with tf.GradientTape() as tape:
        total = ops.sum(weight * gate(temperature=1.0, seed=0, training=True))
    gradient = np.asarray(tape.gradient(total, gate.logits_variable.value))
    np.testing.assert_array_equal(gradient != 0, available)
    assert np.isfinite(gradient).all()


def test_gradient_by_hand(monkeypatch):
    # v = σ((a + G1 - G2)/τ), so dv/da = v (1 - v)/τ.
    with_uniform(monkeypatch, np.array([0.3, 0.6]))
    gate = GumbelGate((1,), initial=[0.4, 0.0])
    with tf.GradientTape() as tape:
        v = gate(temperature=2.0, seed=0, training=True)[0, 0]
    gradient = tape.gradient(v, gate.logits_variable.value)
    np.testing.assert_allclose(gradient[0, 0], v * (1 - v) / 2.0, rtol=1e-5)


# 5. Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_choices": 1},
            "`num_choices` must be at least 2. Received: num_choices=1.",
        ),
        (
            {"initial": [1.0, 2.0, 3.0]},
            "`initial` must be a number or have 2 numbers. Received: initial=[1.0, 2.0, 3.0].",
        ),
        (
            {"pinned": False, "available": [[True, True]]},
            "`available` must have shape (2, 2) and leave every gate an option, with "
            "`pinned=False`. Received: shape (1, 2), pinned=False.",
        ),
        (
            {"pinned": False, "available": [[True, True], [False, False]]},
            "`available` must have shape (2, 2) and leave every gate an option, with "
            "`pinned=False`. Received: shape (2, 2), pinned=False.",
        ),
        (
            {"available": [[True, True], [True, True]]},
            "`available` must have shape (2, 2) and leave every gate an option, with "
            "`pinned=False`. Received: shape (2, 2), pinned=True.",
        ),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GumbelGate((2,), **arguments)
