"""`ResumableOracle` without networks: every trial once, whatever dies when."""

import json

import keras_tuner
import kills
import numpy as np
import pytest
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.tuners import ResumableOracle, ResumableTuner, files, resumable_oracle

SIZE = 3


class Climber(ResumableOracle):
    """Draws generations around the best of the last one; what it knows is all in its state."""

    def __init__(self, max_trials=3 * SIZE, **options):
        super().__init__(keras_tuner.Objective("height", "max"), max_trials, **options)
        self.centre = 0.0
        self.generation = 0
        self.scores = {}

    def propose(self, index):
        if index // SIZE != self.generation:
            return None
        return {"x": self.centre + self.generator(*divmod(index, SIZE)).normal()}

    def observe(self, index, score):
        self.scores[str(index)] = score
        names = [str(SIZE * self.generation + i) for i in range(SIZE)]
        if all(name in self.scores for name in names):
            best = max(names, key=lambda name: (self.scores[name] is not None, self.scores[name]))
            self.centre = self.candidate(self.trials[f"{int(best):04d}"])["x"]
            self.generation += 1

    def get_state(self):
        own = {"centre": self.centre, "generation": self.generation, "scores": self.scores}
        return {**super().get_state(), "climber": own}

    def set_state(self, state):
        super().set_state(state)
        vars(self).update(state["climber"])


class Climb(ResumableTuner):
    """Notes which candidates it has trained."""

    def __init__(self, oracle, folder, trained=None):
        super().__init__(oracle, directory=folder, project_name="climb")
        self.trained = [] if trained is None else trained

    def train(self, trial, candidate):
        height = -((candidate["x"] - 2) ** 2)
        self.trained.append(int(trial.trial_id))
        return {"height": height}


class Clock:
    """Stands in for `monotonic`."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(resumable_oracle, "monotonic", found := Clock())
    return found


@pytest.fixture
def oracle(tmp_path, clock):
    return new(tmp_path)


def new(folder, **options):
    """An oracle as a chief would have it, with what is in the folder."""
    oracle = Climber(**{"lease": 100.0, **options})
    Climb(oracle, folder)
    oracle.verbose = 0
    return oracle


def end(oracle, trial, height=1.0, status=TrialStatus.COMPLETED, message=None):
    """What a worker does when its trial is over."""
    if height is not None:
        oracle.update_trial(trial.trial_id, {"height": height})
    trial.status, trial.message = status, message
    oracle.end_trial(trial)


def number(trial):
    return int(trial.trial_id) if trial.status == TrialStatus.RUNNING else trial.status


def chief_may_leave(oracle):
    """KerasTuner's condition in `start_server`."""
    return len(oracle.ongoing_trials) == 0 and len(oracle.tuner_ids) == 0


# Candidates -------------------------------------------------------------------------------------


def test_candidates_follow_from_seed_and_index(tmp_path):
    centres = [new(tmp_path / "a", seed=seed).propose(0)["x"] for seed in (0, 0, 1)]
    assert centres[0] == centres[1] != centres[2]
    assert centres[0] == np.random.default_rng((0, 0, 0)).normal()


def test_seed_0_is_a_seed_like_any_other():
    assert Climber(seed=0).seed == 0
    assert Climber(seed=7).seed == 7


def test_candidates_do_not_depend_on_who_asks_when(tmp_path, clock):
    """Trials that end in another order, on other workers, lead to the same search."""
    states = []
    for name, order in (("one", (0, 1, 2)), ("other", (2, 0, 1))):
        oracle = new(tmp_path / name)
        for _ in range(3):
            trials = [oracle.create_trial(f"worker{i}") for i in order]
            trials = {number(trial): trial for trial in trials}
            for index in sorted(trials, key=lambda index: order[index % SIZE]):
                end(oracle, trials[index], height=float(index))
        states.append(oracle.get_state()["climber"])
    assert states[0] == states[1]


# Workers ----------------------------------------------------------------------------------------


