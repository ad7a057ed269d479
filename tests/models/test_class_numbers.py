"""Labels outside of what a loss can take are found before anything moves."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from keras import layers

import keras_mtl
from keras_mtl import DataError, Task

X = np.ones((8, 8), "float32")


def task(name="kind", head=None, loss=None, **options):
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Task(name, head or layers.Dense(10), loss, **options)


def built(*tasks, strategy="shared", eager=True):
    model = keras_mtl.build(toys.mlp(blocks=1), list(tasks), strategy, seed=0)
    model.compile("adam", run_eagerly=eager)
    return model


def labels(wrong, dtype="int32"):
    y = np.arange(8).astype(dtype)
    y[5] = wrong
    return y


def message(found):
    return (
        "Labels of task 'kind' must be class numbers from 0 to 9, since its head has 10 classes. "
        f"Received: {found}. If that marks a missing label, pass `Task(..., ignore={found})`; "
        "otherwise correct the labels or the head."
    )


@pytest.fixture(scope="module")
def model():
    return built(task(), toys.regression())


def batches(y, **more):
    return tf.data.Dataset.from_tensor_slices((X, {"kind": y, **more})).batch(4)


class Batches(keras.utils.PyDataset):
    def __init__(self, y):
        super().__init__()
        self.y = y

    def __len__(self):
        return 2

    def __getitem__(self, i):
        rows = slice(4 * i, 4 * i + 4)
        return X[rows], {name: values[rows] for name, values in self.y.items()}


@pytest.mark.parametrize(
    "y",
    [
        labels(99),
        labels(-1),
        labels(255, "uint8"),
        labels(10.0, "float32"),
        labels(99)[:, None],
        np.full(8, 99),  # from the first on
    ],
)
def test_arrays_are_looked_at_before_the_first_step(model, y):
    found = int(y.ravel()[5])
    data = X, {"kind": y, "value": np.zeros(8)}
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError, match=f"^{re.escape(message(found))}$"):
            call(*data, verbose=0)
    good = X, {"kind": np.arange(8), "value": np.zeros(8)}
    with pytest.raises(DataError, match=f"^{re.escape(message(found))}$"):
        model.fit(*good, validation_data=data, verbose=0)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("make", [batches, Batches])
def test_batches_are_looked_at_before_they_move_anything(make, eager, values_of, same):
    model = built(task(), eager=eager)
    y = np.arange(8)
    y[1] = -1
    data = make(y) if make is batches else Batches({"kind": y})
    before = values_of([*model.variables, *model.optimizer.variables])
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError, match=f"^{re.escape(message(-1))}$"):
            call(data, verbose=0)
    after = values_of([*model.variables, *model.optimizer.variables])
    assert same(before, after)


def test_a_search_looks_at_both_batches():
    model = built(task(), strategy="auto_mtl")
    x, y = np.ones((8, 8), "float32"), labels(42)
    with pytest.raises(DataError, match=f"^{re.escape(message(42))}$"):
        model.fit(keras_mtl.data.search_split((x, {"kind": y}), batch_size=4), epochs=2, verbose=0)


@pytest.mark.parametrize("wrong", [-1, 255])
def test_what_is_missing_may_be_anything(wrong):
    y = {"kind": labels(wrong)}
    ignoring = built(task(ignore=wrong))
    histories = [ignoring.fit(X, y, verbose=0), ignoring.fit(Batches(y), verbose=0)]
    weights = {"kind": (y["kind"] != wrong).astype("float32")}
    plain = built(task())
    histories += [plain.fit(X, y, sample_weight=weights, verbose=0)]
    batched = tf.data.Dataset.from_tensor_slices((X, y, weights)).batch(4)
    histories += [plain.fit(batched, verbose=0)]
    assert all(np.isfinite(h.history["kind_loss"]).all() for h in histories)
    missing = np.where(y["kind"] == wrong, np.nan, y["kind"]).astype("float32")
    found = plain.evaluate(X, {"kind": missing}, verbose=0, return_dict=True)
    weighted = plain.evaluate(X, y, sample_weight=weights, verbose=0, return_dict=True)
    assert found["kind_loss"] == pytest.approx(weighted["kind_loss"], rel=1e-6)


def test_bytes_do_not_hold_the_number_of_the_last_class():
    model = built(task(head=layers.Dense(300)))
    losses = [
        model.evaluate(X, {"kind": np.full(8, 255, kind)}, verbose=0, return_dict=True)["loss"]
        for kind in ("uint8", "int32")
    ]
    assert losses[0] == losses[1]


def test_pixels():
    inputs = keras.Input((2, 2, 3))
    backbone = keras.Model(inputs, layers.Conv2D(4, 1)(inputs))
    model = keras_mtl.build(backbone, [task(head=layers.Conv2D(10, 1))], "shared", seed=0)
    model.compile(run_eagerly=True)
    y = np.zeros((3, 2, 2), "int32")
    y[2, 1, 0] = 10
    with pytest.raises(DataError, match=f"^{re.escape(message(10))}$"):
        model.fit(np.ones((3, 2, 2, 3)), {"kind": y})


@pytest.mark.parametrize("dataset", [False, True])
@pytest.mark.parametrize("loss", ["BinaryCrossentropy", "BinaryFocalCrossentropy"])
def test_binary_labels_are_from_0_to_1(loss, dataset):
    loss = getattr(keras.losses, loss)(from_logits=True)
    model = built(task(head=layers.Dense(1), loss=loss))
    y = np.array([0.0, 1.0, 0.3, 1.0, 0.0, -1.0, 0.0, 1.0], "float32")
    expected = (
        f"Labels of task 'kind' must be from 0 to 1, as its loss {loss.name!r} takes them. "
        "Received: -1. If that marks a missing label, pass `Task(..., ignore=-1)`; otherwise "
        "correct the labels or the head."
    )
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        model.fit(*((batches(y),) if dataset else (X, {"kind": y})), verbose=0)
