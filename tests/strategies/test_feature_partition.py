"""FeaturePartition: which channels, where, and what is frozen."""

import re
import types

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.partition import achieved_matrix, partition_matrix
from keras_mtl.strategies import FeaturePartition
from tests import partitioned, toys
from tests.contracts import assert_serialises

HALF = [[0.5, 0.0], [0.0, 0.5]]


def plan(strategy, backbone=None, count=2):
    return keras_mtl.plan(backbone or partitioned.vgg(8), partitioned.tasks(count), strategy)


def unfrozen(*matrices, **settings):
    return FeaturePartition(*matrices, frozen=0, **settings)


def arrays(use, tasks, direction="forward"):
    masks = getattr(use, direction)
    return np.array([[bit == "1" for bit in masks[task]] for task in tasks])


def test_shares_and_overlaps():
    P = [[0.5, 0.5], [0.5, 0.75]]
    made = plan(unfrozen(P, [[0.5, 0.0], [0.0, 1.0]], seed=3))
    assert list(made.masks) == ["conv1", "conv3", "dense1"]
    assert made.normalisation == "task" and made.granularity == "operator"
    for unit in ("conv1", "conv3"):
        forward = arrays(made.masks[unit], made.tasks)
        np.testing.assert_array_equal(achieved_matrix(forward), partition_matrix(P))
        backward = arrays(made.masks[unit], made.tasks, "backward")
        assert backward.sum(axis=1).tolist() == [2, 6] and not np.any(backward & ~forward)
    assert {choice for row in made.choices.values() for choice in row} == {"shared"}


