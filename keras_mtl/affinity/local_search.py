"""Makes the trees of a front cheaper by hanging parts of them elsewhere."""

import numpy as np

from keras_mtl.affinity.chains import SAME_COST, front_of
from keras_mtl.affinity.moves import Moves

STEPS = 1000  # trees whose moves are tried, at most
# By how much a move must better the front, in parts of the cost of the tree that shares all.
GAINS = (1e-3, 1e-4, 0.0)


def improved(costs, front, seed, steps=STEPS):
    """Tries the moves of the front's trees until none betters the front.

    Args:
        costs: `ChainCosts`.
        front: dict from size to `(cost, chain)`.
        seed: int. Of the order in which trees are tried.
        steps: int. How many trees are tried at most.

    Returns:
        A front that is nowhere worse.
    """
    generator = np.random.default_rng(seed)
    scale = max(cost for cost, _ in front.values())
    for gain in GAINS:
        least, tried = max(gain * scale, SAME_COST), set()
        while steps:
            todo = [(size, cost) for size, (cost, _) in front.items() if (size, cost) not in tried]
            if not todo:
                break
            size, cost = todo[generator.integers(len(todo))]
            tried.add((size, cost))
            steps -= 1
            chain = front[size][1]
            front = front_of(front, _better(costs, chain, front, least))
    return front


def _better(costs, chain, front, least):
    """Yields `(size, cost, chain)` one move away, cheaper than the front by at least so much."""
    moves = Moves(costs, chain)
    lowest = np.array([np.inf, *(cost for cost, _ in front.values())])
    lowest = lowest[np.searchsorted(np.fromiter(front, float), moves.sizes, "right")]
    fits = (moves.prices < lowest - least) & (moves.sizes <= costs.budget)
    places = np.flatnonzero(fits)
    best = np.inf
    for place in places[np.lexsort((moves.prices[places], moves.sizes[places]))]:
        if moves.prices[place] < best - least:
            found = moves.chain(place)
            if (size := costs.size(found)) <= costs.budget:  # sums of fractions may differ
                best = float(moves.prices[place])
                yield size, best, found
