"""The front of trees: exact for few tasks, near it for more, always within the budget."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import SpectralClustering

from keras_mtl.affinity import Affinity, Tree, enumerate_trees, random_trees, search_trees
from keras_mtl.affinity.beam_search import spectral_clusterings
from keras_mtl.affinity.chains import ChainCosts
from keras_mtl.affinity.exact_search import table_entries
from keras_mtl.affinity.moves import Moves
from keras_mtl.affinity.partitions import named

RESNET = (157_504, 525_568, 2_099_712, 8_393_728)


def noise(num_locations, num_tasks, seed=0, low=-0.2):
    generator = np.random.default_rng(seed)
    upper = np.triu(generator.uniform(low, 1, (num_locations, num_tasks, num_tasks)), 1)
    values = upper + upper.transpose(0, 2, 1) + np.eye(num_tasks)
    tasks = tuple(f"task{i}" for i in range(num_tasks))
    return Affinity(values, tasks, tuple(f"location{i}" for i in range(num_locations)))


def assert_front(front, affinity, sizes, budget=None, first_shared=False):
    """A list of trees that are what they claim to be."""
    for found in front:
        again = Tree(found.tree.levels, affinity.tasks)  # checks that groups only split
        assert found.cost == again.cost(affinity) and found.size == again.size(sizes)
        assert found.tree.tasks == affinity.tasks
        assert budget is None or found.size <= budget
        assert not first_shared or len(found.tree.levels[0]) == 1
    sizes, costs = [x.size for x in front], [x.cost for x in front]
    assert sizes == sorted(set(sizes))
    assert costs == sorted(set(costs), reverse=True)


def by_enumeration(affinity, sizes, budget=np.inf, first_shared=False):
    """The front as pairs of size and cost."""
    best = {}
    trees = enumerate_trees(affinity.tasks, len(affinity.locations), first_shared=first_shared)
    for tree in trees:
        size, cost = tree.size(sizes), tree.cost(affinity)
        if size <= budget:
            best[size] = min(cost, best.get(size, np.inf))
    front = []
    for size in sorted(best):
        if not front or best[size] < front[-1][1] - 1e-12:
            front.append((size, best[size]))
    return front


def best_cost(front, size):
    return [x for x in front if x.size <= size][-1].cost


# Exact --------------------------------------------------------------------------------------------


def test_front_by_hand():
    """Tasks a and b are alike, c is not; the second location costs ten times the first."""
    first = [[1, 0.9, 0.8], [0.9, 1, 0.7], [0.8, 0.7, 1]]
    second = [[1, 0.8, 0.2], [0.8, 1, 0.1], [0.2, 0.1, 1]]
    affinity = Affinity([first, second], ("a", "b", "c"), ("low", "high"))
    found = [
        (x.size, round(x.cost, 9), [len(level) for level in x.tree.levels])
        for x in search_trees(affinity, [10, 100])
    ]
    assert found == [
        (110, 0.3 + 0.9, [1, 1]),
        (210, 0.3 + 0.2 / 2, [1, 2]),
        (220, 0.15, [2, 2]),
        (320, 0.05, [2, 3]),
        (330, 0.0, [3, 3]),
    ]


@pytest.mark.parametrize("first_shared", [False, True])
@pytest.mark.parametrize(
    ("num_tasks", "sizes", "budget"),
    [
        (4, (1, 2, 4), None),
        (5, (3, 3, 3), 29),
        (4, (0, 1, 0, 2), 7),
        (3, (1.5, 0.25), 3.5),
        (2, (1,), None),
        (1, (1, 1), None),
    ],
)
def test_exact_search_is_the_best_of_all_trees(num_tasks, sizes, budget, first_shared):
    affinity = noise(len(sizes), num_tasks, seed=num_tasks)
    options = {"budget": budget, "first_shared": first_shared}
    front = search_trees(affinity, sizes, **options)
    assert_front(front, affinity, sizes, **options)
    budget = np.inf if budget is None else budget
    expected = by_enumeration(affinity, sizes, budget, first_shared)
    np.testing.assert_allclose([(x.size, x.cost) for x in front], expected, rtol=0, atol=1e-12)


def test_exact_where_it_takes_about_a_second():
    assert table_entries(3, 1) == 5 * 3
    assert table_entries(9, 4) < 20_000_000 < table_entries(10, 4)


# Beam ---------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    num_tasks=st.integers(1, 11),
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=4),
    spare=st.none() | st.floats(0, 6),
    first_shared=st.booleans(),
    improve=st.booleans(),
    seed=st.integers(0, 100),
)
def test_beam_gives_a_front(num_tasks, sizes, spare, first_shared, improve, seed):
    affinity = noise(len(sizes), num_tasks, seed, low=-1)
    budget = None if spare is None else int(sum(sizes) * (1 + spare))
    options = {"budget": budget, "first_shared": first_shared}
    found = search_trees(affinity, sizes, improve=improve, exact_limit=0, seed=seed, **options)
    assert_front(found, affinity, sizes, **options)
    assert found[0].size == sum(sizes)


@pytest.mark.parametrize("num_tasks", [6, 7])
def test_beam_and_moves_come_near_the_best(num_tasks):
    """Measured on many cases in benchmarks/trees.py: nearly always the best."""
    gaps = []
    for seed in range(3):
        affinity = noise(4, num_tasks, seed)
        exact = search_trees(affinity, RESNET)
        plain = search_trees(affinity, RESNET, exact_limit=0, improve=False)
        better = search_trees(affinity, RESNET, exact_limit=0)
        for best in exact:
            costs = [best_cost(front, best.size) for front in (plain, better)]
            assert best.cost <= costs[1] + 1e-12 <= costs[0] + 2e-12
            gaps.append((costs[1] - best.cost) / exact[0].cost)
    assert np.median(gaps) < 1e-9
    assert np.max(gaps) < 0.05


def test_beam_finds_clear_groups():
    """Three kinds of tasks, told apart from the second location on; the kinds are not alike."""
    kind = np.arange(12) % 3
    values = np.where(kind[:, None] == kind, 0.9, 0.1)
    np.fill_diagonal(values, 1)
    tasks = tuple(f"task{i}" for i in range(12))
    affinity = Affinity([np.full((12, 12), 1.0), values], tasks, ("low", "high"))
    found = search_trees(affinity, [1, 1], budget=4, improve=False)[-1]
    groups = tuple(tuple(tasks[i] for i in range(12) if kind[i] == k) for k in range(3))
    assert found.tree == Tree(((tasks,), groups))
    assert found.cost == pytest.approx(0.1)


def test_same_seed_same_trees():
    affinity = noise(3, 14)
    fronts = [search_trees(affinity, [1, 2, 4], seed=seed) for seed in (3, 3)]
    assert fronts[0] == fronts[1]


def test_tasks_that_contradict_each_other():
    values = np.full((2, 12, 12), -1.0)
    values[:, range(12), range(12)] = 1
    tasks = tuple("abcdefghijkl")
    front = search_trees(Affinity(values, tasks, ("low", "high")), [1, 1], exact_limit=0)
    assert front[0].cost == 4 and front[-1].cost == 0


@pytest.mark.parametrize("num_things", [3, 6, 12])
def test_clusters_are_those_of_scikit_learn(num_things):
    affinity = (1 + noise(1, num_things, seed=5).values[0]) / 2
    found = spectral_clusterings(affinity)
    assert len(found) == num_things - 2
    for m, labels in enumerate(found, start=2):
        clusters = SpectralClustering(m, affinity="precomputed", assign_labels="cluster_qr")
        expected = clusters.fit(affinity).labels_
        assert len(set(labels)) == len(set(expected)) == len({*zip(labels, expected, strict=True)})


@pytest.mark.slow
def test_forty_tasks_at_five_locations():
    """It ends, in seconds; all trees are far too many to look at."""
    affinity, sizes = noise(5, 40), (*RESNET, RESNET[-1])
    front = search_trees(affinity, sizes)
    assert len(front) > 100 and front[-1].size == 40 * sum(sizes)


# Moves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_shared", [False, True])
def test_moves_lead_where_they_say(first_shared):
    affinity, sizes = noise(3, 6), (1, 10, 100)
    costs = ChainCosts(affinity.dissimilarity, sizes, first_shared=first_shared)
    index = {task: 1 << i for i, task in enumerate(affinity.tasks)}
    trees = random_trees(affinity.tasks, sizes, 8, first_shared=first_shared, seed=0)
    for tree in trees:
        chain = tuple(tuple(sum(map(index.get, g)) for g in level) for level in tree.levels)
        moves = Moves(costs, chain)
        reached = set()
        for move in range(len(moves.sizes)):
            found = Tree(named(moves.chain(move), affinity.tasks))
            assert moves.sizes[move] == found.size(sizes)
            assert moves.prices[move] == pytest.approx(found.cost(affinity))
            assert not first_shared or len(found.levels[0]) == 1
            reached.add(found)
        assert tree in reached
        assert len(reached) > 20


def test_all_trees_can_be_reached_by_moves():
    affinity = noise(2, 4)
    costs = ChainCosts(affinity.dissimilarity, (1, 1))
    seen, todo = set(), [costs.ends()[0]]
    while todo:
        chain = todo.pop()
        if chain not in seen:
            seen.add(chain)
            moves = Moves(costs, chain)
            todo += [moves.chain(move) for move in range(len(moves.sizes))]
    assert len(seen) == 60


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        (
            [10, 100],
            {"budget": 109},
            "`budget` must be at least 110, the size of the tree that shares everything. "
            "Received: budget=109.",
        ),
        (
            [10],
            {},
            "`sizes` must have one number for each of the 2 locations. Received: sizes=[10].",
        ),
        ([10, -1], {}, "`sizes` must be finite and not negative. Received: sizes=[10, -1]."),
        ([1, np.nan], {}, "`sizes` must be finite and not negative. Received: sizes=[1, nan]."),
        ([10, 100], {"beam": 0}, "`beam` must be at least 1. Received: beam=0."),
        (
            [10, 100],
            {"budget": float("nan")},
            "`budget` must be at least 110, the size of the tree that shares everything. "
            "Received: budget=nan.",
        ),
    ],
)
def test_bad_values(sizes, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        search_trees(noise(2, 3), sizes, **options)


def test_bad_types():
    with pytest.raises(TypeError, match="`affinity` must be an `Affinity`"):
        search_trees(noise(2, 3).values, [1, 1])
    with pytest.raises(TypeError, match=r"`budget` must be a number or None\. Received: .*'2'"):
        search_trees(noise(2, 3), [1, 1], budget="2")
