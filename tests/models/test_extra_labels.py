"""Data of many tasks train and measure a model of a few: what it does not know is ignored."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.data import join_tasks, sample_tasks, search_split
from keras_mtl.errors import DataError
from tests import toys

LINE = "Ignored: labels of ['b', 'words']. The model has the tasks ['a'].\n"


@pytest.fixture(scope="module")
def backbone():
    return toys.mlp(blocks=1)


@pytest.fixture(scope="module")
def all_data():
    x = np.random.default_rng(0).normal(size=(8, 8)).astype("float32")
    words = np.array(list("abcdefgh"))
    return x, {"b": np.zeros(8), "a": x[:, :1], "words": words}


def built(backbone, strategy="shared", inputs=None):
    task = keras_mtl.Task("a", keras_mtl.heads.Regressor(1), "mse", ["mae"], inputs=inputs)
    model = keras_mtl.build(backbone, task, strategy, seed=0)
    model.compile("sgd", run_eagerly=True)
    return model


def assert_same_weights(one, two):
    for first, second in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture(scope="module")
def expected(backbone, all_data):
    """The model that its own labels alone have trained, in two batches of four."""
    x, y = all_data
    model = built(backbone)
    model.fit(x, {"a": y["a"]}, batch_size=4, shuffle=False, verbose=0)
    return model


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, i):
        part = slice(4 * i, 4 * i + 4)
        return self.x[part], {name: labels[part] for name, labels in self.y.items()}


def as_dataset(x, y):
    return {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(4)}


def as_generator(x, y):
    numbers = {name: labels for name, labels in y.items() if name != "words"}
    return {"x": (Sequence(x, numbers)[i] for i in range(2)), "steps_per_epoch": 2}


KINDS = {
    "arrays": lambda x, y: {"x": x, "y": y, "batch_size": 4, "shuffle": False},
    "dataset": as_dataset,
    "generator": as_generator,
    "py_dataset": lambda x, y: {"x": Sequence(x, {n: y[n] for n in "ab"}), "shuffle": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_other_tasks_change_nothing(backbone, all_data, expected, kind, capsys):
    model = built(backbone)
    model.fit(**KINDS[kind](*all_data), verbose=0)
    told = capsys.readouterr().out
    assert told == (LINE if kind in ("arrays", "dataset") else LINE.replace(", 'words'", ""))
    assert_same_weights(model, expected)
    x, y = all_data
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert found == expected.evaluate(x, {"a": y["a"]}, verbose=0, return_dict=True)
    assert capsys.readouterr().out == ""  # once is enough


def test_validation_and_weights(backbone, all_data, capsys):
    x, y = all_data
    model = built(backbone)
    weights = {"a": np.ones(8), "b": np.zeros(8)}
    options = {"sample_weight": weights, "verbose": 0, "batch_size": 4}
    history = model.fit(x, y, validation_data=(x, y, weights), **options).history
    assert set(history) == {n for p in ("", "val_") for n in (f"{p}loss", f"{p}a_loss")} | {
        "a_mean_absolute_error",
        "val_a_mean_absolute_error",
    }
    model.fit(x, y, validation_split=0.5, **options)
    assert capsys.readouterr().out == LINE


def test_a_search(backbone, all_data, capsys):
    x, y = all_data
    y = {name: y[name] for name in "ab"}
    found = []
    for labels in ({"a": y["a"]}, y):
        model = built(backbone, "auto_mtl")
        model.fit(search_split((x, labels), batch_size=4), verbose=0)
        found.append(model)
    assert_same_weights(*found)
    assert capsys.readouterr().out == LINE.replace(", 'words'", "")


@pytest.mark.parametrize("given", [dict, join_tasks, sample_tasks])
def test_input_sets_of_other_tasks(backbone, all_data, given, capsys):
    """An epoch is as long as the task's own data make it."""
    x, y = all_data
    own = {"left": (x, {"a": y["a"], "c": y["a"]})}
    both = own | {"right": (np.tile(x, (9, 1)), {"b": np.zeros(72)})}
    found = []
    for data in (own, both):
        model = built(backbone, inputs="left")
        data = data if given is dict else given(data, 4)
        options = {"batch_size": 4} if given is dict else {}
        model.fit(data, validation_data=both, verbose=0, **options)
        found.append(model)
    assert_same_weights(*found)
    assert int(found[1].optimizer.iterations) == 2
    results = [model.evaluate(both, verbose=0, return_dict=True) for model in found]
    assert results[0] == results[1]
    assert list(found[1].predict(both, verbose=0)) == ["a"]
    assert capsys.readouterr().out.count("Ignored:") == 2


def test_a_slip_of_the_pen_is_not_ignored(backbone, all_data):
    x, y = all_data
    model = built(backbone)
    with pytest.raises(
        DataError,
        match=r"^Labels must be for the tasks \['a'\]\. Received: labels for the unknown task "
        r"'aa'\. Did you mean 'a'\?$",
    ):
        model.fit(x, {"aa": y["a"], "b": y["b"]})
    with pytest.raises(
        DataError,
        match=r"^Sample weights must be for the tasks \['a', 'b', 'words'\]\. Received: sample "
        r"weights for the unknown task 'bb'\. Did you mean 'b'\?$",
    ):
        model.fit(x, y, sample_weight={"a": np.ones(8), "bb": np.ones(8)})
