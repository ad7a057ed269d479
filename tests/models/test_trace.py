"""`model.trace(task)`: what an answer computes, as text, with costs that add up."""

import keras
import pytest

import keras_mtl
from keras_mtl.text_table import amount
from tests import partitioned, toys

STRATEGIES = ("shared", "independent", "cross_stitch", "nddr_cnn", "sluice", "mtan")


def sums(text):
    """Parameters and FLOPs of the last line."""
    return [cell.strip() for cell in text.splitlines()[-1].split("  ") if cell.strip()][1:]


def costs(architecture, task):
    return [amount(architecture.parameters(task)), amount(architecture.flops(task))]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_steps_add_up_to_the_costs_of_the_architecture(strategy):
    model = keras_mtl.build(toys.residual(blocks=2), toys.tasks(), strategy, seed=0)
    for task in model.task_names:
        assert sums(model.trace(task)) == costs(model.architecture, task)


def test_by_hand():
    inputs = keras.Input((4,), name="x")
    backbone = keras.Model(inputs, keras.layers.Dense(3, activation="relu", name="dense")(inputs))
    task = keras_mtl.Task("a", keras.layers.Dense(2), "mse")
    model = keras_mtl.build(backbone, task, "independent", seed=0)
    assert model.trace("a") == "\n".join(
        [
            "          parameters  FLOPs",
            "--------  ----------  -----",
            "dense.a           15     24",
            "a.head             8     12",
            "together          23     36",
        ]
    )


def test_skipped_blocks_are_not_there():
    backbone = toys.residual(blocks=2)
    choices = {"classes": ("shared", "skip", "shared"), "value": ("shared",) * 3}
    units = ("stem", "block1", "block2")
    plan = keras_mtl.Architecture(("classes", "value"), units, choices)
    model = keras_mtl.build(backbone, toys.tasks(), architecture=plan, seed=0)
    assert "block1" not in model.trace("classes") and "block1" in model.trace("value")


def test_masked_operators_cost_what_is_left_of_them():
    model, _ = partitioned.model("vgg", seed=3)
    for task in model.task_names:
        assert sums(model.trace(task)) == costs(model.architecture, task)


@pytest.mark.parametrize("strategy", ["adashare", "auto_mtl", "mtl_nas"])
def test_a_search_tells_its_likeliest_decision(strategy):
    search = keras_mtl.build(toys.residual(blocks=2), toys.tasks(), strategy, seed=0)
    likeliest = search.decide()
    for task in search.task_names:
        text = search.trace(task)
        assert sums(text) == costs(likeliest, task)
        assert f"{task}.head" in text


def test_an_unknown_task():
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    for ask in (model.trace, model.task_network, model.extract, model.task_weight):
        with pytest.raises(ValueError, match=r"^`task` must be one of \['classes', 'value'\]\. "):
            ask("valu")
