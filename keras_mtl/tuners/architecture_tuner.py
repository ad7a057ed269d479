"""ArchitectureTuner: trains given architectures one after another, and keeps every result."""

from __future__ import annotations

import copy
import gc
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_mtl.architecture import Architecture
from keras_mtl.build import build
from keras_mtl.checks import check_seed
from keras_mtl.errors import NonFiniteError, suggestion
from keras_mtl.graph import find_units, read
from keras_mtl.metrics.directions import known_direction
from keras_mtl.models.derive import fitted
from keras_mtl.task import check_tasks
from keras_mtl.tuners.architecture_result import ArchitectureResult
from keras_mtl.tuners.candidate_oracle import CandidateOracle
from keras_mtl.tuners.files import DamagedFileError, write_whole
from keras_mtl.tuners.result_rows import RESULT, again, best_row, number, plain
from keras_mtl.tuners.resumable_oracle import trial_name
from keras_mtl.tuners.resumable_tuner import ResumableTuner

if TYPE_CHECKING:
    from keras_mtl.models import MultiTaskModel
    from keras_mtl.task import Task

_WEIGHTS = "model.weights.h5"


class ArchitectureTuner(ResumableTuner):
    """Trains candidate architectures alike, on one machine or many, and keeps every result.

    Every candidate is built from the same backbone with the same seed, compiled, trained and
    validated; its numbers and its weights stay in the folder of the search. A search that was
    interrupted goes on when the same script is started again: finished candidates are not
    repeated, the interrupted one begins anew (pass `BackupAndResume` for long trainings). A
    training that runs into NaN is a result without a score; any other error ends the search.

    Args:
        backbone, tasks: as in `keras_mtl.build`.
        candidates: list of different `Architecture`s, in the order in which to train them.
        compile: function of the built model that calls its `compile`.
        objective: what to choose by. A name in the logs of `fit`, such as `"val_loss"`; or a
            function of the validation results `{task: {metric: value}}` that returns a number,
            such as `lambda results: relative_performance(results, baseline).total`; or a
            `keras_tuner.Objective`.
        direction: `"min"` or `"max"`. By default that of the metric's name (see
            `keras_mtl.metrics.lower_is_better`; needed for others), and `"max"` for a function.
        max_trials: int or `None`. Trains the first so many only.
        seed: int. Every training begins with it.
        initial_weights: as in `keras_mtl.build`.
        **options: `directory`, `project_name`, `overwrite`, `idle_seconds` and `chief_timeout` of
            `ResumableTuner`, and `lease` of `ResumableOracle`.

    Raises:
        ArchitectureError: when a candidate is for another backbone or other tasks.
        TypeError, ValueError: for other unusable arguments.

    Example:

    >>> import keras, keras_mtl, tempfile
    >>> backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="dense")])
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> plans = [keras_mtl.plan(backbone, tasks, name) for name in ("shared", "independent")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tuner = keras_mtl.tuners.ArchitectureTuner(
    ...         backbone, tasks, plans, compile=lambda model: model.compile("sgd"),
    ...         objective="val_loss", directory=folder, project_name="search",
    ...     )
    ...     x = np.ones((8, 4), "float32")
    ...     data = x, {"a": x[:, :1], "b": x[:, :1]}
    ...     tuner.search(*data, validation_data=data, epochs=1, verbose=0)
    ...     [row.parameters for row in tuner.results()]
    [58, 98]
    """

    def __init__(
        self,
        backbone: keras.Model,
        tasks: Sequence[Task] | Task,
        candidates: Sequence[Architecture],
        *,
        compile: Callable[[Any], Any],
        objective: str | Callable[..., float] | keras_tuner.Objective,
        direction: Literal["min", "max"] | None = None,
        max_trials: int | None = None,
        seed: int | None = 0,
        initial_weights: Any = "backbone",
        lease: float = 600.0,
        **options: Any,
    ) -> None:
        if not callable(compile):
            raise TypeError(
                "`compile` must be a function that compiles the model it is given. Received: "
                f"compile={compile!r}. Pass `lambda model: model.compile(...)`."
            )
        self.backbone = backbone
        self.tasks = check_tasks(tasks)
        self.candidates = _check_candidates(backbone, self.tasks, candidates)
        self.objective = _as_objective(objective, direction, self.tasks)
        self.seed = seed = check_seed(seed)
        self.initial_weights = initial_weights
        self._compile = compile
        self._score = objective if callable(objective) else None
        oracle = CandidateOracle(
            [_plain(candidate) for candidate in self.candidates],
            self.objective,
            max_trials=max_trials,
            # Keras may have given other names to the units, and a search other last digits.
            ignored=("units", "origin", "costs"),
            seed=seed,
            lease=lease,
            max_consecutive_failed_trials=None,
        )
        super().__init__(oracle, **options)

    def search(  # type: ignore[override]
        self,
        x: Any = None,
        y: Any = None,
        *,
        validation_data: Any,
        epochs: int = 1,
        callbacks: Any = None,
        verbose: int = 1,
        **options: Any,
    ) -> None:
        """Trains every candidate that has no result yet.

        Args:
            x, y: arrays, or one dataset, as in `fit` of the built model.
            validation_data: `(x, y[, sample_weight])` or a dataset. Read once for each candidate,
                and after every epoch where there are callbacks.
            epochs: int.
            callbacks: list of Keras callbacks, copied for every training; or a function of the
                trial's folder that returns them, such as
                `lambda folder: [BackupAndResume(folder / "backup.npz", verbose=False)]`.
            verbose: 0 says nothing, 1 a line for each candidate, 2 Keras' lines too.
            **options: of `fit`, such as `batch_size`.
        """
        super().search(
            x,
            y,
            validation_data=validation_data,
            epochs=epochs,
            callbacks=callbacks,
            verbose=verbose,
            **options,
        )

    def results(self) -> list[ArchitectureResult]:
        """The rows of all trained candidates, as `ArchitectureResult`, in their order."""
        return ArchitectureResult.load_all(self.project_dir)

    def best_result(self) -> ArchitectureResult:
        """The row with the best score, the first one of equals."""
        return best_row(self.results(), self.objective)

    def best_architecture(self) -> Architecture:
        """The `Architecture` with the best score."""
        return self.best_result().architecture

    def best_model(self) -> MultiTaskModel:
        """The trained model with the best score, compiled."""
        return self.model_of(self.best_result())

    def model_of(self, result: ArchitectureResult) -> MultiTaskModel:
        """The trained model of one row of `results()`, compiled."""
        model = self._built(result.architecture)
        path = self.folder(trial_name(result.index)) / _WEIGHTS
        try:
            model.load_weights(path)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(
                f"{str(path)!r} must hold the weights of trial {result.index + 1}. Received: "
                f"{_first_sentence(error)}. {again(path)}"
            ) from None
        return model

    def load_model(self, trial: Trial) -> MultiTaskModel:
        """For `get_best_models`."""
        path = self.folder(trial.trial_id) / RESULT
        result = ArchitectureResult.load(path)
        if result is None:
            raise ValueError(f"{DamagedFileError(path, 'no file')} {again(path)}")
        return self.model_of(result)

    # One training -------------------------------------------------------------------------------

    def train(
        self,
        trial: Trial,
        candidate: Any,
        x: Any,
        y: Any,
        *,
        validation_data: Any,
        epochs: int,
        callbacks: Any,
        **options: Any,
    ) -> dict[str, float]:
        path = self.folder(trial.trial_id) / RESULT
        result = ArchitectureResult.load_or_set_aside(path)
        # There is one when a kill came between its file and its report, or the oracle's are lost.
        if result is None or not self._local.same(_plain(result.architecture), candidate):
            gc.collect()
            keras.utils.set_random_seed(self.seed)
            architecture = Architecture.from_json(json.dumps(candidate))
            began = time.monotonic()
            model = self._built(architecture)
            callbacks = callbacks(path.parent) if callable(callbacks) else copy.deepcopy(callbacks)
            try:
                score, metrics = self._fit(
                    model, x, y, validation_data, epochs, callbacks or [], options
                )
                message = None if math.isfinite(score) else f"{self.objective.name} is {score}"
            except NonFiniteError as error:
                score, metrics, message = math.nan, {}, str(error)
            result = ArchitectureResult(
                index=int(trial.trial_id),
                architecture=model.architecture,
                score=None if message else score,
                metrics=metrics,
                seconds=time.monotonic() - began,
                message=message,
            )
            write_whole(path.with_name(_WEIGHTS), model.save_weights, self.tuner_id)
            result.save(path)
        score = math.nan if result.score is None else result.score
        numbers = {n: v for n, v in result.metrics.items() if not isinstance(v, list)}
        return {**numbers, self.objective.name: score}

    def _built(self, architecture):
        model = build(
            self.backbone,
            self.tasks,
            architecture=architecture,
            seed=self.seed,
            initial_weights=self.initial_weights,
        )
        self._compile(model)
        return model

    def _fit(self, model, x, y, validation_data, epochs, callbacks, options):
        validation = _unpacked(validation_data)
        model.check_data(*validation)
        if not callbacks:
            self._check_objective(model)
        else:
            options = {**options, "validation_data": validation_data}
        history = model.fit(
            x,
            y,
            epochs=epochs,
            callbacks=[*callbacks, self.heartbeat()],
            verbose=2 if self.verbose > 1 else 0,
            **options,
        )
        sizes = {"batch_size": options.get("validation_batch_size", options.get("batch_size"))}
        x, y, sample_weight = validation
        logs = model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            steps=options.get("validation_steps"),
            callbacks=[self.heartbeat()],
            verbose=0,
            return_dict=True,
            **sizes,
        )
        metrics = {name: plain(values[-1]) for name, values in history.history.items()}
        metrics.update({f"val_{name}": plain(value) for name, value in logs.items()})
        if self._score is not None:
            found = self._scored(model.task_results(logs), metrics)
        elif self.objective.name not in metrics:
            raise _unknown(self.objective.name, metrics)
        else:
            found = metrics[self.objective.name]
        if number(found) is None:
            raise TypeError(
                f"`objective` must be a number. Received: {self.objective.name}={found!r}. Pass a "
                "function of the validation results that returns one."
            )
        return number(found), metrics

    def _scored(self, results, metrics):
        """The score of validation results; NaN where these are not finite and allow none."""
        try:
            return self._score(results)
        except (ArithmeticError, ValueError):
            if np.isfinite(np.hstack([np.ravel(value) for value in metrics.values()])).all():
                raise
            return math.nan

    def _check_objective(self, model):
        """Without callbacks, the names of the logs are known before the training."""
        names = [metric.name for metric in model.metrics]
        names += [f"val_{name}" for name in names]
        if self._score is None and self.objective.name not in names:
            raise _unknown(self.objective.name, names)


