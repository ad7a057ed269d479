"""SelectOrSkip: contract, hand-computed value, training and inference, gradients, refusals."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_mtl.layers import SelectOrSkip
from tests.contracts import run_layer_test


def test_contract():
    block, shortcut = np.ones((2, 4, 4, 3), "float32"), np.zeros((2, 4, 4, 3), "float32")
    layer = run_layer_test(
        SelectOrSkip, {}, [block, shortcut], np.array([0.3, 0.7]), expected_shape=(2, 4, 4, 3)
    )
    assert layer.weights == []
    assert tuple(layer.compute_output_shape([(None, 5, 2), (None, 5, 2)])) == (None, 5, 2)


def test_hand_computed():
    block, shortcut = np.array([[4.0, -8.0]]), np.array([[100.0, 10.0]])
    mixed = SelectOrSkip()([block, shortcut], decision=np.array([0.25, 0.75]))
    np.testing.assert_allclose(mixed, [[76.0, 5.5]])
    three = SelectOrSkip()([block, shortcut, block], decision=np.array([0.5, 0.01, 1.0]))
    np.testing.assert_allclose(three, [[7.0, -11.9]], rtol=1e-6)


def test_a_decision_of_several_numbers():
    block, shortcut = np.array([[4.0, -8.0]]), np.array([[100.0, 10.0]])
    decision = (ops.convert_to_tensor(0.25), ops.convert_to_tensor(0.75))
    np.testing.assert_allclose(SelectOrSkip()([block, shortcut], decision=decision), [[76.0, 5.5]])
    # `None`: this one is weighted already.
    np.testing.assert_allclose(
        SelectOrSkip()([block, shortcut], decision=(None, 0.5)), [[54.0, -3.0]]
    )
    np.testing.assert_allclose(
        SelectOrSkip()([block, shortcut], decision=(0.5, None)), [[102.0, 6.0]]
    )


@pytest.mark.parametrize(("decision", "chosen"), [([1.0, 0.0], 0), ([0.0, 1.0], 1)])
def test_a_hard_decision_takes_one_option_exactly(decision, chosen):
    options = [np.random.default_rng(i).normal(size=(3, 5)).astype("float32") for i in (0, 1)]
    np.testing.assert_array_equal(
        SelectOrSkip()(options, decision=np.array(decision)), options[chosen]
    )


def test_training_and_inference_are_the_same():
    # Whether a decision is soft is the gate's affair: the layer itself has no second behaviour.
    options = [np.ones((1, 2)), np.zeros((1, 2))]
    layer = SelectOrSkip()
    found = [np.asarray(layer(options, decision=np.array([0.2, 0.8]))) for _ in range(2)]
    np.testing.assert_array_equal(*found)
    assert "training" not in SelectOrSkip.call.__code__.co_varnames


def test_gradient_reaches_the_decision_and_both_options():
    block, shortcut = tf.constant([[2.0, 3.0]]), tf.constant([[7.0, 11.0]])
    decision = tf.constant([0.25, 0.75])
    with tf.GradientTape() as tape:
        tape.watch([block, shortcut, decision])
        total = ops.sum(SelectOrSkip()([block, shortcut], decision))
    by_block, by_shortcut, by_decision = tape.gradient(total, [block, shortcut, decision])
    np.testing.assert_allclose(by_block, [[0.25, 0.25]])
    np.testing.assert_allclose(by_shortcut, [[0.75, 0.75]])
    np.testing.assert_allclose(by_decision, [5.0, 18.0])


def test_the_options_type_is_kept():
    options = [ops.ones((1, 2), dtype="float16"), ops.zeros((1, 2), dtype="float16")]
    layer = SelectOrSkip(dtype="mixed_float16")
    assert (
        keras.backend.standardize_dtype(layer(options, decision=np.array([0.5, 0.5])).dtype)
        == "float16"
    )


def test_a_mask_is_handed_on():
    inputs = keras.Input((3,))
    embedded = keras.layers.Embedding(5, 2, mask_zero=True)(inputs)
    mixed = SelectOrSkip()([embedded, embedded], ops.convert_to_tensor([0.5, 0.5]))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(mixed))
    table = model.layers[1].get_weights()[0]
    np.testing.assert_allclose(model(np.array([[1, 0, 0]]))[0], table[1], rtol=1e-6)


def test_refusals():
    message = "`inputs` must be a list of tensors of one shape. Received: shapes=[(1, 2), (1, 3)]."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SelectOrSkip()([np.ones((1, 2)), np.ones((1, 3))], decision=np.array([0.5, 0.5]))
