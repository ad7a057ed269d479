"""AutoMTL's mixtures of options: values by hand, blending, hard sampling, gradients, masks."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_mtl
from keras_mtl.assembly import assemble
from keras_mtl.layers.projection import centred_positions
from keras_mtl.strategies import AutoMTL
from keras_mtl.strategies.auto_mtl import PRETRAINING
from keras_mtl.strategies.strategy import Moment, Phase
from tests import toys
from tests.contracts import assert_gradient_reaches

# Operators a and b, tasks p and q: shared, own, skip.
DRAWN = np.array(
    [[[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], [[0.1, 0.3, 0.6], [0.3, 0.4, 0.3]]], "float32"
)
TASKS = ("p", "q")


def two_dense(activation=None):
    """Two dense layers with their normalisation; the first widens, so that a projection skips."""
    x = inputs = keras.Input((4,), name="x")
    for name in ("a", "b"):
        x = layers.Dense(3, activation, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.Activation("relu", name=f"{name}_relu")(x)
    return keras.Model(inputs, x, name="two_dense")


class Counted(layers.Dense):
    """Counts its calls, also in a traced function."""

    def build(self, input_shape):
        super().build(input_shape)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return super().call(inputs)


def counted():
    x = inputs = keras.Input((4,), name="x")
    for name in ("a", "b"):
        x = Counted(4, activation="tanh", name=name)(x)
    return keras.Model(inputs, x)


def build(backbone, tasks=TASKS, **settings):
    """A search whose copies all have weights of their own."""
    tasks = [toys.regression(name) for name in tasks]
    return toys.randomised(keras_mtl.build(backbone, tasks, AutoMTL(**settings), seed=0))


def features(model, x, drawn=None, *, phase=None, units=None):
    """The backbone's output for every task, with the gates drawn like this."""
    phase = phase or Phase("search", len(model.search.units))
    resolve = model.search.resolve(phase, None if drawn is None else ops.convert_to_tensor(drawn))
    units = units or model.units
    inputs = [ops.convert_to_tensor(x)]
    return assemble(model.graph, units, model.task_names, resolve, model.copies, inputs)


class ByHand:
    """The layers of a model in NumPy, by name."""

    def __init__(self, model):
        self.layers = model.named_layers()

    def dense(self, name, x):
        kernel, bias = self.layers[name].trainable_variables
        return x @ np.asarray(kernel) + np.asarray(bias)

    def projection(self, name, x):
        (kernel,) = self.layers[name].get_weights()
        return x @ kernel

    def norm(self, name, x):
        gamma, beta, mean, variance = self.layers[name].get_weights()
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def relu(x):
    return np.maximum(x, 0)


@pytest.fixture(scope="module")
def model():
    return build(two_dense())


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


# By hand ------------------------------------------------------------------------------------------


def options(hand, unit, task, x):
    """Results of the three options of a unit of `two_dense`, before its normalisation."""
    skip = x
    if unit == "a":
        skip = hand.projection(f"a.projection.{task}", x)
        skip = hand.norm(f"a.normalisation.{task}", skip)
    return hand.dense(unit, x), hand.dense(f"{unit}.{task}", x), skip


def test_the_soft_mixture_by_hand(model, x):
    """The task's own normalisation runs behind the mixture, also for what is skipped."""
    hand, found = ByHand(model), features(model, x, DRAWN)
    for column, task in enumerate(TASKS):
        value = x
        for row, unit in enumerate("ab"):
            results = options(hand, unit, task, value)
            mixed = sum(w * y for w, y in zip(DRAWN[row, column], results, strict=True))
            value = relu(hand.norm(f"{unit}_bn.{task}", mixed))
        np.testing.assert_allclose(found[task], value, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found["p"], found["q"])


