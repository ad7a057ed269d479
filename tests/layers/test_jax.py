"""Layers under Keras' JAX backend, in a process of their own: `on_jax.py` says what is tried."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_layers_on_jax():
    pytest.importorskip("jax")
    script = pathlib.Path(__file__).parent / "on_jax.py"
    settings = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, script], env=os.environ | settings, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert run.stdout.splitlines()[-1] == "All layers run on JAX."
