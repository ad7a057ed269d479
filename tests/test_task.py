import functools
import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl
from keras_mtl import Task
from keras_mtl.task import check_tasks

NAN = float("nan")


def a_task(loss="mse", metrics=(), **options):
    return Task("depth", layers.Dense(1), loss, metrics, **options)


def twice_the_error(y_true, y_pred):
    return 2 * ops.mean(ops.abs(y_true - y_pred), axis=-1)


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b", "3d", "a b", "_a", None, 7])
def test_name_that_cannot_name_an_endpoint_is_refused(name):
    with pytest.raises(ValueError) as error:
        Task(name, layers.Dense(1), "mse")
    assert str(error.value) == (
        "`name` of a task must begin with a letter and have only letters, digits, '_', '.' and "
        f"'-', since it names an endpoint and rows of `history`. Received: name={name!r}."
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("serve", "the endpoint that computes every task"),
        ("serving_default", "the default endpoint of a SavedModel"),
        ("loss", "the total loss in `history`"),
        ("val", "the mark of validation results in `history`"),
        ("val_x", "the mark of validation results in `history`"),
        ("temperature", "the gates' temperature in `history`"),
        ("signatures", "an attribute of a loaded SavedModel"),
        ("own", "a choice of an architecture"),
        ("shared", "a choice of an architecture"),
        ("variables", "an attribute of a loaded SavedModel"),
        ("tensorflow_version", "an attribute of a loaded SavedModel"),
    ],
)
def test_taken_name_is_refused(name, why):
    with pytest.raises(ValueError) as error:
        Task(name, layers.Dense(1), "mse")
    assert str(error.value) == (
        f"`name` of a task must not be taken: {name!r} is {why}. Received: name={name!r}. "
        "Choose another name."
    )


@pytest.mark.parametrize("name", ["depth", "serve2", "losses", "valley", "A.b-c_3"])
def test_other_names_are_kept(name):
    assert Task(name, layers.Dense(1), "mse").name == name


def test_duplicate_names_are_refused():
    with pytest.raises(ValueError) as error:
        check_tasks([a_task(), a_task()])
    assert str(error.value) == (
        "`tasks` must be one or more tasks with different names. "
        "Received: names=['depth', 'depth']."
    )


def test_no_task_is_refused():
    with pytest.raises(ValueError, match=r"one or more tasks .* Received: names=\[\]"):
        check_tasks([])


def test_what_is_no_task_is_refused():
    with pytest.raises(TypeError, match=r"`tasks` must hold `keras_mtl.Task` objects. .*'depth'"):
        check_tasks(["depth"])


def test_one_task_needs_no_list():
    task = a_task()
    assert check_tasks(task) == (task,)


# Own inputs -------------------------------------------------------------------------------------


def test_inputs_name_a_set_and_are_kept():
    assert a_task().inputs is None
    task = a_task(inputs="camera_photo2")
    assert task.inputs == "camera_photo2"
    assert Task.from_config(task.get_config()).inputs == "camera_photo2"


def test_configuration_of_an_older_version_has_no_inputs():
    config = a_task().get_config()
    assert config.pop("inputs") is None
    assert Task.from_config(config).inputs is None


@pytest.mark.parametrize("inputs", ["", "a/b", "a.b", "a-b", "3d", "a b", "_a", 7, ["a"]])
def test_inputs_that_cannot_name_a_set_are_refused(inputs):
    with pytest.raises(ValueError) as error:
        a_task(inputs=inputs)
    assert str(error.value) == (
        "`inputs` of task 'depth' must begin with a letter and have only letters, digits and '_', "
        f"since it names a set of inputs, or be None. Received: inputs={inputs!r}."
    )


def test_all_tasks_have_inputs_or_none_has():
    def tasks(*inputs):
        return [Task(f"t{i}", layers.Dense(1), "mse", inputs=x) for i, x in enumerate(inputs)]

    for inputs in ((None, None), ("a", "b"), ("a", "a")):
        assert tuple(task.inputs for task in check_tasks(tasks(*inputs))) == inputs
    with pytest.raises(ValueError) as error:
        check_tasks(tasks("a", None, "b"))
    assert str(error.value) == (
        "`inputs` must be given for all tasks or for none. "
        "Received: inputs={'t0': 'a', 't1': None, 't2': 'b'}. "
        "Pass one name to all tasks that read the same data."
    )


