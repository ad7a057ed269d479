"""AdaShare: losses and gradients by hand, the plan, gates in a model, decisions, baselines."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_mtl
from keras_mtl import data
from keras_mtl.assembly import Mix, Skip, Use, assemble
from keras_mtl.graph import find_units, read
from keras_mtl.strategies import AdaShare, random_policies, task_correlation
from keras_mtl.strategies.adashare import (
    AdaSharePlan,
    find_skippable,
    reference_sharing_loss,
    reference_sparsity_loss,
    sharing_loss,
    sparsity_loss,
)
from keras_mtl.strategies.strategy import Moment, Phase
from tests import toys
from tests.contracts import assert_derived_equals_supernet, assert_serialises, set_policy

# Two tasks and three blocks: logits, and the probabilities of selecting.
LOGITS = np.log([[3.0, 1.0], [1.0, 4.0], [0.25, 1.0]]).astype("float32")
ALPHA = np.array([[0.75, 0.5], [0.5, 0.8], [0.2, 0.5]])


def search(form="paper", logits=LOGITS, backbone=None, **settings):
    """The open search of a three-block MLP with two tasks and given log-odds."""
    graph = read(backbone or toys.mlp(blocks=3))
    strategy = AdaShare(form=form, **settings)
    opened = strategy.open(graph, find_units(graph), ("a", "b"), 0)
    value = np.asarray(logits)[..., None]
    if form == "reference":  # two logits: half of the log-odds each, the second negative
        value = np.concatenate([value / 2, -value / 2], axis=-1)
    opened.gate.logits_variable.assign(value)
    return opened


def phase(open_units):
    """A phase in which so many of the last blocks are open."""
    return Phase("search", open_units)


def moment(open_units):
    """A moment of that phase."""
    return Moment(phase(open_units))


def gradient(opened, name, open_units):
    """The gradient of one regulariser for the gate's logits."""
    variable = opened.gate.logits_variable
    with tf.GradientTape() as tape:
        value = opened.regularisers(moment(open_units), None)[name]
    found = tape.gradient(value, variable.value)
    return np.asarray(tf.zeros_like(variable.value) if found is None else found)


# The losses by hand -------------------------------------------------------------------------------


def test_sparsity_of_the_paper():
    # Equation 3: ln(0.75 · 0.5 · 0.5 · 0.8 · 0.2 · 0.5).
    assert float(sparsity_loss(np.log(ALPHA))) == pytest.approx(np.log(0.015), rel=1e-6)
    assert float(sparsity_loss(np.log(ALPHA), 2)) == pytest.approx(np.log(0.04), rel=1e-6)
    assert float(sparsity_loss(np.log(ALPHA), 0)) == 0.0


def test_sparsity_of_the_paper_and_its_gradient_in_a_search():
    opened = search(sparsity=0.1)
    found = float(opened.regularisers(moment(3), None)["sparsity_loss"])
    assert found == pytest.approx(0.1 * np.log(0.015), rel=1e-5)
    expected = 0.1 * (1 - ALPHA)
    np.testing.assert_allclose(gradient(opened, "sparsity_loss", 3)[..., 0], expected, rtol=1e-5)
    two = gradient(opened, "sparsity_loss", 2)[..., 0]
    np.testing.assert_array_equal(two[0], [0.0, 0.0])  # exactly: the first block is closed
    np.testing.assert_allclose(two[1:], expected[1:], rtol=1e-5)
    np.testing.assert_array_equal(gradient(opened, "sparsity_loss", 0), np.zeros((3, 2, 1)))


def test_sparsity_of_the_reference():
    # -ln P(skip): 1.386, 0.693, 0.223 for the first task; 0.693, 1.609, 0.693 for the second.
    first = (np.log(4) + np.log(2) + np.log(1.25)) / 3
    second = (np.log(2) + np.log(5) + np.log(2)) / 3
    assert float(reference_sparsity_loss(np.log(1 - ALPHA))) == pytest.approx(first + second)
    last_two = (np.log(2) + np.log(1.25)) / 2 + (np.log(5) + np.log(2)) / 2
    assert float(reference_sparsity_loss(np.log(1 - ALPHA), 2)) == pytest.approx(last_two)
    assert float(reference_sparsity_loss(np.log(1 - ALPHA), 0)) == 0.0


