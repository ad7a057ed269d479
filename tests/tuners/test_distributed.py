"""Chief and workers on loopback: they are killed, and come back."""

import collections
import json
import os
import pathlib
import re
import signal
import sys
import time

import loopback
import numpy as np
import pytest

from keras_mtl.tuners import CandidateOracle, PartitionTuner, ResumableTuner

pytestmark = pytest.mark.slow


# Two workers; one is killed and comes back under another name, and so is the chief --------------

TRIALS = 8


class Work(ResumableTuner):
    """Keeps the steady worker at its trial until the one that came back has work, so that its
    lease must live by its reports."""

    def __init__(self, folder):
        oracle = CandidateOracle(list(range(TRIALS)), "val_loss", lease=20.0)
        super().__init__(oracle, directory=folder, project_name="search", idle_seconds=0.2)
        self.notes, self.quiet = loopback.Notes(folder), folder / "quiet"

    def train(self, trial, candidate, sleep):
        self.notes.write(self.tuner_id, "begins", candidate)
        if self.tuner_id == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        while self.tuner_id == "steady" and candidate > 1 and not self.notes.has("back begins"):
            time.sleep(sleep)
            if not self.quiet.exists():
                self.report()
        time.sleep(sleep)
        self.notes.write(self.tuner_id, "ends", candidate)
        return {"val_loss": abs(candidate - 2.5) + 1e-9}


def work(folder):
    processes = loopback.Processes(folder, lambda: Work(folder).search(sleep=0.2))
    processes.start("chief", "killed", "steady")
    processes.wait_for_death("killed")
    loopback.Notes(folder).wait_for("steady begins [23]")
    (folder / "quiet").touch()
    time.sleep(1)
    processes.kill("chief")
    processes.start("chief")
    (folder / "quiet").unlink()
    processes.start("back")
    processes.wait_for("steady", "back", "chief")


def test_workers_and_chief_are_killed_and_every_trial_is_done_once(tmp_path):
    notes, logs = loopback.run(__file__, tmp_path, "work")
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
    lines = [line for line in logs["chief"].splitlines() if line.startswith("Trial")]
    assert len(lines) == TRIALS and "all done" in lines[-1]
    assert re.search("Continuing after [12] of 8 trials.", logs["chief"])


# Three workers climb by generations; one is killed in the middle of one and comes back ----------

STARTS, DIRECTIONS = 4, 4
SAMPLES = STARTS + 3 * 2 * DIRECTIONS


def climb(folder):
    """Evolution strategies; the third worker dies at its first candidate of generation 1."""
    notes = loopback.Notes(folder)

    def score(partition, run):
        name = run.tuner.tuner_id
        notes.write(name, "begins", run.index)
        if name == "third" and run.index >= STARTS and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while (
            name in ("first", "second") and run.index >= STARTS and not (folder / "died").exists()
        ):
            time.sleep(0.1)
        time.sleep(0.05)
        notes.write(name, "ends", run.index)
        return height(partition, run)

    tuner(folder, score).search()


def height(partition, run):
    noise = np.random.default_rng(run.seed).normal()
    return 0.01 * noise - np.square(partition.forward - 0.3).sum()


def tuner(folder, score):
    return PartitionTuner(
        score, ("a", "b"), max_trials=SAMPLES, seed=0, directory=folder, project_name="search",
        starts=STARTS, directions=DIRECTIONS, kept=2, learning_rate=0.5, idle_seconds=0.1,
    )  # fmt: skip


def generations(folder):
    processes = loopback.Processes(folder, lambda: climb(folder))
    processes.start("chief", "first", "second", "third")
    processes.wait_for_death("third")
    time.sleep(1)  # the others end what they can of the generation, and wait
    loopback.Notes(folder).write("third", "is", "back")
    processes.start("third")
    processes.wait_for("first", "second", "third", "chief")


def test_a_search_by_generations_on_three_workers_is_that_of_a_lone_process(tmp_path):
    (tmp_path / "alone").mkdir()
    alone = tuner(tmp_path / "alone", height)
    alone.search(verbose=0)
    notes, logs = loopback.run(__file__, tmp_path, "generations")

    back = notes.index(["third", "is", "back"])
    lost = next(index for name, what, index in notes if name == "third" and int(index) >= STARTS)
    ended = [int(index) for _, what, index in notes if what == "ends"]
    assert sorted(ended) == list(range(SAMPLES))
    begun = [index for _, what, index in notes if what == "begins"]
    assert {index: begun.count(index) for index in begun if begun.count(index) > 1} == {lost: 2}
    assert ["third", "ends", lost] in notes[back:]
    # Nobody begins the next generation before this one has ended.
    assert max(int(index) for _, what, index in notes[:back]) < STARTS + 2 * DIRECTIONS
    assert {name for name, what, _ in notes if what == "ends"} == {"first", "second", "third"}

    searched = tuner(tmp_path, height)  # which only reads what is there
    assert [row.score for row in searched.results()] == [row.score for row in alone.results()]
    assert searched.oracle.points == alone.oracle.points and len(alone.oracle.points) == 4
    assert "all done" in logs["chief"].splitlines()[-1]


if __name__ == "__main__":
    {"work": work, "generations": generations}[sys.argv[2]](pathlib.Path(sys.argv[1]))
