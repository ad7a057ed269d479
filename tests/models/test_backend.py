"""Training needs TensorFlow; `tests/layers/on_jax.py` tries another backend in earnest."""

import keras
import pytest

import keras_mtl
from tests import toys


def test_compile_refuses_another_backend(monkeypatch):
    model = keras_mtl.build(toys.mlp(), toys.tasks(2), "shared", seed=0)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(RuntimeError) as error:
        model.compile()
    assert str(error.value) == (
        "Training needs Keras' TensorFlow backend. Received: keras.backend.backend()='torch'. "
        "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
    )