def test_sparsity_of_the_reference_and_its_gradient_in_a_search():
    opened = search("reference", sparsity=0.3)
    for open_units in (3, 2, 1):
        found = gradient(opened, "sparsity_loss", open_units)
        # For the log-odds the gradient is α; two logits have it with both signs.
        expected = 0.3 * ALPHA / open_units
        expected[: 3 - open_units] = 0
        np.testing.assert_allclose(found[..., 0], expected, rtol=1e-5)
        np.testing.assert_allclose(found[..., 1], -expected, rtol=1e-5)
        np.testing.assert_array_equal(found[: 3 - open_units], 0.0)
    np.testing.assert_array_equal(gradient(opened, "sparsity_loss", 0), np.zeros((3, 2, 2)))


def test_sharing_of_the_paper():
    # Equation 4: (2/3)·0.25 + (1/3)·0.3 + 0·0.3.
    assert float(sharing_loss(ops.convert_to_tensor(ALPHA, "float32"))) == pytest.approx(
        0.5 / 3 + 0.1
    )


def test_sharing_counts_each_pair_of_tasks_once():
    select = np.array([[0.1, 0.4, 0.8], [0.0, 0.0, 0.0]], "float32")
    # Pairs: 0.3 + 0.7 + 0.4, weighted by (2 - 1)/2.
    assert float(sharing_loss(ops.convert_to_tensor(select))) == pytest.approx(0.7)
    logits = ops.convert_to_tensor(select[::-1].copy())
    assert float(reference_sharing_loss(logits)) == pytest.approx(1.4)  # weight (1 + 1)/2
    one_task = ops.convert_to_tensor(select[:, :1])
    assert float(sharing_loss(one_task)) == 0.0


