"""AutoMTL: the regulariser by hand, the plan, what is open, decisions, a run, refusals.

The mixtures of an operator's options are in `test_auto_mtl_mixing.py`.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_mtl
from keras_mtl import data
from keras_mtl.assembly import Mix, Skip, Use
from keras_mtl.graph import find_units, read, register_operator
from keras_mtl.strategies import AutoMTL, task_correlation
from keras_mtl.strategies.auto_mtl import (
    PRETRAINING,
    AutoMTLPlan,
    depth_emphasis,
    policy_regulariser,
)
from keras_mtl.strategies.strategy import Moment, Phase
from tests import toys
from tests.contracts import assert_derived_equals_supernet, assert_serialises, set_policy

ALL = (True, True, True)


def softplus(x):
    return np.log1p(np.exp(x))


def open_search(backbone, tasks=("a", "b"), **settings):
    graph = read(backbone)
    return AutoMTL(**settings).open(graph, find_units(graph, "operator"), tasks, 0)


def refused(message, make):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def recurrent(states=False):
    """Words, an LSTM that may be skipped unless its states are read, and one that may not."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(10, 4, mask_zero=True, name="words")(ids)
    x = layers.LSTM(4, return_sequences=True, return_state=states, name="first")(x)
    initial = {}
    if states:
        x, *state = x
        initial = {"initial_state": state}
    return keras.Model(ids, layers.LSTM(4, name="last")(x, **initial), name="recurrent")


# The regulariser by hand --------------------------------------------------------------------------

POLICY = np.array(
    [
        [[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]],
        [[0.1, 0.1, 0.8], [0.6, 0.4, 0.0]],
        [[0.3, 0.3, 0.4], [1.0, 0.0, 0.0]],
    ],
    "float32",
)
DEPTH = np.array([1, 2, 3])


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_the_regulariser_by_hand(scale):
    # Equation 2 with weights 2/3, 1/3 and 0.
    first = softplus(scale * -0.2) + softplus(scale * -0.3)
    first += softplus(scale * 0.5) + softplus(scale * -0.1)
    second = softplus(0.0) + softplus(scale * 0.7) + softplus(scale * -0.2) + softplus(-scale * 0.6)
    expected = 2 / 3 * first + 1 / 3 * second
    emphasis = depth_emphasis(DEPTH)
    np.testing.assert_allclose(emphasis, [2 / 3, 1 / 3, 0], rtol=1e-12)
    found = policy_regulariser(ops.convert_to_tensor(POLICY), emphasis, [ALL] * 3, scale)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_an_option_that_is_not_there_has_no_term():
    available = [(True, True, False), (True, False, True), ALL]
    first = softplus(-0.2) + softplus(0.5)
    second = softplus(0.7) + softplus(-0.6)
    found = policy_regulariser(ops.convert_to_tensor(POLICY), depth_emphasis(DEPTH), available)
    assert float(found) == pytest.approx(2 / 3 * first + 1 / 3 * second, rel=1e-5)


def test_the_deepest_operator_is_free():
    policy = ops.convert_to_tensor(POLICY)
    with tf.GradientTape() as tape:
        tape.watch(policy)
        total = policy_regulariser(policy, depth_emphasis(DEPTH), [ALL] * 3)
    gradient = np.asarray(tape.gradient(total, policy))
    np.testing.assert_array_equal(gradient[2], 0.0)
    assert (gradient[:2, :, 0] < 0).all() and (gradient[:2, :, 1:] > 0).all()
    one = policy_regulariser(policy[:1], depth_emphasis(np.array([1])), [ALL])
    assert float(one) == 0.0


def test_depths_follow_the_longest_path():
    """Of two branches the longer counts: the convolution of a projection shortcut is no detour."""
    opened = open_search(toys.residual(blocks=2, downsample=(2,)))
    emphasis = {name: opened.emphasis[row] for name, row in opened.rows.items()}
    assert emphasis == {
        "stem": 3 / 4,
        "block1": 2 / 4,
        "block2": 1 / 4,
        "block2_second": 0.0,
        "block2_shortcut": 1 / 4,
    }


