"""Results of candidates: rows of a search's table, each in a file in its trial's folder."""

import dataclasses
import math
import os
import pathlib
import warnings
from typing import Any, ClassVar, Self

import numpy as np
from keras_tuner.engine.trial import TrialStatus

from keras_mtl.checks import is_integer, is_number
from keras_mtl.tuners.files import DamagedFileError, read_json, set_aside, write_json
from keras_mtl.tuners.progress import failures

RESULT = "result.json"
TRIAL = "trial.json"


class ResultRow:
    """Base of the dataclasses that say what one candidate was worth.

    A subclass has `index` and `score` (`None` where the candidate failed) among its fields, and
    names in `candidate` the field that is no plain data, and in `kind` its class.
    """

    index: int
    score: float | None
    metrics: dict
    candidate: ClassVar[str]
    kind: ClassVar[Any]

    def save(self: Any, path: os.PathLike[str] | str) -> None:
        """Writes the row as JSON, whole or not at all."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        write_json(path, {**data, self.candidate: data[self.candidate].to_json()})

    @classmethod
    def load(cls, path: os.PathLike[str] | str) -> Self | None:
        """Reads what `save` wrote; `None` where there is no file.

        Raises:
            DamagedFileError: when there is something else.
        """
        data = read_json(path)
        if data is None:
            return None
        try:
            row = cls(**{**data, cls.candidate: cls.kind.from_json(data[cls.candidate])})
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(path, f"data of another form ({error})") from None
        plain = is_integer(row.index) and isinstance(row.metrics, dict)
        if not plain or not (row.score is None or is_number(row.score)):
            raise DamagedFileError(path, "data of another form")
        return row

    @classmethod
    def load_or_set_aside(cls, path: os.PathLike[str] | str) -> Self | None:
        """As `load`; a damaged file is kept under another name, and `None` returned."""
        try:
            return cls.load(path)
        except DamagedFileError as fault:
            set_aside(path)
            warnings.warn(
                f"{fault} It is kept with the ending '.damaged', and the candidate evaluated "
                "again.",
                stacklevel=2,
            )
            return None

    @classmethod
    def load_all(cls, folder: os.PathLike[str] | str) -> list[Self]:
        """The rows of a search's folder, in order of their index; damaged ones are left out."""
        rows = []
        for path in sorted(pathlib.Path(folder).glob("trial_*")):
            path = path / RESULT
            try:
                rows.append(cls.load(path))
                if rows[-1] is None and _is_completed(path.parent):
                    raise DamagedFileError(path, "no file")
            except DamagedFileError as fault:
                warnings.warn(f"{fault} The row is left out. {again(path)}", stacklevel=2)
        return sorted(filter(None, rows), key=lambda row: row.index)


def _is_completed(folder):
    """Whether a trial has ended well, so that it had a result."""
    try:
        trial = read_json(folder / TRIAL)
    except DamagedFileError:
        return False
    return isinstance(trial, dict) and trial.get("status") == TrialStatus.COMPLETED


def again(path):
    """What to do when a file of a trial is damaged."""
    return (
        f"Delete the folder {str(path.parent)!r}, make the tuner again and call `search`: then "
        "that trial, and no other, is evaluated again."
    )


def number(value):
    """A value as a `float`, or `None` where it is no single number."""
    try:
        return float(value) if np.ndim(value) == 0 else None
    except (TypeError, ValueError):
        return None


def plain(value):
    """The result of a metric as JSON holds it: a float, or nested lists of floats."""
    return np.asarray(value, dtype="float64").tolist()


def best_row(rows, objective):
    """The row with the best score, the first one of equals."""
    scored = [row for row in rows if row.score is not None and math.isfinite(row.score)]
    if not scored:
        raise ValueError(failures([(row.index, row.message) for row in rows]))
    sign = 1 if objective.direction == "min" else -1
    return min(scored, key=lambda row: sign * row.score)
