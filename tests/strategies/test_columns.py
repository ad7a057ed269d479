"""Columns that exchange features: what a fusion computes, and what it costs."""

import types

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import Architecture, ArchitectureError, Fusion
from keras_mtl.models.handed_weights import layers_of_model
from keras_mtl.strategies import NDDRCNN, CrossStitch
from tests import toys

STRATEGIES = {"cross_stitch": CrossStitch(), "nddr_cnn": NDDRCNN()}


def trained_apart(backbone, tasks):
    """Single-task models with different weights."""
    return {
        task.name: keras_mtl.build(backbone, [task], "shared", seed=i, initial_weights="fresh")
        for i, task in enumerate(tasks)
    }


def build(strategy, tasks=2, backbone=None, **options):
    backbone = backbone or toys.residual(downsample=(3,))
    return keras_mtl.build(backbone, toys.tasks(tasks), strategy, seed=0, **options)


def test_a_fusion_after_every_stage():
    plan = keras_mtl.plan(toys.residual(downsample=(3,)), toys.tasks(3), NDDRCNN())
    assert plan.granularity == "stage" and len(plan.units) == 2
    assert len(plan.fusions) == 2 * 3
    first = plan.fusions[0]
    assert first.sources == tuple((task, plan.units[0]) for task in plan.tasks)
    assert first.targets == ("classes",)
    stitched = keras_mtl.plan(toys.residual(downsample=(3,)), toys.tasks(3), CrossStitch())
    assert [fusion.targets for fusion in stitched.fusions] == [plan.tasks] * 2


@pytest.mark.parametrize("name", STRATEGIES)
def test_with_the_own_column_alone_nothing_changes(name):
    """The own weight 1: cross-stitch is the identity; NDDR adds batch norm and ReLU."""
    backbone = toys.residual(downsample=(3,))
    tasks = toys.tasks(2)
    models = trained_apart(backbone, tasks)
    whole = {"cross_stitch": CrossStitch(own=1.0), "nddr_cnn": NDDRCNN(w_own=1.0)}[name]
    model = keras_mtl.build(backbone, tasks, whole, seed=0, initial_weights=models)
    x = toys.inputs(backbone)
    for task, answer in model(x).items():
        expected = models[task](x)[task]
        # A stage ends in a ReLU, so the fusion's ReLU changes nothing; two normalisations scale.
        np.testing.assert_allclose(answer, expected, rtol=5e-3 if name == "nddr_cnn" else 1e-5)


def test_cross_stitch_by_hand():
    x = inputs = keras.Input((2,), name="x")
    x = keras.layers.Dense(2, name="low")(x)
    backbone = keras.Model(inputs, x)
    tasks = [keras_mtl.Task(name, keras.layers.Identity(), "mse") for name in ("a", "b")]
    model = keras_mtl.build(backbone, tasks, CrossStitch(granularity="block"), seed=0)
    layers = model.named_layers()
    layers["low.a"].set_weights([np.eye(2), np.zeros(2)])
    layers["low.b"].set_weights([10 * np.eye(2), np.zeros(2)])
    found = model(np.array([[1.0, 2.0]], "float32"))
    np.testing.assert_allclose(found["a"], [[0.9 * 1 + 0.1 * 10, 0.9 * 2 + 0.1 * 20]], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [[0.9 * 10 + 0.1 * 1, 0.9 * 20 + 0.1 * 2]], rtol=1e-6)


