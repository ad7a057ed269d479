"""Fusion: what tasks' paths exchange after a unit, as plain data."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.errors import ArchitectureError


@dataclasses.dataclass(frozen=True)
class Fusion:
    """After a unit, the outputs of some tasks are replaced by a mixture of several paths' outputs.

    A mixture has the shape of the unit's output. What a path has is read as it was before all
    fusions of the unit; what a fusion has given is read by the fusion's name.

    Args:
        name: string. Unique in an architecture; its layer is called so.
        kind: string. Which layer mixes: a key of `keras_mtl.layers.fusions.FUSIONS`.
        unit: string. After which unit.
        sources: tuple of `(task, name)`. What it reads, the unit's own output first: the output of
            a unit up to `unit`, or what an earlier fusion has given this task.
        targets: tuple of string. The tasks whose output of the unit it replaces, in the order of
            the layer's results.
        settings: mapping. Arguments of the layer, as plain data.
        aside: bool. Whether the targets' outputs stay as they are, and only later fusions read
            the results (one must).

    Raises:
        ArchitectureError: when a part is not of this form.

    Example:

    >>> from keras_mtl import Fusion
    >>> sources = [("depth", "conv2"), ("normals", "conv2")]
    >>> Fusion("conv2.depth", "nddr", "conv2", sources, ["depth"]).targets
    ('depth',)
    """

    name: str
    kind: str
    unit: str
    sources: Sequence
    targets: Sequence
    settings: Mapping = dataclasses.field(default_factory=dict)
    aside: bool = False

    def __post_init__(self):
        for field in ("name", "kind", "unit"):
            if not isinstance(value := getattr(self, field), str) or not value:
                raise ArchitectureError(f"`{field}` must be a name. Received: {field}={value!r}.")
        sources, targets = self.sources, self.targets
        pairs = _are(sources, (tuple, list)) and all(_are(x, str) and len(x) == 2 for x in sources)
        if not pairs:
            raise ArchitectureError(
                "`sources` must be one or more pairs `(task, name)`. "
                f"Received: sources={sources!r}."
            )
        sources = tuple(map(tuple, sources))
        if not _are(targets, str):
            raise ArchitectureError(
                f"`targets` must be one or more names of tasks. Received: targets={targets!r}."
            )
        if not isinstance(self.aside, bool):
            raise ArchitectureError(f"`aside` must be a bool. Received: aside={self.aside!r}.")
        if not isinstance(self.settings, Mapping):
            raise ArchitectureError(
                f"`settings` must be a mapping. Received: settings={self.settings!r}."
            )
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "targets", tuple(targets))
        object.__setattr__(self, "settings", types.MappingProxyType(dict(self.settings)))

    def __hash__(self):
        return hash((self.name, self.kind, self.unit, self.sources, self.targets))

    def __str__(self):
        read = [task if name == self.unit else f"{task} ({name})" for task, name in self.sources]
        aside = f" aside, as {self.name}" if self.aside else ""
        return f"{self.unit}: {self.kind} of {', '.join(read)} for {', '.join(self.targets)}{aside}"

    def to_data(self) -> dict[str, Any]:
        """The fusion as a dict that JSON can hold."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**data, "settings": dict(self.settings)}


def _are(values, kind):
    """Whether values are a sequence, not an empty one, of one kind."""
    sequence = isinstance(values, (tuple, list)) and len(values) > 0
    return sequence and all(isinstance(value, kind) for value in values)
