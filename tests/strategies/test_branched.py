"""Branched: from a tree to copies, within a budget; each node of the tree runs once."""

import json

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.affinity import Affinity, Tree, enumerate_trees, find_locations
from keras_mtl.affinity.locations import segment_sizes
from keras_mtl.graph import find_units, read
from keras_mtl.strategies import Branched
from keras_mtl.strategies.branched import copy_names
from tests import toys

TASKS = ("classes", "value", "value2")
LOCATIONS = ("stem_relu", "block2_relu", "block4_relu")


def affinity(close=("value", "value2")):
    """The pair in `close` is alike everywhere; every two tasks grow apart with depth."""
    values = np.empty((len(LOCATIONS), 3, 3))
    for d in range(len(LOCATIONS)):
        for i, a in enumerate(TASKS):
            for j, b in enumerate(TASKS):
                alike = 0.9 if {a, b} == set(close) else 0.6 - 0.2 * d
                values[d, i, j] = 1.0 if a == b else alike
    return Affinity(values, TASKS, LOCATIONS)


def tree(*levels):
    """`tree("abc", "a bc")`: groups of the three tasks by letter."""
    names = dict(zip("abc", TASKS, strict=True))
    return Tree(
        tuple(tuple(tuple(names[x] for x in group) for group in level.split()) for level in levels)
    )


def build(strategy, backbone=None, **options):
    backbone = backbone or toys.randomised(toys.residual())
    return keras_mtl.build(backbone, toys.tasks(3), strategy, seed=0, **options)


def test_locations_are_the_ends_of_units():
    backbone = toys.residual(downsample=(3,))
    assert find_locations(backbone, "stage") == ("block2_relu", "block4_relu")
    assert find_locations(backbone, "block")[:2] == ("stem_relu", "block1_relu")


def test_choices_of_a_tree():
    strategy = Branched(tree=tree("abc", "a bc", "a b c"), locations=LOCATIONS)
    plan = keras_mtl.plan(toys.residual(), toys.tasks(3), strategy)
    assert plan.units == ("stem", "block1", "block2", "block3", "block4")
    assert plan.choices["classes"] == ("shared", "own", "own", "own", "own")
    for task in ("value", "value2"):
        assert plan.choices[task] == ("shared", "branch1", "branch1", "own", "own")


def test_what_comes_after_the_last_location_belongs_to_it():
    strategy = Branched(tree=tree("abc", "a bc"), locations=("stem_relu", "block1_relu"))
    plan = keras_mtl.plan(toys.residual(), toys.tasks(3), strategy)
    assert plan.choices["value"] == ("shared", *("branch1",) * 4)


def test_a_group_keeps_its_name_and_no_task_has_it():
    named = tree("abc", "ab c", "ab c")
    assert copy_names(named)[1, "classes"] == copy_names(named)[2, "value"] == "branch1"
    clash = Tree(((("branch1", "x", "y"),), (("branch1",), ("x", "y"))))
    assert copy_names(clash)[1, "x"] == copy_names(clash)[1, "y"] == "branch2"
    alone = Tree(((("x",),),))
    assert copy_names(alone) == {(0, "x"): "own"}


@pytest.mark.parametrize("kind", ["parameters", "flops"])
def test_sizes_are_those_of_the_model(kind):
    backbone = toys.residual(downsample=(3,))
    graph = read(backbone)
    sizes = segment_sizes(graph, find_units(graph), LOCATIONS, kind)
    heads = sum(
        getattr(keras_mtl.plan(backbone, [task], "shared"), kind)() - sum(sizes)
        for task in toys.tasks(3)
    )
    for candidate in list(enumerate_trees(TASKS, 3))[::4]:
        strategy = Branched(tree=candidate, locations=LOCATIONS)
        plan = keras_mtl.plan(backbone, toys.tasks(3), strategy)
        assert getattr(plan, kind)() == candidate.size(sizes) + heads


def test_the_best_tree_within_the_budget():
    backbone = toys.residual()
    graph = read(backbone)
    sizes = segment_sizes(graph, find_units(graph), LOCATIONS)
    found = affinity()
    for budget in (1.0, 1.7, 2.4, 3.0):
        limit = int(budget * sum(sizes))
        fitting = [x for x in enumerate_trees(TASKS, 3) if x.size(sizes) <= limit]
        best = min(x.cost(found) for x in fitting)
        for asked in (budget, limit):
            plan = keras_mtl.plan(backbone, toys.tasks(3), Branched(found, budget=asked))
            chosen = Branched(found, budget=asked)._found(graph, TASKS)
            assert chosen.cost(found) == pytest.approx(best)
            strategy = Branched(tree=chosen, locations=LOCATIONS)
            assert plan.choices == keras_mtl.plan(backbone, toys.tasks(3), strategy).choices
    shared = keras_mtl.plan(backbone, toys.tasks(3), Branched(found, budget=1.0))
    assert {c for row in shared.choices.values() for c in row} == {"shared"}
    apart = keras_mtl.plan(backbone, toys.tasks(3), Branched(found, budget=3.0))
    assert {c for row in apart.choices.values() for c in row} == {"own"}


def test_alike_tasks_stay_together():
    plan = keras_mtl.plan(toys.residual(), toys.tasks(3), Branched(affinity(), budget=2.0))
    assert plan.choices["value"] == plan.choices["value2"] != plan.choices["classes"]


