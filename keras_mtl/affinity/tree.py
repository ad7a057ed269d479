"""Tree: which tasks share a copy of the backbone up to each location, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from keras_mtl.affinity._tree_checks import check_sizes
from keras_mtl.checks import check_names
from keras_mtl.errors import suggestion

if TYPE_CHECKING:
    from keras_mtl.affinity.affinity import Affinity


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Tree:
    """Groups of tasks at every location; from one location to the next, groups only split.

    Each group is a node: one copy of the part of the backbone that ends at its location. Trees that
    group alike are equal, whatever the order of their tasks.

    Args:
        levels: for each location, from the input to the features, a sequence of groups; a group is
            a sequence of task names. Kept as tuples, groups in the order of their first task.
        tasks: sequence of string. The order of the tasks; by default that in `levels[0]`.

    Raises:
        ValueError: when a task is missing or twice at a location, or groups merge.

    Example:

    >>> from keras_mtl.affinity import Tree
    >>> tree = Tree([[["a", "b", "c"]], [["c"], ["a", "b"]]])
    >>> tree
    <Tree tasks=['a', 'b', 'c'] groups=[1, 2]>
    >>> tree.levels[1]
    (('a', 'b'), ('c',))
    >>> print(tree)
    a b c
    a b | c
    >>> tree.size([10, 100])
    210

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Section 3.2.
    """

    levels: Sequence
    tasks: Sequence = ()

    def __post_init__(self):
        levels = _plain(self.levels)
        tasks = self.tasks or tuple(task for group in levels[0] for task in group)
        if len(set(tasks)) == len(tasks):  # otherwise the levels say which one is there twice
            tasks = check_names("tasks", tasks)
        _check_levels(levels, tasks)
        rank = {task: i for i, task in enumerate(tasks)}
        levels = tuple(
            tuple(sorted((tuple(sorted(g, key=rank.get)) for g in level), key=lambda g: rank[g[0]]))
            for level in levels
        )
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "tasks", tuple(tasks))

    @property
    def num_nodes(self) -> int:
        """Number of groups at all locations together."""
        return sum(len(level) for level in self.levels)

    def size(self, sizes: Sequence[float]) -> float:
        """What all nodes cost together, when a node at location `d` costs `sizes[d]`.

        Args:
            sizes: sequence of numbers. Parameters or FLOPs of the part that ends at each location.

        Returns:
            A number. Heads are not counted.
        """
        sizes = check_sizes(sizes, len(self.levels))
        return sum(size * len(level) for size, level in zip(sizes, self.levels, strict=True))

    def cost(self, affinity: Affinity) -> float:
        """How unlike the tasks are that share: the sum over the locations of the cost there.

        The cost of a location is the mean, over its groups, of the largest dissimilarity between
        two tasks of the group. A group of one task costs 0, and counts.

        Args:
            affinity: `Affinity` of the tree's tasks, and possibly more, at its locations.

        Returns:
            A float.
        """
        dissimilarity, known = affinity.dissimilarity, list(affinity.tasks)
        if len(dissimilarity) != len(self.levels):
            raise ValueError(
                f"`affinity` must have the {len(self.levels)} locations of the tree. Received: "
                f"locations={list(affinity.locations)}."
            )
        for task in self.tasks:
            if task not in known:
                raise ValueError(
                    f"`affinity` must know the tasks of the tree. Received: tasks={known}, without "
                    f"{task!r}." + suggestion(task, known)
                )
        total = 0.0
        for distances, level in zip(dissimilarity, self.levels, strict=True):
            rows = [[known.index(task) for task in group] for group in level]
            largest = [distances[row][:, row].max() if len(row) > 1 else 0.0 for row in rows]
            total += float(sum(largest)) / len(largest)
        return total

    def __eq__(self, other):
        return self._groups() == other._groups() if isinstance(other, Tree) else NotImplemented

    def __hash__(self):
        return hash(self._groups())

    def __repr__(self):
        tasks = list(self.tasks) if len(self.tasks) <= 6 else len(self.tasks)
        return f"<Tree tasks={tasks} groups={[len(level) for level in self.levels]}>"

    def __str__(self):
        return "\n".join(" | ".join(map(" ".join, level)) for level in self.levels)

    def _groups(self):
        return tuple(frozenset(map(frozenset, level)) for level in self.levels)


def _plain(levels):
    """Levels, groups and names as nested tuples."""
    try:
        if _is_sequence(levels) and all(map(_is_sequence, levels)):
            plain = tuple(tuple(map(tuple, level)) for level in levels)
            names = all(map(_is_sequence, (g for level in levels for g in level)))
            if plain and names and all(level and all(level) for level in plain):
                return plain
    except TypeError:
        pass
    raise ValueError(
        "`levels` must have for each location a sequence of groups, and each group must be a "
        f"sequence of task names. Received: levels={levels!r}."
    )


def _is_sequence(value):
    return isinstance(value, Iterable) and not isinstance(value, str)


def _check_levels(levels, tasks):
    before = dict.fromkeys(tasks, 0)
    for number, level in enumerate(levels):
        group_of = {}
        for index, group in enumerate(level):
            for task in group:
                if task in group_of or task not in before:
                    wrong = "twice" if task in group_of else f"which is none of {list(tasks)}"
                    raise ValueError(
                        "`levels` must have each task once at every location. "
                        f"Received: levels[{number}] with {task!r} {wrong}."
                    )
                group_of[task] = index
            if len({before[task] for task in group}) > 1:
                raise ValueError(
                    "`levels` must only split groups from one location to the next. Received: "
                    f"levels[{number}] with the group {group}, whose tasks are in different groups "
                    f"of levels[{number - 1}]."
                )
        if missing := [task for task in tasks if task not in group_of]:
            raise ValueError(
                "`levels` must have each task once at every location. "
                f"Received: levels[{number}] without {missing[0]!r}."
            )
        before = group_of
