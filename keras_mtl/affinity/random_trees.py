"""Random trees of a budget, to compare chosen ones with."""

import math
from collections.abc import Sequence

import numpy as np

from keras_mtl.affinity._tree_checks import check_budget, check_integer, check_sizes
from keras_mtl.affinity.enumerate_trees import stirling_numbers
from keras_mtl.affinity.partitions import merged, named, singles
from keras_mtl.affinity.tree import Tree
from keras_mtl.checks import check_names, check_seed

_SHAPES = 1_000_000  # sequences of numbers of groups that are weighed one by one, at most


def random_trees(
    tasks: Sequence[str],
    sizes: Sequence[float],
    number: int,
    *,
    budget: float | None = None,
    first_shared: bool = False,
    seed: int,
) -> list[Tree]:
    """Different random trees within a budget.

    Every tree within the budget is as likely as any other. Only with very many tasks and locations
    (more than a million sequences of numbers of groups) the number of groups is drawn location by
    location instead, from the last one inwards, each number that fits the budget being as likely.

    Args:
        tasks: sequence of string. Task names.
        sizes: sequence of D numbers. What one copy of the part of the backbone that ends at each
            location costs.
        number: int. How many trees.
        budget: number or `None`. Largest size of a tree.
        first_shared: bool. Whether all tasks share up to the first location.
        seed: int.

    Returns:
        A list of `number` trees, no two equal; of all trees within the budget, if they are fewer.

    Raises:
        ValueError: when no tree fits the budget.

    Example:

    >>> from keras_mtl.affinity import random_trees
    >>> trees = random_trees(("a", "b", "c"), [10, 100], 2, budget=230, seed=0)
    >>> [tree.size([10, 100]) for tree in trees]
    [220, 220]
    """
    tasks = check_names("tasks", tasks)
    sizes = check_sizes(sizes)
    number = check_integer("number", number, 0)
    budget = check_budget(budget, sizes)
    draw = _Draw(len(tasks), sizes, budget, first_shared, np.random.default_rng(check_seed(seed)))
    found = {}
    while len(found) < min(number, draw.available):
        chain = draw.chain()
        found[chain] = Tree(named(chain, tasks), tasks)
    return list(found.values())


class _Draw:
    """Draws chains of partitions within a budget."""

    def __init__(self, num_tasks, sizes, budget, first_shared, generator):
        self._num_tasks = num_tasks
        self._sizes = sizes
        self._budget = budget
        self._first_shared = first_shared
        self._generator = generator
        numbers = stirling_numbers(num_tasks)
        self._ways = np.array([[math.log(x) if x else -math.inf for x in row] for row in numbers])
        self._shapes = self._all_shapes()
        self.available = math.inf
        if self._shapes is not None:
            logs = sum(self._ways[a, b] for a, b in self._steps(self._shapes.T))
            self._chances = np.exp(logs - logs.max())
            total = math.log(self._chances.sum()) + logs.max()
            self._chances /= self._chances.sum()
            if total < math.log(1e12):
                self.available = round(math.exp(total))

    def chain(self):
        """One chain of partitions."""
        shape = self._shape()
        level, chain = singles(self._num_tasks), ()
        for num_groups in reversed(shape):
            level = merged(level, self._labels(len(level), int(num_groups)))
            chain = (level, *chain)
        return chain

    def _shape(self):
        """Numbers of groups, one for each location."""
        if self._shapes is not None:
            return self._shapes[self._generator.choice(len(self._shapes), p=self._chances)]
        shape, spent = [self._num_tasks], 0
        for location in reversed(range(len(self._sizes))):
            fitting = self._fitting(location, shape[0], spent)
            shape.insert(0, int(self._generator.choice(fitting)))
            spent += shape[0] * self._sizes[location]
        return shape[:-1]

    def _labels(self, things, groups):
        """A random partition of so many things into so many groups, each as likely."""
        alone = []
        for left in range(things, 0, -1):
            # S(n, m) = S(n - 1, m - 1), where the last thing is alone, + m S(n - 1, m).
            chance = math.exp(self._ways[left - 1, groups - 1] - self._ways[left, groups])
            alone.insert(0, bool(self._generator.random() < chance))
            groups -= alone[0]
        labels = []
        for first in alone:
            known = max(labels, default=-1) + 1
            labels.append(known if first else int(self._generator.integers(known)))
        return labels

    def _all_shapes(self):
        """All numbers of groups that fit the budget as rows, or `None` when they are too many."""
        shapes, spent = np.full((1, 1), self._num_tasks), np.zeros(1)
        for location in reversed(range(len(self._sizes))):
            before = sum(self._sizes[:location])
            kept = {}
            for m in self._fitting(location, self._num_tasks, 0):
                size = spent + m * self._sizes[location]
                kept[m] = np.flatnonzero((shapes[:, 0] >= m) & (size + before <= self._budget))
            if sum(map(len, kept.values())) > _SHAPES:
                return None
            spent = np.concatenate(
                [spent[rows] + m * self._sizes[location] for m, rows in kept.items()]
            )
            shapes = np.concatenate(
                [np.insert(shapes[rows], 0, m, axis=1) for m, rows in kept.items()]
            )
        return shapes[:, :-1]

    def _fitting(self, location, most, spent):
        """Numbers of groups at a location that leave enough for one group at each before it."""
        if self._first_shared and not location:
            return [1]
        spent = spent + sum(self._sizes[:location])
        sizes = [(m, spent + m * self._sizes[location]) for m in range(1, most + 1)]
        return [m for m, size in sizes if m == 1 or size <= self._budget]

    def _steps(self, shape):
        """Numbers of things and of groups that they fall into, from the last location inwards."""
        after = [*shape[1:], np.full_like(shape[0], self._num_tasks)]
        return zip(after, shape, strict=True)
