"""`PartitionTuner` with toy scores: what it keeps, what it refuses, and that kills cost nothing."""

import keras
import keras_tuner
import kills
import numpy as np
import pytest

import keras_mtl
from keras_mtl.errors import NonFiniteError
from keras_mtl.partition import Partition, PartitionSpace
from keras_mtl.tuners import EvolutionStrategiesOracle, PartitionTuner, RandomOracle, files

TASKS = ("a", "b")
# Generations of 3, 4, 4 and 2 candidates.
SMALL = {"starts": 3, "directions": 2, "kept": 1, "learning_rate": 0.5, "max_trials": 13}


def height(partition, run):
    return 1 - np.square(partition.forward - 0.3).sum() - np.square(partition.backward - 0.7).sum()


def tuner(folder, score=height, oracle="evolution_strategies", **options):
    settings = SMALL if oracle == "evolution_strategies" else {}
    return PartitionTuner(
        score, TASKS, oracle, directory=folder, project_name="search", **{**settings, **options}
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    searched = tuner(tmp_path_factory.mktemp("alone"))
    searched.search(verbose=0)
    return searched


def scores(searched):
    return [row.score for row in searched.results()]


# What is kept -----------------------------------------------------------------------------------


def test_every_result_is_kept(alone):
    rows = alone.results()
    assert [row.index for row in rows] == list(range(13))
    assert [row.generation for row in rows] == [0] * 3 + [1] * 4 + [2] * 4 + [3] * 2
    for row in rows:
        candidate = alone.oracle.candidate(alone.oracle.trials[f"{row.index:04d}"])
        assert row.partition == alone.space.partition(list(candidate.values()))
        assert row.score == height(row.partition, None)
        assert row.feature_use == row.partition.feature_use
        assert row.metrics == {} and row.message is None and row.seconds >= 0
    best = max(rows, key=lambda row: row.score)
    assert alone.best_result() == best and alone.best_partition() == best.partition
    assert alone.history() == [(row.feature_use, row.score, row.generation) for row in rows]
    last = alone.oracle.points[-1]
    assert len(alone.oracle.points) == 3 and alone.last_partition() == alone.space.partition(last)
    figure = keras_mtl.plot.partition_search({"evolved": alone.history()})
    assert len(figure.axes[0].collections[0].get_offsets()) == 10


def test_numbers_are_hyperparameters_of_kerastuners_trials(alone):
    trial = alone.oracle.get_best_trials()[0]
    best = alone.best_partition()
    assert trial.hyperparameters.get("forward.0.1") == best.forward[0, 1]
    assert trial.hyperparameters.get("backward.1.1") == best.backward[1, 1]
    assert set(trial.hyperparameters.values) == {*alone.space.names, "candidate"}


def test_random_search_and_metrics(tmp_path, capfd):
    def score(partition, run):
        return {
            "score": np.float32(partition.feature_use),
            "a_accuracy": 0.5,
            "b_accuracy": run.index,
        }

    searched = tuner(tmp_path, score, "random", max_trials=4)
    searched.search()
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4 and "3 more, about 0 s left" in lines[0] and "all done" in lines[3]
    assert [row.metrics["b_accuracy"] for row in searched.results()] == [0.0, 1.0, 2.0, 3.0]
    assert searched.best_result().metrics["a_accuracy"] == 0.5
    trial = searched.oracle.get_trial("0002")
    assert trial.metrics.get_last_value("b_accuracy") == 2.0
    expected = RandomOracle(PartitionSpace(TASKS), seed=0)
    for row in searched.results():
        point = list(expected.propose(row.index).values())
        assert row.partition == searched.space.partition(point)


def test_what_a_scoring_function_is_given(tmp_path):
    runs, drawn = [], []

    def score(partition, run):
        runs.append(run)
        drawn.append(keras.random.normal((), seed=keras.random.SeedGenerator()).numpy())
        assert run.folder.is_dir()
        run.report()
        assert isinstance(run.heartbeat(), keras.callbacks.Callback)
        return 1.0

    searched = tuner(tmp_path, score, "random", max_trials=3)
    searched.search(verbose=0)
    assert [run.index for run in runs] == [0, 1, 2] and runs[0].tuner is searched
    assert len({run.seed for run in runs}) == len(set(drawn)) == 3
    assert runs[1].folder == searched.folder("0001")
    tuner(tmp_path / "again", score, "random", max_trials=3, seed=0).search(verbose=0)
    assert [run.seed for run in runs[3:]] == [run.seed for run in runs[:3]]
    assert drawn[3:] == drawn[:3]
    tuner(tmp_path / "other", score, "random", max_trials=3, seed=1).search(verbose=0)
    assert not {run.seed for run in runs[6:]} & {run.seed for run in runs[:6]}


def test_a_share_may_be_kept(tmp_path):
    space = PartitionSpace(TASKS, share=0.5, deviation=0.0, backward=False)
    searched = PartitionTuner(
        lambda partition, run: partition.forward[0, 1], space, "random", max_trials=3,
        directory=tmp_path, project_name="search",
    )  # fmt: skip
    searched.search(verbose=0)
    assert [row.feature_use for row in searched.results()] == [0.5] * 3
    assert len({row.score for row in searched.results()}) == 3


def test_failures_are_results_without_a_score(tmp_path):
    def score(partition, run):
        if run.index == 4:
            raise NonFiniteError("the loss of 'a' has become NaN")
        return float("nan") if run.index == 1 else height(partition, run)

    searched = tuner(tmp_path, score)
    searched.search(verbose=0)
    failed = [row for row in searched.results() if row.score is None]
    assert [(row.index, row.message) for row in failed] == [
        (1, "score is nan"),
        (4, "the loss of 'a' has become NaN"),
    ]
    assert len(searched.history()) == 11 and len(searched.oracle.points) == 3
    assert searched.oracle.get_trial("0001").status == "FAILED"


def test_before_the_search_there_is_no_best_result(tmp_path):
    with pytest.raises(ValueError, match="`search` must have trained a candidate first"):
        tuner(tmp_path).best_partition()
    for oracle, kind in (("random", "RandomOracle"), ("evolution_strategies", "Evo.*Oracle")):
        with pytest.raises(ValueError, match=rf"ended a generation .* oracle={kind} without one"):
            tuner(tmp_path / oracle, oracle=oracle).last_partition()
    assert tuner(tmp_path).history() == []


# Interruptions ----------------------------------------------------------------------------------


class Interruption(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 4, 5, 10, 12])
def test_interrupted_while_scoring_it_goes_on(alone, tmp_path, at):
    scored = []

    def score(partition, run):
        scored.append(run.index)
        if scored.count(at) == 1 and run.index == at:
            raise Interruption
        return height(partition, run)

    with pytest.raises(Interruption):
        tuner(tmp_path, score).search(verbose=0)
    resumed = tuner(tmp_path, score)
    resumed.search(verbose=0)
    assert scored == [*range(at + 1), *range(at, 13)]
    assert scores(resumed) == scores(alone)
    assert resumed.oracle.points == alone.oracle.points


