"""Searches on loopback: a chief and workers, that are killed and come back.

A test file runs itself as a script in a process of its own (`run`), which forks chief and workers
(`Processes`), since importing TensorFlow takes longest: one process does it, and forks the others
before gRPC or TensorFlow have started threads. What they do is in `notes`.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import traceback

import keras_mtl

ROOT = pathlib.Path(keras_mtl.__file__).parents[1]


def run(script, folder, *arguments, seconds=240):
    """Runs a script with the environment of a search; returns notes, as words, and logs by name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), *arguments],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=seconds)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    logs = {path.stem: path.read_text() for path in folder.glob("*.log")}
    assert process.returncode == 0, (output[-2000:], logs)
    return [line.split() for line in Notes(folder).read().splitlines()], logs


class Notes:
    """Lines that all processes write to one file."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / "notes"

    def write(self, *words):
        with open(self.path, "a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def read(self):
        return self.path.read_text() if self.path.exists() else ""

    def has(self, pattern):
        return re.search(pattern, self.read()) is not None

    def wait_for(self, pattern):
        while not self.has(pattern):
            time.sleep(0.1)


class Processes:
    """Chief and workers of the script's search, by their names.

    Args:
        folder: path. Where their logs are.
        search: function of nothing, that makes a tuner and searches.
    """

    def __init__(self, folder, search):
        self.folder, self.search, self.children = pathlib.Path(folder), search, {}

    def start(self, *names):
        for name in names:
            self.children[name] = os.fork() or self._work(name)

    def kill(self, name):
        os.kill(self.children[name], signal.SIGKILL)
        self.wait_for_death(name)

    def wait_for_death(self, name):
        _, status = os.waitpid(self.children[name], 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, status)

    def wait_for(self, *names):
        for name in names:
            assert os.waitpid(self.children[name], 0)[1] == 0, name

    def _work(self, name):
        code = 1
        try:
            log = os.open(self.folder / f"{name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            os.environ["KERASTUNER_TUNER_ID"] = name
            self.search()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