def test_emphasis_of_branches_that_are_not_equally_long():
    x = inputs = keras.Input((4,))
    y = layers.Dense(4, name="long2")(layers.Dense(4, name="long1")(x))
    x = layers.Add()([y, layers.Dense(4, name="short")(x)])
    opened = open_search(keras.Model(inputs, layers.Dense(4, name="last")(x)))
    emphasis = {name: opened.emphasis[row] for name, row in opened.rows.items()}
    assert emphasis == {"long1": 2 / 3, "short": 2 / 3, "long2": 1 / 3, "last": 0.0}


def moment(group="policy", step=0, temperature=1.0, seed=0):
    return Moment(Phase("search", 3), group, step, temperature, training=True, seed=seed)


def test_the_regulariser_of_a_search():
    """The paper's is on the soft policy of the step; the reference's on another sample, times 6."""
    opened = open_search(toys.mlp(blocks=2), regularisation=0.1)
    drawn = opened.draw(moment())
    expected = 0.1 * policy_regulariser(drawn, opened.emphasis, opened.available)
    for group in ("policy", "weights"):
        found = opened.regularisers(moment(group), drawn)["regularisation_loss"]
        assert float(found) == pytest.approx(float(expected), rel=1e-6)

    opened = open_search(toys.mlp(blocks=2), regularisation=0.1, form="reference")
    fresh = opened.gate(temperature=1.0, seed=moment().noise("regulariser"), training=True)
    assert not np.allclose(fresh, drawn)
    expected = 0.1 * policy_regulariser(fresh, opened.emphasis, opened.available, 6.0)
    found = opened.regularisers(moment(), drawn)["regularisation_loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_draws_follow_from_seed_group_and_step():
    opened = open_search(toys.mlp(blocks=2))
    first = opened.draw(moment())
    np.testing.assert_array_equal(opened.draw(moment()), first)
    for other in (moment("weights"), moment(step=1), moment(seed=1)):
        assert not np.allclose(opened.draw(other), first)


# What is open -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [("a",), ("a", "b"), ("a", "b", "c")])
def test_gates_begin_alike_for_any_number_of_tasks(tasks):
    opened = open_search(toys.chain(), tasks)
    assert list(opened.rows) == ["conv1", "conv2", "conv3"]
    assert opened.gate.logits_variable.shape == (3, len(tasks), 3)
    np.testing.assert_array_equal(opened.gate.logits_variable, 0.0)
    np.testing.assert_allclose(opened.probabilities(), 1 / 3, rtol=1e-6)
    assert list(opened.most_likely()["choices"]) == list(tasks)
    assert opened.limits == {}


def test_options_of_an_open_operator():
    opened = open_search(toys.chain())
    units = {unit.name: unit for unit in find_units(read(toys.chain()), "operator")}
    drawn = ops.convert_to_tensor(np.arange(18.0).reshape(3, 2, 3))
    mix = opened.resolve(Phase("search", 3), drawn)("b", units["conv2"])
    assert mix.options == (Use("shared", "b"), Use("b", "b"), Skip("b", "b"))
    assert [float(weight) for weight in mix.weights] == [9.0, 10.0, 11.0]
    assert mix.normalisation == ("b",) and not mix.sampled
    mix = opened.resolve(PRETRAINING, drawn)("b", units["conv2"])
    assert mix.weights == (1 / 3,) * 3 and mix.normalisation == ("shared", "b")
    for phase in opened.structures():
        mix = opened.resolve(phase, None)("a", units["conv1"])
        assert isinstance(mix, Mix) and len(mix.options) == 3
    assert [phase.name for phase in opened.structures()] == ["pre-training", "search"]
    assert len(open_search(toys.chain(), pretrain=0.0).structures()) == 1


def test_options_with_shared_normalisation():
    opened = open_search(toys.chain(), normalisation="shared")
    unit = find_units(read(toys.chain()), "operator")[0]
    for phase in opened.structures():
        mix = opened.resolve(phase, None)("a", unit)
        assert mix.options == (Use("shared"), Use("a"), Skip("a")) and mix.normalisation == ()


def test_a_normalisation_alone_is_of_the_task_and_has_no_choice():
    x = inputs = keras.Input((4,))
    x = layers.BatchNormalization(name="norm")(layers.Activation("relu", name="relu")(x))
    backbone = keras.Model(inputs, layers.Dense(4, name="dense")(x))
    opened = open_search(backbone)
    unit = {u.name: u for u in find_units(read(backbone), "operator")}["norm"]
    assert list(opened.rows) == ["dense"]
    assert opened.resolve(Phase("search", 1), None)("b", unit) == Use("shared", "b")
    mix = opened.resolve(PRETRAINING, None)("b", unit)
    assert (mix.options, mix.weights) == ((Use("shared"), Use("b")), (0.5, 0.5))
    shared = open_search(backbone, normalisation="shared")
    for phase in shared.structures():
        assert shared.resolve(phase, None)("b", unit) == Use("shared", None)


def test_an_embedding_is_never_skipped_and_the_summary_says_so():
    model = keras_mtl.build(recurrent(), toys.tasks(), AutoMTL(), seed=0)
    rows, available = model.search.rows, model.search.available
    assert available[rows["words"]].tolist() == [True, True, False]
    assert available[rows["first"]].tolist() == [True, True, True]
    assert model.decide().summary().split("\n\n")[-1].splitlines() == [
        "Not every choice was open:",
        "  words: never skipped (turns numbers into vectors)",
        "  last: never skipped (changes the rank)",
    ]


def test_an_operator_whose_other_outputs_are_read_may_be_copied():
    backbone, tasks = recurrent(states=True), toys.tasks()
    model = keras_mtl.build(toys.randomised(backbone), tasks, AutoMTL(), seed=0)
    assert model.search.available[model.search.rows["first"]].tolist() == [True, True, False]
    assert model.search.limits["first"] == "never skipped (has several outputs)"
    toys.randomised(model)
    choices = {"classes": ("shared", "own", "shared"), "value": ("own", "shared", "own")}
    architecture = model.decide().replace(choices=choices)
    ids = np.array([[1, 2, 3, 0], [4, 5, 6, 7]], "int32")
    derived = assert_derived_equals_supernet(model, backbone, tasks, architecture, ids)
    assert {"first", "first.classes"} <= {layer.name for layer in derived.network.layers}
    soft = model(ids, training=True)  # every output is mixed
    assert {task: tuple(value.shape) for task, value in soft.items()} == {
        "classes": (2, 3),
        "value": (2, 1),
    }


def test_a_layer_that_is_used_twice_has_one_choice():
    backbone, tasks = toys.randomised(toys.siamese()), toys.tasks()
    model = keras_mtl.build(backbone, tasks, AutoMTL(), seed=0)
    assert model.search.rows == {"encoder": 0, "encoder_": 0, "block1": 1}
    assert model.search.limits == {"encoder": "one choice for its 2 calls"}
    found = set()
    for architecture in model.decide(samples=20, seed=0):
        for row in architecture.choices.values():
            assert row[0] == row[1]
            found.add(row[0])
    assert found == {"shared", "own", "skip"}
    toys.randomised(model)
    choices = {"classes": ("own", "own", "skip"), "value": ("skip", "skip", "own")}
    architecture = model.decide().replace(choices=choices)
    x = toys.inputs(backbone, examples=3)
    assert_derived_equals_supernet(model, backbone, tasks, architecture, x)


def test_projections_belong_to_the_task():
    model = keras_mtl.build(toys.chain(), toys.tasks(), AutoMTL(), seed=0)
    names = {n for n in model.named_layers() if "projection" in n or "normalisation" in n}
    assert names == {
        f"{conv}.{kind}.{task}"
        for conv in ("conv1", "conv3")  # `conv2` keeps the shape: an identity
        for kind in ("projection", "normalisation")
        for task in model.task_names
    }
    layers = model.named_layers()
    first, second = (layers[f"conv3.projection.{task}"] for task in model.task_names)
    assert {id(v) for v in first.variables}.isdisjoint(id(v) for v in second.variables)
    assert [tuple(v.shape) for v in first.variables] == [(4, 6)]


# The plan -----------------------------------------------------------------------------------------


def plan(epochs=9, steps=10, **settings):
    return AutoMTLPlan(AutoMTL(**settings), 4, epochs, steps)


def test_pretraining_takes_its_share_of_the_epochs():
    made = plan()
    assert made.first_open_step == 30
    assert [made.phase(step) for step in (0, 29)] == [PRETRAINING] * 2
    assert [made.phase(step) for step in (30, 89)] == [Phase("search", 4)] * 2
    assert PRETRAINING.updates == ("weights",) and PRETRAINING.optimizer == "warmup_optimizer"
    assert Phase("search", 4).updates == ("weights", "policy")


@pytest.mark.parametrize(
    ("pretrain", "epochs", "expected"),
    [(0.0, 9, 0), (0.5, 9, 4), (0.99, 9, 8), (0.99, 1, 0), (1 / 3, 2, 1), (0.04, 9, 1)],
)
def test_pretraining_leaves_an_epoch_of_search(pretrain, epochs, expected):
    assert plan(epochs, pretrain=pretrain).first_open_step == 10 * expected


def test_pairs_of_steps_begin_with_the_policy():
    made = plan(alternate=(2, 3))
    moved = [made.phase(30 + step).updates for step in range(7)]
    policy, weights = ("policy",), ("weights",)
    assert moved == [policy, policy, weights, weights, weights, policy, policy]
    assert len({made.phase(step).structure for step in range(30, 90)}) == 1


def test_the_temperature_falls_by_epochs():
    made = plan()
    found = [float(made.temperature(step)) for step in (0, 29, 30, 39, 40, 80, 89, 500)]
    factor = (0.1 / 5.0) ** (1 / 5)
    np.testing.assert_allclose(found, [5, 5, 5, 5, 5 * factor, 0.1, 0.1, 0.1], rtol=1e-4)
    tensor = made.temperature(tf.constant(45))
    assert float(tensor) == float(made.temperature(45))


def test_the_temperature_falls_by_pairs():
    made = plan(alternate=(5, 15), temperature=(4.0, 1.0))
    found = [float(made.temperature(step)) for step in (30, 49, 50, 69, 70, 89)]
    np.testing.assert_allclose(found, [4, 4, 2, 2, 1, 1], rtol=1e-4)


def test_a_pair_must_fit_into_the_search():
    assert plan(epochs=3, pretrain=0.0, alternate=(10, 20)).first_open_step == 0
    refused(
        "`alternate` must fit into the search of 20 steps. Received: alternate=(10, 20). Use fewer "
        "steps in turn, or more epochs.",
        lambda: plan(epochs=3, alternate=(10, 20)),
    )


def test_phases_in_words():
    assert PRETRAINING.describe(4) == (
        "the pre-training: all 4 units give the mean of their options"
    )
    assert plan(alternate=(2, 3)).phase(30).describe(4) == (
        "the search: 4 of 4 units open, moving policy"
    )


# Training -----------------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """Notes weights and policy after every step."""

    def on_train_begin(self, logs=None):
        self.policy, self.weights = [], []
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch, logs=None):
        self.policy.append([np.asarray(v) for v in self.model.policy_variables()])
        self.weights.append({v.path: np.asarray(v) for v in self.model.weight_variables()})


