"""Architecture: for every task and every unit of the backbone, what that task does there."""

import dataclasses
import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from keras_mtl import versioned_json
from keras_mtl.channel_use import ChannelUse
from keras_mtl.checks import is_integer, is_number
from keras_mtl.errors import ArchitectureError, suggestion
from keras_mtl.fusion import Fusion
from keras_mtl.text_table import amount, table

FORMAT_VERSION = 1
SHARED, OWN, SKIP = "shared", "own", "skip"
NORMALISATION = (SHARED, "task")
GRANULARITIES = ("block", "operator", "stage")


@dataclasses.dataclass(frozen=True, repr=False)
class Architecture(versioned_json.Saved):
    """A decision as plain data: immutable, comparable, JSON both ways.

    Gradient searches, outer-loop searches and hand-made plans all end here; models, counts, plots
    and exports all begin here. Two architectures are equal when they say the same for the same
    backbone; `origin` and `costs` do not count.

    Args:
        tasks: tuple of string. Task names, in order.
        units: tuple of string. Names of the searchable units, in order.
        choices: mapping from task to a tuple with one choice per unit: `"shared"`, `"own"`,
            `"skip"` or the name of a branch (a copy used by several tasks).
        fingerprint: string. Of the backbone the units belong to; `""` fits any.
        granularity: string. How the backbone was cut: `"block"`, `"operator"`, `"stage"`.
        normalisation: `"shared"` (with its copy) or `"task"` (every task has its own; that of an
            operator runs even where the operator is skipped).
        projections: `"shared"` or `"task"`: whose 1x1 projections stand in for skipped units.
        masks: mapping from the name of a unit to its `ChannelUse`: which of the operator's channels
            each task uses and may change. Units of granularity `"operator"` only.
        frozen: tuple of string. Units whose operators no task changes; normalisation layers and
            statistics still move.
        fusions: tuple of `Fusion`. What tasks' paths exchange (MTL-NAS and its family).
        origin: mapping. Strategy, seed and settings that led here.
        costs: mapping. Parameters and FLOPs, filled in by the library; see `parameters`, `flops`.

    Raises:
        ArchitectureError: when the parts do not fit together.

    Example:

    >>> from keras_mtl import Architecture
    >>> choices = {"a": ("shared", "own"), "b": ("shared", "skip")}
    >>> plan = Architecture(("a", "b"), ("u", "v"), choices)
    >>> Architecture.from_json(plan.to_json()) == plan
    True
    """

    tasks: tuple
    units: tuple
    choices: Mapping
    fingerprint: str = ""
    granularity: str = "block"
    normalisation: str = SHARED
    projections: str = SHARED
    masks: Mapping = dataclasses.field(default_factory=dict)
    frozen: tuple = ()
    fusions: tuple = ()
    origin: Mapping = dataclasses.field(default_factory=dict, compare=False)
    costs: Mapping = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self):
        for name in ("tasks", "units", "frozen", "fusions"):
            value = getattr(self, name)
            kind = isinstance(value, (tuple, list))
            if kind and name != "fusions":
                kind = all(isinstance(x, str) and x for x in value)
                kind = kind and len(set(value)) == len(value)
            if not kind:
                what = "a sequence" if name == "fusions" else "a sequence of different names"
                raise ArchitectureError(f"`{name}` must be {what}. Received: {name}={value!r}.")
        for name in ("masks", "origin", "costs"):
            if not isinstance(value := getattr(self, name), Mapping):
                raise ArchitectureError(f"`{name}` must be a mapping. Received: {name}={value!r}.")
        fill = object.__setattr__
        if not isinstance(self.fingerprint, str):
            raise ArchitectureError(
                f"`fingerprint` must be a string. Received: fingerprint={self.fingerprint!r}."
            )
        if self.granularity not in GRANULARITIES:
            raise ArchitectureError(
                f"`granularity` must be one of {GRANULARITIES}. "
                f"Received: granularity={self.granularity!r}."
            )
        fill(self, "tasks", tuple(self.tasks))
        fill(self, "units", tuple(self.units))
        fill(self, "fusions", tuple(map(_fusion, self.fusions)))
        self._check_fusions()
        masks = {unit: ChannelUse.from_data(use) for unit, use in self.masks.items()}
        fill(self, "masks", types.MappingProxyType(masks))
        fill(self, "frozen", tuple(self.frozen))
        self._check_masks()
        for name in ("origin", "costs"):
            fill(self, name, _frozen(getattr(self, name), name))
        self._check_origin()
        self._check_costs()
        if not isinstance(self.choices, Mapping) or set(self.choices) != set(self.tasks):
            given = self.choices
            found = f"for {list(given)}" if isinstance(given, Mapping) else repr(given)
            raise ArchitectureError(
                f"`choices` must have one entry for each of the tasks {list(self.tasks)}. "
                f"Received: choices {found}."
            )
        for task in self.tasks:
            choices = self.choices[task]
            choices = tuple(choices) if isinstance(choices, (tuple, list)) else (choices,)
            if len(choices) != len(self.units) or not all(isinstance(c, str) for c in choices):
                raise ArchitectureError(
                    f"`choices[{task!r}]` must hold one string for each of the {len(self.units)} "
                    f"units. Received: {list(choices)}."
                )
            for choice in choices:
                if not re.fullmatch(r"[A-Za-z0-9_.-]+", choice) or choice in self.tasks:
                    raise ArchitectureError(
                        f"`choices[{task!r}]` must be {SHARED!r}, {OWN!r}, {SKIP!r} or the names "
                        "of branches, which have only letters, digits, '_', '.' and '-' and are "
                        f"not called like a task. Received: {choice!r}."
                    )
        fill(
            self,
            "choices",
            types.MappingProxyType({task: tuple(self.choices[task]) for task in self.tasks}),
        )
        for name in ("normalisation", "projections"):
            if (value := getattr(self, name)) not in NORMALISATION:
                raise ArchitectureError(
                    f"`{name}` must be one of {NORMALISATION}. Received: {name}={value!r}."
                )

    def _check_fusions(self):
        names = [*self.units, *(fusion.name for fusion in self.fusions)]
        for fusion in self.fusions:
            tasks = {*(task for task, _ in fusion.sources), *fusion.targets}
            known = fusion.unit in self.units and {read for _, read in fusion.sources} <= set(names)
            if not known or not tasks <= set(self.tasks):
                raise ArchitectureError(
                    "`fusions` must be between the tasks and units of the architecture. "
                    f"Received: {fusion!r}."
                )
            if names.count(fusion.name) > 1:
                raise ArchitectureError(
                    "`fusions` must have different names, and none of them a unit's. "
                    f"Received: {fusion.name!r} twice."
                )
        place = {unit: i for i, unit in enumerate(self.units)}
        given = {}
        for fusion in sorted(self.fusions, key=lambda fusion: place[fusion.unit]):
            for task, read in fusion.sources:
                if read in place and place[read] > place[fusion.unit]:
                    raise ArchitectureError(
                        f"`sources` of a fusion must not lie behind its unit. Received: {fusion!r}."
                    )
                if read not in place and task not in given.get(read, ()):
                    raise ArchitectureError(
                        "`sources` of a fusion must be units, or earlier fusions for the same "
                        f"task. Received: {(task, read)} in {fusion!r}."
                    )
            given[fusion.name] = fusion.targets
        read = {name for fusion in self.fusions for _, name in fusion.sources}
        for fusion in self.fusions:
            if fusion.aside and fusion.name not in read:
                raise ArchitectureError(
                    "`fusions` that stand aside must be read by another one. "
                    f"Received: {fusion!r}. Leave it out."
                )

    def _check_origin(self):
        for key, kind in (("strategy", str), ("limits", Mapping), ("skippable", tuple)):
            value = self.origin.get(key)
            if value is not None and not isinstance(value, kind):
                raise ArchitectureError(
                    f"`origin[{key!r}]` must be what a strategy writes there. Received: {value!r}."
                )

    def _check_costs(self):
        kinds = ("parameters", "flops")
        for kind in kinds if self.costs else ():
            part = self.costs.get(kind)
            tasks = part.get("tasks") if isinstance(part, Mapping) else None
            known = isinstance(tasks, Mapping) and set(tasks) == set(self.tasks)
            numbers = [*tasks.values(), part.get("together")] if known else [None]
            if not all(is_number(number) and number >= 0 for number in numbers):
                raise ArchitectureError(
                    f"`costs` must have under {kinds} a number for `together` and, under `tasks`, "
                    f"for each of the tasks {list(self.tasks)}. Received: costs[{kind!r}]={part!r}."
                    " Leave `costs` out; `keras_mtl.build` fills them in."
                )

    def _check_masks(self):
        if self.masks and self.granularity != "operator":
            raise ArchitectureError(
                "`masks` need units that are single operators. Received: masks with "
                f"granularity={self.granularity!r}. Use granularity 'operator'."
            )
        for name, units in (("masks", self.masks), ("frozen", self.frozen)):
            for unit in units:
                if unit not in self.units:
                    raise ArchitectureError(
                        f"`{name}` must name units of the architecture. Received: {unit!r}."
                        + suggestion(unit, self.units)
                    )
        for unit, use in self.masks.items():
            if set(use.forward) != set(self.tasks):
                raise ArchitectureError(
                    f"`masks[{unit!r}]` must have a mask for each of the tasks {list(self.tasks)}. "
                    f"Received: masks for {list(use.forward)}."
                )

    def __hash__(self):
        choices, masks = tuple(self.choices.items()), frozenset(self.masks.items())
        return hash((self.tasks, self.units, choices, masks, self.fingerprint))

    def __reduce__(self):
        return Architecture.from_json, (self.to_json(),)

    def __repr__(self):
        skipped = sum(c == SKIP for row in self.choices.values() for c in row)
        strategy = self.origin.get("strategy")
        made = f", strategy={strategy!r}" if strategy else ""
        return (
            f"<Architecture tasks={list(self.tasks)} units={len(self.units)} "
            f"skipped={skipped}{made}>"
        )

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some parts changed."""
        return dataclasses.replace(self, **changes)

    def renamed(self, units: Iterable[str]) -> Self:
        """Returns a copy whose units have other names, in order."""
        names = dict(zip(self.units, units, strict=True))
        fusions = [
            dataclasses.replace(
                fusion,
                unit=names[fusion.unit],
                sources=[(task, names.get(read, read)) for task, read in fusion.sources],
            )
            for fusion in self.fusions
        ]
        return self.replace(
            units=tuple(units),
            masks={names[unit]: use for unit, use in self.masks.items()},
            frozen=tuple(names[unit] for unit in self.frozen),
            fusions=fusions,
        )

    def choice(self, task: str, unit: str) -> str:
        """The choice of one task at one unit, by name."""
        return self.choices[task][self.units.index(unit)]

    def check_backbone(self, fingerprint: str, units: Sequence[str]) -> None:
        """Raises `ArchitectureError` unless the plan was made for the given backbone."""
        if self.fingerprint and self.fingerprint != fingerprint:
            raise ArchitectureError(
                "`architecture` must belong to this backbone. Received: an architecture for "
                f"fingerprint {self.fingerprint!r}; the backbone's is {fingerprint!r}. Build it "
                "with the backbone it was decided for (same layers and input shape)."
            )
        if self.units != tuple(units):
            unknown = [u for u in self.units if u not in units]
            missing = [u for u in units if u not in self.units]
            raise ArchitectureError(
                f"`architecture` must name the backbone's {len(units)} units in order. Received: "
                f"{len(self.units)} units; unknown: {unknown[:3]}, missing: {missing[:3]}."
            )

    # Costs ------------------------------------------------------------------------------------

    def parameters(self, task: str | None = None) -> int:
        """Number of parameters: of one task's path and head, or of all (shared ones once)."""
        return self._cost("parameters", task)

    def flops(self, task: str | None = None) -> int:
        """FLOPs (2 x multiply-adds) of one example: for one task, or all (shared work once)."""
        return self._cost("flops", task)

    def _cost(self, kind, task):
        if not self.costs:
            raise ArchitectureError(
                f"`{kind}()` needs the costs of the units, which `keras_mtl.build` fills in for a "
                "backbone whose inputs have known sizes. Received: an architecture without costs. "
                "Use `keras_mtl.build(backbone, tasks, architecture=...).architecture`, with a "
                "`keras.Input` that leaves no size open."
            )
        if task is not None and task not in self.tasks:
            raise ArchitectureError(
                f"`task` must be one of {list(self.tasks)}. Received: task={task!r}."
                + suggestion(task, self.tasks)
            )
        if task is None:
            return self.costs[kind]["together"]
        return self.costs[kind]["tasks"][task]

    def summary(self) -> str:
        """A table of the choices, and of parameters and FLOPs per task and together.

        Below it: what tasks exchange, and the units that could not choose freely, and why.
        """
        short = {SHARED: "shared", OWN: "own", SKIP: "-"}
        rows = [["unit", *self.tasks]]
        for i, unit in enumerate(self.units):
            rows.append([unit, *(short.get(c := self.choices[t][i], c) for t in self.tasks)])
        text = table(rows)
        if self.costs:
            rows = [["", *self.tasks, "together"]]
            for kind in ("parameters", "flops"):
                values = [self._cost(kind, t) for t in (*self.tasks, None)]
                rows.append([kind if kind == "parameters" else "FLOPs", *map(amount, values)])
            text += "\n\n" + table(rows)
        if self.masks:
            text += "\n\nChannels that each task uses (and may change, where fewer):\n\n"
            text += table(self._mask_rows())
        if self.frozen:
            text += f"\n\nFrozen: the operators of {', '.join(self.frozen)}"
        if self.fusions:
            text += "\n\nAfter these units tasks exchange features:\n"
            text += "\n".join(f"  {fusion}" for fusion in self.fusions)
        if limits := self.origin.get("limits"):
            text += "\n\nNot every choice was open:\n"
            text += "\n".join(f"  {unit}: {limit}" for unit, limit in limits.items())
        return text

    def _mask_rows(self):
        rows = [["unit", "channels", *self.tasks]]
        for unit, use in self.masks.items():
            cells = []
            for task in self.tasks:
                used, changed = (round(100 * use.share(task, x)) for x in ("forward", "backward"))
                fewer = use.backward[task] != use.forward[task]
                cells.append(f"{used} % ({changed} %)" if fewer else f"{used} %")
            rows.append([unit, str(use.channels), *cells])
        return rows

    # JSON -------------------------------------------------------------------------------------

    def to_json(self, indent: int | None = None) -> str:
        """The whole plan as a JSON string."""
        data = {"format_version": FORMAT_VERSION}
        for field in dataclasses.fields(self):
            data[field.name] = _thawed(getattr(self, field.name))
        return json.dumps(data, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `to_json` wrote; refuses broken text and unknown versions."""
        data = versioned_json.parse(text, "an architecture", FORMAT_VERSION, ArchitectureError)
        known = {field.name for field in dataclasses.fields(cls)}
        missing = {"tasks", "units", "choices"} - set(data)
        if missing or set(data) - known:
            raise ArchitectureError(
                f"`text` must have the fields of an architecture. Missing: {sorted(missing)}; "
                f"unknown: {sorted(set(data) - known)}."
            )
        return cls(**data)


def _fusion(data):
    if isinstance(data, Fusion):
        return data
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"`fusions` must be `Fusion`s. Received: {data!r}.")
    try:
        return Fusion(**data)
    except TypeError as error:
        raise ArchitectureError(
            f"`fusions` must have the fields of a `Fusion` ({error}). Received: {dict(data)}."
        ) from None


def _frozen(data, name):
    """Plain data that cannot be changed; `name` says where it stands."""
    if isinstance(data, Mapping) and all(isinstance(key, str) for key in data):
        frozen = {key: _frozen(value, f"{name}[{key!r}]") for key, value in data.items()}
        return types.MappingProxyType(frozen)
    if isinstance(data, (list, tuple)):
        return tuple(_frozen(value, f"{name}[{i}]") for i, value in enumerate(data))
    if isinstance(data, (str, bool, type(None))):
        return data
    if is_integer(data):
        return int(data)
    if is_number(data):
        return float(data)
    raise ArchitectureError(
        f"`{name}` must be what JSON can hold: text, numbers, lists, and dicts with names as keys. "
        f"Received: {data!r}."
    )


def _thawed(data):
    if isinstance(data, (Fusion, ChannelUse)):
        return _thawed(data.to_data())
    if isinstance(data, Mapping):
        return {key: _thawed(value) for key, value in data.items()}
    if isinstance(data, tuple):
        return [_thawed(value) for value in data]
    return data