def test_fusions_of_a_unit_read_what_was_there_before():
    x = inputs = keras.Input((2,), name="x")
    x = keras.layers.Dense(2, name="low")(x)
    backbone = keras.Model(inputs, x)
    tasks = [keras_mtl.Task(name, keras.layers.Identity(), "mse") for name in ("a", "b")]
    strategy = NDDRCNN(w_own=0.75, granularity="block")
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    layers = model.named_layers()
    layers["low.a"].set_weights([np.eye(2), np.zeros(2)])
    layers["low.b"].set_weights([8 * np.eye(2), np.zeros(2)])
    found = model(np.array([[1.0, 2.0]], "float32"), training=False)
    scale = 1 / np.sqrt(1.001)
    np.testing.assert_allclose(found["a"], np.array([[2.75, 5.5]]) * scale, rtol=1e-5)
    np.testing.assert_allclose(found["b"], np.array([[6.25, 12.5]]) * scale, rtol=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_costs_are_those_of_the_model(name):
    model = build(STRATEGIES[name], tasks=3)
    assert model.architecture.parameters() == model.network.count_params()
    for task in model.task_names:
        network = model.task_network(task)
        assert model.architecture.parameters(task) == network.count_params()
    independent = build("independent", tasks=3)
    extra = model.architecture.flops() - independent.architecture.flops()
    # NDDR: 3 tasks, two stages of 64 and 16 places, 4 channels from 12.
    assert extra == (2 * 3 * (64 + 16) * 4 * 12 if name == "nddr_cnn" else 0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_task_has_nothing_to_exchange(name):
    model = build(STRATEGIES[name], tasks=1)
    assert model.architecture.fusions == ()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_plan_is_plain_data(name):
    backbone = toys.residual(downsample=(3,))
    model = build(STRATEGIES[name], backbone=backbone)
    again = Architecture.from_json(model.architecture.to_json())
    assert again == model.architecture and hash(again) == hash(model.architecture)
    rebuilt = keras_mtl.build(
        backbone, toys.tasks(2), architecture=again, seed=0, initial_weights=model
    )
    x = toys.inputs(backbone)
    for task, answer in rebuilt(x).items():
        np.testing.assert_allclose(answer, model(x)[task], atol=1e-6)


def test_the_summary_says_who_reads_whom():
    plan = keras_mtl.plan(toys.mlp(blocks=1), toys.tasks(2), NDDRCNN(granularity="block"))
    assert "  stem: nddr of classes, value for classes\n" in plan.summary()
    far = Fusion("f", "nddr", "high", [("a", "high"), ("b", "low")], ["a"])
    assert str(far) == "high: nddr of a, b (low) for a"


def test_a_second_backbone_of_other_names():
    def backbone():
        x = inputs = keras.Input((2,))
        x = keras.layers.Dense(2)(x)
        return keras.Model(inputs, keras.layers.Dense(2)(x))

    plan = keras_mtl.plan(backbone(), toys.tasks(2), CrossStitch(granularity="block"))
    model = keras_mtl.build(backbone(), toys.tasks(2), architecture=plan, seed=0)
    assert [f.unit for f in model.architecture.fusions] == list(model.architecture.units)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "glue"}, "`kind` of a fusion must be one of"),
        ({"unit": "nowhere"}, "between the tasks and units"),
        ({"targets": ("nobody",)}, "between the tasks and units"),
        ({"sources": (("classes", "block2"),)}, "must not lie behind its unit"),
        ({"sources": "block1"}, "one or more pairs"),
        ({"targets": "classes"}, "one or more names of tasks"),
        ({"name": ""}, "`name` must be a name"),
        ({"name": "block2"}, "different names, and none of them a unit's"),
        ({"aside": 1}, "`aside` must be a bool"),
        ({"sources": (("classes", "f"),)}, "or earlier fusions for the same task"),
        ({"sources": (("classes", "g"),)}, "between the tasks and units"),
    ],
)
def test_bad_fusions(changes, message):
    backbone = toys.mlp(blocks=2)
    plan = keras_mtl.plan(backbone, toys.tasks(2), "independent")
    sources = (("classes", "block1"), ("value", "block1"))
    good = {"name": "f", "kind": "nddr", "unit": "block1", "sources": sources}
    good |= {"targets": ("classes",)}
    with pytest.raises(ArchitectureError, match=message):
        fused = plan.replace(fusions=(Fusion(**{**good, **changes}),))
        keras_mtl.build(backbone, toys.tasks(2), architecture=fused, seed=0)


def two_dense():
    x = inputs = keras.Input((2,), name="x")
    x = keras.layers.Dense(2, name="low")(x)
    x = keras.layers.Dense(2, name="high")(x)
    return keras.Model(inputs, x)


def doubling(fusions, choices=("own", "own")):
    """Tasks a and b through two layers that double, b's own ones halve; fusions are weighted sums.

    A fusion of n sources has the weight 1/2 on the first and 1/2 in equal parts on the others.
    """
    settings = {"w_own": 0.5, "normalise": False, "activation": None}
    tasks = [keras_mtl.Task(name, keras.layers.Identity(), "mse") for name in ("a", "b")]
    plan = Architecture(
        ("a", "b"),
        ("low", "high"),
        {"a": choices, "b": choices},
        fusions=[Fusion(*fusion[:5], settings, *fusion[5:]) for fusion in fusions],
    )
    model = keras_mtl.build(two_dense(), tasks, architecture=plan, seed=0)
    for name, layer in model.named_layers().items():
        if name.split(".")[0] in ("low", "high"):
            scale = 0.5 if name.endswith(".b") else 2.0
            layer.set_weights([scale * np.eye(2), np.zeros(2)])
    return model


ASIDE = ("f", "nddr", "low", [("a", "low"), ("b", "low")], ["a"], True)


