"""What every strategy promises, one row of the table each. A new strategy adds its row."""

import dataclasses
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
        name: string. Of the row.
        epochs: int. Of the run; more where every step samples another network.
        learning_rate: float.
        backbone: function that makes the backbone.
    """

    strategy: strategies.Strategy
    skips: bool = False
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
    Row(MTLNAS()),
    Row(MTLNAS.reference(), name="mtl_nas_reference"),
    Row(RandomEdges()),
    Row(Shared()),
    Row(Shared(normalisation="task"), name="shared_task_normalisation"),
    Row(AdaShare(warmup=0.0, curriculum_epochs=0), skips=True),
    Row(
        AdaShare.reference(warmup=0.0, curriculum_epochs=0, alternate="step"),
        skips=True,
        name="adashare_reference",
    ),
    Row(AutoMTL(pretrain=0.0), skips=True, epochs=8, learning_rate=0.02),
    Row(
        AutoMTL.reference(pretrain=0.0, alternate="step", sampling="hard"),
        skips=True,
        name="auto_mtl_reference_hard",
        epochs=8,
        learning_rate=0.02,
    ),
]


def batches(row, x, y, unknown=False, count=EXAMPLES // BATCH):
    """A dataset as the strategy's model takes it, in a fixed order."""
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).take(count)
    if row.searches:
        data = tf.data.Dataset.zip(data, data)
    return data.filter(lambda *_: True) if unknown else data


class Trained:
    """A model of one strategy, fitted for a few epochs."""

    def __init__(self, row):
        keras.utils.set_random_seed(0)  # made before the fixture of every test that does so
        self.row = row
        self.backbone = row.backbone()
        self.tasks = toys.tasks()
        self.x, self.y = toys.data(self.backbone, self.tasks, EXAMPLES)
        self.model = self.build()
        before = self.backbone.get_weights()
        data = batches(row, self.x, self.y)
        self.history = self.model.fit(data, epochs=row.epochs, verbose=0).history
        after = self.backbone.get_weights()
        self.backbone_unchanged = all(map(np.array_equal, before, after))

    def build(self, seed=0):
        model = keras_mtl.build(self.backbone, self.tasks, self.row.strategy, seed=seed)
        model.compile(optimizer=keras.optimizers.SGD(self.row.learning_rate))
        return model

    def architecture(self):
        return self.model.decide() if self.row.searches else self.model.architecture


@pytest.fixture(scope="module", params=STRATEGIES, ids=str)
def trained(request):
    return Trained(request.param)


def test_settings_round_trip(trained):
    strategy = trained.row.strategy
    config = json.loads(json.dumps(strategy.get_config()))
    again = type(strategy).from_config(config)
    assert jsonable(again.get_config()) == config
    assert again == strategy and hash(again) == hash(strategy)
    assert strategies.get_class(strategy.name) is type(strategy)
    if strategy is not PARTING:  # a tree comes from an affinity: there is none by default
        assert strategies.get(strategy.name).name == strategy.name
        assert type(strategies.get(type(strategy))) is type(strategy)


def test_training_lowers_the_loss(trained):
    for name in ("loss", *(f"{task.name}_loss" for task in trained.tasks)):
        losses = trained.history[name]
        assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_the_users_backbone_is_unchanged(trained):
    assert trained.backbone_unchanged
    owned = {id(variable) for variable in trained.model.variables}
    assert not owned & {id(variable) for variable in trained.backbone.variables}


def test_variables_form_disjoint_and_complete_groups(trained):
    model = trained.model
    weights = {id(variable) for variable in model.weight_variables()}
    policy = set()
    if trained.row.searches:
        policy = {id(variable) for variable in model.policy_variables()}
        assert policy
    assert not weights & policy
    assert weights | policy == {id(variable) for variable in model.trainable_variables}


