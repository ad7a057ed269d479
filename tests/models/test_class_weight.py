"""`Task(class_weight=...)`: Keras' numbers, for every way to write labels down."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl import DataError, Task

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CATEGORICAL = keras.losses.CategoricalCrossentropy(from_logits=True)
BINARY = keras.losses.BinaryCrossentropy(from_logits=True)
WEIGHTS = {0: 1.0, 2: 5.0}


def network(head, shape=(4,)):
    inputs = keras.Input(shape, name="x")
    return keras.Model(inputs, layers.Dense(4, name="stem")(inputs)), head


def built(loss, head, shape=(4,), **options):
    backbone, head = network(head, shape)
    model = keras_mtl.build(
        backbone, [Task("a", head, loss, **{"metrics": ["accuracy"], **options})], "shared"
    )
    model.compile("sgd", run_eagerly=True)
    return model


def data(shape=(12,), classes=3):
    generator = np.random.default_rng(0)
    return generator.normal(size=(*shape, 4)).astype("float32"), generator.integers(
        0, classes, shape
    )


def evaluated(model, x, y, **options):
    return model.evaluate(x, {"a": y}, return_dict=True, verbose=0, **options)


def one_hot(y):
    return np.eye(3, dtype="float32")[y]


@pytest.mark.parametrize("form", [lambda y: y, lambda y: y[:, None], one_hot, np.uint8, np.float32])
def test_the_numbers_of_keras(form):
    """Keras takes class weights in `fit` only: with learning rate 0 it says what they come to."""
    x, y = data()
    labels = form(y)
    loss = CATEGORICAL if labels.ndim > 1 and labels.shape[1] == 3 else SPARSE
    model = built(loss, layers.Dense(3), class_weight=WEIGHTS)
    plain = keras.Sequential([model.network.get_layer("stem"), model.network.get_layer("a.head")])
    plain.compile(keras.optimizers.SGD(0.0), loss)
    (expected,) = plain.fit(
        x, labels, class_weight=WEIGHTS, batch_size=12, shuffle=False, verbose=0
    ).history["loss"]
    logs = evaluated(model, x, labels)
    assert logs["a_loss"] == pytest.approx(expected, rel=1e-5)
    unweighted = built(loss, layers.Dense(3))
    unweighted.set_weights(model.get_weights())
    # The metric does not see it.
    assert evaluated(unweighted, x, labels)["a_accuracy"] == logs["a_accuracy"]
    assert evaluated(unweighted, x, labels)["a_loss"] != pytest.approx(logs["a_loss"])


@pytest.mark.parametrize("form", [lambda y: y, lambda y: y[..., None], one_hot])
def test_pixels_have_classes(form):
    x, y = data((2, 3, 3))
    labels = form(y)
    loss = CATEGORICAL if labels.ndim == 4 and labels.shape[-1] == 3 else SPARSE
    model = built(loss, layers.Dense(3), (3, 3, 4), class_weight=WEIGHTS)
    losses = np.asarray(loss.call(labels, model.predict(x, verbose=0)["a"]))
    expected = (losses * np.array([1.0, 1.0, 5.0])[y]).mean()
    assert evaluated(model, x, labels)["a_loss"] == pytest.approx(expected, rel=1e-5)


def test_it_multiplies_sample_weights_and_missing_labels_stay_missing():
    x, y = data()
    model = built(SPARSE, layers.Dense(3), class_weight={0: 2.0, 1: 0.0}, ignore=255)
    labels = np.where(np.arange(12) % 4 == 0, 255, y)
    given = np.linspace(0.0, 2.0, 12)
    losses = np.asarray(SPARSE.call(y, model.predict(x, verbose=0)["a"]))
    weights = given * np.array([2.0, 0.0, 1.0])[y] * (labels != 255)
    present = (labels != 255) & (given > 0)
    logs = evaluated(model, x, labels, sample_weight={"a": given})
    # A class of weight 0 has no part in the sum, but in the number, as in Keras.
    assert logs["a_loss"] == pytest.approx((losses * weights).sum() / present.sum(), rel=1e-5)


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_binary_labels(shape):
    x, y = data(classes=2)
    labels = y.reshape(shape).astype("float32")
    model = built(BINARY, layers.Dense(1), class_weight={1: 3.0})
    losses = np.asarray(BINARY.call(y[:, None].astype("float32"), model.predict(x, verbose=0)["a"]))
    expected = (losses * np.where(y == 1, 3.0, 1.0)).mean()
    assert evaluated(model, x, labels)["a_loss"] == pytest.approx(expected, rel=1e-5)


def test_it_is_saved(tmp_path):
    model = built(SPARSE, layers.Dense(3), class_weight={np.int64(0): 1, 2: np.float32(5.0)})
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.tasks[0].class_weight == WEIGHTS
    assert Task.from_config(model.tasks[0].get_config()).class_weight == WEIGHTS


@pytest.mark.parametrize("wrong", [[1.0], {"a": 1.0}, {0.5: 1.0}, {0: -1.0}, {0: float("nan")}])
def test_what_is_no_class_weight(wrong):
    message = (
        "`class_weight` of task 'a' must be a dict from class numbers to numbers of at least 0, "
        f"such as {{0: 1.0, 1: 5.0}}. Received: class_weight={wrong!r}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Task("a", layers.Dense(3), SPARSE, class_weight=wrong)


def test_several_classes_at_once():
    x, y = data((12, 3), classes=2)
    model = built(BINARY, layers.Dense(3), class_weight=WEIGHTS)
    message = (
        "`class_weight` of task 'a' must have one class for every label. Received: loss "
        "'binary_crossentropy' with 3 outputs, each of which is a class. Use sample weights, or a "
        "task for each output."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        evaluated(model, x[:, 0], y)


def test_fit_names_the_task():
    model = built(SPARSE, layers.Dense(3))
    message = (
        "`class_weight` must be given to the task: `keras_mtl.Task(..., "
        "class_weight={0: 1.0, 1: 5.0})`. Received: class_weight in `fit`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model.fit(*data(), class_weight=WEIGHTS)


def test_weighted_metrics_see_it():
    x, y = data()
    head = layers.Dense(3, kernel_initializer="zeros")  # all are of class 0
    model = built(SPARSE, head, class_weight=WEIGHTS, metrics=(), weighted_metrics=["accuracy"])
    logs = evaluated(model, x, y)
    weights = np.array([1.0, 1.0, 5.0])[y]
    assert logs["a_accuracy"] == pytest.approx(weights[y == 0].sum() / weights.sum())


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_keras_own_argument_is_refused_with_the_way_out(method):
    model = built(SPARSE, layers.Dense(3))
    x, labels = np.zeros((4, *model.input_specs[None][0].shape[1:])), np.zeros(4, "int32")
    with pytest.raises(ValueError) as caught:
        getattr(model, method)(x, labels, class_weight={0: 2.0})
    assert str(caught.value) == (
        "`class_weight` must be given to the task: `keras_mtl.Task(..., class_weight={0: 1.0, "
        f"1: 5.0}})`. Received: class_weight in `{method}`."
    )
