"""All trees: each once, as many as the formula says."""

import itertools
import math
import time
from fractions import Fraction

import pytest

from keras_mtl.affinity import Tree, count_trees, enumerate_trees

TASKS = ("a", "b", "c", "d", "e", "f")


@pytest.mark.parametrize(
    ("num_tasks", "num_locations", "every", "first_shared"),
    [(5, 4, 3455, 1304), (3, 4, 35, 22), (3, 1, 5, 1), (1, 3, 1, 1), (6, 2, 2471, 203)],
)
def test_each_tree_once(num_tasks, num_locations, every, first_shared):
    tasks = TASKS[:num_tasks]
    for shared, count in ((False, every), (True, first_shared)):
        trees = list(enumerate_trees(tasks, num_locations, first_shared=shared))
        assert len(trees) == len(set(trees)) == count
        assert count_trees(num_tasks, num_locations, first_shared=shared) == count
        assert all(tree.tasks == tasks and len(tree.levels) == num_locations for tree in trees)
        assert not shared or all(len(tree.levels[0]) == 1 for tree in trees)


def test_count_is_the_composition_of_exponentials():
    def composed(outer, inner):
        """Coefficients of outer(inner(x)) by Horner's rule."""
        total = [Fraction(0)] * len(inner)
        for coefficient in reversed(outer):
            product = [
                sum(total[k] * inner[n - k] for k in range(n + 1)) for n in range(len(inner))
            ]
            total = [product[0] + coefficient, *product[1:]]
        return total

    exponential = [Fraction(0)] + [Fraction(1, math.factorial(n)) for n in range(1, 9)]
    series = exponential
    for num_locations in range(1, 7):
        for n in range(1, 9):
            shared = count_trees(n, num_locations, first_shared=True)
            assert shared == math.factorial(n) * series[n]
        series = composed(exponential, series)
        for n in range(1, 9):
            assert count_trees(n, num_locations) == math.factorial(n) * series[n]


def test_trees_are_all_chains_of_refinements():
    partitions = [level for (level,) in (t.levels for t in enumerate_trees(TASKS[:4], 1))]
    assert len(partitions) == 15

    def refines(fine, coarse):
        return all(any(set(g) <= set(h) for h in coarse) for g in fine)

    chains = [
        chain
        for chain in itertools.product(partitions, repeat=3)
        if refines(chain[1], chain[0]) and refines(chain[2], chain[1])
    ]
    assert set(map(Tree, chains)) == set(enumerate_trees(TASKS[:4], 3))


def test_five_tasks_at_four_locations_in_under_a_second():
    begun = time.process_time()
    assert sum(1 for _ in enumerate_trees(TASKS[:5], 4)) == 3455
    assert time.process_time() - begun < 1


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`num_locations` must be at least 1. Received: .*=0\."):
        enumerate_trees(TASKS, 0)
    with pytest.raises(TypeError, match="`num_tasks` must be an integer"):
        count_trees(2.5, 1)
    with pytest.raises(ValueError, match="`tasks` must name each thing once"):
        enumerate_trees(("a", "a"), 2)
