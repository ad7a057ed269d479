"""The contract of a layer that takes a list of columns' maps and returns such a list."""

import json

import keras
import numpy as np

from tests.contracts import jsonable


def run_columns_test(layer_class, config, inputs, *, weights):
    """Holds a layer to `run_layer_test`'s promises where its results are a list.

    Args:
        layer_class: class.
        config: dict of constructor arguments.
        inputs: list of arrays of one shape, the shape of every result.
        weights: int. Number of weight arrays, all trainable.

    Returns:
        The layer, built and called.
    """
    shapes = [np.shape(x) for x in inputs]
    layer = layer_class(**config)
    outputs = layer(inputs)
    assert isinstance(outputs, list)
    assert [tuple(x.shape) for x in outputs] == shapes
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs} == {"float32"}
    assert len(layer.weights) == len(layer.trainable_weights) == weights
    assert layer.compute_output_shape([(None, *s[1:]) for s in shapes]) == [
        (None, *s[1:]) for s in shapes
    ]

    rebuilt = layer_class.from_config(json.loads(json.dumps(layer.get_config())))
    assert jsonable(rebuilt.get_config()) == jsonable(layer.get_config())
    rebuilt(inputs)
    rebuilt.set_weights(layer.get_weights())
    for again, output in zip(rebuilt(inputs), outputs, strict=True):
        np.testing.assert_array_equal(again, output)

    by_name = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(by_name) is layer_class
    symbolic = layer_class(**config)([keras.KerasTensor(shape) for shape in shapes])
    assert [tuple(x.shape) for x in symbolic] == shapes
    return layer


def saved_and_loaded(model, path):
    """The model as it comes back from a `.keras` file."""
    model.save(path)
    return keras.models.load_model(path)