def test_every_trial_once_then_stopped(oracle):
    for index in range(9):
        trial = oracle.create_trial("a")
        assert number(trial) == index
        end(oracle, trial)
    assert number(oracle.create_trial("a")) == "STOPPED"
    assert oracle.finished and chief_may_leave(oracle)


def test_a_worker_that_asks_again_gets_its_trial_again_without_old_metrics(oracle):
    trial = oracle.create_trial("a")
    oracle.update_trial(trial.trial_id, {"height": 5.0})
    again = oracle.create_trial("a")
    assert again.trial_id == trial.trial_id
    assert ResumableOracle.candidate(again) == ResumableOracle.candidate(trial)
    assert not again.metrics.exists("height")
    end(oracle, again, height=1.0)
    assert oracle.get_trial("0000").score == 1.0  # not the mean with 5


def test_the_trial_of_a_lost_worker_goes_to_another_when_its_lease_is_over(oracle, clock):
    lost = oracle.create_trial("lost")
    clock.now += 50
    assert number(oracle.create_trial("other")) == 1
    clock.now += 51
    assert number(oracle.create_trial("renamed")) == number(lost) == 0
    assert set(oracle.ongoing_trials) == {"other", "renamed"}


def test_a_report_renews_the_lease(oracle, clock):
    trial = oracle.create_trial("slow")
    for _ in range(5):
        clock.now += 90
        oracle.update_trial(trial.trial_id, {})
        assert number(oracle.create_trial("other")) == 1
        assert set(oracle.ongoing_trials) == {"slow", "other"}
    assert not oracle.get_trial("0000").metrics.exists("height")


def test_the_first_end_counts_when_two_workers_have_one_trial(oracle, clock):
    slow = oracle.create_trial("slow")
    clock.now += 101
    quick = oracle.create_trial("quick")
    assert slow.trial_id == quick.trial_id
    end(oracle, quick, height=3.0)
    before = json.loads((oracle.folder / "oracle.json").read_text())
    end(oracle, slow, height=4.0)
    end(oracle, quick, height=5.0)
    assert oracle.get_trial("0000").score == 3.0
    assert oracle.end_order == ["0000"] and oracle.scores == {"0": 3.0}
    assert json.loads((oracle.folder / "oracle.json").read_text()) == before


def test_nobody_is_sent_away_while_a_trial_may_come_back(tmp_path, clock):
    oracle = new(tmp_path, max_trials=2)
    lost, trial = oracle.create_trial("lost"), oracle.create_trial("other")
    end(oracle, trial)
    assert number(oracle.create_trial("other")) == "IDLE"
    clock.now += 101
    trial = oracle.create_trial("other")
    assert number(trial) == number(lost)
    end(oracle, trial)
    assert number(oracle.create_trial("other")) == "STOPPED"
    assert chief_may_leave(oracle)  # `lost` does not keep it


def test_the_chief_waits_for_idle_workers_that_live_and_not_for_dead_ones(tmp_path, clock):
    oracle = new(tmp_path, max_trials=1)
    trial = oracle.create_trial("a")
    assert number(oracle.create_trial("idle")) == "IDLE"
    end(oracle, trial)
    assert number(oracle.create_trial("a")) == "STOPPED"
    assert not chief_may_leave(oracle)
    clock.now += 61
    assert chief_may_leave(oracle)


def test_idle_while_a_generation_is_pending(oracle, clock):
    trials = [oracle.create_trial(name) for name in "abc"]
    assert [number(trial) for trial in trials] == [0, 1, 2]
    assert number(oracle.create_trial("d")) == "IDLE"
    end(oracle, trials[0]), end(oracle, trials[2])
    assert number(oracle.create_trial("d")) == "IDLE"
    end(oracle, trials[1])
    assert number(oracle.create_trial("d")) == 3


