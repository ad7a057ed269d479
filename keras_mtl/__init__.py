"""keras_mtl: find what tasks should share, train it, and serve each task at its own cost.

::

    functional keras.Model --read--> BackboneGraph (units)
                                         | Strategy: which choices are open, how they are relaxed
                                         v
                               MultiTaskSearchModel --fit--> decide --> Architecture (JSON)
                                                                           | build(architecture=...)
                                                                           v
                       SavedModel <--export-- MultiTaskModel <------------ +   --fit--> trained

Reading order: `architecture` (what a decision is), `task`, `graph` (reading a backbone into units),
`assembly` (the one walk that makes every model, and counts what it costs),
`strategies` (one method per file), `models` (training), `build` (the door), `export`. What is
searched outside of a training: `affinity` (how alike tasks are, and trees), `tuners` (outer loops).
"""

import importlib
import typing

from keras_mtl import (
    affinity,
    callbacks,
    data,
    graph,
    heads,
    layers,
    metrics,
    models,
    partition,
    strategies,
)
from keras_mtl.architecture import Architecture
from keras_mtl.build import build, plan
from keras_mtl.channel_use import ChannelUse
from keras_mtl.errors import (
    ArchitectureError,
    DataError,
    NonFiniteError,
    UnsupportedBackboneError,
)
from keras_mtl.fusion import Fusion
from keras_mtl.metrics import relative_performance
from keras_mtl.task import Task
from keras_mtl.version import __version__

if typing.TYPE_CHECKING:
    from keras_mtl import plot, tuners

_ON_USE = ("plot", "tuners")  # they import matplotlib and KerasTuner


def __getattr__(name):
    if name in _ON_USE:
        return importlib.import_module(f"keras_mtl.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_ON_USE})


__all__ = [
    "Architecture",
    "ArchitectureError",
    "ChannelUse",
    "DataError",
    "Fusion",
    "NonFiniteError",
    "Task",
    "UnsupportedBackboneError",
    "__version__",
    "affinity",
    "build",
    "callbacks",
    "data",
    "graph",
    "heads",
    "layers",
    "metrics",
    "models",
    "partition",
    "plan",
    "plot",
    "relative_performance",
    "strategies",
    "tuners",
]