@pytest.fixture(scope="module")
def stepwise():
    """Four steps of pre-training, then two for the policy and two for the weights."""
    backbone, tasks = toys.mlp(blocks=1), toys.tasks()
    strategy = AutoMTL(pretrain=0.5, alternate=(2, 2), normalisation="shared")
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    model.compile(
        keras.optimizers.SGD(0.05),
        keras.optimizers.Adam(0.05),
        warmup_optimizer=keras.optimizers.SGD(0.01),
        run_eagerly=True,
    )
    watch = Watch()
    split = data.search_split(toys.data(backbone, tasks, 32), batch_size=4)
    history = model.fit(split, epochs=2, callbacks=[watch], verbose=0).history
    return model, watch, history


def moved(before, after):
    keys = before if isinstance(before, dict) else range(len(before))
    return {key for key in keys if not np.array_equal(before[key], after[key])}


def test_every_step_moves_its_group_alone(stepwise):
    _, watch, _ = stepwise
    steps = range(8)
    policy = [bool(moved(watch.policy[i], watch.policy[i + 1])) for i in steps]
    weights = [bool(moved(watch.weights[i], watch.weights[i + 1])) for i in steps]
    assert policy == [False] * 4 + [True] * 2 + [False] * 2
    assert weights == [True] * 4 + [False] * 2 + [True] * 2


