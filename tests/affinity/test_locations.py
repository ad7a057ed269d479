"""Locations: what is found is accepted, by `Branched` and by the comparison of features."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.affinity import Affinity, find_locations, segment_sizes
from keras_mtl.graph import feature_model, find_units, read
from keras_mtl.strategies import Branched
from tests import backbones, toys

TASKS = ("classes", "value", "value2")


def tied():
    """One activation and one dense layer, each called at several places."""
    dense, relu = layers.Dense(4, name="tied"), layers.ReLU(name="relu")
    x = inputs = keras.Input((4,))
    for number in range(2):
        x = relu(layers.Dense(4, name=f"own{number}")(relu(dense(x))))
    return keras.Model(inputs, layers.Dense(4, name="last")(x), name="tied")


def with_states():
    """The last layer of a stretch has several outputs."""
    x = inputs = keras.Input((5, 3))
    x = layers.Dense(4, name="low")(x)
    x, *_ = layers.LSTM(4, return_state=True, name="lstm")(x)
    return keras.Model(inputs, layers.Dense(4, name="last")(x), name="with_states")


def text(length=12):
    """An embedding with nearly all parameters before three blocks with nearly all of the work."""
    ids = keras.Input((length,), dtype="int32", name="ids")
    x = layers.Embedding(1000, 16, name="words")(ids)
    for block in (1, 2, 3):
        x = layers.Add(name=f"add{block}")([x, layers.Dense(16, name=f"block{block}")(x)])
    return keras.Model(ids, x, name="text")


def large_end():
    """Nearly all parameters and all work in the last layer."""
    x = inputs = keras.Input((4,))
    for name, width in (("low", 4), ("middle", 4), ("high", 200)):
        x = layers.Dense(width, name=name)(x)
    return keras.Model(inputs, x, name="large_end")


APPLICATIONS = {
    "VGG16": 32, "ResNet50V2": 32, "MobileNetV2": 32, "EfficientNetB0": 32, "ConvNeXtTiny": 32,
}  # fmt: skip
CASES = {
    **toys.BACKBONES,
    "tied": tied,
    "with_states": with_states,
    "text": text,
    "transformer": backbones.transformer,
    "recurrent": backbones.recurrent,
    **{
        name: (lambda name=name, size=size: backbones.application(name, size))
        for name, size in APPLICATIONS.items()
    },
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_found_is_accepted(case):
    backbone = CASES[case]()
    graph = read(backbone)
    units = find_units(graph, Branched.granularity)
    for granularity in ("stage", "block", "operator"):
        locations = find_locations(backbone, granularity)
        assert locations
        sizes = segment_sizes(graph, units, locations)
        assert all(size > 0 for size in sizes)
        # A layer that is called in several stretches counts in each.
        assert sum(sizes) >= backbone.count_params() - _fixed(graph)
        apart = [[[name] for name in TASKS[:2]]] * len(locations)
        strategy = Branched(tree=apart, locations=locations)
        choices = strategy.decide(graph, [u for u in units if u.searchable], TASKS[:2])["choices"]
        assert set(choices["value"]) == {"own"}
        feature_model(backbone, locations)


def _fixed(graph):
    """Numbers that no unit has: statistics of inputs."""
    return sum(
        call.operation.count_params()
        for call in graph.calls
        if isinstance(call.operation, layers.Normalization)
    )


def test_of_a_layer_that_is_called_again_the_one_before_it_is_named():
    assert find_locations(tied(), "block") == ("own0", "own1", "last")
    assert find_locations(toys.siamese(), "block") == ("difference", "block1_add")
    assert find_locations(with_states(), "block") == ("low", "last")


def test_of_operators_side_by_side_the_last_one_is_named():
    found = find_locations(toys.residual(downsample=(3,)), "operator")
    assert found == ("stem_bn", "block1_bn", "block2_bn", "block3_second", "block4_bn")


def test_a_refusal_names_the_layers_that_are_accepted():
    strategy = Branched(tree=[[["classes", "value"]]], locations=["tied"])
    with pytest.raises(ValueError) as error:
        keras_mtl.plan(tied(), toys.tasks(2), strategy)
    assert str(error.value) == (
        "`locations` must name layers of the backbone that are in one unit each. Received: 'tied', "
        "which is in 2 units. Units end with ['own0', 'own1', 'last']."
    )


# What a budget forces -----------------------------------------------------------------------------


def plan(backbone, granularity="block", **options):
    locations = find_locations(backbone, granularity)
    like = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]])
    affinity = Affinity(np.repeat(like[None], len(locations), axis=0), TASKS, locations)
    return keras_mtl.plan(backbone, toys.tasks(3), Branched(affinity, **options))


def shared_units(architecture):
    return sum(row == "shared" for row in architecture.choices["classes"])


@pytest.mark.parametrize(
    ("case", "options", "shared", "message"),
    [
        (
            text,
            {"budget": 1.5},
            1,
            "`budget` counts parameters, and 95 % of a backbone's parameters lie before the first "
            "branching, but 0 % of its FLOPs: the tasks share little but parameters, up to "
            "'words'. For a tree that shares more work pass `kind='flops'`, and a `budget` of "
            "FLOPs.",
        ),
        (
            lambda: text(None),
            {"budget": 1.5},
            1,
            "`budget` counts parameters, and 95 % of a backbone's parameters lie before the first "
            "branching, in the stretch that ends at 'words': the tasks share no more than that. "
            "For a tree that shares more work give the backbone's inputs fixed sizes, and pass "
            "`kind='flops'`.",
        ),
        (
            large_end,
            {"budget": 1.8},
            3,
            "`budget` must be at least 2040 (1.96 backbones) for a tree that branches: a second "
            "copy of the last stretch, which ends at 'high', has 96 % of a backbone's parameters. "
            "Received: 1872 (1.80 backbones), so all tasks share everything.",
        ),
        (
            large_end,
            {"budget": 3.5},
            0,
            "`budget` must be less than 3120 (3.00 backbones) for a tree that shares: without a "
            "limit it costs least to share nothing. Received: 3640 (3.50 backbones), so tasks "
            "share nothing.",
        ),
        (
            large_end,
            {"budget": 3.0, "first_shared": True},
            1,
            "`budget` must be less than 3080 (2.96 backbones) for a tree that shares: without a "
            "limit it costs least to share nothing. Received: 3120 (3.00 backbones), so tasks "
            "share only the first stretch.",
        ),
        (
            large_end,
            {"budget": 2.0, "first_shared": True, "granularity": "stage"},
            3,
            "`first_shared` must be False where there is one location, or all tasks share "
            "everything. Received: first_shared=True, locations=['high'].",
        ),
    ],
)
def test_a_budget_that_leaves_no_choice_is_said(case, options, shared, message):
    with pytest.warns(UserWarning) as warned:
        found = plan(case(), **options)
    assert [str(warning.message) for warning in warned] == [message]
    assert shared_units(found) == shared


@pytest.mark.parametrize(
    ("case", "options", "shared"),
    [
        (text, {"budget": 1.5, "kind": "flops"}, 3),
        (text, {"budget": 1.02}, 3),  # the work is shared too
        (large_end, {"budget": 1.0}, 3),  # both ends are asked for on purpose
        (large_end, {"budget": 3.0}, 0),
        (large_end, {"budget": 2.0}, 0),
        (large_end, {"budget": np.float32(2.0)}, 0),
        (toys.chain, {"budget": 1.8}, 1),
    ],
)
def test_any_other_budget_is_met_in_silence(case, options, shared, recwarn):
    assert shared_units(plan(case(), **options)) == shared
    assert not recwarn.list
