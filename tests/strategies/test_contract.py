"""What every strategy promises, one row of the table each. A new strategy adds its row.

Tracing takes nearly all the time, so every row is trained once, by the fixture. What has to trace
again does so for a few rows; the other rows of such a test are `slow`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import Architecture, strategies
from keras_mtl.strategies import (
    MTAN,
    MTLNAS,
    NDDRCNN,
    AdaShare,
    AutoMTL,
    Branched,
    CrossStitch,
    EdgeRule,
    FeaturePartition,
    Independent,
    RandomEdges,
    SearchStrategy,
    Shared,
    Sluice,
)
from tests import partitioned, toys
from tests.contracts import assert_derived_equals_supernet, jsonable

EXAMPLES, BATCH = 48, 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One strategy with settings for a short run, and what it must come to.

    Args:
        strategy: the `Strategy`; all of the search open at once keeps tracing short.
        skips: bool. Whether its architectures may skip units.
        trains: bool. Whether the fixture trains it. Rows that differ from another one by settings
            alone are trained by a test that is slow.
        name: string. Of the row.
        epochs: int. Of the run; more where every step samples another network.
        learning_rate: float.
        backbone: function that makes the backbone.
    """

    strategy: strategies.Strategy
    skips: bool = False
    trains: bool = True
    name: str = ""
    epochs: int = 2
    learning_rate: float = 0.1
    backbone: Callable = lambda: toys.mlp(blocks=2)

    def __str__(self):
        return self.name or self.strategy.name

    @property
    def searches(self):
        return isinstance(self.strategy, SearchStrategy)


PARTING = Branched(
    tree=[[["classes", "value"]], [["classes"], ["value"]]], locations=("block1_add", "block2_add")
)
STRATEGIES = [
    Row(Independent()),
    Row(PARTING),
    Row(CrossStitch(granularity="block")),
    Row(
        FeaturePartition([[0.75, 0.0], [0.0, 0.75]]),
        backbone=lambda: partitioned.dense(width=8),
        learning_rate=0.03,
    ),
    Row(NDDRCNN(granularity="block")),
    Row(Sluice(granularity="block", orthogonality=0.01)),
    Row(MTAN()),
    Row(MTLNAS(edges=EdgeRule(distance=1))),
    Row(MTLNAS.reference(), name="mtl_nas_reference", trains=False),
    Row(RandomEdges()),
    Row(Shared()),
    Row(Shared(normalisation="task"), name="shared_task_normalisation"),
    Row(AdaShare(warmup=0.0, curriculum_epochs=0), skips=True),
    Row(
        AdaShare.reference(warmup=0.0, curriculum_epochs=0, alternate="step"),
        skips=True,
        trains=False,
        name="adashare_reference",
    ),
    Row(AutoMTL(pretrain=0.0), skips=True, epochs=8, learning_rate=0.02),
    Row(
        AutoMTL.reference(pretrain=0.0, alternate="step", sampling="hard"),
        skips=True,
        trains=False,
        name="auto_mtl_reference_hard",
        epochs=8,
        learning_rate=0.02,
    ),
]


FIXED, SEARCHING, FUSED = "shared", "adashare", "cross_stitch"
TRAINED = [row for row in STRATEGIES if row.trains]


def quick(*names):
    """Parameters for `subject`: the rows of these names; all others are slow."""
    return [
        pytest.param(row, id=str(row), marks=() if str(row) in names else pytest.mark.slow)
        for row in STRATEGIES
    ]


def batches(row, x, y, unknown=False, count=EXAMPLES // BATCH):
    """A dataset as the strategy's model takes it, in a fixed order."""
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).take(count)
    if row.searches:
        data = tf.data.Dataset.zip(data, data)
    return data.filter(lambda *_: True) if unknown else data


