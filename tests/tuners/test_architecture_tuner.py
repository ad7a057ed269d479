"""`ArchitectureTuner` and `BranchTuner`: trained alike, interrupted and continued, all kept."""

import contextlib
import io
import json
import shutil

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
import toys

import keras_mtl
from keras_mtl.tuners import ArchitectureTuner, BranchTuner

EPOCHS = 2
pytestmark = pytest.mark.slow


class Interruption(BaseException):
    pass


class Interrupt(keras.callbacks.Callback):
    """Breaks off in the second epoch of one architecture, as a kill would."""

    def __init__(self, choice=None):
        super().__init__()
        self.choice = choice

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1 and self.model.architecture.choices["a"] == self.choice:
            raise Interruption


class Setup:
    """Three trees of a small backbone; the last one diverges."""

    def __init__(self):
        keras.utils.set_random_seed(0)
        self.backbone = toys.chain((3, 3))
        self.tasks = [toys.classification("a"), toys.regression("b")]
        shared = keras_mtl.plan(self.backbone, self.tasks, "shared")
        late = shared.replace(choices={task: ("shared", "own") for task in "ab"})
        self.candidates = [
            keras_mtl.plan(self.backbone, self.tasks, "independent"),
            late,
            shared,
        ]
        self.data = toys.data(self.backbone, self.tasks, examples=8)
        self.validation = toys.data(self.backbone, self.tasks, examples=8, seed=1)

    def compile(self, model):
        diverges = model.architecture.choices["a"] == ("shared", "shared")
        model.compile(keras.optimizers.SGD(1e30 if diverges else 0.05))

    def tuner(self, folder, kind=BranchTuner, **options):
        options = {"objective": "val_loss", "compile": self.compile, **options}
        candidates = options.pop("candidates", self.candidates)
        return kind(
            self.backbone, self.tasks, candidates, directory=folder, project_name="trees", **options
        )

    def search(self, tuner, **options):
        options = {"epochs": EPOCHS, "batch_size": 4, **options}
        tuner.search(*self.data, validation_data=self.validation, **options)


@pytest.fixture(scope="module")
def setup():
    return Setup()


@pytest.fixture(scope="module")
def runs(setup, tmp_path_factory):
    """A search that is left alone, and one that is broken off in its second training."""
    alone = setup.tuner(tmp_path_factory.mktemp("alone"))
    with contextlib.redirect_stdout(printed := io.StringIO()):
        setup.search(alone)
    folder = tmp_path_factory.mktemp("killed")
    killed = setup.tuner(folder)
    with pytest.raises(Interruption):
        setup.search(killed, callbacks=[Interrupt(("shared", "own"))], verbose=0)
    assert [result.index for result in killed.results()] == [0]
    first = (folder / "trees" / "trial_0000" / "result.json").stat().st_mtime_ns
    resumed = setup.tuner(folder)
    with contextlib.redirect_stdout(again := io.StringIO()):
        setup.search(resumed)
    assert (folder / "trees" / "trial_0000" / "result.json").stat().st_mtime_ns == first
    return alone, printed.getvalue(), resumed, again.getvalue()


def test_every_result_is_kept_in_order_of_the_candidates(setup, runs):
    alone, *_ = runs
    results = alone.results()
    assert [result.architecture for result in results] == setup.candidates
    assert [result.index for result in results] == [0, 1, 2]
    for result, plan in zip(results, setup.candidates, strict=True):
        built = keras_mtl.build(setup.backbone, setup.tasks, architecture=plan)
        assert result.parameters == built.network.count_params()
        assert result.flops == built.architecture.flops()
        assert result.seconds > 0
    for result in results[:2]:
        assert result.score == result.metrics["val_loss"]
        assert {"loss", "a_loss", "val_a_accuracy", "val_b_loss"} <= set(result.metrics)


def test_a_training_that_diverges_is_a_result_without_a_score(runs):
    alone, *_ = runs
    failed = alone.results()[2]
    assert failed.score is None
    assert "has become NaN or infinite" in failed.message
    assert alone.oracle.trials["0002"].status == "FAILED"