def test_sharing_of_the_paper_and_its_gradient_in_a_search():
    opened = search(sharing=0.2)
    assert float(opened.regularisers(moment(3), None)["sharing_loss"]) == pytest.approx(
        0.2 * (0.5 / 3 + 0.1)
    )
    sign = np.array([[1, -1], [-1, 1], [-1, 1]])
    weight = np.array([[2 / 3], [1 / 3], [0]])
    expected = 0.2 * weight * sign * ALPHA * (1 - ALPHA)
    # The curriculum does not matter: closed blocks have the sharing loss too.
    for open_units in (0, 1, 3):
        found = gradient(opened, "sharing_loss", open_units)[..., 0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_sharing_of_the_reference_and_its_gradient_in_a_search():
    opened = search("reference", sharing=0.2)
    difference = np.abs(LOGITS[:, 0] - LOGITS[:, 1]) / 2
    expected = 0.2 * (difference * [1 / 3, 2 / 3, 1]).sum()
    assert float(opened.regularisers(moment(3), None)["sharing_loss"]) == pytest.approx(
        expected, rel=1e-5
    )
    sign = np.array([[1, -1], [-1, 1], [-1, 1]])
    slopes = 0.2 * sign * np.array([[1 / 3], [2 / 3], [1]])
    for open_units in (0, 3):
        found = gradient(opened, "sharing_loss", open_units)
        np.testing.assert_allclose(found[..., 0], slopes, rtol=1e-5)
        np.testing.assert_array_equal(found[..., 1], 0.0)


def test_default_factors():
    assert search().sparsity == pytest.approx(0.05 / 3)
    assert search("reference").sparsity == 0.05
    assert search(sparsity=0.0).sparsity == 0.0
    assert float(search(sparsity=0.0).regularisers(moment(3), None)["sparsity_loss"]) == 0.0


def test_the_paper_sparsity_keeps_its_gradient_far_out():
    opened = search(logits=np.full((3, 2), -60.0))
    np.testing.assert_allclose(gradient(opened, "sparsity_loss", 3), 0.05 / 3, rtol=1e-4)
    assert np.isfinite(float(opened.regularisers(moment(3), None)["sparsity_loss"]))


# Gates --------------------------------------------------------------------------------------------


def test_gates_of_both_forms():
    paper = AdaShare().open(*graph_and_units(toys.mlp()), ("a", "b", "c"), 0).gate
    assert paper.logits_variable.shape == (3, 3, 1)
    np.testing.assert_allclose(paper.probabilities(), 0.5)
    reference = AdaShare.reference().open(*graph_and_units(toys.mlp()), ("a", "b"), 0).gate
    assert reference.logits_variable.shape == (3, 2, 2)
    np.testing.assert_array_equal(reference.logits(), 0.5)
    np.testing.assert_allclose(search("reference").probabilities(), ALPHA, rtol=1e-5)
    np.testing.assert_allclose(search().probabilities(), ALPHA, rtol=1e-5)


def graph_and_units(backbone):
    graph = read(backbone)
    return graph, find_units(graph)


def test_closed_units_are_selected_and_open_ones_mixed():
    opened = search()
    units = {unit.name: unit for unit in find_units(read(toys.mlp()))}
    drawn = np.arange(12.0).reshape(3, 2, 2)
    resolve = opened.resolve(phase(2), drawn)
    assert resolve("a", units["stem"]) == Use()
    assert resolve("b", units["block1"]) == Use()
    for row, name in ((1, "block2"), (2, "block3")):
        for column, task in enumerate("ab"):
            mix = resolve(task, units[name])
            assert isinstance(mix, Mix) and mix.options == (Use(), Skip())
            np.testing.assert_array_equal(mix.weights, drawn[row, column])
    structure = opened.resolve(phase(3), None)("a", units["block1"])
    assert isinstance(structure, Mix) and structure.weights is None


def test_normalisation_per_task():
    opened = search(normalisation="task")
    units = {unit.name: unit for unit in find_units(read(toys.mlp()))}
    resolve = opened.resolve(phase(1), None)
    assert resolve("b", units["block1"]) == Use("shared", "b")
    assert resolve("b", units["block3"]).options == (Use("shared", "b"), Skip("shared", "b"))


def test_an_open_block_is_mixed_by_its_decision():
    """x <- v_select · unit(x) + v_skip · x, by hand on two blocks."""
    backbone = toys.randomised(toys.mlp(blocks=2))
    model = keras_mtl.build(backbone, toys.tasks(1), seed=0)
    x = toys.inputs(backbone, examples=3)
    drawn = np.array([[[0.3, 0.7]], [[0.6, 0.4]]], "float32")
    features = assemble(
        model.graph,
        model.units,
        model.task_names,
        model.search.resolve(phase(2), ops.convert_to_tensor(drawn)),
        model.copies,
        [ops.convert_to_tensor(x)],
    )["classes"]

    def dense(name, value):
        kernel, bias = backbone.get_layer(name).get_weights()
        return np.tanh(value @ kernel + bias)

    first = dense("stem", x)
    second = 0.3 * (first + dense("block1", first)) + 0.7 * first
    third = 0.6 * (second + dense("block2", second)) + 0.4 * second
    np.testing.assert_allclose(features, third, rtol=1e-5, atol=1e-6)


def test_a_skipped_block_has_no_activation_after_its_shortcut():
    """unit(x) = ReLU(shortcut(x) + F(x)), but what is skipped is shortcut(x) itself."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="stem")(inputs)
    y = keras.layers.Dense(4, name="block")(x)
    x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    backbone = keras.Model(inputs, x)
    tasks = [keras_mtl.Task("a", keras.layers.Identity(), "mse")]
    model = keras_mtl.build(backbone, tasks, seed=0)
    set_policy(model, model.decide().replace(choices={"a": ("shared", "skip")}))
    array = toys.inputs(backbone, examples=8)
    stem = array @ backbone.get_layer("stem").get_weights()[0]
    np.testing.assert_allclose(model(array)["a"], stem, atol=1e-6)
    assert (stem < 0).any()


def test_closed_blocks_get_no_gradient_from_the_tasks():
    backbone = toys.mlp(blocks=3)
    model = keras_mtl.build(backbone, toys.tasks(2), seed=0)
    x = ops.convert_to_tensor(toys.inputs(backbone, examples=3))
    gate = model.search.gate
    with tf.GradientTape() as tape:
        drawn = model.search.draw(Moment(phase(1), training=True, seed=3))
        features = assemble(
            model.graph,
            model.units,
            model.task_names,
            model.search.resolve(phase(1), drawn),
            model.copies,
            [x],
        )
        total = sum(ops.sum(ops.square(value)) for value in features.values())
    found = np.asarray(tape.gradient(total, gate.logits_variable.value))[..., 0]
    np.testing.assert_array_equal(found[:2], 0.0)
    assert (found[2] != 0).all()


@pytest.mark.parametrize("strategy", ["adashare", "shared"])
def test_training_reaches_dropout_and_normalisation(strategy):
    backbone = toys.with_dropout()
    model = keras_mtl.build(backbone, toys.tasks(), strategy, seed=0)
    x = toys.inputs(backbone, examples=4)
    layers = model.named_layers()
    before = [np.asarray(v) for v in layers["block1_bn"].non_trainable_weights]
    inference = [np.asarray(model(x, training=False)["value"]) for _ in range(2)]
    np.testing.assert_array_equal(*inference)
    for value, variable in zip(before, layers["block1_bn"].non_trainable_weights, strict=True):
        np.testing.assert_array_equal(variable, value)
    training = [np.asarray(model(x, training=True)["value"]) for _ in range(2)]
    assert not np.allclose(*training)  # the gates draw by the step; Dropout draws anew
    moved = [v for v in layers["block1_bn"].non_trainable_weights]
    assert all(not np.allclose(a, b) for a, b in zip(before, moved, strict=True))


# The plan -----------------------------------------------------------------------------------------


def plan(num_units=4, epochs=10, steps=7, **settings):
    return AdaSharePlan(AdaShare(**settings), num_units, epochs, steps)


def phases(made):
    """The phase of every epoch; it must hold for all of its steps."""
    found = []
    for epoch in range(made.epochs):
        first = made.phase(epoch * made.steps_per_epoch)
        for step in range(made.steps_per_epoch):
            assert made.phase(epoch * made.steps_per_epoch + step) == first
        found.append(first)
    return found


def temperatures(made):
    steps = made.steps_per_epoch
    for epoch in range(made.epochs):
        within = {round(float(made.temperature(epoch * steps + s)), 6) for s in range(steps)}
        assert len(within) == 1
    return np.array([float(made.temperature(epoch * steps)) for epoch in range(made.epochs)])


def test_the_temperature_falls_by_equal_factors_to_its_stated_end():
    found = temperatures(plan(warmup=0.2))
    np.testing.assert_allclose(found[:3], 5.0)  # the warm-up, and the first epoch of the search
    assert found[-1] == pytest.approx(0.1, rel=1e-4)
    np.testing.assert_allclose(found[3:] / found[2:-1], (0.1 / 5.0) ** (1 / 7), rtol=1e-4)


@pytest.mark.parametrize("epochs", [4, 20, 300])
def test_the_end_does_not_depend_on_the_length(epochs):
    made = plan(epochs=epochs, warmup=0.0, temperature=(4.0, 0.5))
    assert float(made.temperature(0)) == pytest.approx(4.0)
    assert float(made.temperature(epochs * 7 - 1)) == pytest.approx(0.5, rel=1e-4)
    assert float(made.temperature(epochs * 70)) == pytest.approx(0.5, rel=1e-4)


def test_a_fixed_factor_would_not_be_a_search():
    # 0.965 over 20 phases ends at 2.5; ours ends where it should.
    assert 5 * 0.965**20 > 2.4
    found = temperatures(plan(epochs=20, warmup=0.0))
    assert found[-1] == pytest.approx(0.1, rel=1e-4)
    assert found[1] / found[0] < 0.82


def test_alternating_by_epoch_cools_once_per_pair():
    found = temperatures(plan(epochs=10, warmup=0.2, alternate="epoch"))
    np.testing.assert_allclose(found[:4], 5.0)
    factor = (0.1 / 5.0) ** (1 / 3)
    np.testing.assert_allclose(found[4:], 5 * factor ** np.array([1, 1, 2, 2, 3, 3]), rtol=1e-4)


def test_the_temperature_of_a_tensor_step():
    made = plan(warmup=0.2)
    for step in (0, 20, 69):
        assert float(made.temperature(tf.constant(step))) == float(made.temperature(step))


def test_curriculum_of_the_paper():
    made = plan(num_units=4, epochs=10, warmup=0.2, max_stages=None)
    found = [(phase.name, phase.open_units) for phase in phases(made)]
    assert found == [
        *[("warm-up", 0)] * 2,
        ("curriculum", 1),  # in epoch l the last l blocks
        ("curriculum", 2),
        ("curriculum", 3),
        *[("search", 4)] * 5,
    ]
    assert made.first_open_step == 5 * 7
    assert all(phase.updates == ("weights", "policy") for phase in phases(made)[2:])
    assert phases(made)[0].updates == ("weights",)


def test_curriculum_of_the_reference():
    # Three epochs per block.
    made = plan(num_units=3, epochs=12, warmup=0.0, max_stages=None, curriculum_epochs=9)
    assert [phase.open_units for phase in phases(made)] == [1] * 3 + [2] * 3 + [3] * 6
    assert made.first_open_step == 6 * 7


def test_curriculum_in_few_stages():
    made = plan(num_units=16, epochs=40, warmup=0.0, max_stages=4, curriculum_epochs=16)
    opened = [phase.open_units for phase in phases(made)]
    assert opened == [4] * 4 + [8] * 4 + [12] * 4 + [16] * 28
    uneven = plan(num_units=10, epochs=40, warmup=0.0, max_stages=3, curriculum_epochs=10)
    opened = [phase.open_units for phase in phases(uneven)]
    assert opened == sorted(opened) and set(opened) == {4, 7, 10}
    assert opened[9] == 10


def test_curriculum_takes_at_most_half_of_the_search():
    made = plan(num_units=16, epochs=10, warmup=0.2, max_stages=None)
    opened = [phase.open_units for phase in phases(made)]
    assert opened == [0, 0, 4, 8, 12, 16, 16, 16, 16, 16]


def test_no_curriculum():
    made = plan(warmup=0.0, curriculum_epochs=0)
    assert {phase.open_units for phase in phases(made)} == {4}
    assert {phase.name for phase in phases(made)} == {"search"}
    assert made.first_open_step == 0


@pytest.mark.parametrize(("warmup", "epochs", "expected"), [(0.2, 10, 2), (0.9, 1, 0), (0.0, 5, 0)])
def test_warmup_leaves_at_least_one_epoch_of_search(warmup, epochs, expected):
    made = plan(epochs=epochs, warmup=warmup)
    assert [phase.name for phase in phases(made)].count("warm-up") == expected
    assert made.search_epochs == epochs - expected


def test_alternating_by_epoch():
    found = phases(plan(epochs=6, warmup=0.34, alternate="epoch", curriculum_epochs=0))
    assert [phase.updates for phase in found] == [
        ("weights",),
        ("weights",),
        ("weights",),
        ("policy",),
        ("weights",),
        ("policy",),
    ]


# Training -----------------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """Notes weights and policy at the end of every epoch."""

    def on_train_begin(self, logs=None):
        self.policy, self.weights, self.phases = [], [], []
        self.note()

    def on_epoch_begin(self, epoch, logs=None):
        self.phases.append(self.model.phase)

    def on_epoch_end(self, epoch, logs=None):
        self.note()

    def note(self):
        (policy,) = self.model.policy_variables()
        self.policy.append(np.array(policy)[..., 0])
        self.weights.append([np.array(v) for v in self.model.weight_variables()])


def watched(strategy, epochs, blocks=2, **compiled):
    backbone, tasks = toys.mlp(blocks=blocks), toys.tasks()
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    # Two steps of each phase: quicker than tracing it.
    policy_optimizer = keras.optimizers.Adam(0.05)
    model.compile("sgd", policy_optimizer, run_eagerly=True, **compiled)
    watch = Watch()
    split = data.search_split(toys.data(backbone, tasks, 32), batch_size=8)
    history = model.fit(split, epochs=epochs, callbacks=[watch], verbose=0).history
    return model, watch, history


@pytest.fixture(scope="module")
def stepwise():
    """One warm-up epoch, one with the last block open, two with both."""
    strategy = AdaShare(warmup=0.25, curriculum_epochs=2, sharing=0.0)
    return watched(strategy, 4)


def moved(before, after):
    return any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_warm_up_moves_weights_alone(stepwise):
    _, watch, _ = stepwise
    assert [phase.open_units for phase in watch.phases] == [0, 1, 2, 2]
    np.testing.assert_array_equal(watch.policy[1], watch.policy[0])
    assert moved(watch.weights[0], watch.weights[1])


def test_closed_blocks_keep_their_logits_without_a_sharing_loss(stepwise):
    _, watch, _ = stepwise
    np.testing.assert_array_equal(watch.policy[2][0], [0.0, 0.0])
    assert (watch.policy[2][1] != 0).all()
    assert (watch.policy[3][0] != 0).all()
    assert moved(watch.weights[1], watch.weights[2])


def test_history_has_a_row_per_term(stepwise):
    model, _, history = stepwise
    terms = {"sparsity_loss", "sharing_loss", "temperature", "expected_parameters"}
    assert {*terms, "expected_flops", "loss", "classes_loss", "value_loss"} <= set(history)
    temperatures = [5.0, 5.0, 5.0 * (0.02) ** (1 / 2), 0.1]
    np.testing.assert_allclose(history["temperature"], temperatures, rtol=1e-4)
    assert history["sharing_loss"] == [0.0] * 4
    assert history["sparsity_loss"][0] == 0.0 > history["sparsity_loss"][1]
    assert model.search_is_open
    assert int(model.step) == 4 * 2


def test_expected_costs_follow_the_policy():
    opened = search()
    parameters, work = 72.0, 128.0  # of a dense layer of 8 units on 8
    used = 1 - (1 - ALPHA).prod(axis=1)
    monitors = opened.monitors()
    assert float(monitors["expected_parameters"]) == pytest.approx(used.sum() * parameters)
    assert float(monitors["expected_flops"]) == pytest.approx(ALPHA.sum() * work)


def test_epochs_in_turn_move_one_group_each():
    strategy = AdaShare.reference(warmup=0.0, curriculum_epochs=0)
    model, watch, _ = watched(strategy, 3)
    assert [phase.updates for phase in watch.phases] == [("weights",), ("policy",), ("weights",)]
    policy = [moved([a], [b]) for a, b in zip(watch.policy, watch.policy[1:], strict=False)]
    weights = [moved(a, b) for a, b in zip(watch.weights, watch.weights[1:], strict=False)]
    assert policy == [False, True, False]
    assert weights == [True, False, True]
    assert int(model.step) == 6


def test_the_warm_up_has_its_own_optimizer():
    model, watch, _ = watched(
        AdaShare(warmup=0.5, curriculum_epochs=0),
        2,
        warmup_optimizer=keras.optimizers.SGD(0.0),
    )
    assert not moved(watch.weights[0], watch.weights[1])
    assert moved(watch.weights[1], watch.weights[2])
    assert [int(o.iterations) for o in (model.warmup_optimizer, model.optimizer)] == [2, 2]


# Deciding -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undecided():
    """A search of three blocks with the probabilities `ALPHA`, not trained."""
    backbone, tasks = toys.randomised(toys.mlp(blocks=3)), toys.tasks()
    model = keras_mtl.build(backbone, tasks, AdaShare(), seed=3)
    return backbone, tasks, model


@pytest.fixture
def with_alpha(undecided):
    _, _, model = undecided
    model.search.gate.logits_variable.assign(LOGITS[..., None])
    return model


def test_the_most_likely_architecture(with_alpha):
    architecture = with_alpha.decide()
    # A probability of 1/2 selects.
    assert architecture.choices == {
        "classes": ("shared", "shared", "shared", "skip"),
        "value": ("shared", "shared", "shared", "shared"),
    }
    assert architecture.origin["skippable"] == ("block1", "block2", "block3")
    assert architecture.origin["seed"] == 3
    assert architecture.origin["settings"]["warmup"] == 0.2


def test_evaluation_is_by_the_most_likely_architecture(with_alpha, undecided):
    """Ties included: what is evaluated is what is decided."""
    backbone, tasks, model = undecided
    x = toys.inputs(backbone, examples=4)
    derived = keras_mtl.build(backbone, tasks, architecture=model.decide(), initial_weights=model)
    for task in model.task_names:
        np.testing.assert_allclose(derived(x)[task], model(x)[task], atol=1e-6)


def test_samples_follow_the_distribution(with_alpha):
    generator = np.random.default_rng(0)
    draws = 1500
    selected = np.zeros((3, 2))
    for _ in range(draws):
        choices = with_alpha.search.sample(generator)["choices"]
        for column, task in enumerate(with_alpha.task_names):
            assert choices[task][0] == "shared"
            selected[:, column] += [choice == "shared" for choice in choices[task][1:]]
    error = np.sqrt(ALPHA * (1 - ALPHA) / draws)
    assert (np.abs(selected / draws - ALPHA) < 4.5 * error).all()


def test_seeds_of_decide(with_alpha):
    first = with_alpha.decide(samples=8, seed=0)
    assert first == with_alpha.decide(samples=8, seed=0)
    assert first != with_alpha.decide(samples=8, seed=1)
    drawn = with_alpha.decide(samples=8)
    assert drawn == with_alpha.decide(samples=8, seed=drawn[0].origin["decide_seed"])
    assert len(set(first)) > 1
    assert [a.origin["decide_seed"] for a in first] == [0] * 8


@pytest.mark.parametrize("samples", [0, -1, 2.0, "8"])
def test_samples_must_be_a_positive_integer(with_alpha, samples):
    message = f"`samples` must be an integer of at least 1. Received: samples={samples!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        with_alpha.decide(samples=samples)


# Derived model against supernet -------------------------------------------------------------------

NETS = {
    "residual": (toys.residual, {}),
    "projection_shortcut": (lambda: toys.residual(downsample=(2, 3)), {}),
    "task_normalisation": (lambda: toys.residual(downsample=(3,)), {"normalisation": "task"}),
    "reference": (lambda: toys.residual(blocks=2), {"form": "reference"}),
    "dropout": (toys.with_dropout, {}),
    "chain": (toys.chain, {}),
    "projection": (toys.chain, {"skippable": "projection"}),
    "masked": (toys.masked, {}),
    "nested": (toys.nested, {"skippable": "identity"}),
    "siamese": (toys.siamese, {"skippable": "identity"}),
}


@pytest.mark.parametrize("net", NETS)
def test_derived_equals_supernet(net):
    make, settings = NETS[net]
    backbone, tasks = toys.randomised(make()), toys.tasks(3)
    model = keras_mtl.build(backbone, tasks, AdaShare(**settings), seed=0)
    x = toys.inputs(backbone, examples=3)
    architecture = model.decide(samples=1, seed=4)[0]
    assert any("skip" in row for row in architecture.choices.values())
    derived = assert_derived_equals_supernet(model, backbone, tasks, architecture, x)
    assert derived.architecture.costs == architecture.costs
    # And it does depend on the decision.
    everything = {task: ("shared",) * len(architecture.units) for task in architecture.tasks}
    before = {task: np.asarray(value) for task, value in derived(x).items()}
    whole = architecture.replace(choices=everything)
    after = assert_derived_equals_supernet(model, backbone, tasks, whole, x)(x)
    assert any(not np.allclose(before[task], after[task], atol=1e-4) for task in before)


# What may be skipped ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "skippable", "expected"),
    [
        (toys.residual, "auto", ["block1", "block2", "block3", "block4"]),
        (toys.residual, "projection", ["block1", "block2", "block3", "block4"]),
        (toys.chain, "auto", ["conv2"]),
        (toys.chain, "shortcut", []),
        (toys.chain, "projection", ["conv2", "conv3"]),
        (toys.nested, "auto", ["inner.conv"]),
        (toys.nested, "identity", ["inner.conv", "last"]),
    ],
)
def test_skippable_units(make, skippable, expected):
    graph, units = graph_and_units(make())
    assert [unit.name for unit in find_skippable(graph, units, skippable)] == expected


def test_a_backbone_without_skippable_units_is_refused():
    message = (
        "`backbone` 'chain' must have a block that can be skipped. Received: 4 units, none with a "
        "shortcut or with equal input and output shapes. Use "
        '`AdaShare(skippable="projection")`, or a backbone with residual blocks.'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        keras_mtl.build(toys.chain(widths=(4, 5, 6)), toys.tasks(), "adashare")


# Task correlation and random policies -------------------------------------------------------------


def test_task_correlation_by_hand():
    logits = np.array([[3.0, 0.0, 1.0], [1.0, 4.0, 1.0], [2.0, 2.0, 1.0]])
    # Centred: (1, -1, 0), (-2, 2, 0) and nothing.
    expected = [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(task_correlation(logits), expected, atol=1e-12)
    shifted = task_correlation(logits + np.array([100.0, -5.0, 2.0]))
    np.testing.assert_allclose(shifted, expected, atol=1e-9)
    half = task_correlation([[1.0, 1.0], [0.0, 0.0], [-1.0, -1.0], [0.0, 0.0]])
    np.testing.assert_allclose(half, 1.0)
    known = task_correlation([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert known[0, 1] == pytest.approx(0.5)


def test_random_policies_are_not_correlated():
    logits = np.random.default_rng(0).normal(size=(200, 2)) + 1.0
    assert abs(task_correlation(logits)[0, 1]) < 0.2
    raw = 1 / (1 + np.exp(-logits))
    cosine = raw[:, 0] @ raw[:, 1] / np.prod(np.linalg.norm(raw, axis=0))
    assert cosine > 0.7  # which is why they are centred


def test_task_correlation_of_a_search():
    expected = task_correlation(LOGITS)
    for form in ("paper", "reference"):
        np.testing.assert_allclose(search(form).task_correlation(), expected, atol=1e-6)


@pytest.fixture
def decided(with_alpha):
    architecture = with_alpha.decide()
    choices = {
        "classes": ("shared", "skip", "shared", "skip"),
        "value": ("shared", "shared", "shared", "skip"),
    }
    return architecture.replace(choices=choices)


def skips(architecture):
    return {task: row.count("skip") for task, row in architecture.choices.items()}


def test_random_1_keeps_the_total(decided):
    found = random_policies(decided, per_task=False, samples=40, seed=0)
    assert len(found) == 40
    assert {sum(skips(a).values()) for a in found} == {3}
    assert len({tuple(skips(a).items()) for a in found}) > 1
    assert all(row[0] == "shared" for a in found for row in a.choices.values())
    assert len(set(found)) > 10
    assert found[3].origin == {
        "strategy": "random_1",
        "seed": 0,
        "sample": 3,
        "skippable": ("block1", "block2", "block3"),
    }


def test_random_2_keeps_the_number_per_task(decided):
    found = random_policies(decided, per_task=True, samples=40, seed=0)
    assert {tuple(skips(a).values()) for a in found} == {(2, 1)}
    assert len(set(found)) == 9  # 3 places for the two skips, times 3
    assert {a.origin["strategy"] for a in found} == {"random_2"}
    # Every block is skipped about equally often.
    places = np.zeros(3)
    for a in random_policies(decided, per_task=True, samples=600, seed=1):
        places += [choice == "skip" for choice in a.choices["value"][1:]]
    assert (np.abs(places / 600 - 1 / 3) < 0.09).all()


def test_seeds_of_random_policies(decided):
    first = random_policies(decided, per_task=False, samples=5, seed=0)
    assert first == random_policies(decided, per_task=False, samples=5, seed=0)
    assert first != random_policies(decided, per_task=False, samples=5, seed=1)


def test_random_policies_can_be_built(decided, undecided):
    backbone, tasks, _ = undecided
    (policy,) = random_policies(decided, per_task=True, samples=1, seed=0)
    model = keras_mtl.build(backbone, tasks, architecture=policy, seed=0)
    assert model.architecture == policy and model.architecture.flops() > 0


def test_random_policies_need_to_know_what_may_be_skipped(decided):
    message = (
        "`architecture` must come from a search that says which units may be skipped. "
        "Received: origin={}."
    )
    with pytest.raises(keras_mtl.ArchitectureError, match=f"^{re.escape(message)}$"):
        random_policies(decided.replace(origin={}), per_task=True, samples=1, seed=0)


# Settings -----------------------------------------------------------------------------------------


def test_serialises():
    assert_serialises(
        AdaShare,
        {
            "sparsity": 0.3,
            "sharing": 0.01,
            "form": "reference",
            "warmup": 0.1,
            "curriculum_epochs": 5,
            "epochs_per_block": 2,
            "max_stages": None,
            "temperature": (4.0, 0.2),
            "alternate": "epoch",
            "skippable": "identity",
            "normalisation": "task",
            "policy_moves_statistics": True,
        },
    )


def test_reference_settings():
    reference = AdaShare.reference(sharing=0.1)
    assert reference.form == "reference" and reference.alternate == "epoch"
    assert (reference.sparsity, reference.sharing) == (0.05, 0.1)
    assert reference.policy_moves_statistics
    assert reference == AdaShare.reference(sharing=0.1) != AdaShare()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "x"}, "`form` must be one of ('paper', 'reference'). Received: form='x'."),
        (
            {"alternate": "batch"},
            "`alternate` must be one of ('step', 'epoch'). Received: alternate='batch'.",
        ),
        (
            {"skippable": "all"},
            "`skippable` must be one of ('auto', 'shortcut', 'identity', 'projection'). "
            "Received: skippable='all'.",
        ),
        ({"warmup": 1.0}, "`warmup` must be at least 0 and below 1. Received: warmup=1.0."),
        ({"warmup": -0.1}, "`warmup` must be at least 0 and below 1. Received: warmup=-0.1."),
        (
            {"temperature": (5.0, 0.0)},
            "`temperature` must be two positive numbers, the first and the last. "
            "Received: temperature=(5.0, 0.0).",
        ),
        (
            {"normalisation": "own"},
            "`normalisation` must be one of ('shared', 'task'). Received: normalisation='own'.",
        ),
        ({"max_stages": 0}, "`max_stages` must be at least 1 or None. Received: max_stages=0."),
        (
            {"curriculum_epochs": -1},
            "`curriculum_epochs` must be at least 0 or None. Received: curriculum_epochs=-1.",
        ),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        AdaShare(**settings)
