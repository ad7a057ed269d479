"""`ResumableTuner`: idle workers sleep, errors come through, and only the chief deletes."""

import time

import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.tuners import CandidateOracle, ResumableTuner, progress

CANDIDATES = [3, 1, 2]


class Area(ResumableTuner):
    """The area of a square; at some candidates something happens."""

    def __init__(self, folder, events=None, candidates=CANDIDATES, limit=3, **options):
        oracle = CandidateOracle(
            candidates,
            keras_tuner.Objective("area", "min"),
            max_consecutive_failed_trials=limit,
        )
        super().__init__(oracle, directory=folder, project_name="area", **options)
        self.events = events or {}
        self.trained = []

    def train(self, trial, candidate, **options):
        self.options = options
        self.trained.append(candidate)
        if (event := self.events.get(candidate)) is not None:
            raise event
        return {"area": candidate**2}


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")  # where nobody answers
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker")


def test_a_search_says_one_line_per_trial(tmp_path, capfd):
    Area(tmp_path).search(kind="square")
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        "Trial 1 of 3: area 9; 2 more, about 0 s left",
        "Trial 2 of 3: area 1; 1 more, about 0 s left",
        "Trial 3 of 3: area 4 (best 1, trial 2); all done, the last 3 in 0 s",
    ]
    Area(tmp_path).search()
    assert capfd.readouterr().out == "Continuing after 3 of 3 trials.\n"


def test_verbose_0_says_nothing(tmp_path, capfd):
    tuner = Area(tmp_path)
    tuner.search(verbose=0, kind="square")
    Area(tmp_path).search(verbose=0)
    assert capfd.readouterr().out == ""
    assert tuner.options == {"kind": "square"}


