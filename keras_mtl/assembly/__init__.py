"""From choices to a computation: the one walk behind every model, and behind every cost.

`choices` are what a strategy says, `operations` what the walk makes of it (the trace), `assemble`
is the walk; an `Executor` carries the operations out, with layers or, to count, with nothing.
"""

from keras_mtl.assembly.assemble import Assembly, assemble, resolve_architecture
from keras_mtl.assembly.choices import Mix, Skip, Use
from keras_mtl.assembly.count import Needs, count
from keras_mtl.assembly.executor import Executor
from keras_mtl.assembly.trace_table import trace_table

__all__ = [
    "Assembly",
    "Executor",
    "Mix",
    "Needs",
    "Skip",
    "Use",
    "assemble",
    "count",
    "resolve_architecture",
    "trace_table",
]
