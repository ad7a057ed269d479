"""Sluice networks: the whole network by hand, the penalty, and where its gradient goes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import Architecture
from keras_mtl.strategies import CrossStitch, Sluice
from tests import backbones, toys
from tests.contracts import assert_gradient_reaches

TASKS = ("a", "b", "c")


def features_of(names=TASKS):
    """Tasks whose outputs are their features."""
    return [keras_mtl.Task(name, keras.layers.Identity(), "mse") for name in names]


def dense():
    """Two layers, of which the second is narrower."""
    x = inputs = keras.Input((3,), name="x")
    x = keras.layers.Dense(6, activation="tanh", name="low")(x)
    x = keras.layers.Dense(4, name="high")(x)
    return keras.Model(inputs, x, name="dense")


def built(**settings):
    strategy = Sluice(granularity="block", **settings)
    return keras_mtl.build(dense(), features_of(), strategy, seed=0, initial_weights="fresh")


@pytest.fixture(scope="module")
def trained():
    """A model with every weight unlike its first value, and inputs."""
    model = built(orthogonality=0.25)
    generator = np.random.default_rng(1)
    for variable in model.network.weights:
        variable.assign(generator.normal(size=variable.shape))
    return model, generator.normal(size=(5, 3)).astype("float32")


def by_hand(model, x):
    """Features of the tasks, and what every sluice reads: task -> array, place -> list."""
    layers = {name: layer.get_weights() for name, layer in model.named_layers().items()}
    columns, read, places = [x] * len(TASKS), {}, []
    for place in ("low", "high"):
        columns = [
            column @ layers[f"{place}.{task}"][0] + layers[f"{place}.{task}"][1]
            for task, column in zip(TASKS, columns, strict=True)
        ]
        columns = list(map(np.tanh, columns)) if place == "low" else columns
        read[place] = columns
        parts = np.stack([np.stack(np.split(column, 2, axis=-1)) for column in columns])
        (alpha,) = layers[f"{place}.sluice"]
        mixed = np.einsum("igjh,jhnc->ignc", alpha, parts)
        columns = [np.concatenate(list(subspaces), axis=-1) for subspaces in mixed]
        places.append(columns)
    features = {}
    for i, task in enumerate(TASKS):
        (beta,) = layers[f"high.mixture.{task}"]
        features[task] = beta[0] * places[0][i][:, :4] + beta[1] * places[1][i]
    return features, read


def test_the_whole_network_by_hand(trained):
    model, x = trained
    expected, _ = by_hand(model, x)
    for task, answer in model(x).items():
        np.testing.assert_allclose(answer, expected[task], rtol=1e-4, atol=1e-5)


def penalty(model, x):
    _, read = by_hand(model, x)
    total = 0.0
    for columns in read.values():
        for column in columns:
            first, second = np.split(column, 2, axis=-1)
            total += 0.25 * np.sum((first.T @ second / len(x)) ** 2)
    return total


def test_the_penalty_is_part_of_the_loss(trained):
    model, x = trained
    y = {task: np.zeros((5, 4), "float32") for task in TASKS}
    expected, _ = by_hand(model, x)
    model.compile("sgd")
    found = model.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    losses = {task: np.mean(expected[task] ** 2) for task in TASKS}
    for task in TASKS:
        np.testing.assert_allclose(found[f"{task}_loss"], losses[task], rtol=1e-4)
    assert penalty(model, x) > 0.01
    np.testing.assert_allclose(found["loss"], sum(losses.values()) + penalty(model, x), rtol=1e-4)


def test_the_gradient_of_the_penalty_reaches_what_lies_before_a_sluice(trained):
    model, x = trained
    before = {f"{place}.{task}" for place in ("low", "high") for task in TASKS}
    layers = [layer for layer in model.network.layers if layer.name in before | {"low.sluice"}]

    def loss():
        model(x, training=True)
        return sum(model.losses)

    assert_gradient_reaches(model, [v for layer in layers for v in layer.trainable_weights], loss)


def test_training_makes_subspaces_orthogonal():
    """With labels that are the answers, the penalty alone moves the weights."""
    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    model = built(orthogonality=0.25)
    before = penalty(model, x)
    model.compile(keras.optimizers.SGD(0.3))
    y = {task: np.full((32, 4), np.nan, "float32") for task in TASKS}  # no label is present
    history = model.fit(x, y, batch_size=32, epochs=30, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], before, rtol=1e-4)
    assert history["a_loss"] == [0.0] * 30
    assert penalty(model, x) < 0.2 * before


def test_without_a_weight_there_is_no_penalty():
    model = built()
    model(np.ones((2, 3), "float32"))
    assert model.losses == []


def test_the_places_that_a_task_reads():
    plan = keras_mtl.plan(toys.residual(blocks=2), toys.tasks(2), Sluice(granularity="block"))
    assert plan.units == ("stem", "block1", "block2")
    assert [str(fusion) for fusion in plan.fusions] == [
        *(f"{unit}: sluice of classes, value for classes, value" for unit in plan.units),
        *(
            f"block2: sluice_mixture of {task} (block2.sluice), {task} (stem.sluice), "
            f"{task} (block1.sluice) for {task}"
            for task in ("classes", "value")
        ),
    ]
    assert {fusion.settings["num_tasks"] for fusion in plan.fusions[:3]} == {2}
    assert {fusion.settings["num_places"] for fusion in plan.fusions[3:]} == {3}


def test_settings_reach_the_layers():
    strategy = Sluice(subspaces=3, initial="balanced", orthogonality=0.5, last=0.75)
    model = keras_mtl.build(toys.chain(), toys.tasks(2), strategy, seed=0)
    layers = model.named_layers()
    np.testing.assert_allclose(layers["conv1.sluice"].alpha, np.full((2, 3, 2, 3), 1 / 6))
    np.testing.assert_allclose(layers["conv2.mixture.value"].beta, [0.25, 0.75])
    assert layers["conv2.sluice"].orthogonality == 0.5


def test_one_subspace_and_the_last_place_alone_are_cross_stitch():
    backbone, x = toys.chain(), toys.inputs(toys.chain())
    sluice = Sluice(subspaces=1, own=0.8, last=1.0)
    first, second = (
        keras_mtl.build(backbone, toys.tasks(2), strategy, seed=0)
        for strategy in (sluice, CrossStitch(own=0.8))
    )
    for task, answer in second(x).items():
        np.testing.assert_allclose(first(x)[task], answer, rtol=1e-5)


@pytest.mark.parametrize("tasks", [2, 3])
def test_costs_are_those_of_the_model(tasks):
    backbone = toys.chain()
    model = keras_mtl.build(backbone, toys.tasks(tasks), Sluice(), seed=0)
    plan = keras_mtl.plan(backbone, toys.tasks(tasks), Sluice(), seed=0)
    assert plan == model.architecture and plan.costs == model.architecture.costs
    assert plan.parameters() == model.network.count_params()
    for task in model.task_names:
        assert plan.parameters(task) == model.task_network(task).count_params()
    apart = keras_mtl.plan(backbone, toys.tasks(tasks), "independent")
    # Two stages with their weights α, and two weights β for each task.
    assert plan.parameters() - apart.parameters() == 2 * (2 * tasks) ** 2 + 2 * tasks
    assert plan.flops() == apart.flops()


def test_one_task_has_nothing_to_exchange():
    model = keras_mtl.build(toys.chain(), toys.tasks(1), Sluice(), seed=0)
    assert model.architecture.fusions == ()


def test_places_of_another_rank_are_left_out():
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", name="map")(inputs)
    x = keras.layers.Dense(6, name="wide")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(4, name="narrow")(x)
    plan = keras_mtl.plan(keras.Model(inputs, x), toys.tasks(2), Sluice(granularity="operator"))
    assert [f.unit for f in plan.fusions] == ["map", "wide", "narrow", "narrow", "narrow"]
    assert plan.fusions[-1].sources == (("value", "narrow.sluice"), ("value", "wide.sluice"))


def test_derived_and_reloaded(trained, tmp_path):
    model, x = trained
    plan = Architecture.from_json(model.architecture.to_json())
    assert plan == model.architecture
    derived = keras_mtl.build(
        dense(), features_of(), architecture=plan, initial_weights=model, seed=5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for task, answer in model(x).items():
        np.testing.assert_allclose(derived(x)[task], answer, rtol=1e-5)
        np.testing.assert_array_equal(loaded(x)[task], answer)


def test_what_is_served_has_no_penalty(trained, tmp_path):
    _, x = trained
    strategy = Sluice(granularity="block", orthogonality=0.25)
    model = keras_mtl.build(dense(), features_of(("a", "b")), strategy, seed=0)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved").signatures
    for task, answer in model(x).items():
        assert set(served[task].structured_outputs) == {task}
        np.testing.assert_allclose(served[task](x=x)[task], answer, rtol=1e-5)


@pytest.mark.parametrize("name", backbones.KINDS)
def test_backbones_of_many_kinds(name):
    make, batch = backbones.BACKBONES[name]
    backbone = make()
    model = keras_mtl.build(backbone, features_of(("a", "b")), Sluice(), seed=0)
    if model.architecture.costs:
        assert model.architecture.parameters() == model.network.count_params()
    found = model(batch(), training=False)
    assert found["a"].shape == found["b"].shape == backbone(batch()).shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": "even"}, "`initial` must be one of ('own', 'balanced', 'biased'). "),
        ({"subspaces": 0}, "`subspaces` must be an integer of at least 1. Received: subspaces=0."),
        ({"own": 2}, "`own` must be between 0 and 1. Received: own=2."),
        ({"last": -1}, "`last` must be between 0 and 1. Received: last=-1."),
        ({"orthogonality": -1}, "`orthogonality` must be a number of at least 0. "),
        ({"granularity": "net"}, "`granularity` must be one of "),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError) as error:
        Sluice(**settings)
    assert str(error.value).startswith(message)
