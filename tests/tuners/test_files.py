"""Files are there whole or not at all."""

import os
import signal

import pytest

from keras_mtl.tuners.files import read_json, write_json, write_whole


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "new" / "data.json", {"numbers": [1, 2.5, None]})
    assert read_json(tmp_path / "new" / "data.json") == {"numbers": [1, 2.5, None]}
    assert read_json(tmp_path / "missing.json") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.json"]


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_kill_leaves_the_last_whole_file(tmp_path, moment):
    path = tmp_path / "data.json"
    write_json(path, 1)

    def die(*arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    def write(temporary):
        temporary.write_text("[1, ")
        if moment == "write":
            die()

    if (child := os.fork()) == 0:
        if moment != "write":
            setattr(os, moment, die)
        write_whole(path, write)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert read_json(path) == 1
    write_json(path, 2)
    assert read_json(path) == 2 and len(list(tmp_path.iterdir())) == 1


def test_the_temporary_file_keeps_the_ending_and_names_its_writer(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary.name)
        temporary.write_text("")

    write_whole(tmp_path / "model.weights.h5", write, "worker1")
    assert seen == [".worker1.model.weights.h5"]
