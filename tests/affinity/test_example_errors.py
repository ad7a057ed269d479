"""Errors of examples: NaN where there is no label, and nowhere else."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.affinity import error_affinity, example_errors


@pytest.fixture(scope="module")
def task():
    return keras_mtl.Task("double", keras.layers.Identity(), "mse")


@pytest.fixture(scope="module")
def model(task):
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(1, kernel_initializer="ones", name="layer")
    return keras_mtl.build(keras.Model(inputs, layer(inputs)), [task], "shared", seed=0)


def test_an_example_without_a_label_has_no_error(model, task):
    x = np.array([[1.0], [3.0], [2.0]], "float32")
    y = np.array([[2.0], [np.nan], [4.0]], "float32")
    np.testing.assert_equal(example_errors(model, task, [(x, y)]), [1.0, np.nan, 4.0])


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_a_model_that_has_diverged_is_refused(weight, model, task):
    """Its errors would all count as missing labels."""
    (layer,) = [x for name, x in model.named_layers().items() if name == "layer"]
    weights = layer.get_weights()
    layer.set_weights([np.full((1, 1), weight), weights[1]])
    x = np.ones((2, 1), "float32")
    with pytest.raises(ValueError) as error:
        example_errors(model, task, [(x, 2 * x)])
    layer.set_weights(weights)
    assert str(error.value) == (
        "`model` must have a finite loss for every label. Received: a loss of task 'double' that "
        "is NaN or infinite, which would count as a missing label. Look at how the model was "
        "trained."
    )


def test_affinities_are_finite():
    with pytest.raises(ValueError, match="`errors"):
        error_affinity({"a": [1.0, np.inf], "b": [1.0, 2.0]}, ["x"])
    with pytest.raises(ValueError, match="`values` must be finite"):
        keras_mtl.affinity.Affinity([[[1.0, np.nan], [np.nan, 1.0]]], ("a", "b"), ("x",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "`data` must have at least one batch. Received: none."),
        (
            (np.ones((2, 1)), np.ones((2, 1))),
            "`data` must be an iterable of batches `(x, y)`. Received: a batch of type ndarray. "
            "For arrays pass `[(x, y)]`.",
        ),
    ],
)
def test_bad_data(data, message, model, task):
    with pytest.raises(ValueError) as error:
        example_errors(model, task, data)
    assert str(error.value) == message