# Losses, metrics, weight, head ------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        "mae",
        "mean_absolute_error",
        keras.losses.mean_absolute_error,
        keras.losses.MeanAbsoluteError(),
    ],
)
def test_loss_of_every_form_becomes_an_object(loss):
    found = a_task(loss).loss
    assert isinstance(found, keras.losses.MeanAbsoluteError)
    np.testing.assert_array_equal(found.call(np.array([[3.0]]), np.array([[1.0]])), [2.0])


def test_loss_function_of_the_user():
    values, weight, present = a_task(twice_the_error).loss_per_label(
        np.array([[1.0], [NAN]]), np.array([[4.0], [4.0]])
    )
    np.testing.assert_array_equal(values, [6.0, 0.0])
    np.testing.assert_array_equal(weight, [1.0, 0.0])
    np.testing.assert_array_equal(present, [1.0, 0.0])


@pytest.mark.parametrize("name", ["huber", "dice", "poisson", "mean_squared_error"])
def test_loss_function_of_the_user_may_have_a_name_of_keras(name):
    def loss(y_true, y_pred):
        return 100 * keras.ops.mean(keras.ops.abs(y_pred - y_true), axis=-1)

    loss.__name__ = name
    values, _, _ = a_task(loss).loss_per_label(np.array([[1.0]]), np.array([[4.0]]))
    np.testing.assert_array_equal(values, [300.0])


def test_loss_function_with_settled_arguments():
    loss = functools.partial(keras.losses.huber, delta=0.5)
    values, _, _ = a_task(loss, [loss]).loss_per_label(np.array([[1.0]]), np.array([[4.0]]))
    np.testing.assert_array_equal(values, [0.5 * 3 - 0.125])


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError) as error:
        a_task("mzz")
    assert (
        str(error.value) == "`loss` of task 'depth' must be known to Keras. Received: loss='mzz'."
    )


def test_loss_of_the_wrong_kind_is_refused():
    with pytest.raises(TypeError, match=r"must be a Keras loss, its name, or a function .* loss=3"):
        a_task(3)


def test_metrics_of_every_form_become_objects():
    def largest_error(y_true, y_pred):
        return ops.max(ops.abs(y_true - y_pred), axis=-1)

    given = ["mae", keras.metrics.MeanSquaredError(name="mse"), largest_error]
    metrics = a_task(metrics=given).metrics
    assert [m.name for m in metrics] == ["mean_absolute_error", "mse", "largest_error"]
    assert all(isinstance(m, keras.metrics.Metric) for m in metrics)
    metrics[2].update_state(np.array([[1.0, 5.0]]), np.array([[2.0, 2.0]]))
    assert float(metrics[2].result()) == 3.0


def test_one_metric_needs_no_list():
    assert [m.name for m in a_task(metrics="mae").metrics] == ["mean_absolute_error"]


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("sparse_categorical_crossentropy", keras.metrics.SparseCategoricalAccuracy),
        ("categorical_crossentropy", keras.metrics.CategoricalAccuracy),
        ("binary_crossentropy", keras.metrics.BinaryAccuracy),
        (keras.losses.CategoricalFocalCrossentropy(), keras.metrics.CategoricalAccuracy),
        (
            keras.losses.CategoricalGeneralizedCrossEntropy(),
            keras.metrics.SparseCategoricalAccuracy,
        ),
    ],
)
def test_accuracy_follows_the_loss(loss, kind):
    (metric,) = Task("a", layers.Dense(1, "sigmoid"), loss, ["accuracy"]).metrics
    assert type(metric) is kind
    assert metric.name == "accuracy"


def test_accuracy_of_logits_has_its_threshold_at_zero():
    (metric,) = a_task(keras.losses.BinaryCrossentropy(from_logits=True), ["accuracy"]).metrics
    metric.update_state(np.array([[1.0], [0.0]]), np.array([[0.2], [-0.2]]))
    assert float(metric.result()) == 1.0


