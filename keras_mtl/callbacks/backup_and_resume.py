"""BackupAndResume: an interrupted training goes on as if nothing had happened."""

import json
import os
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

from keras_mtl.callbacks import backup_file, companions
from keras_mtl.report import say


class BackupAndResume(keras.callbacks.Callback):
    """Writes the whole state of a training into one file after every epoch, and continues from it.

    The file holds weights, policy, all optimizers, step, plan, normalisation statistics, the
    states of random numbers, the history, and the plain state of the other callbacks (early
    stopping, learning-rate plateaus). It is replaced atomically: a kill at any moment leaves the
    last whole one. Start the same script again and `fit` goes on after the last finished epoch.
    With `keras_mtl.data.search_split` and `sample_tasks` the data position follows from the step,
    and with one seed and deterministic operations the result is bit-identical to that of an
    uninterrupted run.

    The file belongs to one training: the same network (as for files of weights), seed, losses, task
    weights, loss weighting, multipliers, frozen layers, and optimizers but for their learning rate,
    which may be changed: a number that differs from the interrupted training's is taken instead of
    the saved one, and said. Other callbacks may come and go unless their state would be lost. While
    `fit` runs, a lock beside the file keeps other processes away.

    A finished training leaves its file, so that the same `fit` returns at once with its history;
    delete the file to begin again.

    Args:
        filepath: string or path of the backup file, such as `"run/backup.npz"`.
        verbose: bool. Whether to say that a training was continued.

    Raises:
        TypeError: when `filepath` is no name of a file.
        ValueError: before the first step, when the file belongs to another training, is damaged,
            is being written by another one, or cannot be written.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.callbacks.BackupAndResume("/tmp/keras_mtl_example/backup.npz").next_epoch
    0
    """

    def __init__(self, filepath: os.PathLike[str] | str, *, verbose: bool = True) -> None:
        super().__init__()
        if not isinstance(filepath, (str, os.PathLike)) or not pathlib.Path(filepath).name:
            raise TypeError(
                "`filepath` must be the name of a file, such as 'run/backup.npz'. "
                f"Received: filepath={filepath!r}."
            )
        # Behind links: a link stays one, and two names of one file have one lock.
        self.filepath = pathlib.Path(os.path.realpath(filepath))
        self.verbose = verbose
        self.next_epoch = 0
        self.stopped = False
        self._companions = []
        self._states = {}
        self._beginnings = []
        self._rows = []
        self._settings = None
        self._lock = backup_file.Lock(self.filepath)

    def begin(self, model: keras.Model, callbacks: Any) -> None:
        """Restores the state, if there is one; `fit` of the library's models calls this first."""
        self._companions = [c for c in callbacks if c is not self]
        self._states = {}
        self._rows = []
        self._settings = json.loads(json.dumps(model.settings()))
        self.next_epoch = 0
        self.stopped = False
        backup_file.check_writable(self.filepath, backup_file.size_of(_variables(model)))
        self._lock.acquire()
        try:
            if self.filepath.exists():
                self._restore(model, *backup_file.read(self.filepath))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Lets other trainings have the file; `fit` of the library's models calls this last."""
        self._lock.release()

    def _restore(self, model, state, arrays):
        self._check(model, state)
        states = [
            plain
            | {
                name: [arrays[f"callback_{i}_{name}_{j}"] for j in range(count)]
                for name, count in state["arrays"][i].items()
            }
            for i, plain in enumerate(state["callbacks"])
        ]
        kinds = state.get("kinds", [[name] for name in state["classes"]])
        found = companions.matched(kinds, states, self._companions, self.filepath)
        self._states, gone, new = found
        for i, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"variable_{i}"])
        self._rows = state["rows"]
        self.next_epoch = state["next_epoch"]
        self.stopped = state["stopped"]
        if self.verbose:
            say(f"Continuing after epoch {self.next_epoch} from {self.filepath}.")
        self._choose_rates(model, state["settings"].get("learning_rates", {}))
        self._say_what_changed(gone, new)

    def _check(self, model, state):
        shapes = [list(v.shape) for v in _variables(model)]
        if state["task_names"] != list(model.task_names):
            raise ValueError(
                f"`filepath` must hold a backup of this model. Received: {str(self.filepath)!r} "
                f"of the tasks {state['task_names']}; the model has {list(model.task_names)}. "
                "Delete the file to begin again."
            )
        then, now = state["settings"], self._settings
        rates = then.get("learning_rates", {}), now["learning_rates"]
        kinds = [{name: _kind_of_rate(rate) for name, rate in given.items()} for given in rates]
        different = model.compare(
            {**then, "learning_rates": kinds[0]}, {**now, "learning_rates": kinds[1]}
        )
        if different is None and state["shapes"] != shapes:
            different = "variables", len(state["shapes"]), f"{len(shapes)} of other shapes"
        if different:
            what, theirs, ours = different
            raise ValueError(
                "`filepath` must hold a backup of the same training. Received: "
                f"{str(self.filepath)!r} with {what} = {theirs}; this one has {what} = {ours}. "
                "Delete the file to begin again."
            )

    def _choose_rates(self, model, then):
        """Learning rates: what has moved goes on, what the user has changed is taken."""
        given = self._settings["learning_rates"]
        reached = json.loads(json.dumps(model.settings()))["learning_rates"]
        for name, rate in given.items():
            before = then.get(name, rate)
            # In one process, a model may still have the rate that a first `fit` has reached.
            if rate == before or (_is_rate(rate) and rate == reached[name]):
                given[name] = before
                continue
            if _is_rate(rate):
                getattr(model, name).learning_rate = rate
            if self.verbose:
                new, old = (f"{x:.6g}" if _is_rate(x) else "schedule" for x in (rate, before))
                say(f"`{name}` goes on with its new learning rate, {new}; before: {old}.")

    def _say_what_changed(self, gone, new):
        if not gone and not new:
            return
        parts = [f"without {', '.join(gone)}"] if gone else []
        if new:
            parts += [f"with {', '.join(type(c).__name__ for c in new)}, beginning anew"]
        message = f"The training goes on {' and '.join(parts)}: other callbacks than before."
        if any(hasattr(callback, "monitor") for callback in new):
            warnings.warn(message, stacklevel=5)
        elif self.verbose:
            say(message)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the other callbacks their state back, after they have begun anew.

        What they were given as settings has its new value: only what moved was saved.
        """
        if self._settings is None:
            raise TypeError(
                "`BackupAndResume` needs a model of this library, whose `fit` it begins with. "
                f"Received: {type(self.model).__name__} {self.model.name!r}. Use "
                "`keras.callbacks.BackupAndRestore`."
            )
        self._beginnings = [companions.plain_state(c) for c in self._companions]
        for place, state in self._states.items():
            companions.give_back(self._companions[place], state)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Results of several numbers, such as one per class, become lists.
        rows = {key: np.asarray(value).tolist() for key, value in (logs or {}).items()}
        self._rows.append([epoch, rows])
        variables = _variables(self.model)
        arrays = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
        state: dict[str, Any] = {
            "version": backup_file.VERSION,
            "task_names": list(self.model.task_names),
            "settings": self._settings,
            "shapes": [list(v.shape) for v in variables],
            "next_epoch": epoch + 1,
            # A stop that no early stopping asked for is an interruption, to be continued.
            "stopped": any(getattr(c, "stopped_epoch", 0) > 0 for c in self._companions),
            "rows": self._rows,
            "classes": [type(c).__name__ for c in self._companions],
            "kinds": [companions.kind_of(c) for c in self._companions],
            "callbacks": [
                companions.moved(companion, before)
                for companion, before in zip(self._companions, self._beginnings, strict=True)
            ],
            "arrays": [],
        }
        for i, companion in enumerate(self._companions):
            lists = companions.array_state(companion)
            state["arrays"].append({name: len(values) for name, values in lists.items()})
            for name, values in lists.items():
                arrays |= {f"callback_{i}_{name}_{j}": v for j, v in enumerate(values)}
        try:
            backup_file.write_atomically(
                self.filepath, {**arrays, "state": np.array(json.dumps(state))}
            )
        except OSError as error:
            raise OSError(
                f"`filepath` must stay writable. Received: {error} when epoch {epoch + 1} was to "
                f"be saved to {str(self.filepath)!r}, which keeps what it had. Make room, and "
                "start the training again."
            ) from None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the epochs of the interrupted runs in front of this run's history."""
        history = self.model.history
        before = [row for row in self._rows if row[0] not in history.epoch]
        merged = {}
        for _, row in before:
            for key, value in row.items():
                value = np.asarray(value) if isinstance(value, list) else value
                merged.setdefault(key, []).append(value)
        for key, values in history.history.items():
            merged[key] = merged.get(key, []) + values
        history.history = merged
        history.epoch = [epoch for epoch, _ in before] + history.epoch


def _variables(model):
    """Every variable that decides how the training goes on, in a fixed order."""
    names = ("optimizer", "policy_optimizer", "warmup_optimizer")
    optimizers = [getattr(model, name, None) for name in names]
    optimizers += getattr(model, "task_optimizers", {}).values()
    known = {}
    for variable in [*model.variables, *(v for o in optimizers if o for v in o.variables)]:
        known.setdefault(id(variable), variable)
    rows = {id(v) for metric in model.metrics for v in metric.variables}
    return [variable for key, variable in known.items() if key not in rows]


def _is_rate(rate):
    return isinstance(rate, (int, float))


def _kind_of_rate(rate):
    return "a number" if _is_rate(rate) else "a schedule"
