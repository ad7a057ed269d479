"""Factors of updates by layer: what they do to a step, and which layers they mean."""

import keras
import numpy as np
import pytest
import toys
from keras import layers, ops

import keras_mtl
from keras_mtl.models import tensorflow_step
from keras_mtl.models.multipliers import factors_of


def kernels(model):
    return {
        name: ops.convert_to_numpy(layer.weights[0])
        for name, layer in model.named_layers().items()
        if layer.weights
    }


# The step ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(affine, one_weight):
    """A function: one step of a model with two weights of 1, x = 1 and label 3."""

    def train(scales, optimizer):
        model = keras_mtl.build(affine(), [one_weight("a")], "shared", seed=0)
        model.compile(optimizer, run_eagerly=True)
        stem, head = model.weight_variables()
        model.step_scales = lambda: {id(stem): scales} if scales is not None else {}
        x = np.ones((2, 1), "float32")
        model.fit(x, {"a": 3 * x}, verbose=0, batch_size=2)
        return float(stem[0, 0]), float(head[0, 0]), model

    return train


@pytest.mark.parametrize(
    ("scale", "expected"), [(None, 1.4), (1.0, 1.4), (0.5, 1.2), (3.0, 2.2), (0.0, 1.0)]
)
def test_a_factor_by_hand(trained, scale, expected):
    """The gradient of (w·h - 3)² is -4 for either weight; the rate is 0.1."""
    stem, head, _ = trained(scale, keras.optimizers.SGD(0.1))
    assert stem == pytest.approx(expected)
    assert head == pytest.approx(1.4)


def test_factors_come_after_momentum_and_weight_decay(trained):
    """1 - 0.1·0.5·1 + 0.4 = 1.35; half of the way there is 1.175."""
    stem, head, model = trained(0.5, keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5))
    assert (stem, head) == (pytest.approx(1.175), pytest.approx(1.35))
    momenta = [float(v[0, 0]) for v in model.optimizer.variables if len(v.shape) == 2]
    assert momenta == pytest.approx([0.4, 0.4])


def test_arrays_of_factors_keep_what_has_zero(normalised_mlp):
    task = toys.regression("a")
    model = keras_mtl.build(normalised_mlp(), [task], "shared", seed=0)
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), run_eagerly=True)
    kernel = model.named_layers()["stem"].kernel
    rows = np.zeros((6, 1))
    rows[2] = 1
    model.step_scales = lambda: {id(kernel): rows}
    before = np.array(ops.convert_to_numpy(kernel))
    model.fit(*toys.data(model.network, [task]), verbose=0)
    after = ops.convert_to_numpy(kernel)
    kept = [0, 1, 3, 4, 5]
    assert np.array_equal(after[kept], before[kept])
    assert not np.isclose(after[2], before[2]).any()


def test_nothing_is_computed_for_what_does_not_move(normalised_mlp, monkeypatch):
    """A frozen layer has no gradient, no momentum and no decay."""
    moved = []
    apply = tensorflow_step._apply

    def record(optimizer, gradients, variables):
        moved.extend(v.path for v in variables)
        apply(optimizer, gradients, variables)

    monkeypatch.setattr(tensorflow_step, "_apply", record)
    backbone, tasks = normalised_mlp(), [toys.regression("a")]
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    frozen = dict.fromkeys(("stem", "block1"), 0.0)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5)
    model.compile(optimizer, multipliers=frozen, run_eagerly=True)
    before = {name: np.array(value) for name, value in kernels(model).items()}
    model.fit(*toys.data(backbone, tasks), verbose=0)
    same = {name for name, value in kernels(model).items() if np.array_equal(value, before[name])}
    assert same == {"stem", "block1"}
    layer = model.named_layers()["block1_bn"]
    assert not np.allclose(layer.moving_mean, 0) and not np.allclose(layer.gamma, 1)
    assert moved and not [path for path in moved if path.startswith(("stem/", "block1/"))]


def test_everything_may_be_frozen(normalised_mlp):
    tasks = [toys.regression("a")]
    model = keras_mtl.build(normalised_mlp(), tasks, "shared", seed=0)
    model.compile("sgd", multipliers={"": 0.0}, run_eagerly=True)
    before = [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables]
    model.fit(*toys.data(model.network, tasks), verbose=0)
    after = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    assert all(map(np.array_equal, before, after))