def test_the_pretraining_moves_every_copy(stepwise):
    model, watch, _ = stepwise
    assert moved(watch.weights[0], watch.weights[4]) == set(watch.weights[0])
    assert [int(o.iterations) for o in (model.warmup_optimizer, model.optimizer)] == [4, 2]
    assert int(model.policy_optimizer.iterations) == 2


def test_history_has_a_row_per_term(stepwise):
    model, _, history = stepwise
    terms = {"regularisation_loss", "expected_parameters", "expected_flops", "temperature"}
    assert {*terms, "loss", "classes_loss", "value_loss"} <= set(history)
    np.testing.assert_allclose(history["temperature"], [5.0, 5.0], rtol=1e-5)
    assert model.search_is_open and int(model.step) == 8


def test_expected_costs_by_hand():
    opened = open_search(toys.mlp(blocks=1))
    probabilities = np.array([[[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], [[0.1, 0.8, 0.1], [1, 0, 0]]])
    opened.gate.logits_variable.assign(np.log(np.maximum(probabilities, 1e-12)))
    copies = (1 - 0.5 * 0.8 + 0.3 + 0.2) + (1 - 0.0 + 0.8)
    runs = 0.8 + 0.4 + 0.9 + 1.0
    found = opened.monitors()
    assert float(found["expected_parameters"]) == pytest.approx(copies * 72, rel=1e-5)
    assert float(found["expected_flops"]) == pytest.approx(runs * 128, rel=1e-5)


# Deciding -----------------------------------------------------------------------------------------


def test_the_most_likely_architecture():
    model = keras_mtl.build(toys.mlp(blocks=2), toys.tasks(), AutoMTL(), seed=3)
    logits = np.zeros((3, 2, 3), "float32")
    logits[0, 0], logits[1, 0], logits[2, 1] = [0, 1, 0], [1, 0, 2], [-1, 0, 0]
    model.search.gate.logits_variable.assign(logits)
    architecture = model.decide()
    # Of equally likely options the first.
    assert architecture.choices == {
        "classes": ("own", "skip", "shared"),
        "value": ("shared", "shared", "own"),
    }
    assert architecture.normalisation == architecture.projections == "task"
    assert architecture.granularity == "operator"
    assert architecture.origin["settings"]["form"] == "paper"


def test_what_is_evaluated_is_decided_where_the_policy_is_nearly_even():
    opened = open_search(toys.mlp(blocks=1))
    opened.gate.logits_variable.assign(np.tile(np.array([0, 1e-9, 0], "float32"), (2, 2, 1)))
    np.testing.assert_array_equal(np.asarray(opened.gate(temperature=1.0)).argmax(-1), 1)
    assert opened.most_likely() == {"choices": {"a": ("own", "own"), "b": ("own", "own")}}


def test_samples_follow_the_distribution():
    opened = open_search(recurrent())
    logits = np.random.default_rng(0).normal(size=(3, 2, 3)).astype("float32")
    opened.gate.logits_variable.assign(logits)
    expected = opened.probabilities()
    assert (expected[[0, 2], :, 2] == 0).all()  # neither the words nor the last one is skipped
    generator, draws = np.random.default_rng(0), 2000
    counts = np.zeros((3, 2, 3))
    for _ in range(draws):
        for column, row in enumerate(opened.sample(generator)["choices"].values()):
            for unit, choice in enumerate(row):
                counts[unit, column, opened.OPTIONS.index(choice)] += 1
    assert (counts[[0, 2], :, 2] == 0).all()
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(counts / draws - expected) <= 4.5 * error + 1e-9).all()


