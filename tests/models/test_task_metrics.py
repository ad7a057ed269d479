"""Metrics of every kind that Keras accepts, as rows of `history` and in results."""

import keras
import numpy as np
import pytest
import toys
from keras import layers, ops

import keras_mtl
from keras_mtl import Task
from keras_mtl.errors import DataError

NAN = float("nan")


class Bare(keras.metrics.Metric):
    """Takes neither a type nor a name."""

    def __init__(self):
        super().__init__(name="bare")
        self.total = self.add_variable((), "zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        weight = 1.0 if sample_weight is None else ops.reshape(sample_weight, (-1, 1))
        self.total.assign_add(ops.sum(weight * ops.abs(y_true - y_pred)))

    def result(self):
        return self.total


class Power(Bare):
    """Has an argument, and no `get_config`."""

    def __init__(self, exponent=1, name="power"):
        super().__init__()
        self.name = name
        self.exponent = exponent

    def result(self):
        return self.total**self.exponent


class Hidden(Power):
    """Has an argument that it does not keep."""

    def __init__(self, twice):
        super().__init__(exponent=2 * twice)


class Deaf(keras.metrics.Mean):
    """Takes no weights."""

    def update_state(self, y_true, y_pred):
        super().update_state(ops.abs(y_true - y_pred))


class Both(Bare):
    def result(self):
        return {"total": self.total, "half": self.total / 2}


def correlation(y_true, y_pred):
    y_true, y_pred = (x - ops.mean(x) for x in (y_true, y_pred))
    return ops.sum(y_true * y_pred) / ops.sqrt(ops.sum(y_true**2) * ops.sum(y_pred**2))


def updated(metric, y_true, y_pred, weight=None, **options):
    """The result of a task's metric after two batches."""
    task = Task("t", layers.Dense(1), "mse", [metric], **options)
    (fresh,) = task.new_metrics()
    for half in (slice(0, None, 2), slice(1, None, 2)):
        part = None if weight is None else weight[half]
        task.update_metrics([fresh], y_true[half], y_pred[half], part)
    return fresh.result()


Y_TRUE = np.array([[1.0], [NAN], [7.0], [2.0], [NAN], [4.0]], "float32")
Y_PRED = np.array([[3.0], [9.0], [0.0], [2.5], [8.0], [4.0]], "float32")
ERROR = 2 + 7 + 0.5 + 0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Bare, ERROR),
        (Bare(), ERROR),
        (Power(exponent=2), ERROR**2),
        (Power(2, name="other"), ERROR**2),
        (Hidden(1), ERROR**2),
        (Deaf(name="deaf"), ERROR / 4),
        (keras.metrics.MeanMetricWrapper(lambda y, p: ops.abs(y - p), name="own"), ERROR / 4),
        (lambda y, p: ops.log(ops.exp(y - p) * 0 + 1), 0.0),
    ],
    ids=["class", "bare", "argument", "name", "hidden", "no_weights", "wrapper", "lambda"],
)
def test_metrics_of_every_kind_see_the_present_labels(metric, expected):
    assert float(updated(metric, Y_TRUE, Y_PRED)) == pytest.approx(expected)


def test_a_function_of_all_labels_at_once_sees_those_that_are_there():
    halves = [(Y_TRUE[i::2], Y_PRED[i::2]) for i in (0, 1)]
    kept = [(y[~np.isnan(y)], p[~np.isnan(y)]) for y, p in halves]
    expected = np.mean([np.corrcoef(y, p)[0, 1] for y, p in kept])
    assert float(updated(correlation, Y_TRUE, Y_PRED)) == pytest.approx(expected, rel=1e-5)


def test_a_function_that_is_not_finite_where_a_label_is_missing():
    inverse = updated(lambda y, p: 1 / (y - 1), Y_TRUE + 1, Y_PRED)
    assert float(inverse) == pytest.approx((1 + 1 / 7 + 1 / 2 + 1 / 4) / 4)


def test_pearson_correlation_leaves_missing_labels_out():
    generator = np.random.default_rng(0)
    y_true, y_pred = generator.normal(size=(2, 6, 4)).astype("float32")
    y_true[2] = NAN
    kept = [np.corrcoef(a, b)[0, 1] for a, b in zip(y_true, y_pred, strict=True)]
    found = updated(keras.metrics.PearsonCorrelation(), y_true, y_pred)
    assert float(found) == pytest.approx(np.nanmean(kept), rel=1e-4)


