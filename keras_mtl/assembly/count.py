"""What a set of paths needs and costs: a sum over the operations of its trace."""

import dataclasses
from collections.abc import Mapping

from keras_mtl.assembly.assemble import Assembly
from keras_mtl.assembly.executor import Executor
from keras_mtl.graph import call_flops, parameters, sizes_known
from keras_mtl.graph.channel_selection import pruned_flops, pruned_parameters, union


class Counter(Executor):
    """Computes nothing; its tensors are `None`."""

    def run(self, call, copy, tensors):
        return [None] * len(call.outputs)

    def blend(self, call, copies, weights, tensors):
        return None

    def mix(self, weights, tensors):
        return None

    def switch(self, weights, groups, branches):
        first, *_ = [branch() for branch in branches]
        return first

    def project(self, unit, copy, tensor):
        return None

    def normalize(self, unit, copy, tensor):
        return None

    def activate(self, unit, tensor):
        return None

    def fuse(self, fusion, tensors, gates):
        return [None] * len(fusion.targets)

    def mask(self, value, mask, tensor):
        return None


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a set of paths needs.

    Args:
        trace: mapping from task to a tuple of `Operation`: what is computed for it, in order.
        costs: `{"parameters" | "flops": {"tasks": {task: int}, "together": int}}` without the
            heads, or `None` where the backbone leaves sizes open.
    """

    trace: Mapping
    costs: dict | None = None

    @property
    def operations(self):
        """Everything that is computed, each once, in order; a tuple."""
        return tuple(dict.fromkeys(each for path in self.trace.values() for each in path))

    @property
    def copies(self):
        """The `(call key, copy)` of the backbone's layers, in order of first use."""
        return list(dict.fromkeys(copy for each in self.operations for copy in each.copies))

    def of(self, kind):
        """The operations of one class."""
        return [each for each in self.operations if isinstance(each, kind)]


def count(graph, units, tasks, resolve, fusions=(), selection=None):
    """What a set of paths needs, without making a model; `tasks` and the rest as in `assemble`.

    A task costs what its own network costs when the channels that it does not use are cut off;
    together, tasks need the channels that any of them uses.

    Returns:
        A `Needs`.
    """
    nothing = [None] * len(graph.inputs)
    assembly = Assembly(graph, units, Counter(), selection=selection)
    assembly.features(tasks, resolve, nothing, fusions)
    trace = assembly.trace
    needs = Needs({task: tuple(path) for task, path in trace.items()})
    if not sizes_known(graph):
        return needs
    alone = {task: Bill.of(graph, path, selection, {task: path}) for task, path in trace.items()}
    whole = Bill.of(graph, needs.operations, selection, trace)
    costs = {
        kind: {
            "tasks": {task: getattr(bill, kind) for task, bill in alone.items()},
            "together": getattr(whole, kind),
        }
        for kind in ("parameters", "flops")
    }
    return dataclasses.replace(needs, costs=costs)


class Bill:
    """Adds up what operations cost; parameters once for each copy.

    Args:
        graph: `BackboneGraph`.
        selection: `ChannelSelection` or `None`. Which channels tasks use, where not all.
        trace: mapping from task to its operations: who uses what.

    Attributes:
        sizes: dict from what has parameters to their number.
        flops: int.
    """

    def __init__(self, graph, selection, trace):
        self.graph = graph
        self.sizes = {}
        self.flops = 0
        self._selection = selection
        self._trace = trace
        self._parts = {}  # copy -> pairs of input and output channels that tasks use of it

    @classmethod
    def of(cls, graph, path, selection, trace):
        """The bill of the operations of one path, or of several together."""
        bill = cls(graph, selection, trace)
        for operation in path:
            operation.charge(bill)
        return bill

    @property
    def parameters(self):
        return sum(self.sizes.values())

    def call(self, copy, run):
        """Adds a call of the backbone: of masked layers the channels that some task needs."""
        parts = self._used(run)
        if parts:
            self.flops += pruned_flops(self.graph, run.call, *map(union, zip(*parts, strict=True)))
            every = self._parts.setdefault(copy, [])
            every += parts
            self.sizes[copy] = pruned_parameters(run.call.operation, every)
        else:
            self.flops += call_flops(self.graph, run.call)
            self.sizes[copy] = parameters(run.call.operation)

    def _used(self, run):
        """The channels in and out that each of the tasks needs of a masked call."""
        chosen, index = self._selection, run.call.index
        if not chosen or run.copy is None or not chosen.touches(index):
            return []
        users = [task for task, path in self._trace.items() if run in path]
        return [(chosen.inputs(t, index), chosen.outputs(t, index)) for t in users]
