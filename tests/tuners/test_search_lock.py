"""One process at a time runs a search."""

import os

import pytest

from keras_mtl.tuners import CandidateOracle, ResumableTuner
from keras_mtl.tuners.search_lock import locked


class Area(ResumableTuner):
    def __init__(self, folder, **options):
        oracle = CandidateOracle([1, 2], "loss")
        super().__init__(oracle, directory=folder, project_name="area", **options)

    def train(self, trial, candidate):
        return {"loss": candidate**2}


@pytest.fixture
def elsewhere(tmp_path):
    """Another process that runs the search until it is killed."""
    Area(tmp_path)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        with locked(tmp_path / "area"):
            os.write(write, b".")
            os.read(os.pipe()[0], 1)
        os._exit(0)
    os.read(read, 1)
    alive = [child]

    def kill():
        if alive:
            os.kill(alive[0], 9)
            os.waitpid(alive.pop(), 0)

    yield kill
    kill()


def test_a_second_process_is_refused_until_the_first_has_died(tmp_path, elsewhere):
    message = (
        "`project_name` must be of a search that no other process runs. Received: the folder "
        f"{str(tmp_path / 'area')!r}, which one does. Wait for it or end it, choose another name, "
        "or make this process one of its workers (see `ResumableTuner`)."
    )
    tuner = Area(tmp_path)  # its results may be read
    for attempt in (lambda: tuner.search(verbose=0), lambda: Area(tmp_path, overwrite=True)):
        with pytest.raises(RuntimeError) as error:
            attempt()
        assert str(error.value) == message
    elsewhere()
    tuner.search(verbose=0)
    assert tuner.oracle.finished
    Area(tmp_path, overwrite=True).search(verbose=0)


def test_one_process_may_search_again(tmp_path):
    for _ in range(2):
        Area(tmp_path).search(verbose=0)
    Area(tmp_path, overwrite=True).search(verbose=0)


def test_folder_in_the_place_of_the_lock_is_named(tmp_path):
    tuner = Area(tmp_path)
    lock = tmp_path / "area" / "search.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with pytest.raises(OSError) as error:
        tuner.search(verbose=0)
    assert str(error.value) == (
        f"{str(lock)!r} must be a file that can be written. Received: Is a directory. Delete what "
        "is in its place."
    )
