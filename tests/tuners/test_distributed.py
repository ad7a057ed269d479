"""A chief and two workers on loopback, one of which is killed and comes back under a new name."""

import collections
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

import keras_mtl

ROOT = str(pathlib.Path(keras_mtl.__file__).parents[1])
TRIALS = 8

# The steady worker keeps a trial until the one that came back has work: its lease lives by reports.
SCRIPT = textwrap.dedent(
    f"""
    import os
    import pathlib
    import signal
    import sys
    import time

    from keras_mtl.tuners import CandidateOracle, ResumableTuner

    folder = pathlib.Path(sys.argv[1])
    name = os.environ["KERASTUNER_TUNER_ID"]


    class Work(ResumableTuner):
        def train(self, trial, candidate, sleep):
            self.note(candidate, "begins")
            if name == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            while name == "steady" and candidate > 1 and not self.has_begun("back"):
                time.sleep(sleep)
                self.report()
            time.sleep(sleep)
            self.note(candidate, "ends")
            return {{"val_loss": abs(candidate - 2.5) + 1e-9}}

        def has_begun(self, worker):
            return f"{{worker}} begins" in (folder / "notes").read_text()

        def note(self, candidate, what):
            with open(folder / "notes", "a") as file:
                file.write(f"{{name}} {{what}} {{candidate}}\\n")


    oracle = CandidateOracle(list(range({TRIALS})), "val_loss", lease=8.0)
    tuner = Work(oracle, directory=folder, project_name="search", idle_seconds=0.2)
    tuner.search(sleep=0.2)
    """
)


class Cluster:
    """Starts processes of one search."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "work.py").write_text(SCRIPT)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, name):
        own = {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(self.port),
            "PYTHONPATH": ROOT,
            "CUDA_VISIBLE_DEVICES": "",
        }
        with open(self.folder / f"{name}.log", "w") as log:
            return subprocess.Popen(
                [sys.executable, str(self.folder / "work.py"), str(self.folder)],
                env={**os.environ, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ends(self, process, name, code=0):
        assert process.wait(timeout=120) == code, (self.folder / f"{name}.log").read_text()[-3000:]


@pytest.mark.slow
def test_a_killed_worker_comes_back_and_every_trial_is_done_once(tmp_path):
    cluster = Cluster(tmp_path)
    started = {name: cluster.start(name) for name in ("chief", "killed", "steady")}
    try:
        cluster.ends(started["killed"], "killed", -signal.SIGKILL)
        started["back"] = cluster.start("back")
        for name in ("steady", "back", "chief"):
            cluster.ends(started[name], name)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    (lost,) = [int(index) for name, what, index in notes if name == "killed"]
    ended = collections.Counter(int(index) for _, what, index in notes if what == "ends")
    assert ended == dict.fromkeys(range(TRIALS), 1)
    begun = collections.Counter(int(index) for _, what, index in notes if what == "begins")
    assert begun == {index: 1 + (index == lost) for index in range(TRIALS)}
    assert {name for name, what, _ in notes if what == "ends"} == {"steady", "back"}

    state = json.loads((tmp_path / "search" / "oracle.json").read_text())
    assert sorted(state["end_order"]) == state["start_order"]
    assert len(state["end_order"]) == TRIALS and state["ongoing_trials"] == {}
    for index in range(TRIALS):
        trial = json.loads((tmp_path / "search" / f"trial_{index:04d}" / "trial.json").read_text())
        assert trial["status"] == "COMPLETED"
        assert trial["score"] == abs(index - 2.5) + 1e-9  # in double precision over the network
    lines = [line for line in (tmp_path / "chief.log").read_text().splitlines() if "Trial" in line]
    assert len(lines) == TRIALS and "all done" in lines[-1]
