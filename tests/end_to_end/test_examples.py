"""The examples run from end to end, at a toy size."""

import json
import pathlib
import sys

import keras
import pytest
import tensorflow as tf

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("multidigits", "nyuv2", "protocol", "backbones"):
        sys.modules.pop(name, None)


def check_outputs(folder, tasks, methods):
    """Every file that the example promises is there and says something."""
    table = (folder / "table.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == methods
    for picture in ("policy.png", "architecture.png", "task_correlation.png"):
        assert (folder / picture).stat().st_size > 2000
    plan = json.loads((folder / "architecture.json").read_text())
    assert plan["tasks"] == tasks
    served = tf.saved_model.load(str(folder / "saved_model"))
    assert {"serve", *tasks} <= set(served.signatures)


@pytest.mark.slow
def test_multidigits(tmp_path, monkeypatch, capsys):
    import multidigits

    sizes = {"epochs": 1, "search-epochs": 3, "samples": 1, "train": 192}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    monkeypatch.setattr(sys, "argv", ["multidigits.py", *options, "--folder", str(tmp_path)])
    multidigits.main()
    methods = ["single-task", "shared", "adashare", "random #1", "random #2"]
    check_outputs(tmp_path, ["left", "right", "sum"], methods)
    first = (tmp_path / "table.md").read_text()
    # A second run reuses what is kept: the table is the same, and nothing is trained again.
    kept = (tmp_path / "results.json").read_text()
    capsys.readouterr()
    keras.backend.clear_session()  # a new process would count layer names from 1 as well
    multidigits.main()
    assert (tmp_path / "table.md").read_text() == first
    assert (tmp_path / "results.json").read_text() == kept
    assert "Continuing after epoch 3" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.real_data
def test_nyuv2(tmp_path):
    import nyuv2

    nyuv2.main(["--quick", "--folder", str(tmp_path)])
    methods = ["single-task", "shared", "adashare", "random #1", "random #2"]
    check_outputs(tmp_path, ["segmentation", "depth", "normals"], methods)
