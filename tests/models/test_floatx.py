"""Other types of numbers than float32 everywhere: `set_floatx` and dtype policies."""

import math

import keras
import numpy as np
import pytest
import toys

import keras_mtl
from keras_mtl.strategies import (
    MTLNAS,
    NDDRCNN,
    AdaShare,
    AutoMTL,
    SearchStrategy,
    Sluice,
)

# (floatx, dtype policy); a policy that was made before `set_floatx` stays what it was.
KINDS = [
    ("float64", "float64"),
    ("float64", "float32"),
    ("bfloat16", "bfloat16"),
    ("float32", "mixed_float16"),
]
SEARCH = AdaShare(warmup=0.0, curriculum_epochs=0)
STRATEGIES = [
    NDDRCNN(granularity="block"),
    Sluice(granularity="block", orthogonality=0.01),
    MTLNAS(),
    AutoMTL(pretrain=0.0),
    AdaShare.reference(warmup=0.0, curriculum_epochs=0, alternate="step"),
]


@pytest.fixture
def numbers(request):
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param[0])
    keras.config.set_dtype_policy(request.param[1])
    yield request.param
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def each(kinds):
    return pytest.mark.parametrize("numbers", kinds, indirect=True, ids=" ".join)


def trained(strategy, **options):
    backbone, tasks = toys.mlp(blocks=1), toys.tasks()
    x, y = toys.data(backbone, tasks, examples=8)
    y["value"][::3] = np.nan
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    model.compile(run_eagerly=True, **options)
    if isinstance(strategy, SearchStrategy):
        model.fit(keras_mtl.data.search_split((x, y), batch_size=4), verbose=0)
    else:
        model.fit(x, y, batch_size=8, verbose=0)
    logs = model.evaluate(x, y, return_dict=True, verbose=0)
    assert all(math.isfinite(value) for value in logs.values())
    return model


@each(KINDS[:1])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_every_strategy_trains_a_step_in_double_precision(numbers, strategy):
    model = trained(strategy, loss_weighting="uncertainty")
    assert {v.dtype for v in model.weight_variables()} >= {numbers[1]}


@each(KINDS)
def test_a_search_trains_saves_and_loads(numbers, tmp_path):
    model = trained(SEARCH, loss_weighting="dwa")
    model.save(tmp_path / "search.keras")
    again = keras.models.load_model(tmp_path / "search.keras")
    for variable, loaded in zip(model.variables, again.variables, strict=True):
        assert variable.dtype == loaded.dtype
        np.testing.assert_array_equal(
            np.asarray(variable, "float64"), np.asarray(loaded, "float64")
        )
    assert model.decide() == again.decide()


@each(KINDS[:1])
@pytest.mark.parametrize("sampling", ["uniform", "lagging"])
def test_tasks_take_turns_in_double_precision(numbers, sampling):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tasks = [
        keras_mtl.Task(name, keras_mtl.heads.Classifier(3), loss, ["accuracy"], inputs=name)
        for name in ("a", "b")
    ]
    model = keras_mtl.build(toys.mlp(blocks=1), tasks, "shared", seed=0)
    model.compile("sgd", run_eagerly=True)
    x, y = np.ones((8, 8)), np.arange(8) % 3
    data = keras_mtl.data.sample_tasks(
        {"a": (x, y), "b": (x, y)}, 4, steps_per_epoch=2, sampling=sampling
    )
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()


@each([("bfloat16", "bfloat16")])
def test_rows_count_in_single_precision(numbers, affine, one_weight):
    """256 + 1 is 256 in bfloat16."""
    model = keras_mtl.build(affine(), [one_weight("a")], "shared", seed=0)
    model.compile()
    assert [(row.name, row.dtype) for row in model.metrics] == [
        ("loss", "float32"),
        ("a_loss", "float32"),
    ]
    for _ in range(3):
        model.metrics[1].update_state(1.0, sample_weight=256.5)
    assert float(model.metrics[1].count) == 769.5