def test_progress_estimates_from_the_trials_of_this_process(monkeypatch):
    now = iter([100.0, 160.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(now))
    trial = Trial(keras_tuner.HyperParameters(), "0004", TrialStatus.FAILED, "Traceback\nno memory")
    line = (measured := progress.Progress(8)).begin() or measured.line(trial, "loss", None, 5)
    assert line == "Trial 5 of 8: failed (no memory); 3 more, about 3 min left"
    assert [progress.duration(s) for s in (99, 100, 7200)] == ["99 s", "2 min", "2.0 h"]


def test_an_idle_worker_sleeps(tmp_path, monkeypatch):
    tuner = Area(tmp_path, idle_seconds=7.0)
    slept, create = [], tuner.oracle.create_trial
    monkeypatch.setattr(time, "sleep", slept.append)
    answers = iter([None, None, TrialStatus.IDLE, TrialStatus.IDLE, TrialStatus.IDLE])

    def create_trial(tuner_id):
        status = next(answers, None)
        empty = Trial(keras_tuner.HyperParameters(), "", status)
        return empty if status else create(tuner_id)

    monkeypatch.setattr(tuner.oracle, "create_trial", create_trial)
    tuner.search(verbose=0)
    assert tuner.trained == CANDIDATES
    assert slept == [7.0] * 3


def test_an_error_ends_the_search_and_leaves_the_trial_open(tmp_path, capfd):
    with pytest.raises(KeyError, match="typo") as error:
        Area(tmp_path, {1: KeyError("typo")}).search(verbose=0)
    assert error.value.__notes__ == ["In trial 2, which stays open."]
    assert capfd.readouterr().err == ""
    mended = Area(tmp_path)
    mended.search(verbose=0)
    assert mended.trained == [1, 2]
    assert [t.status for t in mended.oracle.trials.values()] == [TrialStatus.COMPLETED] * 3


def test_a_kill_leaves_the_trial_open(tmp_path):
    tuner = Area(tmp_path, {1: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    again = Area(tmp_path)
    again.search(verbose=0)
    assert again.trained == [1, 2]


def test_a_trial_may_fail(tmp_path, capfd):
    tuner = Area(tmp_path, {1: keras_tuner.errors.FailedTrialError("too slow")})
    tuner.search()
    assert tuner.trained == CANDIDATES
    assert "Trial 2 of 3: failed (keras_tuner" in capfd.readouterr().out
    assert tuner.oracle.get_best_trials()[0].score == 4


def test_failures_in_a_row_end_the_search(tmp_path):
    failures = {size: keras_tuner.errors.FailedTrialError("too slow") for size in (1, 2)}
    message = (
        "The last 2 trials have failed. The last one says: keras_tuner.src.errors."
        "FailedTrialError: too slow. To go on, pass the oracle a larger "
        "`max_consecutive_failed_trials`."
    )
    for trained in ([3, 1, 2], []):  # started again, it says so at once
        tuner = Area(tmp_path, failures, candidates=[3, 1, 2, 4], limit=2)
        with pytest.raises(RuntimeError) as error:
            tuner.search(verbose=0)
        assert str(error.value) == message
        assert tuner.trained == trained
    more = Area(tmp_path, candidates=[3, 1, 2, 4], limit=3)
    more.search(verbose=0)
    assert more.trained == [4]


def test_overwrite_begins_anew(tmp_path):
    Area(tmp_path).search(verbose=0)
    again = Area(tmp_path, overwrite=True)
    again.search(verbose=0)
    assert again.trained == CANDIDATES


def test_a_worker_does_not_delete_what_the_chief_has(tmp_path, worker):
    (tmp_path / "area").mkdir()
    (tmp_path / "area" / "oracle.json").write_text("the chief's")
    Area(tmp_path, overwrite=True)
    assert (tmp_path / "area" / "oracle.json").read_text() == "the chief's"


def test_a_worker_that_comes_when_all_is_done_returns_at_once(tmp_path, request):
    Area(tmp_path).search(verbose=0)
    request.getfixturevalue("worker")
    late = Area(tmp_path)
    late.search(verbose=0)
    assert late.trained == []


def test_a_trial_that_another_worker_has_ended_is_not_trained_on(tmp_path):
    tuner = Area(tmp_path)
    trial = tuner.oracle.create_trial("tuner0")
    tuner.on_trial_begin(trial)
    tuner._reported -= 16
    tuner.report()
    tuner.oracle.update_trial(trial.trial_id, {"area": 1.0})
    trial.status = TrialStatus.COMPLETED
    tuner.oracle.end_trial(trial)
    tuner.report()  # the last report was just now
    tuner._reported -= 16
    with pytest.raises(keras_tuner.errors.FailedTrialError) as error:
        tuner.report()
    assert str(error.value) == "Trial 1 was ended by another worker."


def test_another_oracle_is_refused(tmp_path):
    with pytest.raises(TypeError) as error:
        ResumableTuner(1, directory=tmp_path, project_name="search")
    assert str(error.value) == "`oracle` must be a `ResumableOracle`. Received: oracle=1."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directory": None}, "`directory` must be a string or a path. Received: directory=None."),
        (
            {"project_name": ""},
            "`project_name` must be a string that is not empty. Received: project_name=''.",
        ),
        (
            {"idle_seconds": -1},
            "`idle_seconds` must be finite and at least 0. Received: idle_seconds=-1.",
        ),
    ],
)
def test_unusable_arguments(options, message, tmp_path):
    options = {"directory": tmp_path, "project_name": "search", **options}
    with pytest.raises((TypeError, ValueError)) as error:
        ResumableTuner(CandidateOracle([1], "loss"), **options)
    assert str(error.value) == message


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_folder_stays(overwrite, tmp_path):
    (tmp_path / "area").write_text("mine")
    with pytest.raises(OSError) as error:
        Area(tmp_path, overwrite=overwrite)
    assert str(error.value) == (
        "`directory` and `project_name` must name a folder in which files can be written. "
        f"Received: {str(tmp_path / 'area')!r} (File exists)."
    )
    assert (tmp_path / "area").read_text() == "mine"
