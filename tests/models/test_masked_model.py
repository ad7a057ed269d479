"""Models with channel masks: what is computed, shared, counted, cut off and trained."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_mtl
from keras_mtl import ArchitectureError, ChannelUse
from keras_mtl.assembly import assemble, count, operations, resolve_architecture
from keras_mtl.assembly.count import Counter
from keras_mtl.graph import ChannelSelection, find_units, flops, read
from keras_mtl.layers import ChannelMask, MaskedConv
from tests import partitioned, toys


def flops_of(network):
    return flops(network, [x.shape for x in network.inputs], [network.output.shape])


def assert_extracted(model, x):
    """Every task's network without masks: the same numbers at the costs that were counted."""
    expected = model(x, training=False)
    for task in model.task_names:
        small = model.extract(task)
        assert not any(isinstance(layer, ChannelMask) for layer in small.layers)
        wanted = np.asarray(expected[task])
        tolerance = 1e-5 * max(1.0, np.abs(wanted).max())
        assert np.abs(np.asarray(small(x, training=False)) - wanted).max() <= tolerance
        assert small.count_params() == model.architecture.parameters(task)
        assert flops_of(small) == model.architecture.flops(task)


@pytest.fixture(scope="module", params=partitioned.BACKBONES)
def built(request):
    return partitioned.model(request.param, seed=3, count=3)


# By hand ------------------------------------------------------------------------------------------


def two_dense():
    x = rows = keras.Input((2,), name="rows")
    x = layers.Dense(3, activation="relu", name="first")(x)
    return keras.Model(rows, layers.Dense(2, name="second")(x), name="two_dense")


def by_hand(masks, **changes):
    backbone = two_dense()
    tasks = [keras_mtl.Task(name, layers.Dense(1, use_bias=False), "mse") for name in "ab"]
    plan = partitioned.architecture(backbone, tasks, {"first": masks}, "shared", **changes)
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    named = model.named_layers()
    named["first"].set_weights([np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([0.5, 0.5, 0.5])])
    named["second"].set_weights([np.array([[1.0, 10], [2, 20], [3, 30]]), np.array([7.0, 0])])
    for task in "ab":
        named[f"{task}.head"].set_weights([np.array([[1.0], [1.0]])])
    return model


def test_values_and_costs_by_hand():
    model = by_hand(ChannelUse({"a": "110", "b": "010"}))
    found = model(np.array([[1.0, 1.0]]))
    # Features 5.5, 7.5, 9.5; a reads two of them by 11 and 22, b the second one alone.
    assert found["a"].numpy().item() == 5.5 * 11 + 7.5 * 22 + 7
    assert found["b"].numpy().item() == 7.5 * 22 + 7
    plan = model.architecture
    # Two inputs, n features, two outputs, with biases; and the head's two weights.
    assert plan.parameters("a") == (2 * 2 + 2) + (2 * 2 + 2) + 2
    assert plan.parameters("b") == (2 * 1 + 1) + (1 * 2 + 2) + 2
    assert plan.flops("a") == 2 * (2 * 2 + 2 * 2 + 2)
    assert plan.flops("b") == 2 * (2 * 1 + 1 * 2 + 2)
    # Together two features are computed once, then each task reads its own.
    assert plan.parameters() == (2 * 2 + 2) + (2 * 2 + 2) + 2 * 2
    assert plan.flops() == 2 * (2 * 2 + 2 * 2 + 1 * 2 + 2 * 2)


def test_kernels_that_are_left():
    model = by_hand(ChannelUse({"a": "101", "b": "000"}))
    small = model.extract("a")
    np.testing.assert_array_equal(small.get_layer("first").kernel, [[1, 3], [4, 6]])
    np.testing.assert_array_equal(small.get_layer("second").kernel, [[1, 10], [3, 30]])
    nothing = model.extract("b")
    np.testing.assert_array_equal(nothing.get_layer("first").kernel, [[1], [4]])
    np.testing.assert_array_equal(nothing.get_layer("second").kernel, [[0, 0]])
    assert nothing(np.ones((1, 2))).numpy().item() == 7
    assert_extracted(model, np.random.default_rng(0).normal(size=(4, 2)))


