"""Results of candidates: rows of a search's table, each in a file in its trial's folder."""

import dataclasses
import pathlib
from typing import ClassVar

from keras_mtl.tuners.files import read_json, write_json

RESULT = "result.json"


class ResultRow:
    """Base of the dataclasses that say what one candidate was worth.

    A subclass has `index` and `score` (`None` where the candidate failed) among its fields, and
    names in `candidate` the field that is no plain data, and in `kind` its class.
    """

    candidate: ClassVar[str]
    kind: ClassVar[type]

    def save(self, path):
        """Writes the row as JSON, whole or not at all."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        write_json(path, {**data, self.candidate: data[self.candidate].to_json()})

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote; `None` where there is no file."""
        data = read_json(path)
        if data is None:
            return None
        return cls(**{**data, cls.candidate: cls.kind.from_json(data[cls.candidate])})

    @classmethod
    def load_all(cls, folder):
        """The rows of a search's folder, in order of their index."""
        rows = [cls.load(path) for path in pathlib.Path(folder).glob(f"trial_*/{RESULT}")]
        return sorted(rows, key=lambda row: row.index)


def best_row(rows, objective):
    """The row with the best score, the first one of equals."""
    scored = [row for row in rows if row.score is not None]
    if not scored:
        raise ValueError("`search` must have trained a candidate first. Received: no result.")
    sign = 1 if objective.direction == "min" else -1
    return min(scored, key=lambda row: sign * row.score)
