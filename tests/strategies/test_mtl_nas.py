"""MTL-NAS: candidate edges, gates and entropy by hand, decisions without retraining."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mtl
from keras_mtl import data
from keras_mtl.graph import find_units, read
from keras_mtl.strategies import MTLNAS, EdgeRule, RandomEdges
from keras_mtl.strategies.strategy import Moment
from tests import toys
from tests.contracts import assert_derived_equals_supernet, assert_serialises, set_policy
from tests.strategies.test_columns import trained_apart


def open_search(backbone, tasks=("a", "b"), **settings):
    strategy = MTLNAS(**settings)
    graph = read(backbone)
    return strategy.open(graph, find_units(graph, strategy.granularity), tasks, 0)


def moment(opened, group="policy", **changes):
    return Moment(opened.structures()[0], group, training=True, **changes)


# Candidate edges ----------------------------------------------------------------------------------


def vgg_sizes():
    counts = (2, 2, 3, 3, 3)
    return [(32 >> stage,) * 2 for stage, count in enumerate(counts) for _ in range(count)]


def test_edges_by_hand():
    rule = EdgeRule()
    sizes = [(8, 8)] * 4 + [(4, 4)]
    own = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    before = [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]  # (0, 3) is too far, (3, 4) another stage
    assert sorted(rule.edges(sizes)) == sorted(own + before)
    assert len(rule.edges(vgg_sizes())) == 24
    # A size that comes back later is another stage.
    assert rule.edges([(4, 4), (8, 8), (4, 4)]) == [(0, 0), (1, 1), (2, 2)]
    assert EdgeRule(distance=1).edges(sizes) == own
    assert (3, 4) in EdgeRule(same_stage=False).edges(sizes)
    assert (4, 4) not in EdgeRule(smallest_stage=2).edges(sizes)


@pytest.mark.parametrize(
    ("application", "rule", "expected"),
    [
        ("VGG16", EdgeRule(), 24),
        ("ResNet50", EdgeRule(), 37),
        ("ResNet50", EdgeRule(smallest_stage=2), 36),
    ],
)
def test_the_published_numbers_of_edges(application, rule, expected):
    backbone = getattr(keras.applications, application)(
        weights=None, include_top=False, input_shape=(64, 64, 3)
    )
    opened = open_search(backbone, edges=rule)
    assert len(opened.edges) == 2 * expected
    for task, other in (("a", "b"), ("b", "a")):
        assert sum(edge[0] == other and edge[2] == task for edge in opened.edges) == expected


def test_edges_between_any_number_of_tasks():
    opened = open_search(toys.residual(blocks=2), tasks=("a", "b", "c"))
    per_pair = len(EdgeRule().edges([(8, 8)] * 3))
    assert len(opened.edges) == 3 * 2 * per_pair
    assert len(set(opened.edges)) == len(opened.edges)
    for source, source_unit, target, unit in opened.edges:
        assert source != target
        names = [u.name for u in opened.units]
        assert names.index(source_unit) <= names.index(unit)


@keras.saving.register_keras_serializable("tests")
class SameDepth(EdgeRule):
    """A rule of a user."""

    def allows(self, source, target, stages):
        return source == target


def test_a_rule_of_ones_own():
    strategy = MTLNAS(edges=SameDepth())
    again = MTLNAS.from_config(strategy.get_config())
    assert again == strategy and type(again.edges) is SameDepth
    assert len(open_search(toys.residual(blocks=2), edges=SameDepth()).edges) == 2 * 3


def test_settings_survive():
    assert_serialises(EdgeRule, {"distance": 2, "same_stage": False, "smallest_stage": 2})
    strategy = MTLNAS.reference(temperature=(2.0, 0.5), entropy=1.0, w_own=0.5)
    assert MTLNAS.from_config(strategy.get_config()) == strategy
    assert strategy.relaxation == {"weights": "stochastic", "policy": "deterministic"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"edges": "all"}, r"`edges` must be an `EdgeRule`"),
        ({"relaxation": "soft"}, r"`relaxation` must be one of"),
        ({"relaxation": {"weights": "stochastic"}}, r"`relaxation` must be a name, or a dict"),
        ({"entropy_period": (0.5, 0.2)}, r"`entropy_period` must be two shares"),
        ({"first": "heads"}, r"`first` must be one of"),
        ({"granularity": "layer"}, r"`granularity` must be one of"),
        ({"evaluation": "hard"}, r"`evaluation` must be one of"),
    ],
)
def test_settings_that_cannot_be(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        MTLNAS(**settings)


def test_a_search_needs_an_edge():
    with pytest.raises(ValueError, match=r"^`edges` must allow an edge .*two tasks or more\.$"):
        open_search(toys.residual(blocks=2), tasks=("a",))
    with pytest.raises(ValueError, match=r"^`distance` must be an integer of at least 1\."):
        EdgeRule(distance=0)


# Gates and entropy --------------------------------------------------------------------------------


def assign(opened, logits):
    opened.gate.logits_variable.assign(np.asarray(logits, "float32")[:, None])


def test_gates_of_both_relaxations():
    opened = open_search(
        toys.residual(blocks=1), relaxation={"weights": "stochastic", "policy": "deterministic"}
    )
    logits = np.linspace(-2, 2, len(opened.edges))
    assign(opened, logits)
    alpha = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(opened.draw(moment(opened)), alpha, rtol=1e-5)
    # The relaxed Bernoulli: above one half with probability α, whatever the temperature.
    counts = np.zeros(len(logits))
    for step in range(300):
        drawn = np.asarray(opened.draw(moment(opened, "weights", step=step, temperature=0.5)))
        assert ((drawn >= 0) & (drawn <= 1)).all() and len(np.unique(drawn)) > 2
        counts += drawn > 0.5
    np.testing.assert_allclose(counts / 300, alpha, atol=0.1)
    decided = Moment(opened.structures()[0], training=False)
    np.testing.assert_array_equal(opened.draw(decided), logits > 0)


def test_an_edge_that_nobody_prefers_is_not_there():
    opened = open_search(toys.residual(blocks=1))
    decided = Moment(opened.structures()[0], training=False)
    assert not np.asarray(opened.draw(decided)).any()
    assert all(len(fusion.sources) == 1 for fusion in opened.most_likely()["fusions"])


def test_gates_belong_to_their_sources():
    opened = open_search(toys.residual(blocks=2), tasks=("a", "b", "c"))
    numbers = ops.arange(len(opened.edges))
    flat = []
    for fusion in opened.fusions:
        gates = np.asarray(opened.gates(numbers)[fusion.name])
        assert len(gates) == len(fusion.sources) - 1
        for number, source in zip(gates, fusion.sources[1:], strict=True):
            assert opened.edges[number] == (*source, fusion.targets[0], fusion.unit)
        flat += gates.tolist()
    assert flat == list(range(len(opened.edges)))


@pytest.mark.parametrize(
    ("period", "progress", "share"),
    [
        ((0.0, 0.0), 0.0, 1.0),
        ((0.0, 1.0), 0.25, 0.25),
        ((0.2, 0.6), 0.1, 0.0),
        ((0.2, 0.6), 0.9, 1.0),
    ],
)
def test_entropy_by_hand(period, progress, share):
    opened = open_search(toys.residual(blocks=1), entropy=10.0, entropy_period=period)
    alpha = np.linspace(0.1, 0.9, len(opened.edges))
    assign(opened, np.log(alpha / (1 - alpha)))
    expected = -np.mean(alpha * np.log(alpha) + (1 - alpha) * np.log(1 - alpha))
    found = opened.regularisers(moment(opened, progress=progress), None)["entropy_loss"]
    np.testing.assert_allclose(found, 10.0 * share * expected, rtol=1e-5)
    np.testing.assert_allclose(opened.monitors()["entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(opened.monitors()["expected_edges"], alpha.sum(), rtol=1e-5)


def test_the_temperature_falls_with_the_square_of_what_is_left():
    plan = open_search(toys.mlp(blocks=1), temperature=(1.0, 0.2)).plan(2, 5)
    found = [float(plan.temperature(step)) for step in (0, 5, 10)]
    np.testing.assert_allclose(found, [1.0, 0.2 + 0.8 * 0.25, 0.2], rtol=1e-5)
    assert plan.phase(0).updates == ("weights", "policy")
    assert (
        open_search(toys.mlp(blocks=1), first="policy").plan(1, 1).phase(0).updates[0] == "policy"
    )


# Models -------------------------------------------------------------------------------------------


def searching(strategy=None, tasks=2, backbone=None, **options):
    backbone = backbone or toys.residual(blocks=2, downsample=(2,))
    made = toys.tasks(tasks)
    model = keras_mtl.build(backbone, made, strategy or MTLNAS(), seed=0, **options)
    return model, backbone, made


def test_with_the_own_column_alone_the_first_gradient_of_every_edge_is_zero():
    import tensorflow as tf

    model, backbone, _ = searching()
    x = toys.inputs(backbone)
    (logits,) = model.policy_variables()
    with tf.GradientTape() as tape:
        total = sum(ops.sum(ops.square(y)) for y in model(x, training=True).values())
    gradient = tape.gradient(total, logits.value)
    assert not np.asarray(gradient).any()


def test_trained_columns_go_in():
    """With w_own = 1 the fused columns begin as the single-task networks, but for normalisation."""
    backbone, tasks = toys.residual(blocks=2, downsample=(2,)), toys.tasks(2)
    models = trained_apart(backbone, tasks)
    model = keras_mtl.build(backbone, tasks, MTLNAS(), seed=0, initial_weights=models)
    x = toys.inputs(backbone)
    for task, answer in model(x).items():
        np.testing.assert_allclose(answer, models[task](x)[task], rtol=1e-2, atol=1e-3)


def fitted_search(strategy=None, tasks=2):
    model, backbone, made = searching(strategy, tasks)
    x, y = toys.data(backbone, made, 32)
    optimizers = keras.optimizers.SGD(0.05), keras.optimizers.Adam(0.2)
    model.compile(*optimizers, run_eagerly=True)  # four steps
    model.fit(data.search_split((x, y), batch_size=8), epochs=2, verbose=0)
    return model, backbone, made, x


@pytest.fixture(scope="module")
def fitted():
    return fitted_search(MTLNAS(w_own=0.8, entropy_period=(0.0, 0.0)), tasks=3)


def test_decided_networks_need_no_retraining(fitted):
    """Edges are cut out of the trained kernels; outputs are those of the decided supernet."""
    model, backbone, tasks, x = fitted
    before = model.policy_variables()[0].numpy()
    sizes = []
    for plan in model.decide(samples=3, seed=0):
        derived = assert_derived_equals_supernet(model, backbone, tasks, plan, x)
        edges = sum(len(fusion.sources) - 1 for fusion in plan.fusions)
        rows = sum(
            derived.named_layers()[f.name].kernel.shape[0] // f_width
            for f in plan.fusions
            for f_width in [derived.named_layers()[f.name].kernel.shape[1]]
        )
        assert rows == edges + len(plan.fusions)
        assert plan.parameters() == derived.network.count_params()
        sizes.append((edges, plan.parameters(), plan.flops()))
    model.policy_variables()[0].assign(before)
    sizes.sort()
    assert sizes[0][0] < sizes[-1][0]
    assert [s[1] for s in sizes] == sorted(s[1] for s in sizes)
    assert [s[2] for s in sizes] == sorted(s[2] for s in sizes)


def test_an_edge_costs_a_square_of_the_width():
    model, _, _ = searching()
    graph = model.graph
    set_policy(model, model.decide())
    none = model.decide()
    fusions = list(none.fusions)
    position = next(i for i, f in enumerate(fusions) if f.unit == "block1")
    fusion = fusions[position]
    source = model.search.fusions[position].sources[1]
    fusions[position] = keras_mtl.Fusion(
        fusion.name, "nddr", fusion.unit, (*fusion.sources, source), fusion.targets, fusion.settings
    )
    plan = none.replace(fusions=fusions)
    set_policy(model, plan)
    one = model.decide()
    _, height, width, channels = graph.spec(model.search.units[1].output).shape
    assert one.parameters() - none.parameters() == channels**2
    assert one.flops() - none.flops() >= 2 * height * width * channels**2


def test_history_and_evaluation_of_both_kinds(fitted):
    model, backbone, tasks, x = fitted
    relaxed = keras_mtl.build(backbone, tasks, MTLNAS(w_own=0.8, evaluation="relaxed"), seed=0)
    relaxed.set_weights(model.get_weights())
    alpha = model.search.probabilities()
    assert ((alpha > 0.02) & (alpha < 0.98)).all()
    first, second = model(x), relaxed(x)
    assert max(np.abs(np.asarray(first[t]) - np.asarray(second[t])).max() for t in first) > 1e-3
    assert {"entropy_loss", "entropy", "expected_edges", "temperature"} <= set(
        model.history.history
    )


@pytest.mark.parametrize(
    ("weights", "policy"), [("deterministic", "stochastic"), ("stochastic", "stochastic")]
)
def test_entropy_drives_edges_apart(weights, policy):
    """A strong entropy term leaves no edge undecided; the contract's rows have the other pairs."""
    strategy = MTLNAS(
        edges=EdgeRule(distance=1),
        relaxation={"weights": weights, "policy": policy},
        w_own=0.8,
        entropy=1000.0,
        entropy_period=(0.0, 0.0),
    )
    backbone, tasks = toys.mlp(blocks=1), toys.tasks(2)
    x, y = toys.data(backbone, tasks, 32)
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    model.policy_variables()[0].assign(
        np.random.default_rng(0).normal(0, 0.5, model.policy_variables()[0].shape)
    )
    model.compile(keras.optimizers.SGD(0.01), keras.optimizers.Adam(0.3))
    model.fit(data.search_split((x, y), batch_size=8), epochs=10, verbose=0)
    alpha = model.search.probabilities()
    assert (np.minimum(alpha, 1 - alpha) < 0.05).all()


def test_random_edges_keep_their_share():
    backbone, tasks = toys.residual(blocks=3), toys.tasks(3)

    def edges(strategy):
        plan = keras_mtl.plan(backbone, tasks, strategy)
        return {(*s, f.name) for f in plan.fusions for s in f.sources[1:]}

    everything = edges(RandomEdges(share=1.0))
    assert len(everything) == len(open_search(backbone, ("a", "b", "c")).edges)
    half = edges(RandomEdges(share=0.5, seed=1))
    assert half < everything and len(half) == round(len(everything) / 2)
    assert half != edges(RandomEdges(share=0.5, seed=2))
    assert half == edges(RandomEdges(share=0.5, seed=1))
    with pytest.raises(ValueError, match=r"^`share` must be between 0 and 1\."):
        RandomEdges(share=1.5)