@pytest.mark.parametrize("moment", kills.MOMENTS)
def test_killed_at_any_file_in_a_generation_it_neither_repeats_nor_loses_a_trial(
    alone, tmp_path, monkeypatch, moment
):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)  # slow, and no part of this
    for at in range(6 * 5 + 1, 6 * 7 + 1):  # the last candidates of generation 1
        scored, folder = [], tmp_path / f"{at}"

        def score(partition, run, scored=scored):
            scored.append(run.index)
            return height(partition, run)

        with kills.at_file(at, moment) as killer:
            tuner(folder, score).search(verbose=0)
        assert killer.killed
        kept = [row.index for row in tuner(folder).results()]
        before = len(scored)
        resumed = tuner(folder, score)
        resumed.search(verbose=0)
        # What has a result is not scored again, at most the candidate under way is.
        assert scored[before:] == list(range(len(kept), 13)) and before - len(kept) in (0, 1)
        assert scores(resumed) == scores(alone)
        assert resumed.oracle.points == alone.oracle.points


def test_a_search_is_continued_with_its_own_settings_only(alone, tmp_path):
    tuner(tmp_path).search(verbose=0)
    with pytest.raises(ValueError, match="`learning_rate` must be that of the search that is cont"):
        tuner(tmp_path, learning_rate=0.4)
    with pytest.raises(ValueError, match="`oracle` must be that of the search that is continued"):
        tuner(tmp_path, oracle="random")
    with pytest.raises(ValueError, match="`space` must be that of the search that is continued"):
        PartitionTuner(
            height, ("a", "c"), directory=tmp_path, project_name="search", **SMALL
        )  # fmt: skip
    longer = tuner(tmp_path, max_trials=15)
    longer.search(verbose=0)
    assert scores(longer)[:13] == scores(alone) and len(longer.results()) == 15


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", ["good", None, {"accuracy": 1.0}, [0.5, 0.5], {"score": "x"}])
def test_a_score_that_is_no_number_ends_the_search(tmp_path, found):
    with pytest.raises(TypeError) as error:
        tuner(tmp_path, lambda partition, run: found).search(verbose=0)
    assert str(error.value) == (
        "`score` must return a number, or a dict of numbers with 'score' among them. Received: "
        f"{found!r}."
    )


