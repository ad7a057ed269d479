"""Damaged files of a search: what can go on goes on, and one sentence names the file."""

import itertools
import json
import random
import shutil
import warnings

import keras_tuner
import kills
import pytest

from keras_mtl.tuners import CandidateOracle, PartitionTuner, ResumableOracle, ResumableTuner, files

TRIALS = 12


def random_bytes(path):
    path.write_bytes(random.Random(0).randbytes(200))


def a_folder(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)


def a_loop(path):
    path.unlink()
    path.symlink_to(path)


def nested(path):
    path.write_text("[" * 100_000)


DAMAGES = {
    "an empty file": lambda path: path.write_text(""),
    "text that breaks off or does not parse": lambda path: path.write_text(path.read_text()[:-9]),
    "bytes that are no text": random_bytes,
    "a folder": a_folder,
    "text without data": lambda path: path.write_text("null"),
    "a file that cannot be read, Too many levels of symbolic links": a_loop,
}
REASONS = {**DAMAGES, "text that breaks off or does not parse, nested": nested}


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)  # slow, and no part of this


class Area(ResumableTuner):
    """The area of squares; notes which it has trained."""

    def __init__(self, folder, trials=TRIALS, **options):
        candidates = [{"side": 1 + (7 * i) % trials} for i in range(trials)]
        oracle = CandidateOracle(candidates, keras_tuner.Objective("area", "min"))
        super().__init__(oracle, directory=folder, project_name="search", **options)
        self.trained = []

    def train(self, trial, candidate):
        self.trained.append(int(trial.trial_id))
        return {"area": candidate["side"] ** 2}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A search that has ended."""
    folder = tmp_path_factory.mktemp("done")
    Area(folder).search(verbose=0)
    return folder


@pytest.fixture
def search(done, tmp_path):
    return shutil.copytree(done / "search", tmp_path / "search")


def trial_file(search, index):
    return search / f"trial_{index:04d}" / "trial.json"


def searched(search, make=Area):
    """Goes on with the search, which must say what is wrong in one warning; the tuner, and it."""
    tuner = make(search.parent)
    with pytest.warns(UserWarning) as warned:
        tuner.search(verbose=0)
    (said,) = [str(warning.message) for warning in warned if warning.category is UserWarning]
    return tuner, said


@pytest.mark.parametrize("reason", REASONS)
def test_a_damaged_trial_is_evaluated_again(reason, search):
    path = trial_file(search, 4)
    REASONS[reason](path)
    tuner, message = searched(search)
    assert message == (
        "Trial 5 will be evaluated again, since what is on the disk is not what the search has "
        f"written: {str(path)!r} ({reason.removesuffix(', nested')}). It is kept with the ending "
        "'.damaged'."
    )
    assert path.with_name("trial.json.damaged").exists()
    assert tuner.trained == [4]
    assert sorted(tuner.oracle.end_order) == [f"{i:04d}" for i in range(TRIALS)]
    assert tuner.oracle.get_best_trials()[0].trial_id == "0000"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Area(search.parent).oracle.finished


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '"text"',
        "{}",
        '{"trial_id": "0004"}',
        '{"trial_id": "0004", "hyperparameters": 1, "metrics": 2, "score": 3}',
    ],
)
def test_so_is_one_whose_data_have_another_form(content, search):
    trial_file(search, 4).write_text(content)
    tuner, message = searched(search)
    assert "(data of another form)" in message
    assert tuner.trained == [4]


@pytest.mark.parametrize("changes", [{"score": None}, {"score": "best"}, {"trial_id": "0003"}])
def test_so_is_one_with_a_wrong_entry(changes, search):
    path = trial_file(search, 4)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    tuner, _ = searched(search)
    assert tuner.trained == [4]


def test_so_is_one_whose_folder_was_deleted_or_is_a_file(search):
    shutil.rmtree(search / "trial_0001")
    shutil.rmtree(search / "trial_0004")
    (search / "trial_0004").write_text("")
    tuner, message = searched(search)
    assert message.startswith("Trials 2, 5 will be evaluated again, ")
    assert "(no file)" in message and "(a file in the place of its folder)" in message
    assert tuner.trained == [1, 4]


def test_many_are_one_sentence(search):
    for index in range(TRIALS):
        trial_file(search, index).write_text("")
    tuner, message = searched(search)
    assert message.startswith("Trials 1, 2, 3 and 9 more will be evaluated again, ")
    assert message.count("an empty file") == 3
    assert tuner.trained == list(range(TRIALS))


@pytest.mark.parametrize("moment", kills.MOMENTS)
def test_kills_while_it_is_mended_change_nothing(moment, search):
    for index in (3, 4):
        trial_file(search, index).write_text("")
    for at in itertools.count(1):
        with kills.at_file(at, moment) as killer, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Area(search.parent).search(verbose=0)
        if not killer.killed:
            break
    assert at > 3
    oracle = Area(search.parent).oracle
    assert sorted(oracle.end_order) == oracle.start_order == [f"{i:04d}" for i in range(TRIALS)]
    assert [t.score for t in oracle.get_best_trials(99)] == [i**2 for i in range(1, 1 + TRIALS)]


def test_what_was_damaged_twice_is_kept_twice(search):
    for _ in range(2):
        trial_file(search, 4).write_text("")
        searched(search)
    names = {path.name for path in trial_file(search, 4).parent.iterdir()}
    assert names == {"trial.json", "trial.json.damaged", "trial.json.damaged.1"}


def test_a_worker_reads_past_it_and_leaves_it_to_the_chief(search, monkeypatch):
    trial_file(search, 4).write_text("")
    (search / "oracle.json").write_text("")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker")
    Area(search.parent)
    assert trial_file(search, 4).exists()


@pytest.mark.parametrize("content", ["", "{", "\x00\x01"])
def test_a_file_of_another_tuner_is_nothing_to_us(content, search):
    (search / "tuner0.json").write_text(content)
    assert Area(search.parent).oracle.finished


# The state of the oracle ------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_a_damaged_oracle_is_named_and_left_as_it_is(reason, search):
    path = search / "oracle.json"
    REASONS[reason](path)
    for _ in range(2):
        with pytest.raises(ValueError) as error:
            Area(search.parent)
        assert str(error.value) == (
            f"{str(path)!r} must be as the search has written it. Received: "
            f"{reason.removesuffix(', nested')}. Restore it from a copy; or delete it: the search "
            "then begins at its first trial, and takes the results that are in the folders of its "
            "trials."
        )
        assert error.value.__cause__ is None and error.value.__suppress_context__


@pytest.mark.parametrize("name", ["start_order", "end_order", "ongoing_trials", "hyperparameters"])
@pytest.mark.parametrize("change", ["missing", "a number"])
def test_so_is_a_state_whose_data_have_another_form(name, change, search):
    path = search / "oracle.json"
    state = json.loads(path.read_text())
    state[name] = 1
    if change == "missing":
        del state[name]
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError) as error:
        Area(search.parent)
    assert str(error.value).startswith(f"{str(path)!r} must be as the search has written it. Rec")


def test_overwriting_a_damaged_search_begins_anew(search):
    (search / "oracle.json").write_text("")
    trial_file(search, 4).write_text("")
    tuner = Area(search.parent, overwrite=True)
    tuner.search(verbose=0)
    assert tuner.trained == list(range(TRIALS))


# Oracles that learn -----------------------------------------------------------------------------


class Partitions(PartitionTuner):
    """Evolution strategies, of which some generations have ended."""

    def __init__(self, folder, trials=28, seed=0):
        self.scored = []

        def score(partition, run):
            self.scored.append(run.index)
            return -abs(partition.feature_use - 0.3)

        super().__init__(
            score, ("a", "b"), max_trials=trials, seed=seed, starts=4, directions=4, kept=2,
            directory=folder, project_name="search",
        )  # fmt: skip


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("climbed")
    tuner = Partitions(folder)
    tuner.search(verbose=0)
    return folder, tuner.oracle.points, [row.score for row in tuner.results()]


@pytest.fixture
def climb(climbed, tmp_path):
    folder, *_ = climbed
    return shutil.copytree(folder / "search", tmp_path / "search")


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_learned_is_not_learned_twice(kept, climb, climbed):
    for index in (1, 6, 25):  # of three generations
        trial_file(climb, index).write_text("{")
        if not kept:
            (trial_file(climb, index).parent / "result.json").write_text("{")
    tuner = Partitions(climb.parent)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        tuner.search(verbose=0)
    assert tuner.scored == ([] if kept else [1, 6, 25])  # results are in files of their own
    said = [str(warning.message) for warning in warned if warning.category is UserWarning]
    assert said[0].startswith("Trials 2, 7, 26 will be evaluated again, ")
    assert len(said) == (1 if kept else 4)
    _, points, scores = climbed
    assert tuner.oracle.points == points
    assert [row.score for row in tuner.results()] == scores
    again = Partitions(climb.parent, 28)
    assert again.oracle.points == points and again.oracle.finished


def test_killed_between_the_trials_that_are_evaluated_again(climb, climbed):
    for index in (1, 6, 25):
        shutil.rmtree(trial_file(climb, index).parent)
    tuner = Partitions(climb.parent)

    def killed(partition, run):
        if run.index > 1:
            raise KeyboardInterrupt
        return -1.0

    tuner._score = killed
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="Trials 2, 7, 26"):
        tuner.search(verbose=0)
    tuner = Partitions(climb.parent)
    tuner.search(verbose=0)
    assert tuner.scored == [6, 25]
    assert tuner.oracle.points == climbed[1]


def test_without_its_oracle_a_search_takes_the_results_that_are_there(climb, climbed):
    (climb / "oracle.json").unlink()
    (trial_file(climb, 6).parent / "result.json").unlink()
    tuner = Partitions(climb.parent)
    tuner.search(verbose=0)
    assert tuner.scored == [6]
    assert tuner.oracle.points == climbed[1]


def test_results_of_other_candidates_are_not_taken(climb):
    (climb / "oracle.json").unlink()
    tuner = Partitions(climb.parent, trials=2, seed=1)
    tuner.search(verbose=0)
    assert tuner.scored == [0, 1]


class Once(ResumableOracle):
    """Cannot say again what it has proposed."""

    def __init__(self):
        super().__init__("val_loss", 2)
        self.next = 0

    def propose(self, index):
        return index if not self.end_order else None


def test_a_candidate_that_cannot_be_proposed_again_ends_it(tmp_path):
    class Tuner(ResumableTuner):
        def __init__(self):
            super().__init__(Once(), directory=tmp_path, project_name="search")

    oracle = Tuner().oracle
    oracle.create_trial("a")
    trial = oracle.create_trial("b")
    oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    path = trial_file(tmp_path / "search", 0)
    path.write_text("")
    with pytest.raises(ValueError) as error:
        Tuner()
    assert str(error.value) == (
        f"{str(path)!r} must be as the search has written it. Received: an empty file. Its "
        "candidate cannot be proposed again: restore the file from a copy, or begin anew with "
        "`overwrite=True` or another `project_name`."
    )
    assert path.exists()


# Results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_result_is_left_out_and_said(reason, climb, climbed):
    path = climb / "trial_0002" / "result.json"
    DAMAGES[reason](path)
    tuner = Partitions(climb.parent)
    with pytest.warns(UserWarning) as warned:
        rows = tuner.results()
    assert [row.index for row in rows] == [0, 1, *range(3, 28)]
    assert [str(warning.message) for warning in warned] == [
        f"{str(path)!r} must be as the search has written it. Received: {reason}. The row is left "
        f"out. Delete the folder {str(path.parent)!r}, make the tuner again and call `search`: "
        "then that trial, and no other, is evaluated again."
    ]
    # And so it is.
    shutil.rmtree(path.parent)
    tuner, _ = searched(climb, Partitions)
    assert tuner.scored == [2]
    assert [row.score for row in tuner.results()] == climbed[2]


@pytest.mark.parametrize(
    "changes", [{"partition": "{"}, {"score": "best"}, {"metrics": None}, {"more": 1}]
)
def test_so_is_a_result_whose_data_have_another_form(changes, climb):
    path = climb / "trial_0002" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.warns(UserWarning, match="data of another form") as warned:
        assert len(Partitions(climb.parent).results()) == 27
    assert len(warned) == 1


def test_a_result_that_is_gone_is_said(climb):
    path = climb / "trial_0003" / "result.json"
    path.unlink()
    with pytest.warns(UserWarning) as warned:
        rows = Partitions(climb.parent).results()
    assert [row.index for row in rows] == [i for i in range(28) if i != 3]
    assert [str(warning.message) for warning in warned] == [
        f"{str(path)!r} must be as the search has written it. Received: no file. The row is left "
        f"out. Delete the folder {str(path.parent)!r}, make the tuner again and call `search`: "
        "then that trial, and no other, is evaluated again."
    ]