def test_progress_is_a_line_per_trial(runs):
    _, printed, _, again = runs
    lines = printed.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("Trial 1 of 3: val_loss ") and "2 more, about " in lines[0]
    assert lines[2].startswith("Trial 3 of 3: failed (val_loss is NaN)")
    assert again.splitlines()[0] == "Continuing after 1 of 3 trials."
    assert len(again.splitlines()) == 3


def test_interrupted_and_continued_it_has_the_same_results(runs):
    alone, _, resumed, _ = runs
    for first, second in zip(alone.results(), resumed.results(), strict=True):
        assert (first.index, first.architecture) == (second.index, second.architecture)
        assert first.score == second.score and first.metrics == second.metrics


def test_the_best_model_has_its_trained_weights(setup, runs):
    alone, *_ = runs
    best = min(alone.results()[:2], key=lambda result: result.score)
    assert alone.best_result() == best
    assert alone.best_architecture() == best.architecture
    x, y = setup.validation
    logs = alone.best_model().evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], best.score, rtol=1e-6)
    (model,) = alone.get_best_models()  # KerasTuner's way
    for variable, other in zip(alone.best_model().weights, model.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), other.numpy())


def test_a_finished_training_is_not_repeated_when_its_report_was_lost(setup, runs, tmp_path):
    """Killed between the files of the worker and the end of the trial."""
    alone, *_ = runs
    tuner = setup.tuner(tmp_path, candidates=setup.candidates[:1])
    tuner.oracle.create_trial("tuner0")
    alone.results()[0].save(tmp_path / "trees" / "trial_0000" / "result.json")
    again = setup.tuner(tmp_path, candidates=setup.candidates[:1], compile=lambda model: 1 / 0)
    setup.search(again, verbose=0)
    assert again.oracle.trials["0000"].score == alone.results()[0].score


def test_the_same_architectures_may_come_from_elsewhere(setup, runs):
    """In another process layers may have other numbers, and the search that chose last digits."""
    _, _, resumed, _ = runs
    units = tuple(f"other{i}" for i, _ in enumerate(setup.candidates[0].units))
    moved = [plan.replace(units=units, origin={"cost": 0.1}) for plan in setup.candidates]
    assert setup.tuner(resumed.oracle.folder.parent, candidates=moved).oracle.finished


def test_objective_of_the_results_and_callbacks_of_the_folder(setup, tmp_path, monkeypatch):
    """One training with what can be passed: functions, datasets, a seed, fresh weights."""
    seen = []

    def score(results):
        seen.append(results)
        return 100 * results["a"]["accuracy"]

    def callbacks(folder):
        return [keras.callbacks.CSVLogger(folder / "log.csv")]

    tuner = setup.tuner(
        tmp_path, ArchitectureTuner, objective=score, max_trials=1, initial_weights="fresh", seed=3
    )
    assert str(tuner.objective) == 'Objective(name="score", direction="max")'
    reports = []
    monkeypatch.setattr(tuner, "report", lambda: reports.append(1))
    data, validation = (
        tf.data.Dataset.from_tensor_slices(data).batch(4) for data in (setup.data, setup.validation)
    )
    tuner.search(data, validation_data=validation, callbacks=callbacks, verbose=0)
    assert len(reports) == 3 * 2  # a sign of life after every batch: training, epoch's end, result
    (result,) = tuner.results()
    assert seen == [{"a": {"accuracy": result.metrics["val_a_accuracy"]}, "b": {}}]
    assert result.score == 100 * result.metrics["val_a_accuracy"]
    header = (tmp_path / "trees" / "trial_0000" / "log.csv").read_text().splitlines()[0]
    assert "val_loss" in header
    assert tuner.oracle.finished and tuner.oracle.trials["0000"].score == result.score


def test_mistakes_end_the_search_with_their_own_message(setup, tmp_path):
    tuner = setup.tuner(tmp_path, objective="val_a_acuracy", direction="max")
    with pytest.raises(ValueError) as error:
        setup.search(tuner, verbose=0)
    assert str(error.value).startswith("`objective` must be in the logs of `fit`: ['a_accuracy', ")
    assert str(error.value).endswith(
        "Received: objective='val_a_acuracy'. Did you mean 'val_a_accuracy'?"
    )
    x, y = setup.data
    with pytest.raises(keras_mtl.DataError):
        tuner.search(x, y, validation_data=(x, {"a": y["a"]}), verbose=0)
    with pytest.raises(TypeError, match="validation_data"):
        tuner.search(x, y)
    with pytest.raises(ValueError) as error:
        tuner.best_model()
    assert str(error.value) == (
        "`search` must have trained a candidate first. Received: no result."
    )
    assert tuner.oracle.end_order == []


