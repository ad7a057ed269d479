"""Pictures of decisions, policies, task affinities, trees, trade-offs, searches, learning curves.

Every function takes data, returns a `matplotlib.figure.Figure` that belongs to no window, and saves
it as a PNG file where `path` is given.
"""

from keras_mtl.optional import require

require("matplotlib.figure", "keras_mtl.plot", "plot")

from keras_mtl.plot.affinity import affinity
from keras_mtl.plot.architecture import architecture
from keras_mtl.plot.columns import columns
from keras_mtl.plot.front import front
from keras_mtl.plot.history import history
from keras_mtl.plot.partition_search import partition_search
from keras_mtl.plot.policy import policy
from keras_mtl.plot.task_correlation import task_correlation
from keras_mtl.plot.tree import tree

__all__ = [
    "affinity",
    "architecture",
    "columns",
    "front",
    "history",
    "partition_search",
    "policy",
    "task_correlation",
    "tree",
]
