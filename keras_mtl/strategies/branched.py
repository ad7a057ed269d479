"""Branched: a tree of copies, in which alike tasks stay together for longer."""

from __future__ import annotations

import itertools
import json
import math
import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_mtl.affinity._budget_advice import budget_advice
from keras_mtl.affinity.affinity import Affinity
from keras_mtl.affinity.locations import GRANULARITY, KINDS, segment_sizes, segments
from keras_mtl.affinity.tree import Tree
from keras_mtl.affinity.tree_search import search_trees
from keras_mtl.architecture import OWN, SHARED
from keras_mtl.checks import check_names, check_seed, is_number
from keras_mtl.graph import find_units
from keras_mtl.strategies.strategy import FixedStrategy, check_normalisation

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit


class Branched(FixedStrategy):
    """The tree of least dissimilarity that fits a budget; every node is a copy of its stretch.

    At every location the tasks fall into groups that only split on the way to the features. The
    cost of a location is the mean over its groups of the largest dissimilarity inside the group,
    that of a tree the sum over its locations: without a budget every task would be alone. A warning
    says where the budget leaves no choice, and where nearly all parameters, but little of the work,
    lie before the first branching, as with a large embedding: count FLOPs then.

    Args:
        affinity: `Affinity` of the tasks at locations of the backbone (layers of it), or what its
            `to_json` says as a dict; `None` with `tree`.
        budget: what all copies may cost together, without heads. An int counts parameters or
            FLOPs; a float is a multiple of one backbone (1.0 shares all, K shares nothing).
        kind: `"parameters"` or `"flops"`: what the budget counts.
        first_shared: bool. Whether all tasks share up to the first location, as in the paper.
        tree: `Tree`, or its levels as lists. Takes this one instead of searching.
        locations: sequence of names of layers, with `tree`; an affinity brings its own.
        normalisation: `"shared"` (with its copy) or `"task"`.
        improve: bool. Whether trees of many tasks, found by beam search, are improved by moves:
            they cost less then, and tend to one large group and many single tasks.
        seed: int. Of the search for many tasks.

    Raises:
        ValueError: for arguments that do not go together; by `keras_mtl.build`, when no tree fits
            the budget, or the locations are not in the backbone.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((4,))
    >>> for name in ("low", "high"):
    ...     x = keras.layers.Dense(4, name=name)(x)
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b", "c")]
    >>> like = [[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]]
    >>> affinity = keras_mtl.affinity.Affinity([like, like], ("a", "b", "c"), ("low", "high"))
    >>> strategy = keras_mtl.strategies.Branched(affinity, budget=1.5)
    >>> keras_mtl.plan(keras.Model(inputs, x), tasks, strategy).choices["b"]
    ('shared', 'branch1')

    Reference:
        [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), section 3.2.
    """

    name = "branched"
    granularity = GRANULARITY

    def __init__(
        self,
        affinity: Affinity | Mapping[str, Any] | None = None,
        *,
        budget: float | None = None,
        kind: Literal["parameters", "flops"] = "parameters",
        first_shared: bool = False,
        tree: Tree | Sequence[Sequence[Sequence[str]]] | None = None,
        locations: Sequence[str] | None = None,
        normalisation: Literal["shared", "task"] = "shared",
        improve: bool = True,
        seed: int = 0,
    ) -> None:
        if (affinity is None) == (tree is None):
            raise ValueError(
                "`affinity` or `tree` must be given, and not both. Received: "
                f"affinity={affinity!r}, tree={tree!r}. `keras_mtl.affinity` finds an affinity."
            )
        if tree is None and not (is_number(budget) and 0 < budget < math.inf):
            raise ValueError(
                "`budget` must be a positive number: an int of parameters or FLOPs, or a float, in "
                f"multiples of the backbone. Received: budget={budget!r}."
            )
        if tree is not None and budget is not None:
            raise ValueError(
                "`budget` must not be given with `tree`, which is taken as it is. "
                f"Received: budget={budget!r}."
            )
        if tree is None and locations is not None:
            raise ValueError(
                "`locations` must not be given with `affinity`, which has its own. "
                f"Received: locations={locations!r}."
            )
        if tree is not None and locations is None:
            raise ValueError("`locations` must be given with `tree`. Received: locations=None.")
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}.")
        if affinity is not None and not isinstance(affinity, Affinity):
            affinity = Affinity.from_json(json.dumps(affinity))
        self._affinity = affinity
        self._tree = tree if tree is None or isinstance(tree, Tree) else Tree(tree)
        self.budget = budget
        self.kind = kind
        self.first_shared = first_shared
        if affinity is None:
            locations = check_names("locations", locations)
        self.locations = tuple(affinity.locations if affinity is not None else locations)
        self.normalisation = check_normalisation(normalisation)
        self.improve = improve
        self.seed = check_seed(seed)

    def get_config(self) -> dict[str, Any]:
        """Settings as plain data; affinity and tree as what JSON holds."""
        affinity = self._affinity and json.loads(self._affinity.to_json())
        tree = self._tree and [[list(group) for group in level] for level in self._tree.levels]
        locations = None if self._tree is None else list(self.locations)
        return {**super().get_config(), "affinity": affinity, "tree": tree, "locations": locations}

    def decide(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str]
    ) -> dict[str, Any]:
        tree = self._tree or self._found(graph, tasks)
        if set(tree.tasks) != set(tasks):
            raise ValueError(
                f"The tasks of the tree must be {list(tasks)}. Received: {list(tree.tasks)}."
            )
        if len(tree.levels) != len(self.locations):
            raise ValueError(
                f"`locations` must have one name for each of the {len(tree.levels)} levels of the "
                f"tree. Received: {list(self.locations)}."
            )
        every = find_units(graph, GRANULARITY)
        copies = copy_names(tree)
        level_of = {
            unit.name: level
            for level, segment in enumerate(segments(graph, every, self.locations))
            for unit in segment
        }
        choices = {
            task: tuple(copies[level_of[unit.name], task] for unit in units) for task in tasks
        }
        return {"choices": choices}

    def _found(self, graph, tasks):
        """The cheapest tree within the budget."""
        every = find_units(graph, GRANULARITY)
        sizes = segment_sizes(graph, every, self.locations, self.kind)
        whole = isinstance(self.budget, numbers.Integral)
        budget = int(self.budget) if whole else int(self.budget * sum(sizes))
        front = search_trees(
            self._affinity,
            sizes,
            budget=budget,
            first_shared=self.first_shared,
            improve=self.improve,
            seed=self.seed,
        )
        tree = front[-1].tree
        advice = budget_advice(
            tree,
            graph,
            every,
            self.locations,
            sizes=sizes,
            kind=self.kind,
            budget=budget,
            first_shared=self.first_shared,
        )
        if advice:
            warnings.warn(advice, stacklevel=2)
        return tree


def copy_names(tree):
    """`(level, task)` -> what the task chooses there: shared, own, or the branch of its group."""
    groups = list(dict.fromkeys(group for level in tree.levels for group in level))
    together = [group for group in groups if 1 < len(group) < len(tree.tasks)]
    free = (name for i in itertools.count(1) if (name := f"branch{i}") not in tree.tasks)
    branches = dict(zip(together, free, strict=False))
    names = {}
    for number, level in enumerate(tree.levels):
        for group in level:
            # One task alone owns its copies, even where it is the only task of all.
            name = OWN if len(group) == 1 else branches.get(group, SHARED)
            names.update({(number, task): name for task in group})
    return names