def test_an_error_in_the_score_ends_the_search(tmp_path):
    with pytest.raises(KeyError, match="typo"):
        tuner(tmp_path, lambda partition, run: {}["typo"]).search(verbose=0)
    assert tuner(tmp_path).results() == []


SPACE = PartitionSpace(TASKS)
MINIMUM = keras_tuner.Objective("error", "min")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"score": 1.0},
            TypeError,
            "`score` must be a function of a partition and a run that returns a number. Received: "
            "score=1.0.",
        ),
        (
            {"oracle": "evolution"},
            ValueError,
            "`oracle` must be one of ['evolution_strategies', 'random'], or an oracle. Received: "
            "oracle='evolution'. Did you mean 'evolution_strategies'?",
        ),
        (
            {"oracle": EvolutionStrategiesOracle(PartitionSpace(("a", "c")))},
            ValueError,
            "`oracle` must be of the given space. Received: oracle.space=PartitionSpace("
            "tasks=('a', 'c'), share=None, deviation=0.2, backward=True), space=PartitionSpace("
            "tasks=('a', 'b'), share=None, deviation=0.2, backward=True).",
        ),
        (
            {"oracle": RandomOracle(SPACE, MINIMUM)},
            ValueError,
            "`oracle` must have the objective 'score'. Received: objective='error'.",
        ),
        ({"space": ()}, ValueError, "`tasks` must be a sequence of names. Received: tasks=()."),
    ],
)
def test_unusable_arguments(tmp_path, arguments, kind, message):
    arguments = {"score": height, "space": TASKS, **arguments}
    with pytest.raises(kind) as error:
        PartitionTuner(**arguments, directory=tmp_path, project_name="search")
    assert str(error.value) == message


def test_an_oracle_has_its_own_settings(tmp_path):
    oracle = EvolutionStrategiesOracle.reference(SPACE, max_trials=2, seed=4)
    searched = PartitionTuner(height, SPACE, oracle, directory=tmp_path, project_name="search")
    searched.search(verbose=0)
    assert len(searched.results()) == 2 and isinstance(searched.best_partition(), Partition)
    with pytest.raises(ValueError, match="`max_trials` must be given to the oracle, not beside it"):
        PartitionTuner(
            height, SPACE, oracle, max_trials=3, directory=tmp_path, project_name="search"
        )
    with pytest.raises(TypeError, match="or an oracle of partitions"):
        PartitionTuner(height, SPACE, 3, directory=tmp_path, project_name="search")