def test_factors_of_updates_by_hand():
    model = by_hand(ChannelUse({"a": "110", "b": "111"}, {"a": "010", "b": "111"}))
    named = model.named_layers()
    scales = model.update_scales("a")
    assert set(scales) == {id(v) for v in (*named["first"].weights, named["second"].kernel)}
    np.testing.assert_array_equal(scales[id(named["first"].kernel)], [[0, 1, 0]])
    np.testing.assert_array_equal(scales[id(named["first"].bias)], [0, 1, 0])
    np.testing.assert_array_equal(scales[id(named["second"].kernel)], [[0], [1], [0]])
    assert model.update_scales("b") == {}


# What is computed ---------------------------------------------------------------------------------


def test_derived_equals_numpy():
    model, backbone = partitioned.model("dense", seed=1)
    x = toys.inputs(backbone, 5)
    named, found = model.named_layers(), model(x, training=False)
    for task in model.task_names:
        y = x
        for number in range(1, 5):
            name = f"dense{number}"
            kernel, bias = (v.numpy() for v in named[name].weights)
            gamma, beta, mean, variance = (v.numpy() for v in named[f"{name}_bn.{task}"].weights)
            y = gamma * (y @ kernel + bias - mean) / np.sqrt(variance + 1e-3) + beta
            alpha = named[f"{name}_prelu"].alpha.numpy()
            y = np.where(y > 0, y, alpha * y)
            use = model.architecture.masks.get(name)
            y = y * [bit == "1" for bit in use.forward[task]] if use else y
        kernel, bias = (v.numpy() for v in named[f"{task}.head"].weights)
        np.testing.assert_allclose(found[task], y @ kernel + bias, rtol=1e-4, atol=1e-4)


def computed(masks, normalisation="shared", names="abc"):
    """Assembles `vgg` for three tasks; returns how often every call is run, and the costs."""
    backbone = partitioned.vgg()
    tasks = [keras_mtl.Task(name, layers.Dense(2), "mse") for name in names]
    plan = partitioned.architecture(backbone, tasks, masks, normalisation)
    graph = read(backbone)
    units = find_units(graph, "operator")
    selection = ChannelSelection(graph, {unit: use.forward for unit, use in masks.items()})
    runs = []

    class Recorder(Counter):
        def run(self, call, copy, tensors):
            runs.append(call.key)
            return [None]

    resolve = resolve_architecture(plan)
    assemble(graph, units, list(names), resolve, Recorder(), [None], selection=selection)
    needs = count(graph, units, list(names), resolve, selection=selection)
    return {key: runs.count(key) for key in runs}, needs