def test_accuracy_of_a_regression_is_refused():
    with pytest.raises(ValueError) as error:
        a_task("mse", ["accuracy"])
    assert str(error.value) == (
        "`metrics` of task 'depth': 'accuracy' needs a crossentropy loss to know its kind. "
        "Received: loss='mean_squared_error'. Pass the metric object instead."
    )


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"must be known to Keras. Received: 'mzz'"):
        a_task(metrics=["mzz"])


def test_metric_of_the_wrong_kind_is_refused():
    with pytest.raises(TypeError, match=r"must hold Keras metrics, names or functions. .* 3\."):
        a_task(metrics=[3])


@pytest.mark.parametrize(
    "metrics", [["mae", "mae"], [keras.metrics.Mean(name="loss")]], ids=["twice", "loss"]
)
def test_metrics_need_names_of_their_own(metrics):
    with pytest.raises(ValueError, match="must have different names, and none 'loss'"):
        a_task(metrics=metrics)


def test_metrics_of_two_models_are_two_objects():
    task = a_task(metrics=["mae"])
    (first,), (second,) = task.new_metrics(), task.new_metrics()
    first.update_state(np.array([[3.0]]), np.array([[1.0]]))
    assert first.name == second.name == "depth_mean_absolute_error"
    assert (float(first.result()), float(second.result())) == (2.0, 0.0)


@pytest.mark.parametrize("head", ["dense", None, layers.Dense])
def test_head_of_the_wrong_kind_is_refused(head):
    with pytest.raises(TypeError) as error:
        Task("depth", head, "mse")
    assert str(error.value) == (
        "`head` of task 'depth' must be a Keras layer or functional model. "
        f"Received: head={head!r}."
    )


@pytest.mark.parametrize("weight", [-1, NAN, float("inf"), "1", None])
def test_weight_must_be_a_number(weight):
    with pytest.raises(ValueError) as error:
        a_task(weight=weight)
    assert str(error.value) == (
        f"`weight` of task 'depth' must be a number of at least 0. Received: weight={weight!r}."
    )


@pytest.mark.parametrize("loss", ["mse", twice_the_error], ids=["known", "function"])
def test_config_round_trip(loss):
    functional = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="inner")])
    task = Task("depth", functional, loss, ["mae"], weight=0.5, ignore=-1)
    config = json.loads(json.dumps(task.get_config()))
    with keras.saving.custom_object_scope({"twice_the_error": twice_the_error}):
        again = Task.from_config(config)
        assert json.loads(json.dumps(again.get_config())) == config
    assert (again.name, again.weight, again.ignore) == ("depth", 0.5, -1)
    assert [m.name for m in again.metrics] == ["mean_absolute_error"]
    assert again.head.layers[0].name == "inner"
    y_true, y_pred = np.array([[1.0, -1.0], [2.0, 4.0]]), np.array([[1.0, 1.0], [1.0, 1.0]])
    for first, second in zip(
        task.loss_per_label(y_true, y_pred), again.loss_per_label(y_true, y_pred), strict=True
    ):
        np.testing.assert_array_equal(first, second)


# Missing labels ---------------------------------------------------------------------------------


def test_nan_is_missing():
    labels, present = a_task().labels(np.array([[2.0], [NAN], [-1.0]]))
    np.testing.assert_array_equal(labels, [[2.0], [1.0], [-1.0]])
    np.testing.assert_array_equal(present, [[1.0], [0.0], [1.0]])


def test_ignored_class_is_missing_and_becomes_a_class_that_exists():
    labels, present = a_task(ignore=255).labels(np.array([2, 255, 0], "uint8"))
    np.testing.assert_array_equal(labels, [2, 0, 0])
    np.testing.assert_array_equal(present, [1.0, 0.0, 1.0])


