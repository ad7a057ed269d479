"""ResumableOracle: a search that survives kills, lost workers and restarts."""

import json
import math
import pathlib
import warnings
from collections.abc import Mapping
from time import monotonic
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.checks import check_count, check_seed, is_integer, is_number
from keras_mtl.report import say
from keras_mtl.tuners.distribution import ALONE, WORKER, role
from keras_mtl.tuners.files import DamagedFileError, read_json, write_json
from keras_mtl.tuners.progress import Progress
from keras_mtl.tuners.trial_files import (
    CANDIDATE,
    candidate_of,
    make_room,
    new_trial,
    read_trial,
)

# How long a worker that only waits for work may be silent before the chief goes without it.
_SILENCE = 60.0


class ResumableOracle(keras_tuner.Oracle):
    """Base of the library's oracles: hands out candidates, each until it has ended once.

    A subclass says in `propose` what candidate number `index` is, and in `observe` what it learns
    from a score. Both must depend on the seed, the index and what was observed only, never on who
    asks when: then a search that was killed, or runs on other workers, makes the same candidates.

    What KerasTuner's own oracles do not promise:

    - A trial is *lent* to a worker. A worker that asks again has lost its trial and gets the same
      one; when a worker has not been heard of for `lease` seconds, another one gets it. No worker
      is sent away while a trial may still come back, and a dead one does not keep the chief.
    - The search may be killed anywhere. A file is replaced as a whole; a trial's file is written
      before the state that counts on it, so that the two can be brought to agree on reloading.
    - Only the first end of a trial counts, and only the last report of its metrics.
    - The state is saved after the subclass has learned from a trial.
    - A trial whose file is damaged or missing when the search is continued is evaluated again; what
      the subclass has learned from it stays, and is not learned twice.
    - A trial without a finite score is never among the best.

    Args:
        objective: string or `keras_tuner.Objective`, as in `keras_tuner.Oracle`.
        max_trials: int. The number of candidates.
        seed: int or `None`, which draws one. 0 is a seed like any other. A search that is to go on
            after an interruption needs the same one.
        lease: float. Seconds of silence after which a trial is given to another worker; more than
            the time between two reports (a report is `update_trial(trial_id, {})`).
        max_retries_per_trial: int. How often a trial that broke (`"INVALID"`, or a NaN) is run
            again before it counts as failed.
        max_consecutive_failed_trials: int or `None`. Ends the search after so many failures in a
            row.

    Raises:
        TypeError, ValueError: for unusable arguments, and on `reload` when the state is of another
            search or damaged.

    Example:

    >>> from keras_mtl.tuners import ResumableOracle
    >>> class Squares(ResumableOracle):
    ...     def propose(self, index):
    ...         return {"side": index, "noise": int(self.generator(index).integers(100))}
    >>> oracle = Squares("val_loss", max_trials=3, seed=0)
    >>> oracle.propose(2) == Squares("val_loss", max_trials=3, seed=0).propose(2)
    True
    """

    def __init__(
        self,
        objective: str | keras_tuner.Objective,
        max_trials: int,
        *,
        seed: int | None = 0,
        lease: float = 600.0,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = 3,
    ) -> None:
        seed = check_seed(seed)
        if not is_integer(max_trials) or max_trials < 1:
            raise ValueError(
                f"`max_trials` must be an int of at least 1. Received: max_trials={max_trials!r}."
            )
        if isinstance(objective, list):
            raise TypeError(f"`objective` must be one, not a list. Received: {objective}.")
        if not (is_number(lease) and lease > 0):
            raise ValueError(f"`lease` must be a positive number. Received: lease={lease!r}.")
        super().__init__(
            objective,
            max_trials,
            max_retries_per_trial=check_count("max_retries_per_trial", max_retries_per_trial, 0),
            max_consecutive_failed_trials=check_count(
                "max_consecutive_failed_trials", max_consecutive_failed_trials, optional=True
            ),
        )
        self.seed = self._seed_state = seed  # KerasTuner draws one instead of 0
        self.lease = lease
        self._ends_of_leases = {}
        self._damaged = {}
        self._learned = set()  # trials that are evaluated again after the subclass saw their score
        self._progress = Progress(max_trials)

    # What a subclass writes ---------------------------------------------------------------------

    def propose(self, index: int) -> Any:
        """Candidate number `index` as plain JSON data; `None` while others must end before."""
        raise NotImplementedError

    def observe(self, index: int, score: float | None) -> None:
        """Learns the score of a candidate (`None`: it failed): once for each, in any order."""

    def settings(self) -> dict[str, Any]:
        """What a reloaded search must agree in, as plain data by argument."""
        oracle = type(self).__name__
        return {"oracle": oracle, "seed": self.seed, "objective": str(self.objective)}

    def generator(self, *key: int) -> np.random.Generator:
        """Random numbers that depend on the seed and on a key of ints alone."""
        return np.random.default_rng((self.seed, *key))

    # What a tuner asks --------------------------------------------------------------------------

    @staticmethod
    def candidate(trial: Trial) -> Any:
        """The candidate of a trial, on any worker."""
        return candidate_of(trial)

    @property
    def failed_in_a_row(self) -> int:
        """How many of the last trials have failed, one after another."""
        count = 0
        for trial_id in reversed(self.end_order):
            if self.trials[trial_id].status != TrialStatus.FAILED:
                break
            count += 1
        return count

    @property
    def gave_up(self) -> bool:
        """Whether too many trials in a row have failed."""
        limit = self.max_consecutive_failed_trials
        return limit is not None and self.failed_in_a_row >= limit

    @property
    def finished(self) -> bool:
        """Whether every trial has ended."""
        return len(self.end_order) >= max(self.max_trials, len(self.start_order))

    @property
    def tuner_ids(self) -> set[str]:
        """Workers that the chief must not leave alone: with a trial, or waiting for one."""
        now = monotonic()
        waiting = {name for name, seen in self._seen.items() if now - seen < _SILENCE}
        return waiting | set(self.ongoing_trials)

    @tuner_ids.setter
    def tuner_ids(self, names: Any) -> None:
        self._seen = dict.fromkeys(names, monotonic())

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The trials with the best scores; fewer where fewer have one."""
        count = sum(trial.status == TrialStatus.COMPLETED for trial in self.trials.values())
        return super().get_best_trials(min(num_trials, count))

    def get_trial(self, trial_id: str) -> Trial:
        """A trial; an empty one, which is stopped, for a name of another search."""
        return self.trials.get(trial_id) or _empty(TrialStatus.STOPPED)

    def score_trial(self, trial: Trial) -> None:
        """Takes the best finite value of the objective."""
        history = trial.metrics.get_history(self.objective.name)
        steps = {float(x.mean()): x.step for x in reversed(history) if math.isfinite(x.mean())}
        trial.score = (max if self.objective.direction == "max" else min)(steps)
        trial.best_step = steps[trial.score]

    # Trials -------------------------------------------------------------------------------------

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        candidate = self.propose(int(trial_id))
        if candidate is None:
            return {"status": TrialStatus.IDLE}
        return {"status": TrialStatus.RUNNING, "values": {CANDIDATE: json.dumps(candidate)}}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial for a worker: its own once more, one that was given up, or the next."""
        self._seen[tuner_id] = monotonic()
        self._end_leases()
        old = self.ongoing_trials.get(tuner_id) or self._abandoned()
        if old is not None:
            return self._hand_out(tuner_id, old.trial_id, old.hyperparameters.values)
        if not self.gave_up and len(self.start_order) < self.max_trials:
            new = trial_name(len(self.start_order))
            response = self.populate_space(new)
            if response["status"] == TrialStatus.RUNNING:
                self.start_order.append(new)
                return self._hand_out(tuner_id, new, response["values"])
        elif not self.ongoing_trials:
            del self._seen[tuner_id]
            return _empty(TrialStatus.STOPPED)
        return _empty(TrialStatus.IDLE)

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, Any], step: int = 0) -> Trial:
        """A report of a worker: it is alive, and its trial has these metrics (or none yet)."""
        if trial_id not in self.trials:  # of a worker that was left over from another search
            return _empty(TrialStatus.STOPPED)
        trial = self.trials[trial_id]
        if trial_id in self.end_order:
            return _copy(trial)
        for tuner_id, held in self.ongoing_trials.items():
            if held is trial:
                self._lend(tuner_id, trial)
        for name, value in metrics.items():
            self._record(trial, name, float(value), step)
        if metrics:
            self._write(trial)
        return _copy(trial)

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Takes the result of a trial; a second one of the same trial changes nothing."""
        given, trial = trial, self.trials.get(trial.trial_id)
        if trial is None or trial.trial_id in self.end_order or not _same(given, trial):
            return
        trial.status, trial.message = given.status, given.message
        if trial.status == TrialStatus.COMPLETED:
            self._score(trial)
        for tuner_id, held in list(self.ongoing_trials.items()):
            if held is trial:
                del self.ongoing_trials[tuner_id]
                self._seen[tuner_id] = monotonic()
        if trial.status == TrialStatus.INVALID:
            self._run_times[trial.trial_id] += 1
            again = self._run_times[trial.trial_id] <= self.max_retries_per_trial
            trial.status = TrialStatus.RUNNING if again else TrialStatus.FAILED
        self._write(trial)
        if trial.status != TrialStatus.RUNNING:
            self._close(trial)
        self.save()
        if self.verbose and trial.trial_id in self.end_order:
            done = len(self.end_order)
            say(self._progress.line(trial, self.objective.name, self._best(), done))

    def _end_leases(self):
        now = monotonic()
        for tuner_id, trial in list(self.ongoing_trials.items()):
            if now >= self._ends_of_leases[trial.trial_id]:
                del self.ongoing_trials[tuner_id]
                self._seen.pop(tuner_id, None)

    def _abandoned(self):
        """The first trial that has begun, has not ended and is with nobody."""
        if self.gave_up:
            return None
        known = {*self.end_order, *(trial.trial_id for trial in self.ongoing_trials.values())}
        return next((self.trials[name] for name in self.start_order if name not in known), None)

    def _hand_out(self, tuner_id, trial_id, values):
        # A new trial: metrics of a run that broke off must not be averaged with those of the next.
        trial = new_trial(trial_id, values)
        self.trials[trial_id] = trial
        self._lend(tuner_id, trial)
        self._write(trial)
        self.save()
        self._progress.begin()
        return _copy(trial)

    def _lend(self, tuner_id, trial):
        self._seen[tuner_id] = monotonic()
        self.ongoing_trials[tuner_id] = trial
        self._ends_of_leases[trial.trial_id] = monotonic() + self.lease

    def _record(self, trial, name, value, step):
        if not trial.metrics.exists(name):
            objective = name == self.objective.name
            trial.metrics.register(name, self.objective.direction if objective else None)
        for observation in trial.metrics.get_history(name):
            if observation.step == step:
                observation.value = [value]
                return
        trial.metrics.metrics[name].update(value, step)

    def _score(self, trial):
        name = self.objective.name
        history = trial.metrics.get_history(name) if trial.metrics.exists(name) else []
        values = [float(observation.mean()) for observation in history]
        if any(map(math.isfinite, values)):
            self.score_trial(trial)
            return
        trial.status = TrialStatus.INVALID
        found = ("NaN" if math.isnan(values[-1]) else values[-1]) if values else "missing"
        trial.message = trial.message or f"{name} is {found}"

    def _close(self, trial):
        self.end_order.append(trial.trial_id)
        if trial.trial_id in self._learned:
            self._learned.remove(trial.trial_id)
        else:
            self.observe(int(trial.trial_id), trial.score)

    def _best(self):
        return next(iter(self.get_best_trials(1)), None)

    # State --------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        own = {"settings": self.settings(), "learned": sorted(self._learned)}
        return {**super().get_state(), **own}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._learned = set(state.get("learned", ()))
        for tuner_id, trial in self.ongoing_trials.items():
            self._lend(tuner_id, trial)

    def save(self) -> None:
        """Writes the state; the trials are in files of their own."""
        write_json(self.folder / "oracle.json", self.get_state())

    def reload(self) -> None:
        """Continues from the files, if there are any, where the last process ended."""
        path = self.folder / "oracle.json"
        try:
            state = read_json(path)
            if not isinstance(state, dict | None):
                raise DamagedFileError(path, "data of another form")
        except DamagedFileError as error:
            if role() == WORKER:
                return  # the chief says so
            raise _without_state(error) from None
        if state is None:
            return
        settings = state.get("settings")
        for name, value in self.settings().items():
            before = settings.get(name) if isinstance(settings, dict) else None
            if before != value:
                raise ValueError(
                    f"`{name}` must be that of the search that is continued. Received: "
                    f"{name}={value!r}; the search in {str(self.folder)!r} began with {before!r}. "
                    "Pass `overwrite=True` or another `project_name` to begin anew."
                )
        try:
            damaged = self._take(state)
        except (AttributeError, KeyError, TypeError) as error:
            fault = DamagedFileError(path, f"data of another form ({error!r})")
            raise _without_state(fault) from None
        self._damaged = damaged
        for trial_id, fault in damaged.items():
            response = self.populate_space(trial_id)
            if response["status"] != TrialStatus.RUNNING:
                raise ValueError(
                    f"{fault} Its candidate cannot be proposed again: restore the file from a "
                    "copy, or begin anew with `overwrite=True` or another `project_name`."
                )
            self.trials[trial_id] = new_trial(trial_id, response["values"])
        if role() == ALONE:
            self.ongoing_trials = {}  # a lone process has nobody to wait for
        for trial_id in self.start_order:
            trial = self.trials[trial_id]
            if trial.status != TrialStatus.RUNNING and trial_id not in self.end_order:
                self._close(trial)
        ended = set(self.end_order)
        for tuner_id, trial in list(self.ongoing_trials.items()):
            if trial.trial_id in ended:
                del self.ongoing_trials[tuner_id]

    def _take(self, state):
        """Takes a state and the trials that it counts on; returns faults of files by trial.

        A trial's file beyond the state is of a trial that nobody has got: it is made again.
        """
        self.trials, damaged = {}, {}
        for trial_id in state["start_order"]:
            try:
                self.trials[trial_id] = read_trial(self._path(trial_id), trial_id)
            except DamagedFileError as fault:
                damaged[trial_id] = fault
        ended = [trial_id for trial_id in state["end_order"] if trial_id not in damaged]
        ongoing = {name: x for name, x in state["ongoing_trials"].items() if x not in damaged}
        learned = {*state.get("learned", ()), *state["end_order"]} - set(ended)
        self.set_state({**state, "end_order": ended, "ongoing_trials": ongoing, "learned": learned})
        return damaged

    def mend(self) -> None:
        """Makes the files agree with what `reload` has found; says which were damaged."""
        if not self._damaged:
            return
        said = make_room(self._damaged)
        self.save()  # before the trials, which are missing until then, and so evaluated again
        for trial_id in self._damaged:
            self._write(self.trials[trial_id])
        self._damaged = {}
        warnings.warn(said, stacklevel=3)

    def has_ended(self) -> bool:
        """Whether the files say that all trials have ended: whoever comes now is too late."""
        try:
            state = read_json(self.folder / "oracle.json") or {}
            most = max(self.max_trials, len(state["start_order"]))
            return len(state["end_order"]) >= most
        except (DamagedFileError, KeyError, TypeError):
            return False

    @property
    def folder(self) -> pathlib.Path:
        """Where the search keeps its files."""
        return pathlib.Path(self._project_dir)

    def _path(self, trial_id):
        return self.folder / f"trial_{trial_id}" / "trial.json"

    def _write(self, trial):
        write_json(self._path(trial.trial_id), trial.get_state())


def trial_name(index):
    """KerasTuner's name of a trial."""
    return f"{index:04d}"


def _without_state(fault):
    return ValueError(
        f"{fault} Restore it from a copy; or delete it: the search then begins at its first trial, "
        "and takes the results that are in the folders of its trials."
    )


def _copy(trial):
    """What a worker may change; over the network it would be another object too."""
    return Trial.from_state(json.loads(json.dumps(trial.get_state())))


def _same(given, trial):
    values = (given.hyperparameters.values, trial.hyperparameters.values)
    return values[0].get(CANDIDATE) == values[1].get(CANDIDATE)


def _empty(status):
    return Trial(keras_tuner.HyperParameters(), "", status)