@pytest.mark.parametrize("missing", [NAN, "weight"])
def test_batches_without_labels_do_not_make_a_metric_nan(missing):
    y_true = np.full((4, 1), NAN if missing is NAN else 2.0, "float32")
    weight = np.zeros(4) if missing == "weight" else None
    assert float(updated(Deaf(name="deaf"), y_true, np.zeros((4, 1)), weight)) == 0.0


def test_metric_without_weights_needs_whole_examples():
    y_true = np.ones((4, 3, 1), "float32")
    y_true[2, 1] = NAN
    with pytest.raises(DataError) as error:
        updated(Deaf(name="deaf"), y_true, np.zeros((4, 3, 1), "float32"))
    assert str(error.value) == (
        "Labels of task 't' must be all present or all missing in an example, since its metric "
        "'deaf' cannot leave labels out. Received: an example with missing labels among present "
        "ones. Let its `update_state` take `sample_weight` per label."
    )
    y_true[2] = NAN
    found = updated(Deaf(name="deaf"), y_true, np.zeros((4, 3, 1), "float32"))
    assert float(found) == 1.0


@pytest.mark.filterwarnings("ignore:.metrics. of task .t. must take logits")
@pytest.mark.parametrize(
    "metric",
    [
        keras.metrics.CosineSimilarity(axis=1),
        keras.metrics.SparseTopKCategoricalAccuracy(k=2, from_sorted_ids=True),
        keras.metrics.AUC(thresholds=[0.1, 0.9]),
    ],
    ids=lambda metric: metric.name,
)
def test_settings_that_keras_leaves_out_of_a_configuration_are_kept(metric):
    (fresh,) = Task("t", layers.Dense(1), "mse", [metric]).new_metrics()
    own, given = (
        {k: v for k, v in vars(m).items() if isinstance(v, (dict, int, list)) and "built" not in k}
        for m in (fresh.metric, metric)
    )
    assert {k: v for k, v in own.items() if k in ("_fn_kwargs", "thresholds")} == {
        k: v for k, v in given.items() if k in ("_fn_kwargs", "thresholds")
    }
    assert fresh.metric is not metric


def test_metric_that_cannot_be_made_again_is_used_itself():
    metric = Hidden(1)
    (fresh,) = Task("t", layers.Dense(1), "mse", [metric]).new_metrics()
    assert fresh.metric is metric
    assert fresh.name == "t_power"
    assert metric.name == "power"


def test_binary_iou_of_several_labels_per_example():
    y_true, y_pred = (
        np.array([[1.0, 0, 1], [0, 0, 1]]),
        np.array([[0.9, 0.2, 0.4], [0.7, 0.1, 0.8]]),
    )
    expected = keras.metrics.BinaryIoU()
    expected.update_state(y_true, y_pred)
    assert float(updated(keras.metrics.BinaryIoU(), y_true, y_pred)) == pytest.approx(
        float(expected.result())
    )


# Weights ----------------------------------------------------------------------------------------