# Damaged files, failures ------------------------------------------------------------------------


@pytest.fixture
def copy(setup, runs, tmp_path):
    """A search that has ended, whose files may be damaged; its tuner, and its best trial."""
    alone, *_ = runs
    shutil.copytree(alone.oracle.folder, tmp_path / "trees")
    tuner = setup.tuner(tmp_path)
    return tuner, tuner.folder(f"{tuner.best_result().index:04d}")


@pytest.mark.parametrize("content", [None, b"", b"no weights", "half"])
def test_damaged_weights_are_named(content, copy, setup):
    tuner, folder = copy
    path = folder / "model.weights.h5"
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    for ask in (tuner.best_model, tuner.get_best_models):
        with pytest.raises(ValueError) as error:
            ask()
        assert str(error.value).startswith(
            f"{str(path)!r} must hold the weights of trial {int(folder.name[-4:]) + 1}. Received: "
        )
        assert str(error.value).endswith(
            f". Delete the folder {str(folder)!r}, make the tuner again and call `search`: then "
            "that trial, and no other, is evaluated again."
        )
    assert len(tuner.results()) == 3


def test_a_deleted_result_is_named(copy):
    tuner, folder = copy
    (folder / "result.json").unlink()
    with pytest.raises(ValueError) as error:
        tuner.get_best_models()
    assert str(error.value).startswith(
        f"{str(folder / 'result.json')!r} must be as the search has written it. Received: no file."
    )


def test_a_damaged_result_is_left_out(copy):
    tuner, folder = copy
    (folder / "result.json").write_text("{")
    with pytest.warns(UserWarning, match="The row is left out"):
        results = tuner.results()
    assert [result.score is None for result in results] == [False, True]