def test_tasks_with_equal_masks_share_what_follows():
    use = ChannelUse({"a": "110000", "b": "110000", "c": "001111"})
    runs, needs = computed({"conv2": use})
    assert [runs[f"conv{i}"] for i in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert len(needs.of(operations.Mask)) == 2
    own = needs.costs["flops"]["tasks"]
    assert own["a"] == own["b"] != own["c"]
    shared = 2 * 64 * 9 * (3 * 6 + 6 * 6)  # conv1 and conv2, of which the tasks need all channels
    alone = 2 * 64 * 9 * (3 * 6 + 6 * 2), 2 * 64 * 9 * (3 * 6 + 6 * 4)
    parts = own["a"] - alone[0], own["c"] - alone[1]
    assert needs.costs["flops"]["together"] == shared + sum(parts)


def test_a_mask_of_all_channels_is_none():
    runs, needs = computed({"conv2": ChannelUse(dict.fromkeys("abc", "111111"))})
    _, plain = computed({})
    assert set(runs.values()) == {1} and not needs.of(operations.Mask)
    assert needs.copies == plain.copies and needs.costs == plain.costs


def test_parameters_together_are_the_union():
    # conv2's kernel is read by its input channels and cut by its own: a union of two rectangles.
    masks = {
        "conv1": ChannelUse({"a": "110000", "b": "011000"}),
        "conv2": ChannelUse({"a": "111000", "b": "001111"}),
    }
    _, needs = computed(masks, names="ab")
    _, plain = computed({}, names="ab")
    saved = plain.costs["parameters"]["together"] - needs.costs["parameters"]["together"]
    conv1 = 3 * (9 * 3 + 1)  # three channels of six are in no mask
    first = {(i, o) for i in (0, 1) for o in (0, 1, 2)}
    union = first | {(i, o) for i in (1, 2) for o in (2, 3, 4, 5)}
    conv2 = 9 * (36 - len(union))
    assert saved == conv1 + conv2


# Cut off ------------------------------------------------------------------------------------------


def test_extracted_networks(built):
    model, backbone = built
    assert_extracted(model, toys.inputs(backbone, 4))


def test_shared_normalisation_is_cut_too():
    model, backbone = partitioned.model("inverted", seed=2, normalisation="shared")
    assert_extracted(model, toys.inputs(backbone, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2"])
def test_applications(name):
    options = {"alpha": 0.35} if name == "MobileNetV2" else {}
    backbone = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3), **options
    )
    strategy = keras_mtl.strategies.FeaturePartition([[0.3, 0.5], [0.5, 0.6]], seed=1)
    model = keras_mtl.build(backbone, partitioned.tasks(), strategy, seed=0)
    assert_extracted(model, toys.inputs(backbone, 2))
    whole = keras_mtl.plan(backbone, partitioned.tasks(), "shared")
    assert model.architecture.flops("a") < model.architecture.flops("b") < whole.flops("a")


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_random_masks(data):
    backbone, tasks = partitioned.dense(width=4), partitioned.tasks(3)
    mask = st.text("01", min_size=4, max_size=4)
    masks = {
        f"dense{i}": ChannelUse({task.name: data.draw(mask) for task in tasks})
        for i in data.draw(st.sets(st.integers(1, 3)))
    }
    plan = partitioned.architecture(backbone, tasks, masks)
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    toys.randomised(model.network)
    assert_extracted(model, toys.inputs(backbone, 3))
    together, alone = model.architecture, [model.architecture.parameters(t.name) for t in tasks]
    assert max(alone) <= together.parameters() <= sum(alone)


def test_an_extracted_network_is_its_own(built):
    model, backbone = built
    x = toys.inputs(backbone, 2)
    before = {task: y.numpy() for task, y in model(x).items()}
    small = model.extract("a")
    for variable in small.variables:
        variable.assign(variable * 0)
    for task, y in model(x).items():
        np.testing.assert_array_equal(y, before[task])


def test_without_masks_too():
    backbone = toys.residual(downsample=(3,), dropout=0.2)
    for strategy in ("independent", keras_mtl.strategies.NDDRCNN(), "shared"):
        model = keras_mtl.build(backbone, toys.tasks(2), strategy, seed=0)
        assert_extracted(model, toys.inputs(backbone, 3))


def test_mixed_precision():
    image = keras.Input((8, 8, 3), dtype="float16", name="image")
    x = image
    for number in (1, 2):
        x = layers.Conv2D(4, 3, dtype="mixed_float16", name=f"conv{number}")(x)
    backbone, tasks = keras.Model(image, x), partitioned.tasks(2)
    plan = partitioned.architecture(
        backbone, tasks, {"conv1": ChannelUse({"a": "1010", "b": "0111"})}
    )
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    masks = [layer for layer in model.network.layers if isinstance(layer, ChannelMask)]
    assert {mask.output.dtype for mask in masks} == {"float16"} and len(masks) == 2
    x, small = toys.inputs(backbone, 2), model.extract("a")
    assert small.get_layer("conv1").compute_dtype == "float16"
    np.testing.assert_allclose(small(x), model(x)["a"], atol=1e-2)


def test_own_copies_and_branches_are_cut():
    backbone, tasks = partitioned.vgg(), partitioned.tasks(3)
    masks = partitioned.random_masks(backbone, tasks, seed=5)
    plan = partitioned.architecture(backbone, tasks, masks)
    row = list(plan.choices["a"])
    choices = {"a": row, "b": ["own", "bc", *row[2:]], "c": ["shared", "bc", *row[2:]]}
    model = keras_mtl.build(backbone, tasks, architecture=plan.replace(choices=choices), seed=0)
    assert_extracted(toys.randomised(model), toys.inputs(backbone, 3))


def test_tasks_with_their_own_inputs():
    backbone = partitioned.vgg()
    tasks = [keras_mtl.Task(n, layers.Dense(2), "mse", inputs=f"{n}_image") for n in "ab"]
    masks = partitioned.random_masks(backbone, tasks, seed=1)
    plan = partitioned.architecture(backbone, tasks, masks)
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    x = toys.inputs(backbone, 3)
    found = model({"a_image": x, "b_image": -x})
    np.testing.assert_allclose(model.extract("b")(-x), found["b"], atol=1e-5)


def test_saved_and_loaded(built, tmp_path):
    model, backbone = built
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.architecture == model.architecture
    assert_extracted(again, toys.inputs(backbone, 3))
    assert len(again.update_scales("b")) == len(model.update_scales("b"))


def test_weights_of_other_masks_are_refused(tmp_path):
    model, _ = partitioned.model("dense", seed=1)
    other, _ = partitioned.model("dense", seed=2)
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="the same architecture"):
        other.load_weights(tmp_path / "a.weights.h5")


