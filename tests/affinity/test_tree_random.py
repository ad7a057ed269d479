"""Random trees: different, within the budget, each as likely as any other."""

import collections

import pytest

from keras_mtl.affinity import count_trees, enumerate_trees, random_trees

TASKS = tuple("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("first_shared", [False, True])
def test_within_the_budget_and_different(first_shared):
    sizes = (1, 3, 9, 9)
    trees = random_trees(TASKS, sizes, 40, budget=90, first_shared=first_shared, seed=1)
    assert len(set(trees)) == 40
    assert all(tree.size(sizes) <= 90 and tree.tasks == TASKS for tree in trees)
    assert not first_shared or all(len(tree.levels[0]) == 1 for tree in trees)
    again = random_trees(TASKS, sizes, 40, budget=90, first_shared=first_shared, seed=1)
    assert trees == again
    assert trees != random_trees(TASKS, sizes, 40, budget=90, first_shared=first_shared, seed=2)


def test_all_trees_where_there_are_no_more():
    for shared in (False, True):
        every = random_trees(TASKS[:3], (1, 1, 1), 1000, first_shared=shared, seed=0)
        assert set(every) == set(enumerate_trees(TASKS[:3], 3, first_shared=shared))
    sizes = (1, 10)
    every = random_trees(TASKS[:4], sizes, 1000, budget=23, seed=0)
    fitting = [tree for tree in enumerate_trees(TASKS[:4], 2) if tree.size(sizes) <= 23]
    assert set(every) == set(fitting) and len(every) == len(fitting)
    (tree,) = random_trees(TASKS, sizes, 5, budget=11, seed=0)
    assert tree.num_nodes == 2
    assert random_trees(TASKS, sizes, 0, seed=0) == []


def test_every_tree_is_as_likely():
    counts = collections.Counter(
        random_trees(TASKS[:3], (1, 1), 1, seed=seed)[0] for seed in range(1800)
    )
    # 150 expected; the standard deviation is 12.
    assert len(counts) == count_trees(3, 2) == 12
    assert min(counts.values()) > 100 and max(counts.values()) < 200


def test_many_tasks_at_many_locations():
    sizes = tuple(range(1, 17))
    for budget in (None, sum(sizes), 3 * sum(sizes)):
        trees = random_trees(TASKS, sizes, 3, budget=budget, seed=0)
        assert len(set(trees)) == (1 if budget == sum(sizes) else 3)
        assert budget is None or all(tree.size(sizes) <= budget for tree in trees)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`budget` must be at least 11, .* Received: budget=10\."):
        random_trees(TASKS, (1, 10), 1, budget=10, seed=0)
    with pytest.raises(ValueError, match="`number` must be at least 0"):
        random_trees(TASKS, (1, 10), -1, seed=0)
    with pytest.raises(ValueError, match="`tasks` must name each thing once"):
        random_trees(("a", "a"), (1, 10), 1, seed=0)
