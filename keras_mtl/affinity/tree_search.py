"""The best tree of every size: exactly for few tasks, by beam search for many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_mtl.affinity._tree_checks import check_budget, check_integer, check_sizes
from keras_mtl.affinity.affinity import Affinity
from keras_mtl.affinity.beam_search import beam_search
from keras_mtl.affinity.chains import ChainCosts, front_of
from keras_mtl.affinity.exact_search import exact_front, table_entries
from keras_mtl.affinity.local_search import improved
from keras_mtl.affinity.partitions import named
from keras_mtl.affinity.tree import Tree
from keras_mtl.checks import check_seed


@dataclasses.dataclass(frozen=True)
class ScoredTree:
    """A tree with its cost and its size.

    Args:
        tree: `Tree`.
        cost: float. As by `tree.cost(affinity)`.
        size: number. As by `tree.size(sizes)`.
    """

    tree: Tree
    cost: float
    size: float


def search_trees(
    affinity: Affinity,
    sizes: Sequence[float],
    *,
    budget: float | None = None,
    first_shared: bool = False,
    beam: int = 10,
    improve: bool = True,
    exact_limit: int = 20_000_000,
    seed: int = 0,
) -> list[ScoredTree]:
    """Finds the tree of least cost for every size.

    With few tasks the result is exact: a dynamic program over the partitions of the tasks that
    weighs all trees, without visiting them one by one. With many, a beam search clusters the tasks
    at the last location, and at each location before it the groups of the one after, by spectral
    clustering with the affinities `(1 + A) / 2` (which negative correlations cannot spoil), between
    groups their mean. Then parts of the trees are hung elsewhere as long as that lowers the cost.

    The cost counts a task by itself as 0. So trees of least cost for many tasks tend to have one
    large group and many single tasks; `improve=False` keeps the groups of the clustering, which are
    more even and cost more.

    Args:
        affinity: `Affinity` of N tasks at D locations.
        sizes: sequence of D numbers. What one copy of the part of the backbone that ends at each
            location costs, in parameters or FLOPs.
        budget: number or `None`. Largest size of a tree.
        first_shared: bool. Whether all tasks share up to the first location, as in the paper.
        beam: int. How many chains the beam search keeps for each of twenty ranges of size.
        improve: bool. Whether the trees of the beam search are improved by moves.
        exact_limit: int. Most numbers in the tables of the exact search (up to nine tasks at four
            locations by default, which takes about a second); 0 always takes the beam search.
        seed: int. Of the improvement, which is the same for the same seed.

    Returns:
        A list of `ScoredTree` by rising size and falling cost: the last one is the best within the
        budget.

    Raises:
        ValueError: when no tree fits the budget, or `sizes` does not fit the affinity.

    Example:

    >>> from keras_mtl.affinity import Affinity, search_trees
    >>> low = [[1.0, 0.9, 0.8], [0.9, 1.0, 0.7], [0.8, 0.7, 1.0]]
    >>> high = [[1.0, 0.8, 0.2], [0.8, 1.0, 0.1], [0.2, 0.1, 1.0]]
    >>> affinity = Affinity([low, high], ("a", "b", "c"), ("block1", "block2"))
    >>> for found in search_trees(affinity, [10, 100], budget=230):
    ...     print(found.size, round(found.cost, 3), found.tree.levels[1])
    110 1.2 (('a', 'b', 'c'),)
    210 0.4 (('a', 'b'), ('c',))
    220 0.15 (('a', 'b'), ('c',))

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Section 3.2.
    """
    if not isinstance(affinity, Affinity):
        raise TypeError(f"`affinity` must be an `Affinity`. Received: affinity={affinity!r}.")
    sizes = check_sizes(sizes, len(affinity.locations))
    budget = check_budget(budget, sizes)
    beam, seed = check_integer("beam", beam, 1), check_seed(seed)
    costs = ChainCosts(affinity.dissimilarity, sizes, budget, first_shared)
    if table_entries(costs.num_tasks, costs.num_locations) <= exact_limit:
        front = exact_front(costs)
    else:
        front = front_of({}, costs.scored([*costs.ends(), *beam_search(costs, beam)]))
        front = improved(costs, front, seed) if improve else front
    trees = [Tree(named(chain, affinity.tasks), affinity.tasks) for _, chain in front.values()]
    return [ScoredTree(tree, tree.cost(affinity), tree.size(sizes)) for tree in trees]
