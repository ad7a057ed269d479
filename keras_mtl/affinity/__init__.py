"""How alike tasks are, and the trees that share accordingly."""

from keras_mtl.affinity.affinity import Affinity
from keras_mtl.affinity.enumerate_trees import count_trees, enumerate_trees
from keras_mtl.affinity.error_affinity import error_affinity
from keras_mtl.affinity.example_errors import example_errors
from keras_mtl.affinity.locations import find_locations, segment_sizes
from keras_mtl.affinity.random_trees import random_trees
from keras_mtl.affinity.rdm import representation_dissimilarity
from keras_mtl.affinity.task_affinity import task_affinity
from keras_mtl.affinity.tree import Tree
from keras_mtl.affinity.tree_search import ScoredTree, search_trees

__all__ = [
    "Affinity",
    "ScoredTree",
    "Tree",
    "count_trees",
    "enumerate_trees",
    "error_affinity",
    "example_errors",
    "find_locations",
    "random_trees",
    "representation_dissimilarity",
    "search_trees",
    "segment_sizes",
    "task_affinity",
]
