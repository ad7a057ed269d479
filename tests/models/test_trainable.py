"""Freezing and unfreezing: `trainable` reaches every layer, and compile takes what it says."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from tests import toys

STRATEGIES = ["shared", "independent", "cross_stitch", "adashare"]
PARTITION = keras_mtl.strategies.FeaturePartition(
    [[0.5, 0.5], [0.5, 0.5]], frozen=1, layers=["conv3"]
)


def frozen(backbone):
    backbone.trainable = False
    return backbone


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_unfreezing_a_model_of_a_frozen_backbone(strategy):
    backbone = toys.residual(blocks=2)
    every = keras_mtl.build(backbone, toys.tasks(2), strategy, seed=0).trainable_variables
    model = keras_mtl.build(frozen(backbone), toys.tasks(2), strategy, seed=0)
    assert len(model.trainable_variables) < len(every)
    model.trainable = True
    model.compile()
    assert [v.path for v in model.trainable_variables] == [v.path for v in every]
    searches = strategy == "adashare"
    assert len(model.weight_variables()) == len(every) - searches
    # And again, as a whole and by layer.
    model.trainable = False
    assert not model.trainable_variables
    model.trainable = True
    name = next(name for name in model.named_layers() if name.startswith("block1"))
    model.named_layers()[name].trainable = False
    model.compile()
    assert len(model.trainable_variables) == len(every) - 2


def test_unfrozen_weights_move():
    model = keras_mtl.build(frozen(toys.mlp(blocks=1)), toys.tasks(2), "shared", seed=0)
    x, y = toys.data(toys.mlp(blocks=1), toys.tasks(2))
    layer = model.named_layers()["block1"]

    def moved():
        before = np.array(layer.kernel)
        model.fit(x, y, verbose=0)
        return not np.array_equal(before, np.array(layer.kernel))

    model.compile("sgd", run_eagerly=True)
    assert not moved()
    model.trainable = True
    model.compile("sgd", run_eagerly=True)
    assert moved()
    layer.trainable = False
    model.compile("sgd", run_eagerly=True)
    assert not moved()


def test_a_frozen_normalisation_keeps_its_statistics():
    backbone = toys.residual(blocks=1)
    model = keras_mtl.build(frozen(backbone), toys.tasks(2), "shared", seed=0)
    layer = model.named_layers()["block1_bn"]
    assert layer not in model.statistics() and not model.statistics()
    model.trainable = True
    assert len(model.statistics()) == 4  # of two layers


def test_layers_inside_a_head():
    head = keras.Sequential([keras.Input((8,)), layers.Dense(4, trainable=False), layers.Dense(1)])
    tasks = [keras_mtl.Task("a", head, "mse")]
    model = keras_mtl.build(toys.mlp(blocks=1), tasks, "shared", seed=0)
    assert len(model.trainable_variables) == 6
    model.trainable = True
    assert len(model.trainable_variables) == 8


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_units_stay_frozen(freeze, tmp_path):
    backbone = toys.chain((4, 4, 6, 6))
    backbone.trainable = not freeze
    model = keras_mtl.build(backbone, toys.tasks(2), PARTITION, seed=0)
    model.trainable = True
    assert not model.named_layers()["conv1"].trainable
    assert model.named_layers()["conv1_bn.classes"].trainable
    count = len(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert len(again.trainable_variables) == count
    again.trainable = True
    assert len(again.trainable_variables) == count


def test_a_frozen_policy_is_refused():
    model = keras_mtl.build(toys.mlp(), toys.tasks(2), "adashare", seed=0)
    model.trainable = False
    with pytest.raises(ValueError, match=r"Set `model.trainable = True`, and freeze layers one by"):
        model.compile()


def test_warm_starts_keep_what_is_trained():
    """First weights say nothing about what is trained: the backbone does."""
    trained = keras_mtl.build(toys.mlp(), toys.tasks(2), "shared", seed=0)
    model = keras_mtl.build(
        frozen(toys.mlp()), toys.tasks(2), "shared", seed=0, initial_weights=trained
    )
    assert len(model.trainable_variables) == 4
    model.trainable = True
    assert len(model.trainable_variables) == len(trained.trainable_variables)
