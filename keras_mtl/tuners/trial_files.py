"""The files of trials: written whole, and read so that a damaged one is evaluated again."""

import json

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_mtl.checks import is_number
from keras_mtl.tuners.files import DamagedFileError, read_json, set_aside

CANDIDATE = "candidate"  # the hyperparameter that holds what an oracle has proposed
_MISSING = "no file"


def candidate_of(trial):
    """The candidate of a trial."""
    return json.loads(trial.hyperparameters.values[CANDIDATE])


def new_trial(trial_id, values):
    """A trial that runs."""
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.values = values
    return Trial(hyperparameters, trial_id, TrialStatus.RUNNING)


def read_trial(path, trial_id):
    """A trial from its file.

    Raises:
        DamagedFileError: when there is no such file, or something else in it.
    """
    state = read_json(path)
    if state is None:
        raise DamagedFileError(path, _MISSING)
    try:
        trial = Trial.from_state(state)
        candidate_of(trial)
        scored = trial.status != TrialStatus.COMPLETED or is_number(trial.score)
        if trial.trial_id == trial_id and scored:
            return trial
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        pass
    raise DamagedFileError(path, "data of another form")


def make_room(damaged):
    """Sets the damaged files of trials aside, and returns the sentence that says so.

    Args:
        damaged: dict from trial id to `DamagedFileError`.
    """
    for fault in damaged.values():
        if fault.reason != _MISSING:
            set_aside(fault.path)
    numbers = [str(int(trial_id) + 1) for trial_id in damaged]
    files = [f"{str(fault.path)!r} ({fault.reason})" for fault in damaged.values()]
    which = f"Trial {numbers[0]}" if len(damaged) == 1 else f"Trials {_some(numbers)}"
    return (
        f"{which} will be evaluated again, since what is on the disk is not what the search has "
        f"written: {_some(files)}. It is kept with the ending '.damaged'."
    )


def _some(things, most=3):
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(things[:most]) + more