@pytest.mark.parametrize(("dtype", "ignore", "value"), [("uint8", -1, 255), ("int8", 255, -1)])
def test_ignored_value_that_a_type_does_not_have_is_no_label(dtype, ignore, value):
    _, present = a_task(ignore=ignore).labels(np.array([2, value], dtype))
    np.testing.assert_array_equal(present, [1.0, 1.0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_ignored_number_is_missing(dtype):
    _, present = a_task(ignore=0.1).labels(np.array([0.1, 0.2, NAN], dtype))
    np.testing.assert_array_equal(present, [0.0, 1.0, 0.0])


def test_all_integers_are_present_without_ignore():
    labels, present = a_task().labels(np.array([3, -1]))
    np.testing.assert_array_equal(labels, [3, -1])
    np.testing.assert_array_equal(present, [1.0, 1.0])


def test_partly_nan_vector_is_missing_as_a_whole():
    y_true = np.array([[1.0, 2.0], [1.0, NAN], [NAN, NAN]])
    values, weight, present = a_task().loss_per_label(y_true, np.zeros((3, 2)))
    np.testing.assert_array_equal(values, [2.5, 0.0, 0.0])
    np.testing.assert_array_equal(weight, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(present, [1.0, 0.0, 0.0])


def test_labels_of_weight_zero_are_missing_whatever_they_are():
    task = a_task()
    y_true = np.array([[1.0], [float("inf")], [3.0]], "float32")
    values, weight, present = task.loss_per_label(
        y_true, np.zeros((3, 1), "float32"), np.array([2.0, 0.0, 0.5])
    )
    np.testing.assert_array_equal(values, [1.0, 0.0, 9.0])
    np.testing.assert_array_equal(weight, [2.0, 0.0, 0.5])
    np.testing.assert_array_equal(present, [1.0, 0.0, 1.0])


def test_weights_may_be_for_examples_or_for_pixels():
    task, y_true = a_task("mae"), np.ones((2, 2, 2, 3), "float32")
    y_pred = np.zeros_like(y_true)
    _, by_example, _ = task.loss_per_label(y_true, y_pred, np.array([2.0, 0.0]))
    np.testing.assert_array_equal(by_example, [np.full((2, 2), 2.0), np.zeros((2, 2))])
    by_pixel = np.arange(8.0).reshape(2, 2, 2)
    for weights in (by_pixel, by_pixel[..., None]):
        _, found, present = task.loss_per_label(y_true, y_pred, weights)
        np.testing.assert_array_equal(found, by_pixel)
        np.testing.assert_array_equal(present, by_pixel != 0)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2, 2), (4, 2, 2, 1)])
def test_classes_give_one_loss_per_label(shape):
    task = Task(
        "depth",
        layers.Dense(3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ignore=255,
    )
    y_true = np.zeros(shape, "int32")
    y_true[1] = 255
    expected = (4, 2, 2) if len(shape) > 2 else (4,)
    y_pred = np.zeros((*expected, 3), "float32")
    values, weight, present = task.loss_per_label(y_true, y_pred)
    assert values.shape == weight.shape == present.shape == expected
    there = np.ones(expected)
    there[1] = 0
    np.testing.assert_allclose(values, np.log(3.0) * there, rtol=1e-6)
    np.testing.assert_array_equal(present, there)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_number_per_example_with_or_without_its_axis(shape):
    y_true = np.array([1.0, NAN, 3.0]).reshape(shape)
    y_pred = np.array([[0.0], [5.0], [1.0]])
    values, weight, present = a_task("mse").loss_per_label(y_true, y_pred)
    assert values.shape == weight.shape == present.shape == (3,)
    np.testing.assert_array_equal(values, [1.0, 0.0, 4.0])


def test_unit_vectors_give_one_loss_per_pixel():
    task = a_task(keras.losses.CosineSimilarity())
    y_true = np.zeros((2, 2, 2, 3), "float32")
    y_true[..., 0] = 1.0
    y_true[0, 0, 0] = NAN
    y_true[1, 1, 1, 2] = NAN
    y_pred = np.zeros_like(y_true)
    y_pred[..., 0] = 2.0
    values, _, present = task.loss_per_label(y_true, y_pred)
    expected = -np.ones((2, 2, 2))
    expected[0, 0, 0] = expected[1, 1, 1] = 0.0
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_array_equal(present, -expected)


def test_metrics_see_present_labels_only():
    task = a_task(metrics=["mae"])
    metrics = task.new_metrics()
    y_true, y_pred = np.array([1.0, NAN, 7.0]), np.array([[3.0], [9.0], [0.0]])
    task.update_metrics(metrics, y_true, y_pred, np.array([1.0, 1.0, 0.0]))
    assert float(metrics[0].result()) == 2.0


def test_the_task_is_part_of_the_public_names():
    assert keras_mtl.Task is Task
    assert repr(a_task()).startswith("<Task 'depth' loss='mean_squared_error'")