def test_a_fusion_reads_what_another_one_put_aside():
    reads = ("g", "nddr", "high", [("a", "high"), ("a", "f")], ["a"])
    model = doubling([ASIDE, reads])
    x = np.array([[1.0, 3.0]], "float32")
    # Aside: (2 + 0.5) / 2 = 1.25; the path itself has 4.
    np.testing.assert_allclose(model(x)["a"], (4 + 1.25) / 2 * x)
    np.testing.assert_allclose(model(x)["b"], 0.25 * x)
    plan = model.architecture
    for task in ("a", "b"):
        assert plan.parameters(task) == model.task_network(task).count_params()
    # To answer a, low runs for both; b needs nothing of a.
    assert plan.parameters("b") == 2 * (4 + 2)
    assert plan.parameters("a") == 3 * (4 + 2) + 2 * 2 * 4
    again = Architecture.from_json(plan.to_json())
    assert again == plan and [fusion.aside for fusion in again.fusions] == [True, False]
    renamed = plan.renamed(("first", "second"))
    assert renamed.fusions[1].sources == (("a", "second"), ("a", "f"))
    assert "  low: nddr of a, b for a aside, as f\n" in plan.summary()


def test_fusions_of_one_unit_read_each_other_by_name():
    first = ("f", "nddr", "high", [("a", "high"), ("b", "high")], ["a"])
    second = ("g", "nddr", "high", [("b", "high"), ("a", "high"), ("a", "f")], ["b"])
    model = doubling([first, second])
    x = np.array([[1.0, 3.0]], "float32")
    np.testing.assert_allclose(model(x)["a"], (4 + 0.25) / 2 * x)
    # By the unit's name what was there before: 0.25 / 2 + 4 / 4 + 2.125 / 4.
    np.testing.assert_allclose(model(x)["b"], (0.125 + 1 + 0.53125) * x)


def test_what_stands_aside_is_there_to_be_read():
    with pytest.raises(ArchitectureError, match="must be read by another one"):
        doubling([ASIDE])


def test_a_shared_trunk_runs_once():
    """Two tasks of one path that read it with layers of their own."""
    fusions = [
        (f"f.{task}", "nddr", "high", [(task, "high"), (task, "low")], [task]) for task in "ab"
    ]
    model = doubling(fusions, choices=("shared", "shared"))
    assert model.architecture.flops() == 2 * 2 * 4 + 2 * (2 * 4 * 2)
    assert model.architecture.parameters() == model.network.count_params()
    x = np.array([[1.0, 3.0]], "float32")
    np.testing.assert_allclose(model(x)["a"], (4 + 2) / 2 * x)


def test_old_files_know_nothing_of_aside():
    data = keras_mtl.plan(two_dense(), toys.tasks(2), CrossStitch()).fusions[0].to_data()
    del data["aside"]
    assert Fusion(**data).aside is False


def test_a_fusion_for_other_tasks_cannot_be_read():
    plan = keras_mtl.plan(toys.mlp(blocks=2), toys.tasks(2), "independent")
    one = Fusion("f", "nddr", "block1", (("classes", "block1"),), ("classes",))
    two = Fusion("g", "nddr", "block2", (("value", "block2"), ("value", "f")), ("value",))
    with pytest.raises(ArchitectureError, match=r"Received: \('value', 'f'\) in Fusion"):
        plan.replace(fusions=(one, two))
    later = Fusion("f", "nddr", "block2", (("value", "block2"),), ("value",))
    early = Fusion("g", "nddr", "block1", (("value", "block1"), ("value", "f")), ("value",))
    with pytest.raises(ArchitectureError, match="or earlier fusions"):
        plan.replace(fusions=(later, early))


def test_two_fusions_of_one_name():
    plan = keras_mtl.plan(toys.mlp(blocks=2), toys.tasks(2), "independent")
    one = Fusion("f", "nddr", "block1", (("classes", "block1"),), ("classes",))
    with pytest.raises(ArchitectureError, match="different names"):
        plan.replace(fusions=(one, one))


def test_only_nddr_fusions_lose_sources():
    both = (("a", "unit"), ("b", "unit"))
    stitch = Fusion("unit.stitch", "cross_stitch", "unit", both, ["a", "b"])
    model = types.SimpleNamespace(
        named_layers=lambda: {stitch.name: object()}, fusions=[stitch], task_names=("a", "b")
    )
    tasks = [types.SimpleNamespace(name=name) for name in model.task_names]
    less = Fusion(stitch.name, "cross_stitch", "unit", both[:1], ["a"])
    with pytest.raises(ArchitectureError, match=r"only NDDR fusions lose sources.*1 sources less"):
        layers_of_model(model, None, tasks, "block", types.SimpleNamespace(fusions=[less]))
