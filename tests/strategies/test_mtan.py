"""MTAN: which units a mask reads, what the whole network computes, and what a task alone needs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import Architecture
from keras_mtl.strategies import MTAN
from tests import backbones, toys

NAMES = ("a", "b", "c")


def features_of(names=NAMES):
    """Tasks whose outputs are their features."""
    return [keras_mtl.Task(name, keras.layers.Identity(), "mse") for name in names]


def three_stages():
    """Stages of one block (the stem), of two, and of one that is not half the size."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="low")(x)
    x = keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="high")(x)
    x = keras.layers.Conv2D(8, 2, activation="relu", name="top")(x)
    return keras.Model(inputs, x, name="three_stages")


@pytest.fixture(scope="module")
def trained():
    """A model of three tasks, every weight unlike its first value; its backbone and inputs."""
    backbone = three_stages()
    model = keras_mtl.build(backbone, features_of(), MTAN(reduction=2), seed=0)
    toys.randomised(model.network, seed=1)
    return model, backbone, toys.inputs(backbone, examples=4)


def normalised(layer, x):
    gamma, beta, mean, variance = layer.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def convolved(x, kernel):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = x.shape[1:3]
    return sum(
        padded[:, i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def selected(layer, features, read, fitted=None):
    """What a task selects, in NumPy; `fitted` is what comes from the stage before."""
    x = read if fitted is None else np.concatenate([read, fitted], axis=-1)
    x = np.maximum(normalised(layer.inner_normalisation, x @ layer.inner.get_weights()[0]), 0)
    x = normalised(layer.outer_normalisation, x @ layer.outer.get_weights()[0])
    return features / (1 + np.exp(-x))


def extracted(layer, x):
    normalisations = layer.extraction_normalisations
    for step, normalisation in zip(layer.extraction, normalisations, strict=True):
        (kernel,) = step.get_weights()
        x = x @ kernel if kernel.ndim == 2 else convolved(x, kernel)
        x = np.maximum(normalised(normalisation, x), 0)
    return x


def test_a_chain_of_masks_for_every_task():
    plan = keras_mtl.plan(three_stages(), features_of(), MTAN(reduction=2))
    assert plan.units == ("stem", "low", "high", "top") and plan.granularity == "block"
    assert set(plan.choices.values()) == {("shared",) * 4}
    assert len(plan.fusions) == 3 * 3
    first, second, third = plan.fusions[:3]
    assert first.sources == (("a", "stem"), ("a", "stem"))
    assert second.sources == (("a", "high"), ("a", "low"), ("a", "stem.attention.a"))
    assert third.sources == (("a", "top"), ("a", "top"), ("a", "high.attention.a"))
    assert [fusion.aside for fusion in plan.fusions] == [True, True, False] * 3
    assert {fusion.settings["reduction"] for fusion in plan.fusions} == {2}
    assert "for a aside, as high.attention.a\n" in plan.summary()


def test_the_whole_network_by_hand(trained):
    model, _, x = trained
    layers = model.named_layers()
    assert [name for name in layers if name.split(".")[0] == "low"] == ["low"]  # one trunk
    trunk = {
        name: np.asarray(keras.Model(model.network.input, layers[name].output)(x))
        for name in ("stem", "low", "high", "top")
    }
    found = model(x, training=False)
    answers = []
    for task in NAMES:
        first, second, third = (
            layers[f"{unit}.attention.{task}"] for unit in ("stem", "high", "top")
        )
        before = selected(first, trunk["stem"], trunk["stem"])
        pooled = extracted(second, before).reshape(-1, 4, 2, 4, 2, 5).max(axis=(2, 4))
        before = selected(second, trunk["high"], trunk["low"], pooled)
        resized = tf.image.resize(extracted(third, before), (3, 3)).numpy()
        expected = selected(third, trunk["top"], trunk["top"], resized)
        np.testing.assert_allclose(found[task], expected, rtol=1e-4, atol=1e-6)
        answers.append(expected)
    assert not np.allclose(answers[0], answers[1])


def test_costs_are_those_of_the_model(trained):
    model, backbone, _ = trained
    plan = keras_mtl.plan(backbone, features_of(), MTAN(reduction=2), seed=0)
    assert plan == model.architecture and plan.costs == model.architecture.costs
    assert plan.parameters() == model.network.count_params()
    trunk = keras_mtl.plan(backbone, features_of(), "shared")
    assert trunk.parameters() == backbone.count_params()
    for task in NAMES:
        assert plan.parameters(task) == model.task_network(task).count_params()
        # Inside the masks; and between them, at the size before.
        first = 64 * (4 * 2 + 2 * 4)
        second = 16 * (11 * 2 + 2 * 5) + 64 * (4 * 2 + 9 * 2 * 2 + 2 * 5)
        third = 9 * (16 * 4 + 4 * 8) + 16 * (5 * 4 + 9 * 4 * 4 + 4 * 8)
        extra = 2 * (first + second + third)
        assert plan.flops(task) == trunk.flops() + extra
    assert plan.flops() == trunk.flops() + 3 * extra


def test_a_task_alone_needs_nothing_of_the_others(trained):
    model, _, x = trained
    network = model.task_network("b")
    owned = {name.split(".")[-1] for name in (layer.name for layer in network.layers)}
    assert not owned & {"a", "c"}
    np.testing.assert_array_equal(network(x), model(x)["b"])


@pytest.mark.slow
def test_export(trained, tmp_path):
    model, _, x = trained
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for task in NAMES:
        function = loaded.signatures[task]
        np.testing.assert_allclose(function(image=x)[task], model(x)[task], atol=1e-5)
    everything = loaded.signatures["serve"](image=x)
    np.testing.assert_allclose(everything["c"], model(x)["c"], atol=1e-5)


def test_derived_and_reloaded(trained, tmp_path):
    model, backbone, x = trained
    plan = Architecture.from_json(model.architecture.to_json())
    assert plan == model.architecture
    derived = keras_mtl.build(
        backbone, features_of(), architecture=plan, initial_weights=model, seed=5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for task, answer in model(x).items():
        np.testing.assert_allclose(derived(x)[task], answer, atol=1e-6)
        np.testing.assert_array_equal(loaded(x)[task], answer)


def test_one_task():
    backbone = toys.residual(downsample=(3,))
    model = keras_mtl.build(backbone, toys.tasks(1), MTAN(), seed=0)
    assert len(model.architecture.fusions) == 2
    assert model.architecture.parameters() == model.network.count_params()
    assert model.architecture.costs["flops"]["together"] == model.architecture.flops("classes")


def test_a_map_that_becomes_a_vector():
    """The mask of the dense stage reads the mean of what was selected from the maps."""
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", name="map")(inputs)
    x = keras.layers.Dense(4, name="vector")(keras.layers.Flatten()(x))
    backbone = keras.Model(inputs, x)
    model = keras_mtl.build(backbone, toys.tasks(2), MTAN(), seed=0)
    assert [f.unit for f in model.architecture.fusions] == ["map", "vector"] * 2
    assert model.architecture.parameters() == model.network.count_params()


def test_maps_of_unknown_size():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="low")(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2, name="high")(x)
    model = keras_mtl.build(keras.Model(inputs, x), toys.tasks(2), MTAN(), seed=0)
    (first, _) = model.architecture.fusions
    assert first.sources == (("classes", "high"), ("classes", "high"))
    assert model(np.ones((2, 17, 13, 3), "float32"))["value"].shape == (2, 1)


@pytest.mark.parametrize("name", backbones.KINDS)
def test_backbones_of_many_kinds(name):
    make, batch = backbones.BACKBONES[name]
    backbone = make()
    model = keras_mtl.build(backbone, features_of(("a", "b")), MTAN(), seed=0)
    if model.architecture.costs:
        assert model.architecture.parameters() == model.network.count_params()
    found = model(batch(), training=False)
    assert found["a"].shape == found["b"].shape == backbone(batch()).shape


def test_bad_settings():
    with pytest.raises(
        ValueError, match=r"^`reduction` must be an integer of at least 1\. Received: "
    ):
        MTAN(reduction=0)
