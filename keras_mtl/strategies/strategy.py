"""What a method must say: two abstract classes, one for settings, one for an open search.

A `FixedStrategy` makes an Architecture at once. A `SearchStrategy` holds the settings of a search;
its `open` returns the `Search` that one model owns: gates, what every task does while they are
open, regularisers, and how an Architecture is read off. None of them writes a training step.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import types
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl.architecture import NORMALISATION
from keras_mtl.layers.step_seed import StepSeed
from keras_mtl.strategies.settings import Settings

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


def child_seed(seed, *purpose):
    """A seed for one purpose: every random thing of a build has its own; 0 is like any other."""
    return zlib.crc32(repr((seed, *purpose)).encode()) % (2**31 - 1)


class Strategy(Settings):
    """One method of sharing; an immutable set of settings.

    Attributes:
        name: string. Its name in `keras_mtl.build(strategy=...)`.
        granularity: string. The units it chooses about: `"block"`, `"operator"` or `"stage"`.
        normalisation: string. `"shared"` or `"task"`: whose normalisation layers.
        projections: string. `"shared"` or `"task"`: whose projections stand in for skipped units.
        begins_trained: bool. Whether its paper begins with the weights of trained single-task
            networks (`keras_mtl.build(..., initial_weights={task: model})`).
    """

    name: str | None = None
    granularity = "block"
    normalisation = "shared"
    projections = "shared"
    begins_trained = False


class FixedStrategy(Strategy, abc.ABC):
    """A strategy without a search."""

    @abc.abstractmethod
    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        """Returns the parts of the `Architecture` that are this method's: `choices` at least.

        Args:
            graph: `BackboneGraph`.
            units: tuple of `Unit`, those with a choice; `choices` has one entry for each.
            tasks: tuple of task names.

        Returns:
            A dict of arguments of `Architecture`, such as `{"choices": {task: (...)}}`.
        """


class SearchStrategy(Strategy, abc.ABC):
    """A strategy that learns its choices with the weights.

    Attributes:
        retrains: bool. Whether a decided network is trained anew; if not, it takes the search's
            weights as they are (`initial_weights=search`).
    """

    retrains = True

    @abc.abstractmethod
    def open(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str], seed: int
    ) -> Search:
        """Returns the `Search` of one model.

        Args:
            graph: `BackboneGraph`.
            units: tuple of `Unit`, all of them.
            tasks: tuple of task names.
            seed: int, the build's seed.
        """


@dataclasses.dataclass(frozen=True)
class Phase:
    """What is fixed while a train function is traced.

    Args:
        name: string. Shown when the phase begins.
        open_units: int. How many of the last units with a gate have it open.
        updates: tuple of `"weights"` and `"policy"`. The groups that a step moves, in order.
        optimizer: `"optimizer"` or `"warmup_optimizer"`: which of `compile`'s moves the weights.
        closed: string. What a unit whose gate is not open does, in words.
    """

    name: str
    open_units: int
    updates: tuple = ("weights", "policy")
    optimizer: str = "optimizer"
    closed: str = "shared by all tasks"

    @property
    def structure(self) -> tuple[str, int]:
        """What decides the graph of a forward pass: phases that agree in it share functions."""
        return self.name, self.open_units

    def describe(self, num_units: int) -> str:
        """The phase in words, for the line that is shown while it is traced."""
        if self.open_units == 0:
            return f"the {self.name}: all {num_units} units {self.closed}"
        moved = " and ".join(self.updates)
        return f"the {self.name}: {self.open_units} of {num_units} units open, moving {moved}"


@dataclasses.dataclass(frozen=True, eq=False)
class Moment:
    """When a search is asked: everything that gates and regularisers may depend on.

    Args:
        phase: `Phase`.
        group: `"weights"` or `"policy"`: what the update at hand moves.
        step: int, variable or tensor of shape `()`.
        temperature: scalar. Of the gates.
        training: bool. Whether gates are sampled.
        seed: int. The build's.
        progress: scalar. The share of the search's steps that has been made.
    """

    phase: Phase
    group: str = "weights"
    step: Any = 0
    temperature: Any = 1.0
    training: bool = False
    seed: int = 0
    progress: Any = 0.0

    def noise(self, *purpose):
        """Random numbers of one purpose: a function of the seed, the group and the step."""
        return StepSeed(child_seed(self.seed, "gates", self.group, *purpose), self.step)


class Plan(abc.ABC):
    """The schedule of one search: pure functions of the step."""

    @abc.abstractmethod
    def phase(self, step):
        """The `Phase` of a step (int)."""

    @abc.abstractmethod
    def temperature(self, step):
        """The gates' temperature at a step (int or tensor), written with `keras.ops`."""

    @property
    @abc.abstractmethod
    def first_open_step(self):
        """The first step at which every gate is open; scores count from there."""


class Search(abc.ABC):
    """An open search: what a strategy adds to one model.

    Attributes:
        layers: list of Keras layers that the model must own; the `ArchitectureLayer`s among them
            hold the policy.
        units: tuple of the `Unit`s that have gates, in order; `open_units` counts from the last.
        limits: mapping from unit name to what it cannot do and why, for `Architecture.summary`.
        fusions: tuple of `Fusion`. What paths exchange while everything is open.
    """

    layers = ()
    units = ()
    fusions = ()
    limits: Mapping = types.MappingProxyType({})

    @property
    def skippable(self):
        """Names of the units that may be skipped."""
        return tuple(unit.name for unit in self.units)

    @abc.abstractmethod
    def plan(self, epochs, steps_per_epoch):
        """Returns the `Plan` for a search of this length."""

    def structures(self):
        """The phases whose graphs together use every copy, the fully open one last."""
        return (Phase("search", len(self.units)),)

    @abc.abstractmethod
    def draw(self, moment):
        """Draws all gates once for an update; what it returns is handed to `resolve`."""

    @abc.abstractmethod
    def resolve(self, phase, drawn):
        """Returns the `resolve(task, unit)` of `assemble`; `drawn=None` asks for structure only."""

    def gates(self, drawn):
        """Returns the name of a fusion -> its open gates; see `assemble`."""
        return {}

    @abc.abstractmethod
    def regularisers(self, moment, drawn):
        """Returns name -> scalar tensor, already multiplied by their factors."""

    @abc.abstractmethod
    def most_likely(self):
        """Returns the likeliest arguments of `Architecture`, such as `{"choices": {...}}`."""

    @abc.abstractmethod
    def sample(self, generator):
        """Returns such arguments drawn with a `numpy.random.Generator`."""

    def monitors(self):
        """Returns name -> scalar tensor of quantities worth a row in `history`."""
        return {}


def check_normalisation(normalisation):
    """Returns it, or says which values there are."""
    if normalisation not in NORMALISATION:
        raise ValueError(
            f"`normalisation` must be one of {NORMALISATION}. "
            f"Received: normalisation={normalisation!r}."
        )
    return normalisation


def one_of(name, value, known):
    """Raises `ValueError` unless a setting has one of the known values."""
    if value not in known:
        raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}.")


def check_temperature(temperature):
    """Returns first and last temperature as floats, or says what they must be."""
    pair = isinstance(temperature, (tuple, list)) and len(temperature) == 2
    if not pair or not all(isinstance(t, (int, float)) and 0 < t < math.inf for t in temperature):
        raise ValueError(
            "`temperature` must be two positive numbers, the first and the last. "
            f"Received: temperature={temperature}."
        )
    return tuple(float(t) for t in temperature)
