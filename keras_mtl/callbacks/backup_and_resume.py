"""BackupAndResume: an interrupted training goes on as if nothing had happened."""

import json
import os
import pathlib

import keras
import numpy as np

from keras_mtl.report import say

_VERSION = 1


class BackupAndResume(keras.callbacks.Callback):
    """Writes the whole state of a training into one file after every epoch, and continues from it.

    The file holds weights, policy, all optimizers, step, plan, normalisation statistics, the
    states of random numbers, the history, and the plain state of the other callbacks (early
    stopping, learning-rate plateaus). It is replaced atomically: a kill at any moment leaves the
    last whole one. Start the same script again and `fit` goes on after the last finished epoch.
    With `keras_mtl.data.search_split` and `sample_tasks` the data position follows from the step,
    and with one seed and deterministic operations the result is bit-identical to that of an
    uninterrupted run.

    A finished training leaves its file, so that the same `fit` returns at once with its history;
    delete the file to begin again.

    Args:
        filepath: string or path of the backup file, such as `"run/backup.npz"`.
        verbose: bool. Whether to say that a training was continued.

    Raises:
        ValueError: when the file belongs to another model.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.callbacks.BackupAndResume("/tmp/keras_mtl_example/backup.npz").next_epoch
    0
    """

    def __init__(self, filepath, *, verbose=True):
        super().__init__()
        self.filepath = pathlib.Path(filepath)
        self.verbose = verbose
        self.next_epoch = 0
        self.stopped = False
        self._companions = []
        self._states = []
        self._beginnings = []
        self._rows = []

    def begin(self, model, callbacks):
        """Restores the state, if there is one; `fit` of the library's models calls this first."""
        self._companions = [c for c in callbacks if c is not self]
        self._states = []
        self._rows = []
        self.next_epoch = 0
        self.stopped = False
        if not self.filepath.exists():
            return
        with np.load(self.filepath, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            arrays = {key: file[key] for key in file.files if key != "state"}
        self._check(model, state)
        for i, variable in enumerate(_variables(model)):
            variable.assign(arrays[f"variable_{i}"])
        for i, plain in enumerate(state["callbacks"]):
            lists = {
                name: [arrays[f"callback_{i}_{name}_{j}"] for j in range(count)]
                for name, count in state["arrays"][i].items()
            }
            self._states.append({**plain, **lists})
        self._rows = state["rows"]
        self.next_epoch = state["next_epoch"]
        self.stopped = state["stopped"]
        if self.verbose:
            say(f"Continuing after epoch {self.next_epoch} from {self.filepath}.")

    def _check(self, model, state):
        found = [list(v.shape) for v in _variables(model)]
        classes = [type(c).__name__ for c in self._companions]
        same = state["version"] == _VERSION and state["shapes"] == found
        if not same or state["task_names"] != list(model.task_names):
            raise ValueError(
                f"`filepath` must hold a backup of this model. Received: {str(self.filepath)!r} "
                f"with {len(state['shapes'])} variables for the tasks {state['task_names']}; the "
                f"model has {len(found)} for {list(model.task_names)}. Delete the file to begin "
                "again."
            )
        own = json.loads(json.dumps(model.settings()))
        changed = [key for key in own if state["settings"].get(key) != own[key]]
        if changed:
            raise ValueError(
                f"`filepath` must hold a backup of a training with the same {changed[0]}. "
                f"Received: {state['settings'].get(changed[0])} in {str(self.filepath)!r}; the "
                f"model has {own[changed[0]]}. Delete the file to begin again."
            )
        if state["classes"] != classes:
            raise ValueError(
                f"`callbacks` must be those of the interrupted training: {state['classes']}. "
                f"Received: {classes}."
            )

    def on_train_begin(self, logs=None):
        """Gives the other callbacks their state back, after they have begun anew.

        What they were given as settings has its new value: only what moved was saved.
        """
        self._beginnings = [_plain_state(companion) for companion in self._companions]
        for companion, state in zip(self._companions, self._states, strict=False):
            for name, value in state.items():
                if isinstance(value, dict):
                    value = getattr(keras.ops, value["operation"])
                setattr(companion, name, value)

    def on_epoch_end(self, epoch, logs=None):
        # Results of several numbers, such as one per class, become lists.
        rows = {key: np.asarray(value).tolist() for key, value in (logs or {}).items()}
        self._rows.append([epoch, rows])
        variables = _variables(self.model)
        arrays = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
        state = {
            "version": _VERSION,
            "task_names": list(self.model.task_names),
            "settings": self.model.settings(),
            "shapes": [list(v.shape) for v in variables],
            "next_epoch": epoch + 1,
            # A stop that no early stopping asked for is an interruption, to be continued.
            "stopped": any(getattr(c, "stopped_epoch", 0) > 0 for c in self._companions),
            "rows": self._rows,
            "classes": [type(c).__name__ for c in self._companions],
            "callbacks": [
                _moved(_plain_state(companion), before)
                for companion, before in zip(self._companions, self._beginnings, strict=True)
            ],
            "arrays": [],
        }
        for i, companion in enumerate(self._companions):
            lists = _array_state(companion)
            state["arrays"].append({name: len(values) for name, values in lists.items()})
            for name, values in lists.items():
                arrays |= {f"callback_{i}_{name}_{j}": v for j, v in enumerate(values)}
        write_atomically(self.filepath, {**arrays, "state": np.array(json.dumps(state))})

    def on_train_end(self, logs=None):
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


def write_atomically(path, arrays):
    """Writes an `.npz` file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*.partial"):  # of a kill while writing
        left_over.unlink()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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


def _moved(state, before):
    return {name: value for name, value in state.items() if before.get(name, state) != value}


def _plain_state(callback):
    kinds = (bool, int, float, str, type(None))
    state = {}
    for name, value in vars(callback).items():
        if name.startswith("_"):
            continue
        if isinstance(value, (*kinds, np.generic)):
            state[name] = value.item() if isinstance(value, np.generic) else value
        elif callable(value) and getattr(keras.ops, getattr(value, "__name__", ""), None) is value:
            # Whether more or less is better; Keras turns `min_delta` round when it finds this out.
            state[name] = {"operation": value.__name__}
    return state


def _array_state(callback):
    return {
        name: [np.asarray(v) for v in value]
        for name, value in vars(callback).items()
        if not name.startswith("_")
        and isinstance(value, (list, tuple))
        and value
        and all(isinstance(v, np.ndarray) for v in value)
    }
