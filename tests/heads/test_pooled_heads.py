"""Classifier and Regressor: the same layer under two names of its first argument."""

import re

import keras
import numpy as np
import pytest

from keras_mtl.heads import Classifier, Regressor

each_head = pytest.mark.parametrize(
    ("head_class", "argument"), [(Classifier, "num_classes"), (Regressor, "units")]
)


def with_kernel(head, shape, kernel):
    head.build(shape)
    head.dense.kernel.assign(kernel)
    return head


@each_head
@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 4, 5, 3), (2, 2, 2, 2, 3)])
def test_shapes(head_class, argument, shape):
    head = head_class(4)
    outputs = head(np.ones(shape))
    assert tuple(outputs.shape) == head.compute_output_shape(shape) == (2, 4)
    assert [tuple(weight.shape) for weight in head.weights] == [(3, 4), (4,)]


@each_head
def test_unknown_spatial_size(head_class, argument):
    inputs = keras.Input((None, None, 3))
    outputs = head_class(4)(inputs)
    assert outputs.shape == (None, 4)
    assert keras.Model(inputs, outputs)(np.ones((2, 5, 6, 3))).shape == (2, 4)


@each_head
def test_hand_computed(head_class, argument):
    head = with_kernel(head_class(1, activation="relu"), (None, None, None, 2), [[1.0], [-2.0]])
    inputs = np.array([[[[2.0, 1.0], [8.0, 0.0]]], [[[0.0, 1.0], [0.0, 3.0]]]])
    np.testing.assert_allclose(head(inputs), [[5.0 - 2.0 * 0.5], [0.0]])


@each_head
def test_dropout_acts_in_training_only(head_class, argument):
    head = with_kernel(head_class(1, dropout=0.5), (None, 1024), np.full((1024, 1), 2**-10))
    inputs = np.ones((1, 1024))
    assert float(head(inputs)[0, 0]) == 1
    assert float(head(inputs, training=True)[0, 0]) != 1


@each_head
def test_mixed_precision_keeps_the_policy(head_class, argument):
    head = head_class(4, dtype="mixed_float16")
    outputs = head(np.ones((2, 4, 4, 3)))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert {weight.dtype for weight in head.weights} == {"float32"}


@each_head
def test_serialises(head_class, argument, tmp_path):
    head = head_class(
        **{argument: 4}, dropout=0.25, activation="softmax", name="head", dtype="mixed_float16"
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert type(copy) is head_class
    assert copy.get_config() == head.get_config()
    config = head.get_config()
    assert (config[argument], config["dropout"], config["activation"]) == (4, 0.25, "softmax")

    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, head(inputs))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_default_units():
    assert Regressor().units == 1


@each_head
def test_errors(head_class, argument):
    cases = [
        (
            (2.5,),
            {},
            ValueError,
            f"`{argument}` must be an integer of at least 1. Received: {argument}=2.5.",
        ),
        (
            (0,),
            {},
            ValueError,
            f"`{argument}` must be an integer of at least 1. Received: {argument}=0.",
        ),
        (
            (2,),
            {"dropout": "0.5"},
            TypeError,
            "`dropout` must be a number. Received: dropout='0.5'.",
        ),
        (
            (2,),
            {"dropout": 1},
            ValueError,
            "`dropout` must be at least 0 and below 1. Received: dropout=1.",
        ),
    ]
    for positional, options, error, message in cases:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            head_class(*positional, **options)
    message = (
        "`inputs` must have a batch axis, any number of spatial axes and a known number of "
        "channels. Received: inputs.shape=(None, None)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        head_class(2).build((None, None))
