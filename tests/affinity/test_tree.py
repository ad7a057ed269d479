"""Tree: groups that only split, with a size and the paper's cost."""

import json
import pickle
import re

import numpy as np
import pytest

from keras_mtl.affinity import Affinity, Tree

LEVELS = ((("a", "b", "c"),), (("a", "b"), ("c",)), (("a",), ("b",), ("c",)))


def affinity(order="abc"):
    """Dissimilarities at the first two locations: ab 0.1 0.2, ac 0.3 0.9, bc 0.5 0.4; then 1."""
    pairs = {"ab": (0.1, 0.2), "ac": (0.3, 0.9), "bc": (0.5, 0.4)}
    values = np.zeros((3, len(order), len(order)))
    for i, x in enumerate(order):
        for j, y in enumerate(order):
            known = pairs.get("".join(sorted(x + y)), (1.0, 1.0))
            values[:, i, j] = [1.0] * 3 if x == y else [1 - known[0], 1 - known[1], 0.0]
    return Affinity(values, tuple(order), ("low", "middle", "high"))


def test_cost_by_hand():
    # The largest of three pairs; the mean of a pair's 0.2 and a single task's 0; single tasks.
    assert Tree(LEVELS).cost(affinity()) == pytest.approx(0.5 + (0.2 + 0) / 2 + 0)
    shared = Tree((LEVELS[0],) * 3)
    assert shared.cost(affinity()) == pytest.approx(0.5 + 0.9 + 1.0)
    assert Tree((LEVELS[2],) * 3).cost(affinity()) == 0
    other = Tree((LEVELS[0], (("b",), ("a", "c")), (("b",), ("a", "c"))))
    assert other.cost(affinity()) == pytest.approx(0.5 + 0.9 / 2 + 1.0 / 2)


def test_cost_goes_by_the_names_of_the_tasks():
    tree = Tree(LEVELS)
    assert tree.cost(affinity("cab")) == pytest.approx(tree.cost(affinity()))
    assert tree.cost(affinity("bxca")) == pytest.approx(tree.cost(affinity()))


def test_size_by_hand():
    tree = Tree(LEVELS)
    assert tree.size([1, 10, 100]) == 1 + 2 * 10 + 3 * 100
    assert tree.size(np.array([1, 10, 100])) == 321
    assert isinstance(tree.size(np.array([1, 10, 100])), int)
    assert tree.num_nodes == 6


def test_order_is_that_of_the_tasks_and_does_not_count():
    mixed = [[["c", "a", "b"]], [["c"], ["b", "a"]], [["b"], ["c"], ["a"]]]
    tree = Tree(mixed, tasks=("a", "b", "c"))
    assert tree.levels == LEVELS
    assert tree.tasks == ("a", "b", "c")
    assert Tree(mixed).tasks == ("c", "a", "b")
    assert Tree(mixed).levels[1] == (("c",), ("a", "b"))
    assert Tree(mixed) == tree and hash(Tree(mixed)) == hash(tree)
    assert tree != Tree(LEVELS[:2]) and tree != Tree((*LEVELS[:2], LEVELS[1])) and tree != LEVELS


def test_copies():
    tree = Tree(LEVELS)
    assert Tree(json.loads(json.dumps(tree.levels))) == tree
    assert pickle.loads(pickle.dumps(tree)) == tree
    with pytest.raises(AttributeError):
        tree.levels = ()


def test_text():
    assert repr(Tree(LEVELS)) == "<Tree tasks=['a', 'b', 'c'] groups=[1, 2, 3]>"
    assert str(Tree(LEVELS)) == "a b c\na b | c\na | b | c"
    assert repr(Tree([[[str(i) for i in range(7)]]])) == "<Tree tasks=7 groups=[1]>"


ONCE = "`levels` must have each task once at every location. Received: "
FORM = (
    "`levels` must have for each location a sequence of groups, and each group must be a sequence "
    "of task names. Received: levels="
)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([[["a", "b"]], [["a"]]], ONCE + "levels[1] without 'b'."),
        ([[["a", "b"], ["a"]]], ONCE + "levels[0] with 'a' twice."),
        ([[["a"]], [["a"], ["b"]]], ONCE + "levels[1] with 'b' which is none of ['a']."),
        (
            [[["a"], ["b"]], [["a", "b"]]],
            "`levels` must only split groups from one location to the next. Received: levels[1] "
            "with the group ('a', 'b'), whose tasks are in different groups of levels[0].",
        ),
        ([], FORM + "[]."),
        ([["ab"]], FORM + "[['ab']]."),
        ([[[]]], FORM + "[[[]]]."),
        (7, FORM + "7."),
        ([[[1]]], "`tasks` must be a sequence of names. Received: tasks=(1,)."),
    ],
)
def test_bad_levels(levels, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Tree(levels)


def test_bad_tasks():
    with pytest.raises(ValueError, match=re.escape(ONCE + "levels[0] without 'd'.")):
        Tree(LEVELS, tasks=("a", "b", "c", "d"))
    with pytest.raises(ValueError, match="which is none of"):
        Tree(LEVELS, tasks=("a", "b"))


def test_bad_sizes_and_affinities():
    tree = Tree(LEVELS)
    with pytest.raises(ValueError, match="one number for each of the 3 locations"):
        tree.size([1, 2])
    with pytest.raises(ValueError, match="`sizes` must be finite and not negative"):
        tree.size([1, 2, -3])
    with pytest.raises(ValueError, match=r"know the tasks of the tree.*without 'c'"):
        tree.cost(affinity("ab"))
    with pytest.raises(ValueError, match="must have the 2 locations of the tree"):
        Tree(LEVELS[:2]).cost(affinity())