def test_weights_are_for_weighted_metrics_only():
    """320 examples, one class of which has weight 10; as plain Keras computes it."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(320, 5)).astype("float32")
    y = generator.integers(0, 3, 320)
    weight = np.where(y == 1, 10.0, 1.0).astype("float32")
    inputs = keras.Input((5,))
    backbone = keras.Model(inputs, layers.Dense(4)(inputs))
    own = keras.metrics.SparseCategoricalAccuracy(name="weighted")
    task = Task(
        "t",
        layers.Dense(3, activation="softmax"),
        "sparse_categorical_crossentropy",
        ["accuracy"],
        weighted_metrics=own,
    )
    model = keras_mtl.build(backbone, task, "shared", seed=0)
    model.compile(run_eagerly=True)
    plain = keras.Model(inputs, model.network(inputs)["t"])
    plain.compile(
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="weighted")],
        run_eagerly=True,
    )
    found = model.evaluate(x, {"t": y}, sample_weight={"t": weight}, verbose=0, return_dict=True)
    bare = model.evaluate(x, {"t": y}, verbose=0, return_dict=True)
    expected = plain.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    for name in ("accuracy", "weighted"):
        assert found[f"t_{name}"] == pytest.approx(expected[name])
    assert found["t_accuracy"] == bare["t_accuracy"] == bare["t_weighted"] != found["t_weighted"]
    assert model.task_results(found) == {
        "t": {"accuracy": found["t_accuracy"], "weighted": found["t_weighted"]}
    }


def test_weight_zero_is_a_missing_label_for_every_metric():
    weight = np.array([1, 0, 3, 1, 1, 0], "float32")
    expected = (2 + 7 + 0.5) / 3
    assert float(updated("mae", Y_TRUE, Y_PRED, weight)) == pytest.approx(expected)


def test_weighted_metrics_need_names_of_their_own():
    with pytest.raises(ValueError, match="must have different names, and none 'loss'"):
        Task("t", layers.Dense(1), "mse", ["mae"], weighted_metrics=["mae"])


def test_weighted_metrics_take_weights():
    with pytest.raises(ValueError) as error:
        Task("t", layers.Dense(1), "mse", weighted_metrics=[Deaf(name="deaf")])
    assert str(error.value) == (
        "`weighted_metrics` of task 't' must take `sample_weight` in `update_state`. Received: "
        "'deaf', which does not. Pass it in `metrics`."
    )


def test_weighted_metrics_are_in_the_configuration():
    task = Task("t", layers.Dense(1), "mse", ["mae"], weighted_metrics=["mse"])
    again = Task.from_config(task.get_config())
    assert [m.name for m in again.metrics] == ["mean_absolute_error"]
    assert [m.name for m in again.weighted_metrics] == ["mean_squared_error"]
    assert [(m.name, m.weighted) for m in again.new_metrics()] == [
        ("t_mean_absolute_error", False),
        ("t_mean_squared_error", True),
    ]


# Results that are no numbers --------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model with a metric per class and one with a dict, after two epochs with a backup."""
    backbone = toys.mlp(blocks=1)
    task = toys.classification()
    one_hot = keras.losses.CategoricalCrossentropy(from_logits=True)
    task = Task("t", task.head, one_hot, [keras.metrics.F1Score(), Both()])
    x, y = toys.data(backbone, [toys.classification()])
    data = x, {"t": np.eye(3, dtype="float32")[y["classes"]]}
    path = tmp_path_factory.mktemp("metrics") / "backup.npz"
    model = keras_mtl.build(backbone, task, "shared", seed=0)
    model.compile("sgd", run_eagerly=True)

    def fit(model, epochs):
        callbacks = [
            keras_mtl.callbacks.RelativeScore({"t": {"f1_score": np.full(3, 0.5)}}),
            keras_mtl.callbacks.BackupAndResume(path, verbose=False),
        ]
        options = {"validation_data": data, "verbose": 0, "callbacks": callbacks}
        return model.fit(*data, epochs=epochs, **options).history

    history = fit(model, 2)
    again = keras_mtl.build(backbone, task, "shared", seed=0)
    again.compile("sgd", run_eagerly=True)
    return model, data, history, fit(again, 3)


def test_results_may_be_arrays_and_dicts(trained):
    model, data, history, _ = trained
    results = model.task_results(model.evaluate(*data, verbose=0, return_dict=True))["t"]
    assert sorted(results) == ["bare_half", "bare_total", "f1_score"]
    assert isinstance(results["f1_score"], np.ndarray) and results["f1_score"].shape == (3,)
    assert results["bare_half"] == results["bare_total"] / 2
    assert isinstance(history["val_t_f1_score"][0], np.ndarray)
    np.testing.assert_allclose(history["val_t_f1_score"][-1], results["f1_score"])


def test_arrays_survive_a_backup(trained):
    *_, history, resumed = trained
    assert list(resumed) == list(history)
    for name, values in history.items():
        np.testing.assert_array_equal(resumed[name][:2], values)
        assert type(resumed[name][0]) is type(values[0])
        assert len(resumed[name]) == 3


def test_relative_performance_is_the_mean_over_an_array(trained):
    _, _, history, _ = trained
    score = np.mean((history["val_t_f1_score"][0] - 0.5) / 0.5 * 100)
    assert history["val_delta"][0] == pytest.approx(score)
