"""Chains: trees as tuples of partitions of bit masks, with what they cost."""

import math

import numpy as np

from keras_mtl.affinity.partitions import members, singles

SAME_COST = 1e-12  # two sums of the same numbers may differ by this much


class ChainCosts:
    """Costs of groups, partitions and chains; that of a group is found once.

    Args:
        dissimilarity: array of shape `(locations, tasks, tasks)`.
        sizes: tuple of numbers, one for each location.
        budget: number. Largest size of a chain.
        first_shared: bool. Whether the first partition has one group.
    """

    def __init__(self, dissimilarity, sizes, budget=math.inf, first_shared=False):
        self.dissimilarity = dissimilarity
        self.num_locations, self.num_tasks, _ = dissimilarity.shape
        self.sizes = sizes
        self.budget = budget
        self.first_shared = first_shared
        self._groups = {}

    def group(self, mask):
        """Largest dissimilarity in a group at every location; 0 for no task or one."""
        known = self._groups.get(mask)
        if known is None:
            tasks = members(mask)
            known = np.zeros(self.num_locations)
            if len(tasks) > 1:
                known = self.dissimilarity[:, tasks][:, :, tasks].max(axis=(1, 2))
            self._groups[mask] = known
        return known

    def partition(self, partition, location):
        """Cost of a location: the mean of its groups' costs."""
        return float(sum(self.group(mask)[location] for mask in partition)) / len(partition)

    def chain(self, chain):
        """Cost of a tree: the sum over its locations."""
        return sum(self.partition(level, location) for location, level in enumerate(chain))

    def size(self, chain):
        """Size of a tree."""
        return sum(size * len(level) for size, level in zip(self.sizes, chain, strict=True))

    def ends(self):
        """The smallest chain, which shares everything, and the largest if it fits the budget."""
        shared = (((1 << self.num_tasks) - 1,),) * self.num_locations
        apart = (singles(self.num_tasks),) * self.num_locations
        if self.first_shared:
            apart = (shared[0], *apart[1:])
        return [shared, apart] if self.size(apart) <= self.budget else [shared]

    def scored(self, chains):
        """`(size, cost, chain)` of those chains that fit the budget."""
        rows = [(self.size(chain), self.chain(chain), chain) for chain in chains]
        return [row for row in rows if row[0] <= self.budget]


def front_of(front, found):
    """The chains that are cheaper than all that are not larger.

    Args:
        front: dict from size to `(cost, chain)`, or an empty one.
        found: iterable of `(size, cost, chain)`.

    Returns:
        A dict of the same form, sizes rising and costs falling.
    """
    best = dict(front)
    for size, cost, chain in found:
        if size not in best or cost < best[size][0] - SAME_COST:
            best[size] = (cost, chain)
    kept, lowest = {}, math.inf
    for size in sorted(best):
        if best[size][0] < lowest - SAME_COST:
            lowest = best[size][0]
            kept[size] = best[size]
    return kept