def test_an_option_that_is_not_there_is_never_decided():
    opened = open_search(recurrent())
    logits = np.zeros((3, 2, 3), "float32")
    logits[..., 2] = 50.0
    opened.gate.logits_variable.assign(logits)
    for parts in (opened.most_likely(), opened.sample(np.random.default_rng(0))):
        for row in parts["choices"].values():
            assert row[1] == "skip" and "skip" not in (row[0], row[2])


def test_task_correlation_of_a_search():
    opened = open_search(recurrent())
    logits = np.random.default_rng(0).normal(size=(3, 2, 3)).astype("float32")
    opened.gate.logits_variable.assign(logits)
    logits[[0, 2], :, 2] = 0.0
    np.testing.assert_allclose(opened.task_correlation(), task_correlation(logits), atol=1e-6)
    opened.gate.logits_variable.assign(np.repeat(logits[:, :1], 2, axis=1))
    np.testing.assert_allclose(opened.task_correlation(), 1.0, atol=1e-6)


NETS = {
    "shortcut": (lambda: toys.residual(blocks=2, downsample=(2,)), 3, {}),
    "one_task": (toys.chain, 1, {}),
    "shared_normalisation": (toys.chain, 3, {"normalisation": "shared"}),
    "hard": (toys.chain, 2, {"sampling": "hard"}),
    "masked": (toys.masked, 3, {}),
    "nested": (toys.nested, 2, {}),
}