def test_every_node_runs_once():
    strategy = Branched(tree=tree("abc", "a bc", "a b c"), locations=LOCATIONS)
    model = build(strategy)
    convolutions = [x for x in model.network.layers if isinstance(x, keras.layers.Conv2D)]
    # The stem; two blocks for each of 2 groups; two blocks for each of 3 tasks.
    assert len(convolutions) == 1 + 2 * 2 + 2 * 3
    assert all(len(layer._inbound_nodes) == 1 for layer in convolutions)
    per_task = [
        sum(isinstance(x, keras.layers.Conv2D) for x in model.task_network(task).layers)
        for task in TASKS
    ]
    assert per_task == [5, 5, 5]


def test_settings_are_plain_data():
    for strategy in (
        Branched(affinity(), budget=1.5, first_shared=True),
        Branched(tree=tree("abc", "a bc"), locations=LOCATIONS[:2], normalisation="task"),
    ):
        config = json.loads(json.dumps(strategy.get_config()))
        assert Branched.from_config(config) == strategy
        assert hash(Branched.from_config(config)) == hash(strategy)


@pytest.fixture(scope="module")
def singles():
    """Single-task models with different weights."""
    backbone = toys.residual()
    models = {}
    for seed, task in enumerate(toys.tasks(3)):
        models[task.name] = keras_mtl.build(
            backbone, [task], "shared", seed=seed, initial_weights="fresh"
        )
    return backbone, models


def test_copies_begin_as_the_mean_of_their_tasks(singles):
    backbone, models = singles
    strategy = Branched(tree=tree("abc", "a bc", "a b c"), locations=LOCATIONS)
    found = build(strategy, backbone, initial_weights=models).named_layers()

    def weights(task, name):
        return models[task].named_layers()[name].get_weights()

    expected = {
        "stem": [weights(task, "stem") for task in TASKS],
        "block1.branch1": [weights(task, "block1") for task in ("value", "value2")],
        "block1.classes": [weights("classes", "block1")],
        "block4.value": [weights("value", "block4")],
        "value.head": [weights("value", "value.head")],
    }
    for name, given in expected.items():
        for mine, *theirs in zip(found[name].get_weights(), *given, strict=True):
            np.testing.assert_allclose(mine, np.mean(theirs, axis=0), atol=1e-7)
    assert not np.allclose(weights("value", "block4")[0], weights("value2", "block4")[0])


def test_an_independent_model_of_trained_ones_says_the_same(singles):
    backbone, models = singles
    model = build("independent", backbone, initial_weights=models)
    x = toys.inputs(backbone)
    for task, answer in model(x).items():
        np.testing.assert_allclose(answer, models[task](x)[task], atol=1e-6)
    again = build("independent", backbone, initial_weights=dict.fromkeys(TASKS, model))
    np.testing.assert_allclose(again(x)["value"], model(x)["value"], atol=1e-6)


def test_a_search_begins_with_the_mean(singles):
    backbone, models = singles
    model = build("adashare", backbone, initial_weights=models)
    found = model.named_layers()["block1"].get_weights()[0]
    given = [models[task].named_layers()["block1"].get_weights()[0] for task in TASKS]
    np.testing.assert_allclose(found, np.mean(given, axis=0), atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`affinity` or `tree` must be given"),
        ({"affinity": affinity(), "tree": tree("abc")}, "and not both"),
        ({"affinity": affinity()}, "`budget` must be a positive number"),
        ({"affinity": affinity(), "budget": True}, "`budget` must be a positive number"),
        ({"affinity": affinity(), "budget": -1}, "`budget` must be a positive number"),
        ({"tree": tree("abc")}, "`locations` must be given"),
        ({"tree": tree("abc"), "locations": "stem"}, "`locations` must be a sequence of names"),
        (
            {"tree": tree("abc"), "locations": LOCATIONS[:1], "budget": 2.0},
            "`budget` must not be given with `tree`, which is taken as it is. Received: budget=2.0",
        ),
        (
            {"affinity": affinity(), "budget": 2.0, "locations": LOCATIONS},
            "`locations` must not be given with `affinity`, which has its own",
        ),
        ({"affinity": affinity(), "budget": float("inf")}, "`budget` must be a positive number"),
        ({"affinity": affinity(), "budget": 2.0, "kind": "bytes"}, "`kind` must be one of"),
        ({"affinity": affinity(), "budget": 0.5}, "`budget`"),
        ({"tree": tree("abc"), "locations": ["nowhere"]}, "`locations` must name layers"),
        ({"tree": tree("abc"), "locations": LOCATIONS}, "one name for each of the 1 levels"),
        (
            {"tree": tree("abc", "a bc"), "locations": ("block1_relu", "stem_relu")},
            "`locations` must lie in different units",
        ),
        ({"tree": Tree(((("x", "y"),),)), "locations": LOCATIONS[:1]}, "tasks of the tree"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_mtl.plan(toys.residual(), toys.tasks(3), Branched(**arguments))


def test_a_plan_needs_a_strategy_that_decides():
    with pytest.raises(ValueError, match="without a search"):
        keras_mtl.plan(toys.residual(), toys.tasks(2), "adashare")


def test_models_of_every_task_are_needed(singles):
    backbone, models = singles
    with pytest.raises(ValueError, match="a model of this library for each of the tasks"):
        build("shared", backbone, initial_weights={"value": models["value"]})
