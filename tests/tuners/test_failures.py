"""Searches in which some or all trials have no finite objective: none of them is ever the best."""

import math

import keras_tuner
import numpy as np
import pytest

from keras_mtl.tuners import CandidateOracle, PartitionTuner, ResumableTuner, files
from keras_mtl.tuners.result_rows import number, plain

NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)  # slow, and no part of this


class Given(ResumableTuner):
    """What each trial is worth is given."""

    def __init__(self, folder, values, direction="min", limit=None):
        oracle = CandidateOracle(
            list(range(len(values))),
            keras_tuner.Objective("height", direction),
            max_consecutive_failed_trials=limit,
        )
        super().__init__(oracle, directory=folder, project_name="search")
        self.values = values

    def train(self, trial, candidate):
        return {"height": self.values[candidate], "others": np.ones(3), "text": "no number"}

    def load_model(self, trial):
        return int(trial.trial_id)


@pytest.mark.parametrize(("direction", "best"), [("min", [3, 5]), ("max", [5, 3])])
def test_neither_nan_nor_infinity_wins(direction, best, tmp_path, capfd):
    tuner = Given(tmp_path, [NAN, INF, -INF, 1.0, NAN, 2.0], direction)
    tuner.search()
    for same in (tuner, Given(tmp_path, [NAN] * 6, direction)):  # and made again
        assert same.get_best_models(9) == best
        assert [t.score for t in same.oracle.get_best_trials(9)] == [1.0 + (i == 5) for i in best]
        assert len(same.get_best_hyperparameters(9)) == 2
        statuses = [same.oracle.trials[f"{i:04d}"].status for i in range(6)]
        assert statuses == ["FAILED"] * 3 + ["COMPLETED", "FAILED", "COMPLETED"]
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("Trial 1 of 6: failed (height is NaN); 5 more")
    assert lines[1].startswith("Trial 2 of 6: failed (height is inf); 4 more")


def test_where_all_have_failed_one_sentence_says_which(tmp_path, capfd):
    message = (
        "A trial must have a finite objective to be the best. Received: only failures, of trial "
        "1 (height is NaN), 2 (height is inf), 3 (height is NaN) and 2 more. Look at the learning "
        "rate, the data and the objective of these, and begin anew with `overwrite=True` or "
        "another `project_name`."
    )
    for _ in range(2):
        tuner = Given(tmp_path, [NAN, INF, NAN, NAN, NAN])
        with pytest.warns(UserWarning, match="A trial must") as warned:
            tuner.search(verbose=0)
        assert [str(x.message) for x in warned if x.category is UserWarning] == [message]
        assert tuner.oracle.get_best_trials(3) == []
        for ask in (tuner.get_best_models, tuner.get_best_hyperparameters):
            with pytest.raises(ValueError) as error:
                ask()
            assert str(error.value) == message
        tuner.results_summary()
    assert capfd.readouterr().err == ""


def test_before_a_trial_has_ended_there_is_no_best(tmp_path):
    with pytest.raises(ValueError) as error:
        Given(tmp_path, [1.0]).get_best_models()
    assert str(error.value) == "`search` must have trained a candidate first. Received: no result."


@pytest.mark.parametrize("value", [None, "high", [1.0, 2.0], np.ones(2)])
def test_an_objective_that_is_no_number_ends_the_search(value, tmp_path):
    tuner = Given(tmp_path, [1.0, value])
    with pytest.raises(TypeError) as error:
        tuner.search(verbose=0)
    assert str(error.value).startswith(
        "`train` must return the objective 'height' as a number. Received: {'height': "
    )
    assert error.value.__notes__ == ["In trial 2, which stays open."]


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.array(2.0), True + 1])
def test_numbers_of_any_kind_count(value, tmp_path):
    tuner = Given(tmp_path, [value])
    tuner.search(verbose=0)
    (trial,) = tuner.oracle.get_best_trials()
    assert trial.score == 2.0 and set(trial.metrics.metrics) == {"height"}


def test_an_infinite_step_is_not_the_best_of_a_trial(tmp_path):
    oracle = Given(tmp_path, [0.0], "max").oracle
    trial = oracle.create_trial("a")
    for step, value in enumerate([1.0, INF, 3.0, NAN, 2.0]):
        oracle.update_trial(trial.trial_id, {"height": value}, step)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    (best,) = oracle.get_best_trials()
    assert (best.score, best.best_step) == (3.0, 2)


def test_results_of_metrics_as_plain_data():
    assert plain(np.float32(0.5)) == 0.5
    assert plain(np.array([[1, 2]])) == [[1.0, 2.0]]
    assert (number(np.array(1)), number(None), number("a"), number([1.0])) == (
        1.0,
        None,
        None,
        None,
    )


# Evolution strategies ---------------------------------------------------------------------------


def climb(folder, worth, **options):
    """Scores are worth of the index; `points` afterwards, and the tuner."""
    tuner = PartitionTuner(
        lambda partition, run: worth(run.index, -abs(partition.feature_use - 0.3)),
        ("a", "b"),
        max_trials=28, seed=0, directory=folder, project_name="search", starts=4, directions=4,
        kept=2, **options,
    )  # fmt: skip
    tuner.search(verbose=0)
    return tuner


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_failure_is_the_worst_of_its_generation(value, tmp_path):
    fails = {1, 6, 13, 25}
    found = climb(tmp_path / "fails", lambda i, score: value if i in fails else score)
    low = climb(tmp_path / "low", lambda i, score: score)
    assert np.isfinite(found.oracle.points).all() and len(found.oracle.points) == 4
    assert found.oracle.points[0] == low.oracle.points[0]  # trial 1 was not the best there
    rows = found.results()
    assert {row.index for row in rows if row.score is None} == fails
    assert {row.message for row in rows if row.score is None} == {f"score is {value}"}
    assert len(found.history()) == 24
    assert found.best_result().index not in fails
    assert math.isfinite(found.last_partition().feature_use)


def test_generations_without_a_score_leave_the_point(tmp_path):
    options = {"max_consecutive_failed_trials": None}
    found = climb(tmp_path, lambda i, score: NAN if i < 12 else score, **options)
    points = found.oracle.points
    assert points[0] == points[1] != points[2] and np.isfinite(points).all()


def test_where_all_partitions_have_failed_one_sentence_says_which(tmp_path):
    options = {"max_consecutive_failed_trials": None}
    with pytest.warns(UserWarning, match="only failures, of trial 1 .score is NaN"):
        found = climb(tmp_path, lambda i, score: NAN, **options)
    with pytest.raises(ValueError) as error:
        found.best_partition()
    assert str(error.value) == (
        "A trial must have a finite objective to be the best. Received: only failures, of trial "
        "1 (score is nan), 2 (score is nan), 3 (score is nan) and 25 more. Look at the learning "
        "rate, the data and the objective of these, and begin anew with `overwrite=True` or "
        "another `project_name`."
    )
    assert found.history() == [] and len(found.results()) == 28