@pytest.mark.parametrize("net", NETS)
def test_derived_equals_supernet(net):
    make, count, settings = NETS[net]
    backbone, tasks = toys.randomised(make()), toys.tasks(count)
    model = toys.randomised(keras_mtl.build(backbone, tasks, AutoMTL(**settings), seed=0))
    x = toys.inputs(backbone, examples=3)
    chosen = set()
    for architecture in model.decide(samples=2, seed=1):
        chosen |= {choice for row in architecture.choices.values() for choice in row}
        derived = assert_derived_equals_supernet(model, backbone, tasks, architecture, x)
        assert derived.architecture.costs == architecture.costs
        assert architecture.parameters() == derived.network.count_params()
    assert chosen == {"shared", "own", "skip"}


# Settings -----------------------------------------------------------------------------------------


def test_serialises():
    assert_serialises(
        AutoMTL,
        {
            "regularisation": 0.3,
            "form": "reference",
            "pretrain": 0.25,
            "temperature": (4.0, 0.2),
            "alternate": (10, 40),
            "sampling": "hard",
            "normalisation": "shared",
            "policy_moves_statistics": True,
        },
    )


def test_reference_settings():
    reference = AutoMTL.reference(regularisation=1e-3)
    assert (reference.form, reference.alternate) == ("reference", (100, 400))
    assert reference.policy_moves_statistics and reference.regularisation == 1e-3
    assert reference == AutoMTL.reference(regularisation=1e-3) != AutoMTL()
    assert AutoMTL.reference(alternate="step").alternate == "step"


