"""The row `loss`: the total of the rows in evaluation, a mean over examples in training."""

import keras
import numpy as np
import pytest
import toys
from keras import ops

import keras_mtl
from keras_mtl.models import LossWeighting

NAN = float("nan")
X = np.arange(1.0, 34.0, dtype="float32")[:, None] / 10
SIZES = (32, 16, 33, 1)


def labels(seed=0):
    """33 examples of two tasks; task `b` has labels for a third of them, unevenly spread."""
    generator = np.random.default_rng(seed)
    y = {"a": np.zeros(33, "float32"), "b": np.zeros(33, "float32")}
    y["a"][[3, 32]] = NAN
    y["b"][generator.random(33) < 0.5] = NAN
    y["b"][:8] = NAN
    return y


@pytest.fixture(scope="module")
def model(affine, one_weight):
    tasks = [one_weight("a", weight=2.0), one_weight("b", weight=0.5)]
    backbone = affine(kernel_regularizer=keras.regularizers.L2(3.0))
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


def rows_of(y):
    squares = X[:, 0] ** 2
    return {task: float(squares[~np.isnan(values)].mean()) for task, values in y.items()}


@pytest.mark.parametrize("size", SIZES)
def test_evaluation_does_not_depend_on_the_batch_size(model, size):
    y = labels()
    rows = rows_of(y)
    logs = model.evaluate(X, y, batch_size=size, return_dict=True, verbose=0)
    assert logs["a_loss"] == pytest.approx(rows["a"], rel=1e-5)
    assert logs["b_loss"] == pytest.approx(rows["b"], rel=1e-5)
    assert logs["loss"] == pytest.approx(2 * rows["a"] + 0.5 * rows["b"] + 3.0, rel=1e-5)


@pytest.mark.parametrize("size", SIZES[:3])
def test_training_without_missing_labels_is_the_total_of_the_rows(model, size):
    y = {"a": np.zeros(33, "float32"), "b": np.ones(33, "float32")}
    expected = model.evaluate(X, y, return_dict=True, verbose=0)["loss"]
    history = model.fit(
        X, y, batch_size=size, validation_data=(X, y), validation_batch_size=7, verbose=0
    ).history
    assert history["loss"] == [pytest.approx(expected, rel=1e-5)]
    assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)]


def test_a_batch_alone(model):
    y = labels()
    rows = rows_of(y)
    expected = pytest.approx(2 * rows["a"] + 0.5 * rows["b"] + 3.0, rel=1e-5)
    assert model.test_on_batch(X, y, return_dict=True)["loss"] == expected
    assert model.test_on_batch(X, y)[0] == expected
    loss, *_ = model.evaluate(X, y, batch_size=5, verbose=0)
    assert loss == expected


def test_a_task_without_labels_has_no_part(model):
    y = {**labels(), "b": np.full(33, NAN, "float32")}
    logs = model.evaluate(X, y, batch_size=16, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(2 * rows_of({"a": y["a"]})["a"] + 3.0, rel=1e-5)


def test_task_weights_between_two_evaluations(model):
    y = labels()
    rows = rows_of(y)
    try:
        model.set_task_weight("a", 10.0)
        loss = model.evaluate(X, y, batch_size=16, return_dict=True, verbose=0)["loss"]
    finally:
        model.set_task_weight("a", 2.0)
    assert loss == pytest.approx(10 * rows["a"] + 0.5 * rows["b"] + 3.0, rel=1e-5)


class Product(LossWeighting):
    def call(self, losses):
        first, second = losses.values()
        return first * second


@pytest.mark.parametrize("weighting", ["uncertainty", "dwa", Product()])
def test_the_weighting_sees_the_rows(affine, one_weight, weighting):
    model = keras_mtl.build(affine(), [one_weight("a"), one_weight("b")], "shared", seed=0)
    model.compile("sgd", loss_weighting=weighting, run_eagerly=True)
    if weighting == "uncertainty":
        model.loss_weighting.log_variances.assign([0.3, -0.2])
    if weighting == "dwa":
        model.loss_weighting.current.assign([1.5, 0.5])
    y = labels()
    rows = rows_of(y)
    expected = float(
        model.loss_weighting({task: ops.convert_to_tensor(v) for task, v in rows.items()})
    )
    for size in SIZES[:2]:
        logs = model.evaluate(X, y, batch_size=size, return_dict=True, verbose=0)
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_padding_of_joined_data_has_no_part(affine, one_weight):
    tasks = [one_weight(name, inputs=name) for name in ("a", "b")]
    model = keras_mtl.build(affine(), tasks, "shared", seed=0)
    model.compile("sgd", run_eagerly=True)
    data = {name: (X[:n], np.zeros(n, "float32")) for name, n in (("a", 33), ("b", 5))}
    expected = float((X**2).mean() + (X[:5] ** 2).mean())
    for size in (4, 16):
        joined = keras_mtl.data.join_tasks(data, size, training=False)
        logs = model.evaluate(joined, return_dict=True, verbose=0)
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_search_evaluates_to_the_total_of_its_rows():
    backbone, tasks = toys.mlp(blocks=2), toys.tasks()
    model = keras_mtl.build(backbone, tasks, seed=0)
    model.compile(run_eagerly=True)
    x, y = toys.data(backbone, tasks, examples=33)
    y["value"][np.arange(33) % 3 > 0] = NAN
    found = [
        model.evaluate(x, y, batch_size=size, return_dict=True, verbose=0) for size in SIZES[:3]
    ]
    for logs in found:
        assert set(logs) == {"loss", "classes_loss", "value_loss", "classes_accuracy"}
        assert logs["loss"] == pytest.approx(logs["classes_loss"] + logs["value_loss"], rel=1e-5)
        assert logs == pytest.approx(found[0], rel=1e-5)


def test_activity_regularizers_are_a_mean_over_examples(one_weight):
    inputs = keras.Input((1,), name="x")
    layer = keras.layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="ones",
        activity_regularizer=keras.regularizers.L1(1.0),
    )
    model = keras_mtl.build(keras.Model(inputs, layer(inputs)), [one_weight("a")], "shared", seed=0)
    model.compile(run_eagerly=True)
    y = {"a": np.full(33, NAN, "float32")}
    for size in SIZES:
        logs = model.evaluate(X, y, batch_size=size, return_dict=True, verbose=0)
        # Keras divides an activity penalty by the batch's size.
        assert logs["loss"] == pytest.approx(float(X.mean()), rel=1e-5)