SERVE = """
import sys
sys.modules["keras"] = sys.modules["keras_mtl"] = None
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
x = tf.constant(np.load(sys.argv[1] + "/x.npy"))
for name, function in loaded.signatures.items():
    outputs = function(image=x)
    np.savez(f"{sys.argv[1]}/{name}.npz", **outputs)
print("served", sorted(loaded.signatures))
"""


@pytest.mark.slow  # in a process of its own
def test_endpoints_hold_their_tasks_channels_only(tmp_path):
    model, backbone = partitioned.model("inverted", seed=3)
    model.export(str(tmp_path), verbose=False)
    x = toys.inputs(backbone, 3)
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "served ['a', 'b', 'serve', 'serving_default']" in done.stdout, done.stderr[-2000:]
    expected = model(x, training=False)
    for endpoint, tasks in (("a", "a"), ("b", "b"), ("serve", "ab")):
        found = np.load(tmp_path / f"{endpoint}.npz")
        assert set(found) == set(tasks)
        for task in tasks:
            np.testing.assert_allclose(found[task], expected[task], rtol=1e-5, atol=1e-5)
    loaded = tf.saved_model.load(str(tmp_path))
    for task in "ab":
        sizes = {tuple(v.shape) for v in loaded.signatures[task].variables}
        assert sizes == {tuple(v.shape) for v in model.extract(task).variables}


# Trained ------------------------------------------------------------------------------------------


def task_gradients(model, task, x):
    variables = model.task_network(task).trainable_variables
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.square(model.task_network(task)(x, training=True)))
    found = tape.gradient(total, [v.value for v in variables])
    return variables, found


def train_by_the_rule(model, task, optimizer, x):
    """One step as training does it: the optimizer's update, multiplied by the factors."""
    variables, found = task_gradients(model, task, x)
    if not optimizer.built:
        optimizer.build(variables)
    scales, old = model.update_scales(task), [v.numpy() for v in variables]
    optimizer.apply(found, variables)
    for variable, before in zip(variables, old, strict=True):
        scale = scales.get(id(variable), 1.0)
        variable.assign(before + scale * (variable.numpy() - before))