def test_what_is_left_over_from_another_search_is_ignored(oracle):
    trial = oracle.create_trial("a")
    other = Trial(keras_tuner.HyperParameters(), trial.trial_id, TrialStatus.COMPLETED)
    other.hyperparameters.values = {"candidate": '{"x": 123.0}'}
    oracle.end_trial(other)
    oracle.end_trial(Trial(keras_tuner.HyperParameters(), "0099", TrialStatus.COMPLETED))
    assert oracle.update_trial("0099", {"height": 1.0}).status == TrialStatus.STOPPED
    assert oracle.end_order == [] and list(oracle.trials) == ["0000"]


def test_metrics_of_one_step_are_replaced_and_those_of_others_kept(oracle):
    trial = oracle.create_trial("a")
    for step, height in ((0, 1.0), (1, 5.0), (1, 2.0)):
        oracle.update_trial(trial.trial_id, {"height": height, "other": -height}, step=step)
    end(oracle, trial, height=None)
    known = oracle.get_trial("0000")
    assert known.score == 2.0 and known.best_step == 1
    assert [o.value for o in known.metrics.get_history("other")] == [[-1.0], [-2.0]]


# Failures ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_nan_fails_without_a_score(oracle):
    end(oracle, oracle.create_trial("a"), height=float("nan"))
    trial = oracle.get_trial("0000")
    assert trial.status == TrialStatus.FAILED and trial.score is None
    assert trial.message == "height is NaN"
    assert oracle.scores == {"0": None}


def test_a_broken_trial_is_run_again_as_often_as_allowed(tmp_path, clock):
    oracle = new(tmp_path, max_retries_per_trial=1)
    for status in (TrialStatus.RUNNING, TrialStatus.FAILED):
        trial = oracle.create_trial("a")
        assert number(trial) == 0
        end(oracle, trial, height=None, status=TrialStatus.INVALID, message="out of memory")
        assert oracle.get_trial("0000").status == status
    assert oracle.end_order == ["0000"]
    assert number(oracle.create_trial("a")) == 1


def test_gives_up_after_failures_in_a_row(tmp_path, clock):
    oracle = new(tmp_path, max_consecutive_failed_trials=2)
    statuses = [TrialStatus.FAILED, TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.FAILED]
    for status in statuses:
        assert not oracle.gave_up
        end(oracle, oracle.create_trial("a"), status=status)
    assert oracle.gave_up and oracle.failed_in_a_row == 2
    assert number(oracle.create_trial("a")) == "STOPPED"
    assert not oracle.finished and chief_may_leave(oracle)
    assert number(new(tmp_path, max_consecutive_failed_trials=3).create_trial("a")) == 4


# State ------------------------------------------------------------------------------------------


def test_the_state_is_saved_after_the_subclass_has_learned(oracle):
    for _ in range(SIZE):
        end(oracle, oracle.create_trial("a"))
    state = json.loads((oracle.folder / "oracle.json").read_text())
    assert state["climber"]["generation"] == 1
    assert state["climber"] == oracle.get_state()["climber"]
    assert state["seed"] == 0


def test_state_round_trip_in_the_middle_of_a_generation(oracle, tmp_path):
    trials = [oracle.create_trial(name) for name in "ab"]
    end(oracle, trials[1], height=2.0)
    again = new(tmp_path)
    assert json.loads(json.dumps(again.get_state()["climber"])) == oracle.get_state()["climber"]
    assert again.start_order == ["0000", "0001"] and again.end_order == ["0001"]
    assert again.ongoing_trials == {}  # a lone process does not wait for others
    assert [number(again.create_trial(name)) for name in "cde"] == [0, 2, "IDLE"]


def test_a_chief_that_comes_back_knows_who_has_what(oracle, tmp_path, clock, monkeypatch):
    trials = [oracle.create_trial(name) for name in ("worker1", "worker2")]
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    again = new(tmp_path)
    assert again.tuner_ids == {"worker1", "worker2"}
    end(again, trials[0])
    assert number(again.create_trial("worker1")) == 2
    assert number(again.create_trial("worker2")) == 1
    clock.now += 101
    assert number(again.create_trial("worker3")) == 1


