"""Moves from one tree to others, with the size and the cost of each, found all at once.

A move takes a group of some location, or a single task, with all that is below it, out of the
groups it is in at the locations before. It joins other groups there, one below the other, down to
some location, and is a group of its own from there to where it was. So tasks change their branch,
branches split, and branches with a single child merge.
"""

import numpy as np

from keras_mtl.affinity.partitions import members, ordered, singles


class Moves:
    """The moves of a chain.

    `sizes` and `prices` have an entry for each; `chain` makes the chain that one of them leads to.

    Args:
        costs: `ChainCosts`.
        chain: tuple of partitions.
    """

    def __init__(self, costs, chain):
        self._costs = costs
        self._chain = chain
        self._levels = [_Level(level, costs.num_tasks) for level in chain]
        self._levels.append(_Level(singles(costs.num_tasks), costs.num_tasks))
        groups = [np.array([costs.group(mask)[i] for mask in x]) for i, x in enumerate(chain)]
        self._groups = groups
        self._sums = [x.sum() for x in groups]
        self._prices = np.array([x.mean() for x in groups])
        self._sizes = np.array([s * len(x) for s, x in zip(costs.sizes, chain, strict=True)], float)
        # For each location: task and group -> largest dissimilarity between them.
        self._apart = [
            np.maximum.reduceat(distances[:, level.order], level.starts, axis=1)
            for distances, level in zip(costs.dissimilarity, self._levels, strict=False)
        ]
        blocks = [block for below in range(1, len(chain) + 1) for block in self._blocks(below)]
        self._places = [block[:2] for block in blocks]
        self._shapes = [block[2].shape for block in blocks]
        self._starts = np.cumsum([0, *(block[2].size for block in blocks)])
        self.sizes = np.concatenate([block[2].ravel() for block in blocks])
        self.prices = np.concatenate([block[3].ravel() for block in blocks])

    def chain(self, move):
        """The chain after a move."""
        block = np.searchsorted(self._starts, move, "right") - 1
        row, column = np.unravel_index(move - self._starts[block], self._shapes[block])
        below, joined_at = self._places[block]
        moved = self._levels[below].partition[row]
        joined = self._chain[joined_at][column] if joined_at >= 0 else 0
        out = list(self._chain)
        for location in range(below):
            stays = location > joined_at
            rest = [mask & ~moved for mask in out[location]]
            if not stays:
                rest = [
                    (mask | moved) if old & joined else mask
                    for mask, old in zip(rest, out[location], strict=True)
                ]
            out[location] = ordered([mask for mask in rest if mask] + [moved] * stays)
        return tuple(out)

    def _blocks(self, below):
        """Moves of the groups of one location, which stay whole from there on.

        Yields:
            `(below, joined_at, sizes, prices)`: a row is a group that moves, a column a group at
            the location `joined_at` that it joins last; -1 for joining none.
        """
        moved = self._levels[below]
        own = np.array([self._costs.group(mask) for mask in moved.partition])
        parents = [level.label[moved.first] for level in self._levels[:below]]
        left = [self._left(location, moved, parents[location]) for location in range(below)]
        size, price = self._alone(below, left, own)
        rows = np.arange(len(moved.partition))
        if not self._costs.first_shared:
            yield below, -1, size[0][:, None], price[0][:, None]
        joined_size = joined_price = np.zeros((len(rows), 1))
        for location in range(below):
            sums, counts = left[location]
            groups = self._groups[location]
            apart = self._apart[location][moved.order]
            together = np.maximum.reduceat(apart, moved.starts, axis=0)
            together = np.maximum(np.maximum(together, groups), own[:, location, None])
            here_price = (sums[:, None] - groups + together) / np.maximum(counts, 1)[:, None]
            here_size = np.repeat(self._costs.sizes[location] * counts[:, None], len(groups), 1)
            # Back to where it was.
            here_price[rows, parents[location]] = self._prices[location]
            here_size[rows, parents[location]] = self._sizes[location]
            above = self._parents(location)
            joined_size = joined_size[:, above] + here_size
            joined_price = joined_price[:, above] + here_price
            alone = size[location + 1][:, None], price[location + 1][:, None]
            yield below, location, joined_size + alone[0], joined_price + alone[1]

    def _left(self, location, moved, parents):
        """Sum of the groups' costs and number of groups, when each moved group has gone."""
        level = self._levels[location].partition
        rest = [
            level[parent] & ~mask for parent, mask in zip(parents, moved.partition, strict=True)
        ]
        gone = self._groups[location][parents]
        stay = np.array([self._costs.group(mask)[location] for mask in rest])
        empty = np.array([not mask for mask in rest])
        return self._sums[location] - gone + stay, len(level) - empty

    def _alone(self, below, left, own):
        """Size and cost of the locations from each on, where the moved is by itself till `below`.

        Returns:
            Two lists of `below + 1` arrays.
        """
        size = [np.full(len(own), self._sizes[below:].sum())]
        price = [np.full(len(own), self._prices[below:].sum())]
        for location in reversed(range(below)):
            sums, counts = left[location]
            size.insert(0, size[0] + self._costs.sizes[location] * (counts + 1))
            price.insert(0, price[0] + (sums + own[:, location]) / (counts + 1))
        return size, price

    def _parents(self, location):
        """Indices of the groups at the location before that hold those of a location."""
        level = self._levels[location]
        if not location:
            return np.zeros(len(level.partition), int)
        return self._levels[location - 1].label[level.first]


class _Level:
    """A partition as arrays: tasks sorted by group, and the group of each task."""

    def __init__(self, partition, num_tasks):
        groups = [members(mask) for mask in partition]
        self.partition = partition
        self.order = np.concatenate(groups)
        self.starts = np.cumsum([0, *(len(group) for group in groups[:-1])])
        self.first = self.order[self.starts]
        self.label = np.empty(num_tasks, int)
        self.label[self.order] = np.repeat(np.arange(len(groups)), [len(x) for x in groups])
