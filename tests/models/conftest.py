"""Tiny things that only the tests of the models need; see `toys` for the rest."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl


def make_normalised_mlp(width=4, blocks=2, dropout=0.0):
    x = inputs = keras.Input((6,), name="x")
    x = layers.Dense(width, activation="tanh", name="stem")(x)
    for block in range(1, blocks + 1):
        y = layers.Dense(width, activation="tanh", name=f"block{block}")(x)
        y = layers.BatchNormalization(name=f"block{block}_bn")(y)
        if dropout:
            y = layers.Dropout(dropout, name=f"block{block}_dropout")(y)
        x = layers.Add(name=f"block{block}_add")([x, y])
    return keras.Model(inputs, x, name="normalised_mlp")


@pytest.fixture(scope="session")
def normalised_mlp():
    """A function that makes a residual MLP with normalisation: the smallest net with statistics."""
    return make_normalised_mlp


@pytest.fixture(scope="session")
def affine():
    """A function that makes a backbone which hands its one input on, times 1.

    With heads of one weight, losses and gradients can be computed by hand.
    """

    def make(**options):
        inputs = keras.Input((1,), name="x")
        x = layers.Dense(1, use_bias=False, kernel_initializer="ones", name="stem", **options)(
            inputs
        )
        return keras.Model(inputs, x, name="affine")

    return make


@pytest.fixture(scope="session")
def one_weight():
    """A function that makes a regression task whose head multiplies by 1, with no bias."""

    def make(name, **options):
        head = layers.Dense(1, use_bias=False, kernel_initializer="ones")
        return keras_mtl.Task(name, head, options.pop("loss", "mse"), **options)

    return make


@pytest.fixture(scope="session")
def values_of():
    """A function from variables to copies of their values."""

    def read(variables):
        return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]

    return read


@pytest.fixture(scope="session")
def same():
    """Whether two lists of arrays are bit-identical."""

    def compare(first, second):
        return len(first) == len(second) and all(map(np.array_equal, first, second))

    return compare
