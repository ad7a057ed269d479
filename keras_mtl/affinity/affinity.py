"""Affinity: how alike tasks are at every location of the backbone, as plain data."""

import dataclasses
import json
import types
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from keras_mtl import versioned_json
from keras_mtl.checks import check_names

FORMAT_VERSION = 1
FIELDS = ("values", "tasks", "locations", "origin")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Affinity(versioned_json.Saved):
    """The tensor `A[d, i, j]` of task affinities, with the names of its axes; JSON both ways.

    Two affinities are equal when names and values are; `origin` does not count.

    Args:
        values: array of shape `(locations, tasks, tasks)`. Symmetric, with ones on the diagonal,
            from -1 to 1; kept as a read-only float64 copy, in which rounding errors up to 1e-6 of
            symmetry, diagonal and range are mended.
        tasks: tuple of string. Task names, in order.
        locations: tuple of string. Names of the locations, from the input to the features.
        origin: mapping that JSON can hold. How the values were found.

    Raises:
        ValueError: when the parts do not fit together.

    Example:

    >>> from keras_mtl.affinity import Affinity
    >>> values = [[[1.0, 0.8], [0.8, 1.0]], [[1.0, 0.5], [0.5, 1.0]]]
    >>> affinity = Affinity(values, ("depth", "normal"), ("block1", "block2"))
    >>> affinity
    <Affinity locations=['block1', 'block2'] tasks=['depth', 'normal'] from 0.500 to 0.800>
    >>> affinity.dissimilarity[1].tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    >>> Affinity.from_json(affinity.to_json()) == affinity
    True

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Section 3.1.
    """

    values: np.ndarray
    tasks: Sequence
    locations: Sequence
    origin: Mapping = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        fill = object.__setattr__
        for name in ("tasks", "locations"):
            fill(self, name, check_names(name, getattr(self, name)))
        if not isinstance(self.origin, Mapping):
            raise ValueError(f"`origin` must be a mapping. Received: origin={self.origin!r}.")
        fill(self, "origin", types.MappingProxyType(dict(self.origin)))
        fill(self, "values", _checked(self.values, self.tasks, self.locations))

    @property
    def dissimilarity(self) -> np.ndarray:
        """`1 - A`: an array of shape `(locations, tasks, tasks)` with zeros on the diagonals."""
        return 1.0 - self.values

    def __eq__(self, other):
        if not isinstance(other, Affinity):
            return NotImplemented
        names = (self.tasks, self.locations) == (other.tasks, other.locations)
        return names and np.array_equal(self.values, other.values)

    def __hash__(self):
        return hash((self.tasks, self.locations, self.values.tobytes()))

    def __reduce__(self):
        return Affinity, (np.array(self.values), self.tasks, self.locations, dict(self.origin))

    def __repr__(self):
        pairs = self.values[:, *np.triu_indices(len(self.tasks), 1)]
        span = f" from {pairs.min():.3f} to {pairs.max():.3f}" if pairs.size else ""
        tasks = list(self.tasks) if len(self.tasks) <= 6 else len(self.tasks)
        return f"<Affinity locations={list(self.locations)} tasks={tasks}{span}>"

    # JSON -------------------------------------------------------------------------------------

    def to_json(self, indent: int | None = None) -> str:
        """All of it as a JSON string."""
        data: dict[str, Any] = {"format_version": FORMAT_VERSION}
        data |= {"tasks": list(self.tasks), "locations": list(self.locations)}
        data |= {"origin": dict(self.origin), "values": self.values.tolist()}
        return json.dumps(data, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `to_json` wrote; refuses broken text and unknown versions."""
        data = versioned_json.parse(text, "an affinity", FORMAT_VERSION, ValueError)
        if set(data) != set(FIELDS):
            missing, unknown = set(FIELDS) - set(data), set(data) - set(FIELDS)
            raise ValueError(
                "`text` must have the fields of an affinity. Received: text without "
                f"{sorted(missing)} and with {sorted(unknown)}."
            )
        return cls(**data)


def _checked(values, tasks, locations):
    """Returns the values as a read-only float64 array that is exactly symmetric."""
    try:
        values = np.array(values, dtype="float64")
    except (TypeError, ValueError):
        raise ValueError(
            "`values` must be an array of numbers with shape (locations, tasks, tasks). Received: "
            f"{type(values).__name__} that is none."
        ) from None
    shape = (len(locations), len(tasks), len(tasks))
    if values.shape != shape:
        raise ValueError(
            f"`values` must have shape (locations, tasks, tasks) = {shape}. "
            f"Received: values.shape={values.shape}."
        )
    with np.errstate(invalid="ignore"):
        gap = np.abs(values - values.transpose(0, 2, 1))
    faults = {
        "be finite": ~np.isfinite(values),
        "be symmetric in the tasks": ~(gap <= 1e-6),
        "have ones on the diagonal": (np.abs(values - 1) > 1e-6) & np.eye(len(tasks), dtype=bool),
        "lie between -1 and 1": np.abs(values) > 1 + 1e-6,
    }
    for condition, wrong in faults.items():
        if wrong.any():
            d, i, j = map(int, np.argwhere(wrong)[0])
            raise ValueError(
                f"`values` must {condition}. Received: {values[d, i, j]:.6g} for tasks "
                f"{tasks[i]!r} and {tasks[j]!r} at location {locations[d]!r}."
            )
    values = np.clip((values + values.transpose(0, 2, 1)) / 2, -1, 1)
    values[:, range(len(tasks)), range(len(tasks))] = 1.0
    values.flags.writeable = False
    return values
