"""ResumableTuner: runs the trials of a `ResumableOracle`, alone or as one of many workers."""

import functools
import os
import pathlib
import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.checks import check_not_negative, check_positive
from keras_mtl.report import say
from keras_mtl.tuners.distribution import CHIEF, WORKER, check_free, role
from keras_mtl.tuners.files import check_folder
from keras_mtl.tuners.progress import failures
from keras_mtl.tuners.result_rows import number
from keras_mtl.tuners.resumable_oracle import ResumableOracle
from keras_mtl.tuners.search_lock import check_unlocked, locked

_REPORT_SECONDS = 15.0


class ResumableTuner(BaseTuner):
    """Base of the library's tuners. A subclass says in `train` what one candidate is worth.

    The same script, started again, goes on with the first trial that has not ended. An error in
    `train` ends the search and is raised as it is, and the trial stays open, so that the mended
    script runs it; a NaN as objective lets the trial fail, and the search goes on.

    On several machines start the script once as chief and once for every worker, with
    `KERASTUNER_ORACLE_IP`, `KERASTUNER_ORACLE_PORT` and `KERASTUNER_TUNER_ID` (`"chief"`, or any
    other name) in the environment, and `directory` on a disk that all of them see. Workers may
    die, come back and be added at any time. A chief that has died is started again with the same
    address and `directory`: workers go on with their trials meanwhile, and then wait for it.

    Args:
        oracle: `ResumableOracle`.
        directory: string or path.
        project_name: string. The search is kept in the folder `directory/project_name`.
        overwrite: bool. Begins anew instead of going on; the chief alone deletes what was there.
        idle_seconds: float. How long a worker for whom there is no trial waits before it asks
            again.
        chief_timeout: float. How many seconds a worker waits for a chief that does not answer, at
            the beginning or when it needs it, before it ends with a `ConnectionError`.

    Raises:
        TypeError, ValueError: for unusable arguments, or an environment that says only some of what
            a search on several machines needs.

    Example:

    >>> import keras_tuner, tempfile
    >>> from keras_mtl.tuners import CandidateOracle, ResumableTuner
    >>> class Squares(ResumableTuner):
    ...     def train(self, trial, candidate):
    ...         return {"area": candidate**2}
    >>> oracle = CandidateOracle([3, 1, 2], keras_tuner.Objective("area", "min"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Squares(oracle, directory=folder, project_name="squares").search(verbose=0)
    >>> oracle.get_best_trials()[0].trial_id
    '0001'
    """

    def __init__(
        self,
        oracle: ResumableOracle,
        *,
        directory: os.PathLike[str] | str,
        project_name: str,
        overwrite: bool = False,
        idle_seconds: float = 2.0,
        chief_timeout: float = 600.0,
    ) -> None:
        if not isinstance(oracle, ResumableOracle):
            raise TypeError(f"`oracle` must be a `ResumableOracle`. Received: oracle={oracle!r}.")
        chief_timeout = check_positive("chief_timeout", chief_timeout)
        idle_seconds = check_not_negative("idle_seconds", idle_seconds)
        folder = check_folder(directory, project_name)
        self._role = role()
        worker = self._role == WORKER
        if overwrite and not worker:
            check_unlocked(folder)
        super().__init__(
            oracle,
            directory=str(directory),
            project_name=project_name,
            overwrite=overwrite and not worker,
        )
        self.idle_seconds = idle_seconds
        self.verbose = 1
        self._local = oracle  # on a worker `self.oracle` speaks to the chief's instead
        self._idle = False
        self._trial: Any = None
        self._reported = 0.0
        if worker:
            self.oracle = self._chief(chief_timeout)
        if not (worker and overwrite):
            oracle.reload()

    def _chief(self, timeout):
        # gRPC is of no use to others, and takes a while to import.
        from keras_mtl.tuners.chief_client import ChiefClient

        connect = functools.partial(type(self.oracle), self._local)
        return ChiefClient(connect, timeout, self._local.has_ended, self._say)

    def _say(self, line):
        if self.verbose:
            say(line)

    def train(self, trial: Trial, candidate: Any, *args: Any, **options: Any) -> dict[str, float]:
        """Trains one candidate.

        Args:
            trial: KerasTuner's `Trial`; `get_trial_dir(trial.trial_id)` is its folder.
            candidate: plain data, from `oracle.propose`.
            *args, **options: what `search` was given, but for `verbose`.

        Returns:
            A dict of numbers, with the objective among them.
        """
        raise NotImplementedError

    def heartbeat(self) -> keras.callbacks.Callback:
        """A Keras callback that tells the chief that this worker is alive and at its trial."""
        return _Heartbeat(self)

    def report(self) -> None:
        """Tells the oracle that the present trial goes on; call it as often as you like.

        Raises:
            keras_tuner.errors.FailedTrialError: when another worker has ended the trial meanwhile.
        """
        if time.monotonic() - self._reported < min(self._local.lease / 10, _REPORT_SECONDS):
            return
        trial = self.oracle.update_trial(self._trial.trial_id, {})
        self._reported = time.monotonic()
        if trial.status != TrialStatus.RUNNING:
            raise keras_tuner.errors.FailedTrialError(
                f"Trial {int(self._trial.trial_id) + 1} was ended by another worker."
            )

    def search(self, *args: Any, verbose: int = 1, **options: Any) -> None:
        """Runs trials until all have ended.

        Args:
            *args, **options: for `train`.
            verbose: 1 says a line for each trial, 0 nothing.

        Raises:
            ConnectionError: on a worker, when the chief has not answered for `chief_timeout`.
            OSError: when the chief cannot listen at its address.
            RuntimeError: when `max_consecutive_failed_trials` trials in a row have failed, or
                another process runs the same search.
        """
        self.verbose = self._local.verbose = verbose
        if self._role == WORKER:
            self._run(args, options)
            return
        with locked(self.project_dir):
            self._local.reload()  # another process may have gone on since this tuner was made
            self._local.mend()
            if done := len(self._local.end_order):
                self._say(f"Continuing after {done} of {self._local.max_trials} trials.")
            self._run(args, options)
        if self.oracle.gave_up:
            message = self.oracle.trials[self.oracle.end_order[-1]].message or "nothing"
            raise RuntimeError(
                f"The last {self.oracle.failed_in_a_row} trials have failed. The last one says: "
                f"{message.strip().splitlines()[-1]}. To go on, pass the oracle a larger "
                "`max_consecutive_failed_trials`."
            )
        if not self.oracle.get_best_trials():
            warnings.warn(self._failures(), stacklevel=2)

    def _run(self, args, options):
        # A worker that comes late would wait for a chief that has left, a chief for workers.
        if self._local.finished or self._local.gave_up:
            return
        if self._role == CHIEF:
            check_free()
        try:
            super().search(*args, **options)
        except _TrialError as error:
            raise error.__cause__ from None

    def get_best_models(self, num_models: int = 1) -> list[Any]:
        """The trained models with the best scores, best first; fewer where fewer have one."""
        return [self.load_model(trial) for trial in self._best_trials(num_models)]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """The hyperparameters of the trials with the best scores, best first."""
        return [trial.hyperparameters for trial in self._best_trials(num_trials)]

    def _best_trials(self, number):
        if self._role == WORKER:
            self._local.reload()  # the chief may have left
        if not self._local.get_best_trials():
            raise ValueError(self._failures())
        return self._local.get_best_trials(number)

    def _failures(self):
        trials = self._local.trials
        return failures([(int(name), trials[name].message) for name in self._local.end_order])

    # KerasTuner's hooks -------------------------------------------------------------------------

    def on_search_begin(self) -> None:
        self._idle = False

    def pre_create_trial(self) -> None:
        if self._idle:
            time.sleep(self.idle_seconds)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        self._idle = False
        self._trial = trial
        self._reported = time.monotonic()

    def run_trial(self, trial: Trial, *args: Any, **options: Any) -> Any:
        try:
            found = self.train(trial, ResumableOracle.candidate(trial), *args, **options)
            return self._numbers(found) if isinstance(found, Mapping) else found
        except (keras_tuner.errors.FailedTrialError, keras_tuner.errors.FatalError):
            raise
        except Exception as error:
            error.add_note(f"In trial {int(trial.trial_id) + 1}, which stays open.")
            raise _TrialError from error

    def on_trial_end(self, trial: Trial) -> None:
        self.oracle.end_trial(trial)

    def _numbers(self, found):
        """Those entries that are numbers, which are all that KerasTuner keeps."""
        numbers = {str(key): number(value) for key, value in found.items()}
        if numbers.get(name := self._local.objective.name) is None:
            raise TypeError(
                f"`train` must return the objective {name!r} as a number. Received: {found!r}."
            )
        return {key: value for key, value in numbers.items() if value is not None}

    def save(self) -> None:
        """Only the oracle has a state, and saves it itself."""

    def reload(self) -> None:
        """Only the oracle has a state; a file of another tuner's state says nothing here."""

    def folder(self, trial_id: str) -> pathlib.Path:
        """Where a trial keeps its files."""
        return pathlib.Path(self.get_trial_dir(trial_id))


class _TrialError(keras_tuner.errors.FatalError):
    """Carries an error past KerasTuner, which would take any other for a failed trial."""


class _Heartbeat(keras.callbacks.Callback):
    def __init__(self, tuner):
        super().__init__()
        self._tuner = tuner

    def on_train_batch_end(self, batch, logs=None):
        self._tuner.report()

    def on_test_batch_end(self, batch, logs=None):
        self._tuner.report()
