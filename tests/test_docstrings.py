"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl

MODULES = sorted(m.name for m in pkgutil.walk_packages(keras_mtl.__path__, "keras_mtl."))


def public_classes():
    for package in (
        keras_mtl,
        keras_mtl.affinity,
        keras_mtl.callbacks,
        keras_mtl.data,
        keras_mtl.heads,
        keras_mtl.layers,
        keras_mtl.metrics,
        keras_mtl.models,
        keras_mtl.partition,
        keras_mtl.strategies,
        keras_mtl.tuners,
    ):
        for name in package.__all__:
            thing = getattr(package, name)
            if isinstance(thing, type) or callable(thing):
                yield pytest.param(thing, id=f"{package.__name__}.{name}")


@pytest.fixture
def untraced():
    """The few steps of an example are quicker than tracing them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, untraced):
    module = importlib.import_module(name)
    known = {"keras": keras, "np": np, "keras_mtl": keras_mtl}
    found = doctest.testmod(module, extraglobs=known, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


@pytest.mark.parametrize("thing", list(public_classes()))
def test_public_names_are_documented(thing):
    assert thing.__doc__ and len(thing.__doc__.splitlines()[0]) > 10
