"""The front of all trees, by dynamic programming over the partitions of the tasks."""

import functools
import itertools
import math

import numpy as np

from keras_mtl.affinity.chains import front_of
from keras_mtl.affinity.enumerate_trees import stirling_numbers
from keras_mtl.affinity.partitions import coarsenings, ordered, singles

_COLUMNS = 64  # columns of a table that are worked on at a time: bounds the memory


def table_entries(num_tasks, num_locations):
    """How many numbers the search keeps: partitions times numbers of groups per location."""
    partitions = sum(stirling_numbers(num_tasks)[num_tasks])
    return partitions * (math.comb(num_tasks + num_locations, num_locations) - 1)


def exact_front(costs):
    """The best tree of every size, as a dict from size to `(cost, chain)`.

    From the last location inwards, a table holds for every partition P and every sequence of
    numbers of groups the least cost of the locations from here on, if the partition here is P or
    refines it. Splits of P come before P, so a table fills in one sweep over single merges.

    Args:
        costs: `ChainCosts`.
    """
    lattice = _lattice(costs.num_tasks)
    here = _location_costs(costs, lattice)
    tables, shapes, sizes, after = [], [()], [0], None
    for location in reversed(range(costs.num_locations)):
        shapes, parents, sizes = _longer(costs, location, shapes, sizes)
        after = _filled(lattice, shapes, parents, here[:, location], after)
        tables.insert(0, (shapes, parents, after))
    best = front_of({}, ((size, after[0, i], i) for i, size in enumerate(sizes)))
    return front_of({}, costs.scored(_chain(lattice, tables, shape) for _, shape in best.values()))


class _Lattice:
    """All partitions, fewest groups first, and which merge of two groups leads to which."""

    def __init__(self, num_tasks):
        every = sorted(coarsenings(singles(num_tasks)), key=len)
        self.partitions = every
        self.num_groups = np.array([len(partition) for partition in every])
        self.starts = np.searchsorted(self.num_groups, np.arange(num_tasks + 2))
        index = {partition: i for i, partition in enumerate(every)}
        self.merges = {k: self._merges(index, k) for k in range(2, num_tasks + 1)}

    def rows(self, num_groups):
        return slice(self.starts[num_groups], self.starts[num_groups + 1])

    def _merges(self, index, num_groups):
        """Partitions with k groups beside those with k - 1, sorted by the latter."""
        fine, coarse = [], []
        for partition in self.partitions[self.rows(num_groups)]:
            for a, b in itertools.combinations(partition, 2):
                rest = [mask for mask in partition if mask not in (a, b)]
                fine.append(index[partition])
                coarse.append(index[ordered([*rest, a | b])])
        order = np.argsort(coarse, kind="stable")
        fine, coarse = np.array(fine)[order], np.array(coarse)[order]
        return fine, *np.unique(coarse, return_index=True)

    def splits(self, row):
        """Rows of the partitions that split one group of a partition into two."""
        fine, coarse, starts = self.merges[self.num_groups[row] + 1]
        place = np.searchsorted(coarse, row)
        stops = [*starts[1:], len(fine)]
        return fine[starts[place] : stops[place]]


_lattice = functools.lru_cache(maxsize=2)(_Lattice)


def _location_costs(costs, lattice):
    """Cost of every partition at every location."""
    groups = np.array([costs.group(mask) for mask in range(1 << costs.num_tasks)])
    return np.array([groups[list(partition)].mean(axis=0) for partition in lattice.partitions])


def _longer(costs, location, shapes, sizes):
    """Numbers of groups from a location on, made from those from the next location on.

    Those that cannot fit the budget are left out.
    """
    before = sum(costs.sizes[:location])
    most = 1 if costs.first_shared and not location else costs.num_tasks
    found = [
        ((m, *shape), i, m * costs.sizes[location] + size)
        for m in range(1, most + 1)
        for i, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
        if not shape or m <= shape[0]
    ]
    found = [row for row in found if row[2] + before <= costs.budget]
    shapes, parents, sizes = zip(*found, strict=True)
    return shapes, np.array(parents), sizes


def _filled(lattice, shapes, parents, here, after):
    """The table of a location from that of the next."""
    first = np.array([shape[0] for shape in shapes])
    table = np.full((len(lattice.partitions), len(shapes)), np.inf)
    for k in range(first[-1], 0, -1):
        begin, end = np.searchsorted(first, [k, k + 1])
        rows = lattice.rows(k)
        rest = 0.0 if after is None else after[rows, parents[begin:end]]
        table[rows, begin:end] = here[rows, None] + rest
        if k < first[-1]:
            fine, coarse, starts = lattice.merges[k + 1]
            for column in range(end, len(shapes), _COLUMNS):
                part = slice(column, min(column + _COLUMNS, len(shapes)))
                table[coarse, part] = np.minimum.reduceat(table[fine, part], starts, axis=0)
    return table


def _chain(lattice, tables, column):
    """Follows the least costs back to the partitions they came from."""
    row, chain = 0, []
    for shapes, parents, table in tables:
        while lattice.num_groups[row] < shapes[column][0]:
            splits = lattice.splits(row)
            row = splits[np.argmin(table[splits, column])]
        chain.append(lattice.partitions[row])
        column = parents[column]
    return tuple(chain)
