"""Labels of a single task without a dict, and labels as lists."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

import keras_mtl
from keras_mtl import DataError


@pytest.fixture(scope="module")
def single():
    model = keras_mtl.build(toys.mlp(blocks=1), [toys.classification()], "shared", seed=0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def data():
    x, y = toys.data(toys.mlp(blocks=1), [toys.classification()], examples=8)
    return x, y["classes"], np.linspace(0.5, 2.0, 8)


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return tuple(part[4 * i : 4 * i + 4] for part in self.parts)


def batches(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(4)


@pytest.mark.parametrize("make", [batches, Batches, None])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_task_needs_no_dict(single, data, make, weighted):
    x, y, weight = data
    weights = {"classes": weight} if weighted else None
    expected = single.evaluate(x, {"classes": y}, sample_weight=weights, verbose=0)
    parts = data if weighted else data[:2]
    given = (make(*parts),) if make else parts[:2]
    options = {"sample_weight": weight} if weighted and not make else {}
    assert single.evaluate(*given, **options, verbose=0) == pytest.approx(expected, rel=1e-5)
    validation = given[0] if make else parts
    history = single.fit(
        *given, **options, batch_size=None if make else 4, validation_data=validation, verbose=0
    ).history
    assert history["loss"] == [pytest.approx(expected[0], rel=1e-5)]
    assert history["val_loss"] == [pytest.approx(expected[0], rel=1e-5)]


def test_a_split_of_plain_labels(single, data):
    x, y, weight = data
    history = single.fit(x, y, sample_weight=weight, validation_split=0.5, verbose=0).history
    logs = single.evaluate(x[4:], y[4:], sample_weight=weight[4:], return_dict=True, verbose=0)
    assert history["val_loss"] == [pytest.approx(logs["loss"], rel=1e-5)]


def test_single_batches(single, data):
    x, y, _ = data
    expected = single.evaluate(x, y, verbose=0)
    assert single.test_on_batch(x, y) == pytest.approx(expected, rel=1e-5)


def test_predictions_are_a_dict(single, data):
    assert list(single.predict(data[0], verbose=0)) == ["classes"]


def test_a_search_of_one_task():
    backbone, task = toys.mlp(blocks=1), toys.classification()
    x, y = toys.data(backbone, [task], examples=8)
    model = keras_mtl.build(backbone, [task], "auto_mtl", seed=0)
    model.compile(run_eagerly=True)
    split = keras_mtl.data.search_split((x, y["classes"]), batch_size=4)
    history = model.fit(split, validation_data=(x, y["classes"]), epochs=2, verbose=0).history
    assert len(history["val_classes_loss"]) == 2


def test_several_tasks_need_a_dict():
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    model.compile()
    message = (
        "Labels must be a dict from task name to values, for the tasks ['classes', 'value']. "
        "Received: ndarray of shape (8,)."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        model.fit(np.ones((8, 8)), np.zeros(8))


def test_labels_as_lists(single, data):
    x, y, weight = data
    expected = single.evaluate(x, y, sample_weight=weight, verbose=0)
    for labels in (y.tolist(), {"classes": y.tolist()}, {"classes": [[c] for c in y.tolist()]}):
        weights = weight.tolist() if isinstance(labels, list) else {"classes": weight.tolist()}
        found = single.evaluate(x, labels, sample_weight=weights, verbose=0)
        assert found == pytest.approx(expected, rel=1e-5)
        single.fit(x, labels, sample_weight=weights, validation_data=(x, labels), verbose=0)


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        ([[0], [1, 2]] * 4, "list that is ragged"),
        (["cat"] * 8, "list that holds others"),
        ([None] * 8, "list that holds others"),
    ],
)
def test_lists_that_are_no_labels(single, data, labels, received):
    message = (
        f"Labels of task 'classes' must be numbers, in rows of equal length. Received: {received}."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        single.fit(data[0], labels)
