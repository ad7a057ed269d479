"""Beam search for trees over many tasks, from the last location inwards."""

import math

import numpy as np
import scipy.linalg
from scipy.sparse import csgraph

from keras_mtl.affinity.partitions import coarsenings, members, merged, singles

BINS = 20  # ranges of size from the smallest to the largest tree, of equal ratio
ENUMERATED = 4  # so many groups or fewer are not clustered: all ways of joining them are tried


def beam_search(costs, beam):
    """Finds chains of low cost and of many sizes.

    At the last location the tasks are clustered, at every location before it the groups of the one
    after, by spectral clustering for each possible number of groups. Of the chains so far, the
    `beam` cheapest stay in each of `BINS` ranges of the size that they will have at least.

    Args:
        costs: `ChainCosts`. Chains that can only exceed its budget are dropped.
        beam: int.

    Returns:
        A list of chains.
    """
    clusters = _Coarsenings(costs)
    smallest = sum(costs.sizes)
    largest = min(costs.budget, costs.num_tasks * smallest)
    kept = {(singles(costs.num_tasks), smallest): (0.0, ())}
    for location in reversed(range(costs.num_locations)):
        found = {}
        for (partition, size), (cost, chain) in kept.items():
            for level, price in clusters.of(partition, location):
                # Locations before this one may still have a single group.
                key = (level, size + (len(level) - 1) * costs.sizes[location])
                total = cost + price
                if key[1] <= costs.budget and (key not in found or total < found[key][0]):
                    found[key] = (total, (level, *chain))
        kept = _cheapest(found, beam, smallest, largest) if location else found
    return [chain for _, chain in kept.values()]


def _cheapest(found, beam, smallest, largest):
    """The cheapest chains of each range of sizes."""
    bins = {}
    for key in found:
        place = 0
        if largest > smallest:
            place = int(BINS * math.log(key[1] / smallest) / math.log(largest / smallest))
        bins.setdefault(min(place, BINS - 1), []).append(key)
    kept = {}
    for keys in bins.values():
        keys.sort(key=lambda key: (found[key][0], key[1], key[0]))
        kept |= {key: found[key] for key in keys[:beam]}
    return kept


class _Coarsenings:
    """Candidates for joining the groups of a partition at a location, with their costs."""

    def __init__(self, costs):
        self._costs = costs
        # Order is kept, and no affinity of tasks is negative or cuts the graph in two.
        self._affinity = np.maximum(1.0 - costs.dissimilarity / 2, 1e-6)
        self._known = {}

    def of(self, partition, location):
        """Returns pairs of a coarser partition, or the same, and its cost."""
        key = (partition, location)
        if key not in self._known:
            levels = dict.fromkeys(self._candidates(partition, location))
            self._known[key] = [(x, self._costs.partition(x, location)) for x in levels]
        return self._known[key]

    def _candidates(self, partition, location):
        together = merged(partition, [0] * len(partition))
        if self._costs.first_shared and location == 0:
            return [together]
        if len(partition) <= ENUMERATED:
            return list(coarsenings(partition))
        weights = np.zeros((len(partition), self._costs.num_tasks))
        for row, mask in zip(weights, partition, strict=True):
            tasks = members(mask)
            row[tasks] = 1 / len(tasks)
        between = weights @ self._affinity[location] @ weights.T
        labels = spectral_clusterings(between)
        return [together, *(merged(partition, row) for row in labels), partition]


def spectral_clusterings(affinity):
    """Clusters into each number of groups from 2 to one less than there are things.

    The labels are those of scikit-learn's `SpectralClustering(m, affinity="precomputed",
    assign_labels="cluster_qr")`, but the embedding is found once for all `m`.

    Args:
        affinity: array of shape `(things, things)`, positive and symmetric.

    Returns:
        A list of arrays of labels.
    """
    laplacian, scale = csgraph.laplacian(affinity, normed=True, return_diag=True)
    embedding = scipy.linalg.eigh(laplacian)[1] / scale[:, None]
    return [_labels(embedding[:, :m]) for m in range(2, len(affinity))]


def _labels(vectors):
    """Things by the axis they are nearest to, after the best rotation: Damle et al. (2019)."""
    pivots = scipy.linalg.qr(vectors.T, pivoting=True)[2][: vectors.shape[1]]
    left, _, right = np.linalg.svd(vectors[pivots].T)
    return np.abs(vectors @ (left @ right)).argmax(axis=1)