class Subject:
    """A model of one strategy; most rows are fitted for a few epochs."""

    def __init__(self, row):
        keras.utils.set_random_seed(0)  # made before the fixture of every test that does so
        self.row = row
        self.backbone = row.backbone()
        self.tasks = toys.tasks()
        self.x, self.y = toys.data(self.backbone, self.tasks, EXAMPLES)
        self.weights = self.backbone.get_weights()
        self.model = self.build()
        self.history = self.fit(self.model) if row.trains else {}

    def build(self, seed=0, **options):
        model = keras_mtl.build(self.backbone, self.tasks, self.row.strategy, seed=seed)
        model.compile(optimizer=keras.optimizers.SGD(self.row.learning_rate), **options)
        return model

    def fit(self, model, epochs=None, **options):
        data = batches(self.row, self.x, self.y, **options)
        return model.fit(data, epochs=epochs or self.row.epochs, verbose=0).history

    @functools.cached_property
    def architecture(self):
        return self.model.decide() if self.row.searches else self.model.architecture

    @functools.cached_property
    def derived(self):
        """What the architecture, kept as JSON, comes to."""
        kept = Architecture.from_json(self.architecture.to_json())
        return keras_mtl.build(self.backbone, self.tasks, architecture=kept, seed=0)


@pytest.fixture(scope="module", params=STRATEGIES, ids=str)
def subject(request):
    return Subject(request.param)


def test_settings_round_trip(subject):
    strategy = subject.row.strategy
    config = json.loads(json.dumps(strategy.get_config()))
    again = type(strategy).from_config(config)
    assert jsonable(again.get_config()) == config
    assert again == strategy and hash(again) == hash(strategy)
    assert strategies.get_class(strategy.name) is type(strategy)
    if strategy is not PARTING:  # a tree comes from an affinity: there is none by default
        assert strategies.get(strategy.name).name == strategy.name
        assert type(strategies.get(type(strategy))) is type(strategy)


def assert_losses_fall(history, tasks):
    for name in ("loss", *(f"{task.name}_loss" for task in tasks)):
        losses = history[name]
        assert np.isfinite(losses).all() and losses[-1] < losses[0]


@pytest.mark.parametrize("subject", TRAINED, ids=str, indirect=True)
def test_training_lowers_the_loss(subject):
    assert_losses_fall(subject.history, subject.tasks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "subject", [row for row in STRATEGIES if not row.trains], ids=str, indirect=True
)
def test_reference_settings_lower_the_loss(subject):
    assert_losses_fall(subject.fit(subject.build()), subject.tasks)


def test_the_users_backbone_is_unchanged(subject):
    assert all(map(np.array_equal, subject.weights, subject.backbone.get_weights()))
    owned = {id(variable) for variable in subject.model.variables}
    assert not owned & {id(variable) for variable in subject.backbone.variables}


def test_variables_form_disjoint_and_complete_groups(subject):
    model = subject.model
    weights = {id(variable) for variable in model.weight_variables()}
    policy = set()
    if subject.row.searches:
        policy = {id(variable) for variable in model.policy_variables()}
        assert policy
    assert not weights & policy
    assert weights | policy == {id(variable) for variable in model.trainable_variables}


def test_decisions_are_deterministic(subject):
    if subject.row.searches:
        assert subject.model.decide() == subject.model.decide()
        sampled = subject.model.decide(samples=3, seed=5)
        assert sampled == subject.model.decide(samples=3, seed=5)
        assert len(sampled) == 3
        assert [a.origin["sample"] for a in sampled] == [0, 1, 2]
        assert drawn(subject.model) == drawn(subject.model)


def drawn(model):
    keras.utils.set_random_seed(0)
    return model.decide(samples=3)


@pytest.mark.filterwarnings("ignore:.initial_weights. should be the search")
def test_architecture_round_trip(subject):
    architecture = subject.architecture
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert again.costs == architecture.costs and again.origin == architecture.origin
    assert architecture.origin["strategy"] == subject.row.strategy.name
    assert architecture.origin["seed"] == 0
    assert architecture.tasks == ("classes", "value")
    choices = {choice for row in architecture.choices.values() for choice in row}
    assert subject.row.skips or "skip" not in choices
    assert subject.derived.architecture == architecture