def test_training_on_a_task_leaves_other_channels_alone(built):
    """Bit by bit, with momentum and weight decay: kernels, biases, depthwise kernels, slices."""
    model, backbone = built
    plan, graph = model.architecture, read(backbone)
    before = {name: layer.get_weights() for name, layer in model.named_layers().items()}
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.1, clipnorm=1.0)
    for step in range(2):
        train_by_the_rule(model, "b", optimizer, toys.inputs(backbone, 4, seed=step))
    named = model.named_layers()
    moved = dict.fromkeys(named, False)
    for name, weights in before.items():
        changes = map(np.array_equal, weights, named[name].get_weights())
        moved[name] = not all(changes)
    for name in named:
        if name.endswith((".a", ".c", "a.head", "c.head")):
            assert not moved[name], name
    assert moved["b.head"]
    for unit, use in plan.masks.items():
        place = keras_mtl.graph.place_of(graph, unit)
        still = np.array([bit == "0" for bit in use.backward["b"]])
        for index in (place.operator, *place.members):
            layer = named.get(graph.calls[index].key)
            kernel = type(layer).__name__
            if layer is None or kernel == "BatchNormalization":
                continue
            for new, old in zip(layer.get_weights(), before[layer.name], strict=True):
                axis = {"Conv1DTranspose": -2, "DepthwiseConv2D": -2}.get(kernel, -1)
                axis = -1 if new.ndim == 1 else axis
                if new.shape[axis] == len(still):
                    new, old = np.moveaxis(new, axis, 0), np.moveaxis(old, axis, 0)
                    assert np.array_equal(new[still], old[still]), (unit, layer.name)
        for index, repeats in place.readers:
            layer = named[graph.calls[index].key]
            axis = -1 if "Transpose" in type(layer).__name__ else -2
            new, old = layer.get_weights()[0], before[layer.name][0]
            new, old = np.moveaxis(new, axis, 0), np.moveaxis(old, axis, 0)
            assert np.array_equal(new[np.tile(still, repeats)], old[np.tile(still, repeats)])


def test_factors_are_the_gradients_of_masked_convs():
    """Without momentum, the factor of an update is that of a gradient: as in `MaskedConv`."""
    x = image = keras.Input((6, 6, 3), name="image")
    for number in (1, 2, 3):
        x = layers.Conv2D(4, 3, activation="tanh", padding="same", name=f"conv{number}")(x)
    backbone, tasks = keras.Model(image, x), partitioned.tasks(2)
    masks = {
        "conv1": ChannelUse({"a": "1110", "b": "0111"}, {"a": "0110", "b": "0001"}),
        "conv2": ChannelUse({"a": "1100", "b": "1111"}, {"a": "0100", "b": "0101"}),
    }
    model = keras_mtl.build(
        backbone, tasks, architecture=partitioned.architecture(backbone, tasks, masks), seed=0
    )
    everything = ChannelUse(dict.fromkeys("ab", "1111"))
    uses = [masks["conv1"], masks["conv2"], everything]
    stack = [
        MaskedConv(
            layers.Conv2D(4, 3, activation="tanh", padding="same"),
            use.forward,
            use.backward,
            backward_inputs=before and dict(before.backward),
        )
        for use, before in zip(uses, [None, *uses], strict=False)
    ]
    x = tf.constant(toys.inputs(backbone, 2))
    for task in "ab":
        head = model.named_layers()[f"{task}.head"]

        def alone(y, task=task, head=head):
            for layer in stack:
                y = layer(y, task=task)
            return head(y)

        alone(x)
        for number, layer in enumerate(stack, start=1):
            layer.layer.set_weights(model.named_layers()[f"conv{number}"].get_weights())
        variables, found = task_gradients(model, task, x)
        scales = model.update_scales(task)
        by_name = {
            v.path: g * scales.get(id(v), 1.0) for v, g in zip(variables, found, strict=True)
        }
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.square(alone(x)))
        own = [v for layer in stack for v in layer.trainable_variables]
        names = [f"conv{i}/{kind}" for i in (1, 2, 3) for kind in ("kernel", "bias")]
        for name, gradient in zip(names, tape.gradient(total, [v.value for v in own]), strict=True):
            np.testing.assert_allclose(by_name[name], gradient, rtol=1e-4, atol=1e-5)


def test_shared_normalisation_is_limited_as_well():
    model, _ = partitioned.model("inverted", seed=3, normalisation="shared")
    use = model.architecture.masks["block1_expand"]
    scales, named = model.update_scales("a"), model.named_layers()
    wanted = [int(bit) for bit in use.backward["a"]]
    assert 0 in wanted
    for name in ("block1_expand_bn", "block1_depthwise_bn"):
        np.testing.assert_array_equal(scales[id(named[name].gamma)], wanted)
    kernel = scales[id(named["block1_depthwise"].kernel)]
    np.testing.assert_array_equal(kernel, np.reshape(wanted, (1, 1, -1, 1)))