# Which layers -----------------------------------------------------------------------------------


def named(*names):
    """Layers with one weight; those that end in "relu" have none."""
    found = {}
    for name in names:
        found[name] = layers.ReLU() if name.endswith("relu") else layers.Dense(1, use_bias=False)
        found[name].build((None, 1))
    return found


def chosen(multipliers, *names):
    found = named(*names)
    by_id = {id(layer.weights[0]): name for name, layer in found.items() if layer.weights}
    return {by_id[key]: factor for key, factor in factors_of(multipliers, found).items()}


def test_a_name_means_its_copies_and_anything_else_is_a_part():
    names = ("conv1", "conv10", "conv1.a", "conv2.a", "conv2.b", "conv2.b.relu", "a.head")
    assert chosen({"conv1": 0.0}, *names) == {"conv1": 0.0, "conv1.a": 0.0}
    assert chosen({"conv2": 0.5}, *names) == {"conv2.a": 0.5, "conv2.b": 0.5}
    every = dict.fromkeys(names[:5], 2.0)
    assert chosen({"con": 2}, *names) == every
    assert chosen({"conv": 2, "conv1": 0, "head": 10}, *names) == {
        **every,
        "conv1": 0.0,
        "conv1.a": 0.0,
        "a.head": 10.0,
    }
    assert chosen(None, *names) == chosen({}, *names) == {}


@pytest.mark.parametrize(
    ("multipliers", "expected"),
    [
        (
            {"conf": 0.5},
            "`multipliers` must name layers with trainable weights, in whole or in part. "
            "Received: 'conf'. Did you mean 'conv'? There are ['conv', 'dense.a'].",
        ),
        (
            {"conv.relu": 0.5},
            "`multipliers` must name layers with trainable weights, in whole or in part. "
            "Received: 'conv.relu'. Did you mean 'conv'? There are ['conv', 'dense.a'].",
        ),
        (
            {"con": 0.5, "nv": 2.0},
            "`multipliers` must give a layer one factor. "
            "Received: 'con' and 'nv', which both fit 'conv'.",
        ),
        (
            {"conv": -1.0},
            "`multipliers['conv']` must be finite and at least 0. "
            "Received: multipliers['conv']=-1.0.",
        ),
        (
            ["conv"],
            "`multipliers` must be a dict from the name of a layer, or a part of it, to a factor. "
            "Received: multipliers=['conv'].",
        ),
    ],
)
def test_multipliers_that_do_not_fit(multipliers, expected):
    with pytest.raises(ValueError) as caught:
        factors_of(multipliers, named("conv", "conv.relu", "dense.a"))
    assert str(caught.value) == expected


def test_compile_refuses_and_keeps(normalised_mlp, tmp_path):
    model = keras_mtl.build(normalised_mlp(), [toys.regression("a")], "shared", seed=0)
    with pytest.raises(ValueError, match=r"Received: 'steem'\. Did you mean 'stem'\?"):
        model.compile("sgd", multipliers={"steem": 0.0})
    model.compile("sgd", multipliers={"stem": 0.25, "head": 10})
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    scales = again.step_scales()
    stem, head = (again.named_layers()[name].weights[0] for name in ("stem", "a.head"))
    assert scales[id(stem)] == 0.25 and scales[id(head)] == 10.0
    assert set(scales.values()) == {0.25, 10.0}
    again.compile("sgd")
    assert again.step_scales() == {}


def test_a_search_has_factors_for_its_weights(normalised_mlp):
    backbone, tasks = normalised_mlp(), [toys.regression("a"), toys.regression("b")]
    models = []
    for multipliers in ({"stem": 0.0, "block1": 0.5}, None):
        model = keras_mtl.build(backbone, tasks, "adashare", seed=0)
        model.compile("sgd", "sgd", multipliers=multipliers, run_eagerly=True)
        begin = {name: np.array(value) for name, value in kernels(model).items()}
        pairs = keras_mtl.data.search_split(toys.data(backbone, tasks), batch_size=8)
        model.fit(pairs, verbose=0)
        models.append({n: np.array(v) - begin[n] for n, v in kernels(model).items()})
    scaled, free = models
    assert not scaled["stem"].any() and free["stem"].any()
    np.testing.assert_allclose(scaled["block1"], 0.5 * free["block1"], atol=1e-6)