ALTERNATE = (
    "`alternate` must be 'step' or two positive integers, steps for the policy and for the weights."
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "x"}, "`form` must be one of ('paper', 'reference'). Received: form='x'."),
        (
            {"sampling": "both"},
            "`sampling` must be one of ('soft', 'hard'). Received: sampling='both'.",
        ),
        ({"pretrain": 1.0}, "`pretrain` must be at least 0 and below 1. Received: pretrain=1.0."),
        ({"pretrain": -0.1}, "`pretrain` must be at least 0 and below 1. Received: pretrain=-0.1."),
        ({"alternate": "epoch"}, f"{ALTERNATE} Received: alternate='epoch'."),
        ({"alternate": (1,)}, f"{ALTERNATE} Received: alternate=(1,)."),
        ({"alternate": (0, 5)}, f"{ALTERNATE} Received: alternate=(0, 5)."),
        ({"alternate": (1.5, 2)}, f"{ALTERNATE} Received: alternate=(1.5, 2)."),
        ({"alternate": 100}, f"{ALTERNATE} Received: alternate=100."),
        (
            {"temperature": (5.0, 0.0)},
            "`temperature` must be two positive numbers, the first and the last. "
            "Received: temperature=(5.0, 0.0).",
        ),
        (
            {"normalisation": "own"},
            "`normalisation` must be one of ('shared', 'task'). Received: normalisation='own'.",
        ),
    ],
)
def test_refusals(settings, message):
    refused(message, lambda: AutoMTL(**settings))


def test_a_backbone_without_operators_is_refused():
    inputs = keras.Input((4,))
    backbone = keras.Model(inputs, layers.BatchNormalization(name="norm")(inputs), name="mine")
    refused(
        "`backbone` 'mine' must have an operator with a choice. Received: 1 units, none of them in "
        "the support table. Add your layer classes by `keras_mtl.graph.register_operator`.",
        lambda: keras_mtl.build(backbone, toys.tasks(), AutoMTL()),
    )


def test_sampling_hard_refuses_implicit_masks():
    refused(
        "`sampling` must be 'soft' for a backbone with implicit masks, which do not pass through "
        "an executed branch. Received: sampling='hard' and layer 'words', which makes a mask. Hand "
        "masks over as arguments, or use 'soft'.",
        lambda: keras_mtl.build(recurrent(), toys.tasks(), AutoMTL(sampling="hard")),
    )


def test_an_operator_that_stops_an_implicit_mask_is_never_skipped():
    """Its skip would hand the mask on, where the operator itself does not."""
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = layers.Embedding(10, 4, mask_zero=True, name="words")(ids)
    with pytest.warns(UserWarning, match="mask"):  # Keras says that the convolution drops it
        x = layers.Conv1D(4, 3, padding="same", name="convolution")(x)
    backbone = keras.Model(ids, layers.LSTM(4, name="last")(x))
    opened = open_search(backbone)
    assert opened.limits["convolution"] == "never skipped (stops an implicit mask)"
    assert opened.available[opened.rows["convolution"]].tolist() == [True, True, False]


def test_parameters_of_a_layer_that_is_used_twice_count_once():
    opened = open_search(toys.siamese())
    costs = opened.costs[opened.rows["encoder"]]
    assert costs.tolist() == [4 * 4 + 4, 0, 0, 2 * 2 * 4 * 4, 0]


def test_random_policies_of_another_method_are_refused():
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "auto_mtl", seed=0)
    plan = model.decide(samples=1, seed=0)[0]
    assert "own" in {choice for row in plan.choices.values() for choice in row}
    with pytest.raises(keras_mtl.errors.ArchitectureError, match="must share or skip every unit"):
        keras_mtl.strategies.random_policies(plan, per_task=True, samples=1, seed=0)


