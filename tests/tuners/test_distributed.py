"""A chief and two workers on loopback; a worker is killed, and so is the chief; both come back."""

import collections
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

import keras_mtl

ROOT = str(pathlib.Path(keras_mtl.__file__).parents[1])
TRIALS = 8

# Importing TensorFlow takes longest: one process does it, and forks the others (before gRPC or
# TensorFlow have started threads). The steady worker keeps a trial until the one that came back has
# work, so that its lease must live by its reports.
SCRIPT = textwrap.dedent(
    f"""
    import os
    import pathlib
    import re
    import signal
    import sys
    import time
    import traceback

    from keras_mtl.tuners import CandidateOracle, ResumableTuner

    folder = pathlib.Path(sys.argv[1])


    class Work(ResumableTuner):
        def train(self, trial, candidate, sleep):
            self.note(candidate, "begins")
            if self.tuner_id == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            while self.tuner_id == "steady" and candidate > 1 and not self.has_begun("back"):
                time.sleep(sleep)
                if not (folder / "quiet").exists():
                    self.report()
            time.sleep(sleep)
            self.note(candidate, "ends")
            return {{"val_loss": abs(candidate - 2.5) + 1e-9}}

        def has_begun(self, worker):
            return f"{{worker}} begins" in (folder / "notes").read_text()

        def note(self, candidate, what):
            with open(folder / "notes", "a") as file:
                file.write(f"{{self.tuner_id}} {{what}} {{candidate}}\\n")


    def start(name):
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            log = os.open(folder / f"{{name}}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            os.environ["KERASTUNER_TUNER_ID"] = name
            oracle = CandidateOracle(list(range({TRIALS})), "val_loss", lease=6.0)
            tuner = Work(oracle, directory=folder, project_name="search", idle_seconds=0.2)
            tuner.search(sleep=0.2)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)


    children = {{name: start(name) for name in ("chief", "killed", "steady")}}
    _, status = os.waitpid(children["killed"], 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    while not re.search("steady begins [23]", (folder / "notes").read_text()):
        time.sleep(0.1)
    (folder / "quiet").touch()
    time.sleep(1)
    os.kill(children["chief"], signal.SIGKILL)
    os.waitpid(children["chief"], 0)
    children["chief"] = start("chief")
    (folder / "quiet").unlink()
    children["back"] = start("back")
    for name in ("steady", "back", "chief"):
        assert os.waitpid(children[name], 0)[1] == 0, name
    """
)


@pytest.mark.slow
def test_workers_and_chief_are_killed_and_every_trial_is_done_once(tmp_path):
    (tmp_path / "work.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "PYTHONPATH": ROOT,
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py"), str(tmp_path)],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=240)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    logs = {path.stem: path.read_text() for path in tmp_path.glob("*.log")}
    assert process.returncode == 0, (output[-2000:], logs)

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
    lines = [line for line in logs["chief"].splitlines() if line.startswith("Trial")]
    assert len(lines) == TRIALS and "all done" in lines[-1]
    assert re.search("Continuing after [12] of 8 trials.", logs["chief"])