def test_decisions_are_deterministic(trained):
    assert trained.architecture() == trained.architecture()
    if trained.row.searches:
        sampled = trained.model.decide(samples=3, seed=5)
        assert sampled == trained.model.decide(samples=3, seed=5)
        assert len(sampled) == 3
        assert [a.origin["sample"] for a in sampled] == [0, 1, 2]
        assert drawn(trained.model) == drawn(trained.model)


def drawn(model):
    keras.utils.set_random_seed(0)
    return model.decide(samples=3)


def test_architecture_round_trip(trained):
    architecture = trained.architecture()
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert again.costs == architecture.costs and again.origin == architecture.origin
    assert architecture.origin["strategy"] == trained.row.strategy.name
    assert architecture.origin["seed"] == 0
    assert architecture.tasks == ("classes", "value")
    choices = {choice for row in architecture.choices.values() for choice in row}
    assert trained.row.skips or "skip" not in choices
    rebuilt = keras_mtl.build(trained.backbone, trained.tasks, architecture=again, seed=0)
    assert rebuilt.architecture == architecture


def test_costs_are_those_of_the_derived_model(trained):
    architecture = trained.architecture()
    model = keras_mtl.build(trained.backbone, trained.tasks, architecture=architecture, seed=0)
    # What no task uses of a masked operator is in the network, and in no task's.
    unused = model.network.count_params() - architecture.parameters()
    assert unused >= 0 if architecture.masks else unused == 0
    for task in trained.tasks:
        network = model.extract(task.name)
        assert architecture.parameters(task.name) == network.count_params()
    assert model.architecture.costs == architecture.costs


def test_derived_equals_supernet(trained):
    model = trained.model
    if not trained.row.searches:
        derived = keras_mtl.build(
            trained.backbone,
            trained.tasks,
            architecture=model.architecture,
            initial_weights=model,
        )
        for task in trained.tasks:
            np.testing.assert_allclose(
                derived(trained.x)[task.name], model(trained.x)[task.name], atol=1e-5
            )
        return
    policy = [np.asarray(variable) for variable in model.policy_variables()]
    for architecture in model.decide(samples=3, seed=1):
        assert_derived_equals_supernet(
            model, trained.backbone, trained.tasks, architecture, trained.x
        )
    for variable, value in zip(model.policy_variables(), policy, strict=True):
        variable.assign(value)


def test_steps_are_exact_with_known_and_unknown_cardinality(trained):
    """The last, empty call that Keras makes of an unknown length must move nothing."""
    row, count, epochs = trained.row, 3, 2
    found = {}
    for unknown in (False, True):
        model = trained.build()
        data = batches(row, trained.x, trained.y, unknown, count)
        assert (int(data.cardinality()) < 0) == unknown
        model.fit(data, epochs=epochs, verbose=0)
        if row.searches:
            assert int(model.step) == epochs * count
        found[unknown] = {v.path: np.asarray(v) for v in model.trainable_variables}
    for path, value in found[False].items():
        np.testing.assert_array_equal(found[True][path], value, err_msg=path)


def test_one_seed_decides_everything(trained):
    """Two builds with one seed train to the same numbers, bit by bit."""
    data = batches(trained.row, trained.x, trained.y)
    again = trained.build()
    again.fit(data, epochs=trained.row.epochs, verbose=0)
    # `test_derived_equals_supernet` puts the policy back as it found it.
    for first, second in zip(trained.model.variables, again.variables, strict=True):
        if "seed_generator" not in first.path:
            np.testing.assert_array_equal(second, first, err_msg=first.path)
    if trained.row.searches:
        other = trained.build(seed=1)
        other.fit(data, epochs=2, verbose=0)
        (a,), (b,) = trained.model.policy_variables(), other.policy_variables()
        assert not np.array_equal(a, b)


def test_every_strategy_of_the_library_has_a_row():
    assert {row.strategy.name for row in STRATEGIES} == set(strategies.STRATEGIES)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^`strategy` must be a Strategy object or one of \[.*'adashare'.*\]\. "
        r"Received: strategy='adashar'\. Did you mean 'adashare'\?$",
    ):
        strategies.get("adashar")