def test_a_skip_that_nothing_can_replace_is_refused():
    backbone, tasks = recurrent(), [toys.regression("a")]
    plan = keras_mtl.build(backbone, tasks, "auto_mtl", seed=0).decide()
    for unit in ("words", "last"):
        row = ["skip" if name == unit else "shared" for name in plan.units]
        with pytest.raises(
            keras_mtl.errors.ArchitectureError,
            match=rf"^`architecture` must skip only what can be skipped\. Received: 'skip' at "
            rf"'{unit}', whose output nothing of the shape of its input can replace\.$",
        ):
            keras_mtl.build(backbone, tasks, architecture=plan.replace(choices={"a": row}))


def test_expected_costs_are_those_of_a_sure_decision():
    """Operators, per-task normalisation and the projections of skips; the rest is constant."""
    backbone, tasks = toys.chain(widths=(4, 6)), [toys.regression("a"), toys.regression("b")]
    model = keras_mtl.build(backbone, tasks, "auto_mtl", seed=0)
    heads = 2 * (6 + 1)
    for choice in ("shared", "own", "skip"):
        plan = model.decide()
        plan = plan.replace(choices=dict.fromkeys("ab", (choice,) * len(plan.units)))
        set_policy(model, plan)
        decided = model.decide()
        assert decided == plan
        found = model.search.monitors()
        assert float(found["expected_parameters"]) == decided.parameters() - heads
        if choice == "own":  # nothing is computed in common
            assert float(found["expected_flops"]) == decided.flops() - 2 * 2 * 6


def test_features_may_be_the_second_output_of_an_operator():
    inputs = keras.Input((5, 4), name="sequence")
    _, state, _ = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(inputs)
    opened = open_search(keras.Model(inputs, state))
    assert opened.limits["lstm"] == "never skipped (has several outputs)"
    model = keras_mtl.build(keras.Model(inputs, state), toys.tasks(), "auto_mtl", seed=0)
    assert set(model(np.ones((2, 5, 4), "float32"))) == {"classes", "value"}


def test_layers_of_the_backbone_may_have_any_name():
    x = inputs = keras.Input((4,), name="features")
    for name in ("mix", "policy"):
        x = layers.Dense(4, name=name)(x)
    backbone, tasks = keras.Model(inputs, x), toys.tasks()
    model = keras_mtl.build(backbone, tasks, "auto_mtl", seed=0)
    for plan in model.decide(samples=2, seed=0):
        assert_derived_equals_supernet(model, backbone, tasks, plan, np.ones((2, 4), "float32"))


def test_an_operator_without_any_choice_is_listed():
    class Frozen(layers.Dense):
        pass

    register_operator(Frozen, own=False, skip=False, why="frozen")
    inputs = keras.Input((4,), name="features")
    x = Frozen(4, name="frozen")(layers.Dense(4, name="dense")(inputs))
    opened = open_search(keras.Model(inputs, x))
    assert set(opened.rows) == {"dense"}
    assert opened.limits == {"frozen": "no copies (frozen), never skipped (frozen)"}


def test_hard_sampling_refuses_activity_regularisers():
    inputs = keras.Input((4,), name="features")
    x = layers.Dense(4, activity_regularizer="l2", name="dense")(inputs)
    with pytest.raises(ValueError, match=r"^`sampling` must be 'soft' .*layer 'dense', which has"):
        open_search(keras.Model(inputs, x), sampling="hard")


@pytest.mark.parametrize(
    "settings",
    [
        {"regularisation": float("nan")},
        {"regularisation": -1.0},
        {"temperature": 5.0},
        {"temperature": (5.0, float("nan"))},
        {"pretrain": "half"},
        {"alternate": (True, True)},
    ],
)
def test_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=rf"^`{name}` must be .* Received: {name}="):
        AutoMTL(**settings)