def climbed(folder):
    oracle = Climber(max_trials=2 * SIZE)
    tuner = Climb(oracle, folder)
    tuner.search(verbose=0)
    return oracle, tuner


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    oracle, tuner = climbed(tmp_path_factory.mktemp("alone"))
    assert tuner.trained == list(range(2 * SIZE))
    return oracle.get_state()["climber"]


@pytest.mark.parametrize("moment", kills.MOMENTS)
def test_killed_at_any_file_it_neither_repeats_nor_loses_a_trial(
    moment, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)  # slow, and no part of this
    at, killed = 0, True
    while killed:
        at, folder = at + 1, tmp_path / f"{at}"
        trained = []
        with kills.at_file(at, moment) as killer:
            Climb(Climber(max_trials=2 * SIZE), folder, trained).search(verbose=0)
        killed = killer.killed
        before = list(trained)
        paths = folder.glob("climb/trial_*/trial.json")
        ended = [json.loads(path.read_text())["status"] == "COMPLETED" for path in paths]
        oracle, tuner = climbed(folder)
        assert oracle.get_state()["climber"] == alone
        assert oracle.end_order == oracle.start_order == [f"{i:04d}" for i in range(2 * SIZE)]
        assert len(before) - sum(ended) in (0, 1)  # at most the trial that was under way ...
        assert len(tuner.trained) == 2 * SIZE - sum(ended)  # ... is trained again
        assert tuner.trained == list(range(sum(ended), 2 * SIZE))
    assert at > 5 * 2 * SIZE  # two files to begin a trial, one to report, two to end


def test_killed_twice_in_one_trial(alone, tmp_path):
    for at in (9, 2):
        with kills.at_file(at, "before") as killer:
            climbed(tmp_path)
        assert killer.killed
    oracle, tuner = climbed(tmp_path)
    assert oracle.get_state()["climber"] == alone
    assert tuner.trained == list(range(1, 2 * SIZE))


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "`seed` must be an integer of at least 0 or None. Received: seed=-1."),
        ({"max_trials": 0}, "`max_trials` must be an int of at least 1. Received: max_trials=0."),
        (
            {"max_trials": True},
            "`max_trials` must be an int of at least 1. Received: max_trials=True.",
        ),
        ({"lease": 0}, "`lease` must be a positive number. Received: lease=0."),
        ({"lease": None}, "`lease` must be a positive number. Received: lease=None."),
        (
            {"max_retries_per_trial": -1},
            "`max_retries_per_trial` must be an integer of at least 0. Received: "
            "max_retries_per_trial=-1.",
        ),
        (
            {"max_consecutive_failed_trials": 0},
            "`max_consecutive_failed_trials` must be an integer of at least 1 or None. Received: "
            "max_consecutive_failed_trials=0.",
        ),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ValueError) as error:
        Climber(**options)
    assert str(error.value) == message


def test_several_objectives_are_refused():
    with pytest.raises(TypeError) as error:
        ResumableOracle(["loss", "val_loss"], 2)
    assert str(error.value) == (
        "`objective` must be one, not a list. Received: ['loss', 'val_loss']."
    )


def test_a_search_is_continued_with_its_own_settings_only(oracle, tmp_path):
    oracle.create_trial("a")
    with pytest.raises(ValueError) as error:
        new(tmp_path, seed=1)
    assert str(error.value) == (
        "`seed` must be that of the search that is continued. Received: seed=1; the search in "
        f"{str(tmp_path / 'climb')!r} began with 0. Pass `overwrite=True` or another "
        "`project_name` to begin anew."
    )


def test_a_search_of_another_tuner_is_refused(tmp_path):
    (tmp_path / "climb").mkdir()
    (tmp_path / "climb" / "oracle.json").write_text('{"start_order": []}')
    with pytest.raises(ValueError, match="`oracle` must be that of the search that is continued"):
        new(tmp_path)


def test_a_subclass_must_propose():
    with pytest.raises(NotImplementedError):
        ResumableOracle("val_loss", 1).propose(0)
