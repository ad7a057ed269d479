"""A worker whose chief dies waits for it, goes on when it is back, and says so."""

import os
import pathlib
import socket
import sys
import time

import grpc
import keras_tuner
import loopback
import pytest
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.tuners import CandidateOracle, ResumableTuner, chief_client
from keras_mtl.tuners.chief_client import ChiefClient, ChiefError

ADDRESS = "127.0.0.1:6006"
SILENT, DEAD = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
GONE = (
    f"The chief at {ADDRESS} must answer within 10 min (`chief_timeout`). Received: no answer. "
    "Start the chief at that address with the same `directory` and `project_name`, then this "
    "worker: the search goes on."
)


class Error(grpc.RpcError):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "Exception calling application: no space"


class Client:
    """Stands in for KerasTuner's: answers are taken from a list, errors are raised."""

    def __init__(self, answers):
        self.answers, self.stub, self.calls = answers, None, []

    def ask(self, name, *arguments):
        self.calls.append((name, *arguments))
        answer = self.answers.pop(0)
        if isinstance(answer, grpc.StatusCode):
            raise Error(answer)
        return answer

    def __getattr__(self, name):
        return lambda *arguments: self.ask(name, *arguments)


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def lines():
    return []


@pytest.fixture
def asked(monkeypatch, lines):
    """A function that makes a `ChiefClient` with some answers of the chief."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "6006")
    monkeypatch.setattr(chief_client, "time", Clock())

    def make(*answers, has_ended=lambda: False):
        client = Client(list(answers))
        chief = ChiefClient(lambda: client, 600.0, has_ended, lines.append)
        chief.calls = client.calls
        return chief

    return make


@pytest.mark.parametrize("code", [SILENT, DEAD])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("create_trial", ("worker",)),
        ("get_trial", ("0000",)),
        ("update_trial", ("0000", {"loss": 1.0}, 0)),
        ("end_trial", ("a trial",)),
    ],
)
def test_what_the_chief_must_know_is_told_when_it_is_back(name, arguments, code, asked, lines):
    chief = asked(*[code] * 30, "answer")
    assert getattr(chief, name)(*arguments) == "answer"
    assert chief.calls == [(name, *arguments)] * 31
    assert lines == [
        f"The chief at {ADDRESS} does not answer. Waiting for it, 10 min at most.",
        f"The chief at {ADDRESS} answers again, after 30 s.",
    ]


def test_a_chief_that_stays_away_ends_the_search_in_one_sentence(asked, lines):
    chief = asked(*[SILENT] * 1000)
    with pytest.raises(ConnectionError) as error:
        chief.end_trial("a trial")
    assert str(error.value) == GONE
    assert isinstance(error.value, keras_tuner.errors.FatalError)  # KerasTuner lets it pass
    assert error.value.__context__ is None
    assert chief_client.time.now == 600
    assert len(lines) == 1


def test_a_training_goes_on_without_the_chief(asked, lines):
    chief = asked(SILENT, SILENT, "answer")
    for _ in range(2):
        trial = chief.update_trial("0003", {})
        assert (trial.trial_id, trial.status) == ("0003", TrialStatus.RUNNING)
    assert chief.update_trial("0003", {}) == "answer"
    assert lines == [
        f"The chief at {ADDRESS} does not answer. The trial goes on without it.",
        f"The chief at {ADDRESS} answers again, after 0 s.",
    ]


def test_nobody_waits_for_a_chief_that_has_left_after_the_last_trial(asked, lines):
    chief = asked(*[SILENT] * 9, has_ended=lambda: True)
    assert chief.create_trial("worker").status == TrialStatus.STOPPED
    assert lines == ["All trials of the search have ended, and its chief has left."]


def test_an_error_of_the_chief_is_one_sentence(asked):
    chief = asked(grpc.StatusCode.UNKNOWN)
    with pytest.raises(ChiefError) as error:
        chief.create_trial("worker")
    assert str(error.value) == (
        f"The chief at {ADDRESS} must answer 'create_trial'. Received: its error 'Exception "
        "calling application: no space' (UNKNOWN). What happened there is in its output; mend it, "
        "start the chief again, then this worker."
    )


# With gRPC, in this process ---------------------------------------------------------------------


class Area(ResumableTuner):
    def __init__(self, folder, **options):
        oracle = CandidateOracle([1, 2], keras_tuner.Objective("area", "min"), lease=2.0)
        super().__init__(oracle, directory=folder, project_name="area", idle_seconds=0.1, **options)

    def train(self, trial, candidate):
        return {"area": candidate**2}


@pytest.fixture
def environment(monkeypatch):
    def be(name, host="127.0.0.1", port=None):
        if port is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        values = {"ORACLE_IP": host, "ORACLE_PORT": port, "TUNER_ID": name}
        for key, value in values.items():
            if value is not None:
                monkeypatch.setenv(f"KERASTUNER_{key}", str(value))
        return port

    return be


@pytest.mark.parametrize("listens", [False, True])
def test_a_chief_that_never_starts_or_hangs(listens, environment, tmp_path, capfd):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        if listens:  # takes the connection, and says nothing
            silent.listen()
        environment("worker", port=port)
        began = time.monotonic()
        with pytest.raises(ConnectionError) as error:
            Area(tmp_path, chief_timeout=1.0).search()
    assert time.monotonic() - began < 10
    address = f"127.0.0.1:{port}"
    assert str(error.value) == GONE.replace(ADDRESS, address).replace("10 min", "1 s")
    line = f"The chief at {address} does not answer. Waiting for it, 1 s at most.\n"
    assert capfd.readouterr().out in ("", line)  # one call may take all of the time
    with pytest.raises(ConnectionError):
        Area(tmp_path, chief_timeout=1.0).search(verbose=0)
    assert capfd.readouterr().out == ""


def test_the_best_models_of_a_worker_need_no_chief(environment, tmp_path):
    Area(tmp_path).search(verbose=0)
    environment("worker")
    best = Area(tmp_path).get_best_hyperparameters(2)
    trials = [Trial(hyperparameters, "0000") for hyperparameters in best]
    assert [CandidateOracle.candidate(trial) for trial in trials] == [1, 2]


def test_a_port_that_is_taken_is_said_by_the_chief(environment, tmp_path):
    with socket.socket() as other:
        # As gRPC does, which then listens at one port with two servers.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = environment("chief", port=other.getsockname()[1])
        with pytest.raises(OSError) as error:
            Area(tmp_path).search(verbose=0)
    assert str(error.value) == (
        "`KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` must be an address of this machine "
        f"and a free port where the chief can listen. Received: 127.0.0.1:{port} (Address already "
        "in use). End what listens there, such as another chief, or choose another port for the "
        "chief and all workers."
    )


def test_so_is_an_address_of_another_machine(environment, tmp_path):
    environment("chief", host="192.0.2.1")  # of no machine: RFC 5737
    with pytest.raises(OSError, match="must be an address of this machine"):
        Area(tmp_path).search(verbose=0)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"TUNER_ID": "worker", "ORACLE_PORT": "6006"},
            "`KERASTUNER_ORACLE_IP` must be set in the environment of the chief and of every "
            "worker. Received: {'KERASTUNER_ORACLE_PORT': '6006', 'KERASTUNER_TUNER_ID': "
            "'worker'} without it. Set the address and the port at which the chief listens and a "
            "name for each process ('chief', or any other), or none of the three for a search in "
            "one process.",
        ),
        ({"TUNER_ID": "worker"}, "`KERASTUNER_ORACLE_IP` must be set"),
        ({"TUNER_ID": "worker", "ORACLE_IP": "127.0.0.1"}, "`KERASTUNER_ORACLE_PORT` must be set"),
        ({"ORACLE_PORT": "1", "ORACLE_IP": "127.0.0.1"}, "`KERASTUNER_TUNER_ID` must be set"),
        ({"TUNER_ID": "w", "ORACLE_PORT": "1", "ORACLE_IP": ""}, "`KERASTUNER_ORACLE_IP` must be"),
        (
            {"TUNER_ID": "worker", "ORACLE_PORT": "http", "ORACLE_IP": "127.0.0.1"},
            "`KERASTUNER_ORACLE_PORT` must be a number from 1 to 65535. Received: "
            "KERASTUNER_ORACLE_PORT='http'.",
        ),
    ],
)
def test_an_environment_must_say_all(variables, message, monkeypatch, tmp_path):
    for name, value in variables.items():
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    with pytest.raises(ValueError) as error:
        Area(tmp_path)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), None, "10 min"])
def test_unusable_timeouts(value, tmp_path):
    with pytest.raises(ValueError) as error:
        Area(tmp_path, chief_timeout=value)
    assert str(error.value) == (
        f"`chief_timeout` must be positive and finite. Received: chief_timeout={value!r}."
    )


# With processes ---------------------------------------------------------------------------------


class Work(ResumableTuner):
    """A trial lasts, and reports, until there is a file of its number."""

    def __init__(self, folder):
        oracle = CandidateOracle([0, 1, 2], "val_loss", lease=2.0)
        super().__init__(
            oracle, directory=folder, project_name="search", idle_seconds=0.1, chief_timeout=4.0
        )
        self.notes, self.log = loopback.Notes(folder), folder / "worker.log"

    def train(self, trial, candidate):
        self.notes.write("begins", candidate)
        while not (pathlib.Path(self.directory) / f"end{candidate}").exists():
            time.sleep(0.05)
            self.report()
        self.notes.write("ends", candidate)
        return {"val_loss": candidate + 1.0}


def scenes(folder):
    processes = loopback.Processes(folder, lambda: Work(folder).search())
    notes, log = loopback.Notes(folder), folder / "worker.log"

    def said(text):
        while not log.exists() or text not in log.read_text():
            time.sleep(0.05)

    processes.start("worker")  # before its chief
    said("does not answer. Waiting for it, 4 s at most.")
    processes.start("chief")
    notes.wait_for("begins 0")
    processes.kill("chief")  # in a trial
    said("The trial goes on without it.")
    (folder / "end0").touch()
    notes.wait_for("ends 0")
    time.sleep(0.5)
    processes.start("chief")  # whom the result reaches
    notes.wait_for("begins 1")
    processes.kill("chief")  # for good
    (folder / "end1").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(processes.children["worker"], 0)[1]) == 1
    notes.write("given", "up")
    (folder / "end2").touch()
    processes.start("chief", "worker")
    processes.wait_for("worker", "chief")


@pytest.mark.slow
def test_a_chief_dies_comes_back_and_dies_for_good(tmp_path):
    notes, logs = loopback.run(__file__, tmp_path, "scenes", seconds=120)
    assert [" ".join(words) for words in notes] == [
        "begins 0", "ends 0", "begins 1", "ends 1", "given up", "begins 1", "ends 1", "begins 2",
        "ends 2",
    ]  # fmt: skip
    lines = logs["worker"].splitlines()
    said = [line.split(" ", 4)[4] for line in lines if line.startswith("The chief")]
    assert said[0] == "does not answer. Waiting for it, 4 s at most."
    assert said[2] == "does not answer. The trial goes on without it."
    assert said[4].startswith("does not answer. ")
    assert [line.startswith("answers again, after ") for line in said] == [False, True] * 2 + [
        False
    ]
    (last,) = [line for line in lines if "ChiefError: The chief at 127.0.0.1:" in line]
    assert last.endswith("then this worker: the search goes on.")
    assert "RpcError" not in logs["worker"] and "_InactiveRpcError" not in logs["worker"]
    scores = [line for line in logs["chief"].splitlines() if line.startswith("Trial")]
    assert [line.split(";")[0].split(" (")[0] for line in scores] == [
        f"Trial {i + 1} of 3: val_loss {i + 1}" for i in range(3)
    ]


if __name__ == "__main__":
    scenes(pathlib.Path(sys.argv[1]))