def test_the_default_shares_all():
    made = plan(FeaturePartition())
    assert made.masks and made.frozen
    assert {use.share(task) for use in made.masks.values() for task in made.tasks} == {1.0}
    shared = keras_mtl.plan(partitioned.vgg(8), partitioned.tasks(), "shared")
    assert made.costs == shared.costs


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_baselines_of_the_paper(number):
    """The P that the docstring names: what it comes to, for a layer of 48 channels."""
    tasks = "abcd"[:number]
    backbone = keras.Sequential([keras.Input((3,))])
    for name in ("first", "second"):
        backbone.add(keras.layers.Dense(48, name=name))
    ones, eye = np.ones((number, number)), np.eye(number)
    independent = eye / number
    half = np.where(eye == 1, 0.5 + 0.5 / number, (number - 2) / (number - 1))

    def found(forward, backward=None):
        use = plan(FeaturePartition(forward, backward), backbone, number).masks["first"]
        return arrays(use, tasks), arrays(use, tasks, "backward")

    forward, backward = found(independent)
    assert forward.sum(axis=0).tolist() == [1] * 48 and np.array_equal(forward, backward)
    assert set(forward.sum(axis=1)) == {48 // number}
    forward, _ = found(half)
    wanted = np.where(eye == 1, 0.5 + 0.5 / number, 0.5)
    assert np.abs(achieved_matrix(forward) - wanted).max() <= 1 / 48
    forward, backward = found(ones, independent)
    assert forward.all() and backward.sum(axis=0).tolist() == [1] * 48


def test_the_seed_decides_and_layers_differ():
    backbone = partitioned.vgg(16)
    first, again = (plan(unfrozen(HALF, seed=0), backbone) for _ in range(2))
    other = plan(unfrozen(HALF, seed=1), backbone)
    assert first == again and first.masks != other.masks
    assert first.masks["conv1"] != first.masks["conv3"]


def test_a_second_backbone_of_other_names():
    def backbone():
        x = inputs = keras.Input((4,))
        for _ in range(3):
            x = keras.layers.Dense(8)(x)
        return keras.Model(inputs, x)

    made = plan(FeaturePartition(HALF, frozen=0), backbone())
    model = keras_mtl.build(backbone(), partitioned.tasks(), architecture=made, seed=0)
    assert set(model.architecture.masks) <= set(model.architecture.units) - set(made.units)
    assert list(model.architecture.masks.values()) == list(made.masks.values())
    assert list(plan(FeaturePartition(HALF), backbone()).masks.values()) == list(
        made.masks.values()
    )


def test_where():
    assert list(plan(unfrozen(layers="all")).masks) == [
        "conv1",
        "conv2",
        "conv3",
        "conv4",
        "dense1",
    ]
    assert list(plan(unfrozen(layers=["conv2", "conv4"])).masks) == ["conv2", "conv4"]


@pytest.mark.parametrize(
    ("frozen", "count"), [(0, 0), (1, 1), (2, 2), (0.5, 1), (2 / 3, 2), (0.0, 0)]
)
def test_frozen_stages(frozen, count):
    """A ResNet of three stages: the first ones keep their operators, normalisation still moves."""
    backbone = toys.residual(blocks=6, downsample=(3, 5))
    made = plan(FeaturePartition(HALF, frozen=frozen), backbone)
    stages = [
        ["stem", "block1", "block2"],
        ["block3", "block3_second", "block3_shortcut", "block4"],
        ["block5", "block5_second", "block5_shortcut", "block6"],
    ]
    assert sorted(made.frozen) == sorted(name for stage in stages[:count] for name in stage)
    assert list(made.masks) == ["block3", "block5"][max(0, count - 1) :]
    model = keras_mtl.build(backbone, partitioned.tasks(), architecture=made, seed=0)
    moving = {v.path.split("/")[0] for v in model.trainable_variables}
    assert not moving & set(made.frozen) and "stem_bn.a" in moving


def test_rows_of_tasks_in_another_order():
    P = [[0.25, 0.0], [0.0, 0.75]]
    partition = types.SimpleNamespace(
        tasks=("b", "a"), forward=np.array(P), backward=np.ones((2, 2))
    )
    made = plan(FeaturePartition.of(partition, frozen=0))
    assert [made.masks["conv1"].share(task) for task in ("a", "b")] == [0.75, 0.25]
    message = "`tasks` must be those of the model, ['a', 'b']. Received: tasks=['b', 'c']."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        plan(FeaturePartition(P, tasks=("b", "c")))


def test_settings_survive():
    assert_serialises(
        FeaturePartition,
        {
            "forward": HALF,
            "backward": [[1.0, 0.5], [0.5, 1.0]],
            "layers": ["conv1"],
            "frozen": 1,
            "seed": 5,
            "normalisation": "shared",
            "tasks": ["a", "b"],
        },
    )


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: plan(FeaturePartition(HALF), count=3),
            ValueError,
            "`forward` must have a row and a column for each of the 3 tasks. Received: 2 rows.",
        ),
        (
            lambda: FeaturePartition([[2.0]]),
            ValueError,
            "`forward` must hold values from 0 to 1. Received: forward[0, 0]=2.0.",
        ),
        (
            lambda: FeaturePartition(layers="some"),
            ValueError,
            "`layers` must be one of ('alternate', 'all'). Received: layers='some'.",
        ),
        (
            lambda: plan(FeaturePartition(layers=["dense2"])),
            ValueError,
            "`layers` must name operators whose channels can be masked. Received: 'dense2': its "
            "channels reach the backbone's output. Did you mean 'dense1'?",
        ),
        (
            lambda: FeaturePartition(frozen=1.0),
            ValueError,
            "`frozen` must be a number of stages, or a share of them from 0 to below 1. Received: "
            "frozen=1.0.",
        ),
        (
            lambda: plan(FeaturePartition(), toys.mlp(blocks=1)),
            keras_mtl.UnsupportedBackboneError,
            "`backbone` must have operators whose channels can be masked, behind the frozen "
            "stages (frozen=0.6666666666666666). Received: none. 'stem': its channels reach "
            "'block1_add' (Add). 'block1': its channels reach 'block1_add' (Add).",
        ),
    ],
)
def test_refusals(make, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        make()