@pytest.mark.filterwarnings("ignore:.initial_weights. should be the search")
def test_costs_are_those_of_the_derived_model(subject):
    architecture = subject.architecture
    model = subject.derived
    # What no task uses of a masked operator is in the network, and in no task's.
    unused = model.network.count_params() - architecture.parameters()
    assert unused >= 0 if architecture.masks else unused == 0
    for task in subject.tasks:
        network = model.extract(task.name)
        assert architecture.parameters(task.name) == network.count_params()
    assert model.architecture.costs == architecture.costs


def test_derived_equals_supernet(subject):
    model = subject.model
    if not subject.row.searches:
        derived = keras_mtl.build(
            subject.backbone,
            subject.tasks,
            architecture=model.architecture,
            initial_weights=model,
        )
        for task in subject.tasks:
            np.testing.assert_allclose(
                derived(subject.x)[task.name], model(subject.x)[task.name], atol=1e-5
            )
        return
    policy = [np.asarray(variable) for variable in model.policy_variables()]
    for architecture in model.decide(samples=3, seed=1):
        assert_derived_equals_supernet(
            model, subject.backbone, subject.tasks, architecture, subject.x
        )
    for variable, value in zip(model.policy_variables(), policy, strict=True):
        variable.assign(value)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of an unknown length
@pytest.mark.parametrize("subject", quick(FIXED, SEARCHING, FUSED), indirect=True)
def test_steps_are_exact_with_known_and_unknown_cardinality(subject):
    """The last, empty call that Keras makes of an unknown length must move nothing."""
    count, epochs = 3, 2
    found = {}
    for unknown in (False, True):
        model = subject.build()
        assert (batches(subject.row, subject.x, subject.y, unknown).cardinality() < 0) == unknown
        subject.fit(model, epochs, unknown=unknown, count=count)
        if subject.row.searches:
            assert int(model.step) == epochs * count
        found[unknown] = {v.path: np.asarray(v) for v in model.trainable_variables}
    for path, value in found[False].items():
        np.testing.assert_array_equal(found[True][path], value, err_msg=path)


def assert_equal_variables(first, second):
    for one, other in zip(first.variables, second.variables, strict=True):
        if "seed_generator" not in one.path:
            np.testing.assert_array_equal(other, one, err_msg=one.path)


def test_one_seed_decides_everything(subject):
    """Two builds with one seed train to the same numbers, bit by bit; with another, not."""
    options = {"run_eagerly": True}
    if subject.row.searches:
        options["policy_optimizer"] = "sgd"  # Adam's first step is the same for all gradients
    first, again = subject.build(**options), subject.build(**options)
    for model in (first, again):
        subject.fit(model, epochs=1, count=2)  # one for each group where they alternate
    assert_equal_variables(first, again)
    if subject.row.searches:
        other = subject.build(seed=1, **options)
        subject.fit(other, epochs=1, count=2)
        (a,), (b,) = first.policy_variables(), other.policy_variables()
        assert not np.array_equal(a, b)


@pytest.mark.parametrize("subject", quick(FIXED, SEARCHING), indirect=True)
def test_one_seed_decides_everything_of_traced_steps(subject):
    again = subject.build()
    subject.fit(again)
    trained = subject.model
    if not subject.row.trains:
        trained = subject.build()
        subject.fit(trained)
    # `test_derived_equals_supernet` puts the policy back as it found it.
    assert_equal_variables(trained, again)


def test_every_strategy_of_the_library_has_a_row():
    assert {row.strategy.name for row in STRATEGIES} == set(strategies.STRATEGIES)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^`strategy` must be a Strategy object or one of \[.*'adashare'.*\]\. "
        r"Received: strategy='adashar'\. Did you mean 'adashare'\?$",
    ):
        strategies.get("adashar")