def test_frozen_operators_do_not_train():
    backbone, tasks = partitioned.basic(), partitioned.tasks()
    plan = partitioned.architecture(backbone, tasks, {}, frozen=("stem", "block1_conv1"))
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    named = model.named_layers()
    assert not named["stem"].trainable and named["stem_bn.a"].trainable
    assert {v.path for v in model.variables} > {v.path for v in model.trainable_variables}
    trained = {id(v) for v in model.weight_variables()}
    for name, moves in (("stem", False), ("block1_conv1", False), ("block1_conv2", True)):
        assert all((id(v) in trained) == moves for v in named[name].weights)
    scales = model.update_scales("a")
    assert {key for key, scale in scales.items() if np.all(scale == 0)} == {
        id(v) for name in ("stem", "block1_conv1") for v in named[name].weights
    }
    assert model.architecture.parameters() == model.network.count_params()


def test_without_masks_everything_changes():
    model = keras_mtl.build(toys.mlp(), toys.tasks(), "shared", seed=0)
    assert model.update_scales("classes") == {}


def test_forward_masks_alone_train_together():
    model, backbone = partitioned.model("dense", seed=1, backward=False)
    model.compile(keras.optimizers.SGD(0.01))
    x = toys.inputs(backbone, 8)
    named = model.named_layers()
    before = named["dense1"].kernel.numpy()
    y = {task: np.zeros((8, 2), "float32") for task in model.task_names}
    model.fit(x, y, verbose=0)
    use = model.architecture.masks["dense1"].forward.values()
    unused = np.array([set(bits) == {"0"} for bits in zip(*use, strict=True)])
    after = named["dense1"].kernel.numpy()
    assert np.array_equal(before[:, unused], after[:, unused])
    assert np.all(before[:, ~unused] != after[:, ~unused])


# Refusals -----------------------------------------------------------------------------------------


def refused(message, masks, **changes):
    backbone, tasks = partitioned.basic(), partitioned.tasks()
    plan = partitioned.architecture(backbone, tasks, masks).replace(**changes)
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$"):
        keras_mtl.build(backbone, tasks, architecture=plan, seed=0)


def test_what_cannot_be_masked():
    use = ChannelUse({"a": "111111", "b": "000111"})
    refused(
        "`masks` must be of operators whose channels can be masked. Received: masks for "
        "'block1_conv2': its channels reach 'block1_add' (Add). Use "
        "`keras_mtl.graph.find_places`, which finds those that can.",
        {"block1_conv2": use},
    )


def test_another_number_of_channels():
    refused(
        "`masks['block1_conv1']` must have one entry for each of the operator's 6 channels. "
        "Received: masks of length [2].",
        {"block1_conv1": ChannelUse({"a": "11", "b": "01"})},
    )


def test_skips_and_masks():
    use = ChannelUse({"a": "111111", "b": "000111"})
    plan = partitioned.architecture(partitioned.basic(), partitioned.tasks(), {})
    for unit in ("block1_conv1", "block1_conv2"):
        row = ["skip" if name == unit else "shared" for name in plan.units]
        refused(
            "`architecture` must not skip an operator whose channels are masked, or that reads "
            f"masked channels. Received: task 'b' skips {unit!r}.",
            {"block1_conv1": use},
            choices={**plan.choices, "b": row},
        )


def test_fusions_and_masks():
    use = ChannelUse({"a": "111111", "b": "000111"})
    fusion = keras_mtl.Fusion("f", "nddr", "stem", [("a", "stem"), ("b", "stem")], ["a"])
    refused(
        "`architecture` must have masks or fusions, not both. Received: 1 masks and 1 fusions.",
        {"block1_conv1": use},
        fusions=(fusion,),
    )


def test_backward_masks_need_steps_of_one_task():
    model, backbone = partitioned.model("dense", seed=1)
    model.compile("sgd")
    x = toys.inputs(backbone, 8)
    with pytest.raises(ValueError, match=r"^Backward masks need steps of one task each"):
        model.fit(x, {task: np.zeros((8, 2)) for task in model.task_names}, verbose=0)
