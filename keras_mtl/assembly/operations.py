"""The trace as data: one frozen record for every result that an assembly computes.

A record says what is run, with which parameter copies, on which results (`reads`, their numbers).
Two equal records are one result: they are the keys under which an assembly remembers. `carry_out`
hands a record to an `Executor`, `charge` writes what it costs on a `Bill`.
"""

import abc
import dataclasses
from typing import Any

from keras_mtl.architecture import SHARED
from keras_mtl.fusion import Fusion
from keras_mtl.graph import Call, Unit, Value, call_flops, parameters, projection_cost
from keras_mtl.layers.fusions import fusion_costs


@dataclasses.dataclass(frozen=True)
class Operation(abc.ABC):
    """A step of a trace.

    Args:
        reads: tuple of int. The numbers of the results that it reads.
    """

    reads: tuple

    @property
    def copies(self):
        """The `(call key, copy)` of the backbone's layers that it runs."""
        return ()

    @abc.abstractmethod
    def __str__(self):
        """What it does, in a few words."""

    @abc.abstractmethod
    def carry_out(self, executor, tensors, weights):
        """Computes a list of tensors from those that it reads and the weights of open gates."""

    def charge(self, bill):  # noqa: B027  most kinds cost nothing
        """Writes its parameters and FLOPs on a bill."""


@dataclasses.dataclass(frozen=True)
class Run(Operation):
    """A call of the backbone, with one copy of its parameters (`None`: it has none)."""

    call: Call
    copy: str | None

    def __str__(self):
        return self.call.key if self.copy in (None, SHARED) else f"{self.call.key} of {self.copy!r}"

    @property
    def copies(self):
        return () if self.copy is None else ((self.call.key, self.copy),)

    def carry_out(self, executor, tensors, weights):
        return executor.run(self.call, self.copy, tensors)

    def charge(self, bill):
        # What no task owns a copy of may have numbers too: the statistics of `Normalization`.
        bill.call((self.call.key, self.copy), self)


@dataclasses.dataclass(frozen=True)
class Blend(Operation):
    """A call of an operator whose copies are mixed by a gate; without its activation."""

    call: Call
    mixed: tuple
    gate: Any

    def __str__(self):
        return f"{self.call.key} with the mixed kernels of {', '.join(self.mixed)}"

    @property
    def copies(self):
        return tuple((self.call.key, copy) for copy in self.mixed)

    def carry_out(self, executor, tensors, weights):
        return [executor.blend(self.call, self.mixed, weights, tensors)]

    def charge(self, bill):
        bill.flops += call_flops(bill.graph, self.call)
        for copy in self.copies:
            bill.sizes[copy] = parameters(self.call.operation)


@dataclasses.dataclass(frozen=True)
class Project(Operation):
    """The 1x1 projection that stands in for a unit."""

    unit: Unit = dataclasses.field(hash=False)
    copy: str

    def __str__(self):
        return f"{self.unit.name}: projection in its place"

    def carry_out(self, executor, tensors, weights):
        return [executor.project(self.unit, self.copy, *tensors)]

    def charge(self, bill):
        size, work = projection_cost(bill.graph, self.unit)
        bill.sizes["projection", self.unit.name, self.copy] = size
        bill.flops += work


@dataclasses.dataclass(frozen=True)
class Normalize(Operation):
    """The normalization behind the projection of a unit."""

    unit: Unit = dataclasses.field(hash=False)
    copy: str

    def __str__(self):
        return f"{self.unit.name}: normalization of the projection"

    def carry_out(self, executor, tensors, weights):
        return [executor.normalize(self.unit, self.copy, *tensors)]

    def charge(self, bill):
        channels = bill.graph.spec(self.unit.output).shape[-1]
        bill.sizes["normalization", self.unit.name, self.copy] = 4 * channels


@dataclasses.dataclass(frozen=True)
class Activate(Operation):
    """The activation inside an operator, on what was chosen in the operator's place."""

    unit: Unit = dataclasses.field(hash=False)

    def __str__(self):
        return f"{self.unit.name}: its activation alone"

    def carry_out(self, executor, tensors, weights):
        return [executor.activate(self.unit, *tensors)]


@dataclasses.dataclass(frozen=True)
class Mask(Operation):
    """The channels of a value that a task uses; the others become 0."""

    value: Value
    mask: str

    def __str__(self):
        return f"mask of {self.mask.count('1')} of {len(self.mask)} channels"

    def carry_out(self, executor, tensors, weights):
        return [executor.mask(self.value, self.mask, *tensors)]


@dataclasses.dataclass(frozen=True)
class Mix(Operation):
    """The mixture of what several options of a unit give, by the weights of a gate."""

    unit: Unit = dataclasses.field(hash=False)
    gate: Any

    def __str__(self):
        return f"{self.unit.name}: mixture of {len(self.reads)} results"

    def carry_out(self, executor, tensors, weights):
        return [executor.mix(weights, tensors)]


@dataclasses.dataclass(frozen=True)
class Sample(Operation):
    """What one of several branches gives: that with the largest weight, which alone is run.

    Args:
        groups: tuple of tuples of int. The positions of the options that each branch stands for.
        branches: tuple of functions without arguments that return a list of tensors.
    """

    unit: Unit = dataclasses.field(hash=False)
    gate: Any
    groups: tuple
    branches: tuple = dataclasses.field(compare=False)

    def __str__(self):
        return f"{self.unit.name}: one of {len(self.groups)} branches"

    def carry_out(self, executor, tensors, weights):
        return executor.switch(weights, self.groups, self.branches)


@dataclasses.dataclass(frozen=True)
class Fuse(Operation):
    """A fusion of several paths' results.

    Args:
        specs: tuple of `keras.KerasTensor`. Shape and type of what it reads, in order.
    """

    fusion: Fusion
    specs: tuple = dataclasses.field(compare=False)

    def __str__(self):
        return str(self.fusion)

    def carry_out(self, executor, tensors, weights):
        return executor.fuse(self.fusion, tensors, weights)

    def charge(self, bill):
        size, work = fusion_costs(self.fusion, [spec.shape for spec in self.specs])
        bill.sizes["fusion", self.fusion.name] = size
        bill.flops += work