class Given(keras.metrics.Metric):
    """A result that is given: a number, or a list."""

    def __init__(self, value, name="given", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.value = value

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return keras.ops.convert_to_tensor(self.value)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


def searched(setup, folder, value, objective):
    """The only row of a search whose second task has this metric; and its trial."""
    head = keras_mtl.heads.Regressor(1)
    tuner = ArchitectureTuner(
        setup.backbone, [setup.tasks[0], keras_mtl.Task("b", head, "mse", metrics=[Given(value)])],
        setup.candidates[2:], directory=folder, project_name="given", objective=objective,
        compile=lambda model: model.compile("sgd", run_eagerly=True),
    )  # fmt: skip
    setup.search(tuner, epochs=1, verbose=0)
    (result,) = tuner.results()
    return result, tuner.oracle.trials["0000"]


def test_metrics_may_be_arrays(setup, tmp_path):
    result, trial = searched(setup, tmp_path, [1.0, 2.0], "val_loss")
    assert result.metrics["val_b_given"] == result.metrics["b_given"] == [1.0, 2.0]
    assert result.score == trial.score == result.metrics["val_loss"]
    with pytest.raises(TypeError) as error:
        searched(setup, tmp_path / "again", [1.0, 2.0], keras_tuner.Objective("val_b_given", "max"))
    assert str(error.value) == (
        "`objective` must be a number. Received: val_b_given=[1.0, 2.0]. Pass a function of the "
        "validation results that returns one."
    )


def test_a_function_may_refuse_results_that_are_not_finite(setup, tmp_path):
    def score(results):
        raise ValueError("`result` must be finite.")

    with pytest.warns(UserWarning, match="only failures, of trial 1 .score is NaN"):
        result, trial = searched(setup, tmp_path, float("nan"), score)
    assert result.score is None and np.isnan(result.metrics["val_b_given"])
    assert trial.status == "FAILED"
    with pytest.raises(ValueError, match="`result` must be finite"):  # a mistake of its own
        searched(setup, tmp_path / "again", 1.0, score)


def test_an_objective_must_be_a_number(setup, tmp_path):
    tuner = setup.tuner(tmp_path, objective=lambda results: [1.0, 2.0])
    tuner._compile = lambda model: model.compile("sgd", run_eagerly=True)
    with pytest.raises(TypeError) as error:
        setup.search(tuner, epochs=1, verbose=0)
    assert str(error.value) == (
        "`objective` must be a number. Received: score=[1.0, 2.0]. Pass a function of the "
        "validation results that returns one."
    )


# Bad input --------------------------------------------------------------------------------------


def test_directions(setup, tmp_path):
    def direction(**options):
        return setup.tuner(tmp_path, **options).objective.direction

    assert direction(objective="val_b_loss") == "min"
    assert direction(objective="val_a_accuracy") == "max"
    assert direction(objective="val_a_accuracy", direction="min") == "min"
    assert direction(objective="val_a_wer", direction="min") == "min"
    assert direction(objective=sum, direction="min") == "min"
    with pytest.raises(ValueError) as error:
        direction(objective=keras_tuner.Objective("val_loss", "min"), direction="max")
    assert str(error.value) == (
        "`direction` must be that of the objective, 'min', or None. Received: direction='max'."
    )


def test_a_metric_of_unknown_direction(setup, tmp_path):
    assert refused(setup, tmp_path, objective="val_a_wer") == (
        "`direction` must be given for a metric that is not one of Keras' or of this library's. "
        "Received: objective='val_a_wer'. Pass `direction=\"min\"` where smaller is better, or "
        '"max".'
    )


def refused(setup, folder, kind=BranchTuner, error=ValueError, **options):
    with pytest.raises(error) as found:
        setup.tuner(folder, kind, **options)
    assert not (folder / "trees").exists()
    return str(found.value)


def test_unusable_arguments(setup, tmp_path):
    assert refused(setup, tmp_path, error=TypeError, compile="adam") == (
        "`compile` must be a function that compiles the model it is given. Received: "
        "compile='adam'. Pass `lambda model: model.compile(...)`."
    )
    assert refused(setup, tmp_path, error=TypeError, objective=3) == (
        "`objective` must be a name in the logs, a function or a `keras_tuner.Objective`. "
        "Received: objective=3."
    )
    assert refused(setup, tmp_path, direction="up") == (
        "`direction` must be 'min' or 'max'. Received: direction='up'."
    )
    assert refused(setup, tmp_path, error=TypeError, candidates=["shared"]) == (
        "`candidates` must be one or more `keras_mtl.Architecture`s. Received: 'shared'."
    )
    assert refused(setup, tmp_path, candidates=setup.candidates[:1] * 2) == (
        "`candidates` must all be different. Received: 2, of which 1 differ. Pass "
        "`list(dict.fromkeys(candidates))`."
    )


def test_an_architecture_of_another_backbone_is_refused(setup, tmp_path):
    other = keras_mtl.plan(toys.mlp(blocks=1), setup.tasks, "shared")
    message = refused(
        setup, tmp_path, error=keras_mtl.ArchitectureError, candidates=[*setup.candidates, other]
    )
    assert message.startswith("`architecture` must belong to this backbone.")


def test_only_trees_are_branched(setup, tmp_path):
    meeting = setup.candidates[0].replace(
        choices={"a": ("own", "shared"), "b": ("shared", "shared")}
    )
    units = setup.candidates[0].units
    assert refused(setup, tmp_path, candidates=[meeting]) == (
        "`candidates` must be trees: all units used, and tasks that have parted stay apart. "
        f"Received: tasks that part at {units[0]!r}, and choices ['shared', 'shared'] of "
        f"['a', 'b'] at {units[1]!r}. Use `ArchitectureTuner` for other architectures."
    )
    skipping = setup.candidates[0].replace(choices={"a": ("own", "skip"), "b": ("own", "own")})
    assert "Received: a skipped unit" in refused(setup, tmp_path, candidates=[skipping])
    assert setup.tuner(tmp_path, ArchitectureTuner, candidates=[meeting]).oracle.max_trials == 1


def test_a_result_is_plain_data(runs):
    alone, *_ = runs
    path = alone.folder("0000") / "result.json"
    data = json.loads(path.read_text())
    assert set(data) == {"index", "architecture", "score", "metrics", "seconds", "message"}
