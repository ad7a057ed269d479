"""What a method must say: two abstract classes, one for settings, one for an open search.

A `FixedStrategy` makes an Architecture at once. A `SearchStrategy` holds the settings of a search;
its `open` returns the `Search` that one model owns: gates, what every task does while they are
open, regularisers, and how an Architecture is read off. None of them writes a training step.
"""

import abc
import dataclasses
import zlib

from keras_mtl.architecture import NORMALISATION


def child_seed(seed, *purpose):
    """A seed for one purpose: every random thing of a build has its own; 0 is like any other."""
    return zlib.crc32(repr((seed, *purpose)).encode()) % (2**31 - 1)


class Strategy:
    """One method of sharing; an immutable set of settings.

    Attributes:
        name: string. Its name in `keras_mtl.build(strategy=...)`.
        granularity: string. The units it chooses about: `"block"`, `"operator"` or `"stage"`.
        normalisation: string. `"shared"` or `"task"`: whose normalisation layers.
    """

    name = None
    granularity = "block"
    normalisation = "shared"

    def get_config(self):
        """Settings as plain data, for `from_config` and `Architecture.origin`."""
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), repr(self.get_config())))

    def __repr__(self):
        settings = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"


class FixedStrategy(Strategy, abc.ABC):
    """A strategy without a search."""

    @abc.abstractmethod
    def choices(self, tasks, units):
        """Returns task -> tuple of choices, one for each searchable unit."""


class SearchStrategy(Strategy, abc.ABC):
    """A strategy that learns its choices with the weights."""

    @abc.abstractmethod
    def open(self, graph, units, tasks, seed):
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
        open_units: int. How many of the last skippable units have open gates.
        updates: tuple of `"weights"` and `"policy"`. The groups that a step moves, in order.
    """

    name: str
    open_units: int
    updates: tuple = ("weights", "policy")

    def describe(self, num_units):
        """The phase in words, for the line that is shown while it is traced."""
        if self.open_units == 0:
            return f"the {self.name}: all tasks share all {num_units} blocks"
        moved = " and ".join(self.updates)
        return f"the {self.name}: {self.open_units} of {num_units} blocks open, moving {moved}"


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
    """

    layers = ()
    units = ()

    @abc.abstractmethod
    def plan(self, epochs, steps_per_epoch):
        """Returns the `Plan` for a search of this length."""

    @abc.abstractmethod
    def draw(self, temperature, seed, training):
        """Draws all gates once for a step; the tensors are handed to `resolve`."""

    @abc.abstractmethod
    def resolve(self, open_units, drawn):
        """Returns the `resolve(task, unit)` of `assemble`; `drawn=None` asks for structure only."""

    @abc.abstractmethod
    def regularisers(self, open_units):
        """Returns name -> scalar tensor, already multiplied by their factors."""

    @abc.abstractmethod
    def most_likely(self):
        """Returns task -> tuple of choices: the likeliest of the learned distribution."""

    @abc.abstractmethod
    def sample(self, generator):
        """Returns task -> tuple of choices drawn with a `numpy.random.Generator`."""

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