def _first_sentence(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0].rstrip(".")


def _plain(architecture):
    return json.loads(architecture.to_json())


def _as_objective(objective, direction, tasks):
    if direction not in (None, "min", "max"):
        raise ValueError(f"`direction` must be 'min' or 'max'. Received: direction={direction!r}.")
    if isinstance(objective, keras_tuner.Objective):
        if direction not in (None, objective.direction):
            raise ValueError(
                f"`direction` must be that of the objective, {objective.direction!r}, or None. "
                f"Received: direction={direction!r}."
            )
        return objective
    if callable(objective):
        return keras_tuner.Objective("score", direction or "max")
    if not isinstance(objective, str):
        raise TypeError(
            "`objective` must be a name in the logs, a function or a `keras_tuner.Objective`. "
            f"Received: objective={objective!r}."
        )
    if direction is None:
        lower = known_direction(objective, [task.name for task in tasks])
        if lower is None:
            raise ValueError(
                "`direction` must be given for a metric that is not one of Keras' or of this "
                f'library\'s. Received: objective={objective!r}. Pass `direction="min"` where '
                'smaller is better, or "max".'
            )
        direction = "min" if lower else "max"
    return keras_tuner.Objective(objective, direction)


def _check_candidates(backbone, tasks, candidates):
    candidates = [candidates] if isinstance(candidates, Architecture) else list(candidates)
    wrong = [c for c in candidates if not isinstance(c, Architecture)]
    if wrong or not candidates:
        raise TypeError(
            "`candidates` must be one or more `keras_mtl.Architecture`s. Received: "
            f"{wrong[0] if wrong else candidates!r}."
        )
    if len(set(candidates)) < len(candidates):
        raise ValueError(
            f"`candidates` must all be different. Received: {len(candidates)}, of which "
            f"{len(set(candidates))} differ. Pass `list(dict.fromkeys(candidates))`."
        )
    graph = read(backbone)
    units = {name: find_units(graph, name) for name in {c.granularity for c in candidates}}
    for candidate in candidates:
        fitted(graph, units[candidate.granularity], tasks, candidate)
    return candidates


def _unpacked(data):
    if isinstance(data, (tuple, list)):
        return keras.utils.unpack_x_y_sample_weight(tuple(data))
    return data, None, None


def _unknown(name, names):
    return ValueError(
        f"`objective` must be in the logs of `fit`: {sorted(names)}. Received: "
        f"objective={name!r}.{suggestion(name, names)}"
    )