def test_the_pretraining_by_hand(model, x):
    """The mean of the options, then the mean of the shared normalisation and the own one."""
    hand, found = ByHand(model), features(model, x, DRAWN, phase=PRETRAINING)
    for task in TASKS:
        value = x
        for unit in "ab":
            mean = sum(options(hand, unit, task, value)) / 3
            both = hand.norm(f"{unit}_bn", mean) + hand.norm(f"{unit}_bn.{task}", mean)
            value = relu(both / 2)
        np.testing.assert_allclose(found[task], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chosen", [(0, 1), (1, 2), (2, 0)])
def test_a_hard_sample_by_hand(x, chosen):
    model = build(two_dense(), sampling="hard")
    drawn = np.full((2, 2, 3), 0.2, "float32")
    for row, option in enumerate(chosen):
        drawn[row, :, option] = 0.6
    hand, found = ByHand(model), features(model, x, drawn)
    for task in TASKS:
        value = x
        for unit, option in zip("ab", chosen, strict=True):
            value = relu(hand.norm(f"{unit}_bn.{task}", options(hand, unit, task, value)[option]))
        np.testing.assert_allclose(found[task], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("phase", [PRETRAINING, None], ids=["pre-training", "search"])
def test_shared_normalisation_belongs_to_the_copy(x, phase):
    """It runs before the mixing, and the skip goes around it."""
    model = build(two_dense(), normalisation="shared")
    hand, found = ByHand(model), features(model, x, DRAWN, phase=phase)
    for column, task in enumerate(TASKS):
        value = x
        for row, unit in enumerate("ab"):
            shared, own, skip = options(hand, unit, task, value)
            results = hand.norm(f"{unit}_bn", shared), hand.norm(f"{unit}_bn.{task}", own), skip
            weights = DRAWN[row, column] if phase is None else [1 / 3] * 3
            value = relu(sum(w * y for w, y in zip(weights, results, strict=True)))
        np.testing.assert_allclose(found[task], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampling", ["soft", "hard"])
def test_an_activation_inside_runs_behind_the_mixture(x, sampling):
    """Of what is skipped too: it belongs to every task's path, as a layer of its own does."""
    model = build(two_dense("tanh"), sampling=sampling)
    hand, found = ByHand(model), features(model, x, DRAWN)
    for column, task in enumerate(TASKS):
        value = x
        for row, unit in enumerate("ab"):
            weights = DRAWN[row, column]
            if sampling == "hard":
                weights = np.eye(3)[weights.argmax()]
            results = options(hand, unit, task, value)
            mixed = np.tanh(sum(w * y for w, y in zip(weights, results, strict=True)))
            value = relu(hand.norm(f"{unit}_bn.{task}", mixed))
        np.testing.assert_allclose(found[task], value, rtol=1e-4, atol=1e-5)


def test_an_operator_that_is_not_linear_is_computed_for_every_option(x):
    model = build(counted(), ("p",))
    assert not any(unit.linear or unit.activated for unit in model.units)
    hand, found = ByHand(model), features(model, x, DRAWN[:, :1])["p"]
    value = x
    for row, unit in enumerate("ab"):
        results = np.tanh(hand.dense(unit, value)), np.tanh(hand.dense(f"{unit}.p", value)), value
        value = sum(w * y for w, y in zip(DRAWN[row, 0], results, strict=True))
    np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


def test_a_normalisation_before_its_operator_by_hand(x):
    """In the pre-training the shared one and the task's are averaged; then the task's runs."""
    inputs = keras.Input((4,), name="x")
    y = layers.BatchNormalization(name="norm")(layers.Activation("relu", name="relu")(inputs))
    model = build(keras.Model(inputs, layers.Dense(4, name="a")(y)))
    hand = ByHand(model)
    skip_only = np.zeros((1, 2, 3), "float32")
    skip_only[..., 2] = 1.0
    own = {task: hand.norm(f"norm.{task}", relu(x)) for task in TASKS}
    for task, found in features(model, x, skip_only).items():
        np.testing.assert_allclose(found, own[task], rtol=1e-4, atol=1e-5)
    for task, found in features(model, x, phase=PRETRAINING).items():
        value = (hand.norm("norm", relu(x)) + own[task]) / 2
        mean = (hand.dense("a", value) + hand.dense(f"a.{task}", value) + value) / 3
        np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_skip_with_a_stride_reads_the_middle(padding):
    inputs = keras.Input((8, 8, 2))
    conv = layers.Conv2D(3, 3, strides=2, padding=padding, name="a")
    model = build(keras.Model(inputs, conv(inputs)), ("p",))
    x = toys.inputs(model.graph.backbone, examples=2)
    skipped = features(model, x, np.array([[[0.0, 0.0, 1.0]]], "float32"))["p"]
    size = {"same": 4, "valid": 3}[padding]
    taken = centred_positions(8, size)
    hand = ByHand(model)
    projected = hand.projection("a.projection.p", x[:, taken][:, :, taken])
    expected = hand.norm("a.normalisation.p", projected)
    assert skipped.shape == (2, size, size, 3)
    np.testing.assert_allclose(skipped, expected, rtol=1e-4, atol=1e-5)


# Blending -----------------------------------------------------------------------------------------


def alone(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def twice():
    """One layer on two inputs, whose difference comes out."""
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    encoder = layers.Dense(3, name="encoder")
    return keras.Model([left, right], layers.Subtract()([encoder(left), encoder(right)]))


LINEAR = {
    "chain": toys.chain,
    "shortcut": lambda: toys.residual(blocks=1, downsample=(1,)),
    "depthwise": lambda: alone(layers.DepthwiseConv2D(3, padding="same", name="a"), (6, 6, 2)),
    "transposed": lambda: alone(layers.Conv2DTranspose(2, 2, strides=2, name="a"), (4, 4, 3)),
    "no_bias": lambda: alone(layers.Conv1D(3, 3, use_bias=False, name="a"), (6, 2)),
    "einsum": lambda: alone(
        layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d", name="a"), (5, 2)
    ),
    "twice": twice,
}


def outputs_and_gradients(model, x, drawn, units):
    variables = model.weight_variables()
    drawn = tf.convert_to_tensor(drawn)
    with tf.GradientTape() as tape:
        tape.watch(drawn)
        resolve = model.search.resolve(Phase("search", len(model.search.units)), drawn)
        inputs = [ops.convert_to_tensor(a) for a in keras.tree.flatten(x)]
        found = assemble(model.graph, units, model.task_names, resolve, model.copies, inputs)
        total = sum(ops.sum(ops.sin(value)) for value in found.values())
    gradients = tape.gradient(total, [drawn, *(v.value for v in variables)])
    names = ["drawn", *(v.path for v in variables)]
    pairs = zip(names, gradients, strict=True)
    return found, {name: np.asarray(g) for name, g in pairs if g is not None}


@pytest.mark.parametrize("net", LINEAR)
def test_blending_equals_computing_every_option(net):
    model = build(LINEAR[net]())
    apart = tuple(dataclasses.replace(unit, linear=False) for unit in model.units)
    assert any(unit.linear for unit in model.units)
    generator = np.random.default_rng(0)
    drawn = generator.dirichlet(np.ones(3), (len(model.search.units), 2)).astype("float32")
    x = toys.inputs(model.graph.backbone, examples=3)
    blended, mixed = (outputs_and_gradients(model, x, drawn, u) for u in (model.units, apart))
    for task in TASKS:
        np.testing.assert_allclose(blended[0][task], mixed[0][task], rtol=1e-5, atol=1e-5)
    assert set(blended[1]) == set(mixed[1])
    for name, gradient in mixed[1].items():
        scale = max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(blended[1][name], gradient, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("sampling", ["soft", "hard"])
def test_what_is_executed(sampling, x):
    """Soft: every copy. Hard: the sampled option alone, in one traced function for all samples."""
    model = build(counted(), sampling=sampling)
    copies = {n: layer for n, layer in model.named_layers().items() if type(layer) is Counted}
    assert set(copies) == {"a", "a.p", "a.q", "b", "b.p", "b.q"}

    @tf.function
    def run(drawn):
        return features(model, x, drawn)

    def calls(*chosen):
        drawn = np.full((2, 2, 3), 0.2, "float32")
        for place, option in zip(np.ndindex(2, 2), chosen, strict=True):
            drawn[*place, option] = 0.6
        drawn = tf.constant(drawn)
        run.get_concrete_function(drawn)  # tracing may count: what follows does not trace
        for layer in copies.values():
            layer.calls.assign(0.0)
        run(drawn)
        return {name: int(layer.calls) for name, layer in copies.items() if int(layer.calls)}

    everything = {"a": 1, "a.p": 1, "a.q": 1, "b": 2, "b.p": 1, "b.q": 1}
    # The choices of p and q at a, then at b.
    assert calls(1, 0, 2, 2) == (everything if sampling == "soft" else {"a.p": 1, "a": 1})
    assert calls(2, 2, 0, 1) == (everything if sampling == "soft" else {"b": 1, "b.q": 1})


# Hard sampling: gradients -------------------------------------------------------------------------


def hard_gradients(model, x, drawn, *, traced):
    """Gradients of the sum of squares of task p's features: for the policy, and layer -> list."""
    owned = {name: x.trainable_variables for name, x in model.named_layers().items()}
    values = [variable.value for variables in owned.values() for variable in variables]

    def run(drawn):
        with tf.GradientTape() as tape:
            tape.watch(drawn)
            total = ops.sum(ops.square(features(model, x, drawn)["p"]))
        found = tape.gradient(total, [drawn, *values])
        return [tf.zeros(()) if g is None else tf.convert_to_tensor(g) for g in found]

    run = tf.function(run) if traced else run
    for_policy, *rest = map(np.asarray, run(tf.convert_to_tensor(drawn)))
    rest = iter(rest)
    return for_policy, {name: [next(rest) for _ in owned[name]] for name in owned}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced"])
@pytest.mark.parametrize("option", [0, 1, 2])
@pytest.mark.parametrize("net", ["linear", "activated", "not_linear"])
def test_gradients_of_a_hard_sample(net, option, traced, x):
    """Those of f_s · (1 + p_s − stop_gradient(p_s)): nothing for what was not sampled."""
    layer = {
        "linear": layers.Dense(3, name="a"),
        "activated": layers.Dense(3, "tanh", name="a"),  # runs behind the choice
        "not_linear": Counted(3, activation="tanh", name="a"),
    }[net]
    model = build(alone(layer, (4,)), ("p",), sampling="hard")
    drawn = np.full((1, 1, 3), 0.25, "float32")
    drawn[0, 0, option] = 0.5
    for_policy, found = hard_gradients(model, x, drawn, traced=traced)

    z = options(ByHand(model), "a", "p", x)[option]
    curved = net == "activated" or (net == "not_linear" and option < 2)
    y = np.tanh(z) if curved else z
    slope = 2 * y * (1 - y * y if curved else 1.0)  # d/dz of y²
    expected = np.zeros((1, 1, 3))
    # d/dp of (f·(1 + p − stop(p)))²; an activation behind the choice is after the factor.
    expected[0, 0, option] = (slope * z).sum() if net == "activated" else (2 * y * y).sum()
    np.testing.assert_allclose(for_policy, expected, rtol=1e-4)
    reached = {name for name, gradients in found.items() if any(map(np.any, gradients))}
    sampled = [{"a"}, {"a.p"}, {"a.projection.p", "a.normalisation.p"}][option]
    assert reached == sampled
    if option < 2:
        kernel, bias = found[["a", "a.p"][option]]
        np.testing.assert_allclose(kernel, x.T @ slope, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(bias, slope.sum(axis=0), rtol=1e-4, atol=1e-5)


def test_a_hard_sample_of_several_outputs():
    """The states of an LSTM are sampled with its output, in one branch."""
    inputs = keras.Input((5, 4))
    y, *state = layers.LSTM(4, return_sequences=True, return_state=True, name="a")(inputs)
    backbone = keras.Model(inputs, layers.LSTM(4, name="b")(y, initial_state=state))
    hard, soft = build(backbone, ("p",), sampling="hard"), build(backbone, ("p",))
    x = toys.inputs(backbone, examples=3)
    for chosen in (0, 1):
        drawn = np.zeros((2, 1, 3), "float32")
        drawn[:, :, chosen] = 1.0
        expected = features(soft, x, drawn)["p"]
        found = tf.function(lambda drawn: features(hard, x, drawn)["p"])(tf.constant(drawn))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalisation", ["task", "shared"])
def test_a_traced_hard_step_with_dropout_and_statistics(normalisation):
    """What has a state may stand in a branch; statistics of what is not executed do not move."""
    model = build(toys.chain(), ("p",), sampling="hard", normalisation=normalisation)
    x = toys.inputs(model.graph.backbone, examples=4)
    drawn = np.zeros((3, 1, 3), "float32")
    drawn[:, :, 1] = 1.0

    class Fixed:
        def __call__(self, **_):
            return tf.constant(drawn)

    gate, model.search.gate = model.search.gate, Fixed()
    try:
        before = {v.path: np.asarray(v) for v in model.non_trainable_variables}
        tf.function(lambda: model(x, training=True))()
    finally:
        model.search.gate = gate
    moved = {
        v.path.split("/")[-2]
        for v in model.non_trainable_variables
        if not np.array_equal(before[v.path], np.asarray(v))
    }
    assert moved == {f"conv{number}_bn.p" for number in (1, 2, 3)}


def test_a_traced_hard_sample_of_layers_in_half_precision():
    """Blended, projected and skipped: every branch gives one type."""
    inputs = keras.Input((4,), name="x")
    y = layers.Dense(3, dtype="mixed_float16", name="a")(inputs)
    model = build(keras.Model(inputs, y), sampling="hard")
    drawn = np.array([[[0.6, 0.2, 0.2], [0.2, 0.2, 0.6]]], "float32")
    x = np.ones((2, 4), "float32")
    found = tf.function(lambda drawn: features(model, x, drawn))(tf.constant(drawn))
    hand = ByHand(model)
    np.testing.assert_allclose(found["p"], options(hand, "a", "p", x)[0], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(found["q"], options(hand, "a", "q", x)[2], rtol=1e-2, atol=1e-2)


# Which variables a step reaches -------------------------------------------------------------------


def assert_reached(model, x, phase, expected):
    drawn_at = Moment(phase, "weights", training=True, temperature=2.0)

    def loss():
        found = features(model, x, model.search.draw(drawn_at), phase=phase)
        return sum(ops.sum(ops.square(head(found[t]))) for t, head in model.heads.items())

    assert_gradient_reaches(model, expected, loss)


def test_gradients_of_the_pretraining_reach_every_weight(model, x):
    assert_reached(model, x, PRETRAINING, model.weight_variables())


def test_gradients_of_the_search_reach_all_but_the_shared_normalisation(model, x):
    unused = {id(v) for n in ("a_bn", "b_bn") for v in model.named_layers()[n].trainable_variables}
    expected = [v for v in model.trainable_variables if id(v) not in unused]
    assert len(expected) == len(model.trainable_variables) - 4
    assert_reached(model, x, Phase("search", 2), expected)


@pytest.mark.parametrize("form", ["paper", "reference"])
def test_gradients_of_the_regulariser_reach_the_policy_alone(form):
    model = build(two_dense(), form=form)
    moment = Moment(Phase("search", 2), "policy", training=True)

    def loss():
        regularisers = model.search.regularisers(moment, model.search.draw(moment))
        return sum(regularisers.values())

    assert_gradient_reaches(model, model.policy_variables(), loss)


@pytest.mark.parametrize("tasks", [("p",), ("p", "q", "r")])
def test_any_number_of_tasks(tasks, x):
    model = build(two_dense(), tasks)
    drawn = np.random.default_rng(0).dirichlet(np.ones(3), (2, len(tasks))).astype("float32")
    hand = ByHand(model)
    for column, (task, found) in enumerate(features(model, x, drawn).items()):
        value = x
        for row, unit in enumerate("ab"):
            results = options(hand, unit, task, value)
            mixed = sum(w * y for w, y in zip(drawn[row, column], results, strict=True))
            value = relu(hand.norm(f"{unit}_bn.{task}", mixed))
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


# Masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [PRETRAINING, None], ids=["pre-training", "search"])
def test_padding_does_not_change_the_outputs(phase):
    """The mask of an embedding goes through every mixture: recurrent, dense and skipped."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    y = layers.Embedding(10, 4, mask_zero=True, name="words")(ids)
    y = layers.LSTM(4, return_sequences=True, name="first")(y)
    y = layers.Dense(3, name="dense")(y)
    y = layers.LSTM(3, name="last")(y)
    model = build(keras.Model(ids, y))
    short = np.array([[1, 2, 3], [4, 5, 6]], "int32")
    padded = np.pad(short, [(0, 0), (0, 4)])
    drawn = np.random.default_rng(0).dirichlet(np.ones(3), (4, 2)).astype("float32")
    drawn[0] = [0.4, 0.6, 0.0]
    drawn[3] = [0.7, 0.3, 0.0]
    found, expected = (features(model, x, drawn, phase=phase) for x in (padded, short))
    for task in TASKS:
        np.testing.assert_allclose(found[task], expected[task], rtol=1e-5, atol=1e-6)
    other = features(model, np.pad(short, [(0, 0), (0, 4)], constant_values=9), drawn, phase=phase)
    assert not np.allclose(other["p"], expected["p"], atol=1e-4)
