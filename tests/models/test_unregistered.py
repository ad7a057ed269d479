"""Losses and metrics that Keras cannot find again: what saving, loading and compiling say."""

import functools
import warnings

import keras
import numpy as np
import pytest
import toys
from keras import layers, ops

import keras_mtl
from keras_mtl import Task
from keras_mtl.task import task_configs


def scaled(factor):
    """Closures that have one name, and compute different things."""

    def scaled_error(y_true, y_pred):
        return factor * ops.mean(ops.square(y_true - y_pred), axis=-1)

    return scaled_error


class OwnLoss(keras.losses.Loss):
    """Has an argument and no `get_config`: what Keras writes down is not enough."""

    def __init__(self, factor=1.0, name="own_loss"):
        super().__init__(name=name)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * ops.mean(ops.square(y_true - y_pred), axis=-1)


class Sealed(OwnLoss):
    """Keeps nothing of its argument."""

    def __init__(self, half=1.0):
        super().__init__(2 * half)


class OwnMetric(keras.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(ops.abs(y_true - y_pred), sample_weight)


@keras.saving.register_keras_serializable("test_unregistered")
def registered_error(y_true, y_pred):
    return 3.0 * ops.mean(ops.square(y_true - y_pred), axis=-1)


def make(*losses, metrics=(), strategy="shared"):
    tasks = [
        Task(name, layers.Dense(1), loss, metrics) for name, loss in zip("ab", losses, strict=False)
    ]
    model = keras_mtl.build(toys.mlp(blocks=1), tasks, strategy, seed=0)
    model.compile("sgd", **({} if strategy == "adashare" else {"run_eagerly": True}))
    return model


X = np.ones((4, 8), "float32")
Y = np.zeros((4, 1), "float32")


def saved(model, path):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.save(path)
    return [str(w.message) for w in found if "saved without" in str(w.message)]


def load(path, **options):
    return keras.models.load_model(path, **options)


def losses(model):
    return [float(np.mean(task.loss_per_label(Y, Y + 1)[0])) for task in model.tasks]


WARNING = (
    "The model is saved without {}, which Keras cannot find again: it will load for predictions, "
    "and lack them at `compile`. Register them with "
    "`@keras.saving.register_keras_serializable()`, each under a name of its own and classes with "
    "`get_config`, or give them when loading, by `custom_objects` or "
    "`model.replace_losses(tasks)`."
)
LACKING = (
    "Task 'a' must have its loss. Received: a loaded model whose loss {name!r} Keras could not "
    "find.{more} To train or evaluate, {objects}load with `compile=False` and call "
    "`model.replace_losses(tasks)`, then `compile`; predicting and exporting work without."
)


def lacking(name, own, more=""):
    objects = f"pass `custom_objects={{{own!r}: ...}}` to `load_model`, or " if own else ""
    return LACKING.format(name=name, objects=objects, more=more)


@pytest.mark.parametrize("strategy", ["shared", "adashare"])
def test_model_with_a_function_loads_without_it(tmp_path, strategy):
    model, path = make(scaled(2.0), "mse", strategy=strategy), tmp_path / "model.keras"
    assert saved(model, path) == [WARNING.format("the loss 'scaled_error' of task 'a'")]
    loaded = load(path, compile=False)
    assert loaded.task_names == ("a", "b")
    np.testing.assert_array_equal(loaded(X)["a"], model(X)["a"])
    message = lacking("scaled_error", "scaled_error")
    for use in (loaded.compile, lambda: load(path)):
        with pytest.raises(ValueError) as error:
            use()
        assert str(error.value) == message
    with pytest.raises(ValueError) as error:
        loaded.evaluate(X, {"a": Y, "b": Y}, verbose=0)
    assert str(error.value) == message


def test_model_without_its_loss_exports_and_saves_again(tmp_path):
    path = tmp_path / "model.keras"
    saved(make(scaled(2.0)), path)
    loaded = load(path, compile=False)
    loaded.export(tmp_path / "exported", verbose=False)
    again = tmp_path / "again.keras"
    assert saved(loaded, again) == [WARNING.format("the loss 'scaled_error' of task 'a'")]
    given = load(again, compile=False, custom_objects={"scaled_error": scaled(5.0)})
    assert losses(given) == [5.0]


def test_custom_objects_bring_losses_and_metrics_back(tmp_path):
    path = tmp_path / "model.keras"
    model = make(scaled(2.0), OwnLoss(3.0), metrics=[OwnMetric(name="own")])
    assert saved(model, path) == [
        WARNING.format(
            "the loss 'scaled_error' of task 'a', the metric 'own' of task 'a', the loss "
            "'own_loss' of task 'b', the metric 'own' of task 'b'"
        )
    ]
    known = {"scaled_error": scaled(2.0), "OwnLoss": OwnLoss, "OwnMetric": OwnMetric}
    loaded = load(path, custom_objects=known)
    assert losses(loaded) == [2.0, 3.0]
    data = X, {"a": Y, "b": Y}
    np.testing.assert_allclose(
        loaded.evaluate(*data, verbose=0), model.evaluate(*data, verbose=0), rtol=1e-5
    )
    del known["OwnMetric"]
    with pytest.raises(ValueError, match=r"Task 'a' must have its metric. .* whose metric 'own' "):
        load(path, custom_objects=known)


def test_closures_of_one_name_never_become_one_another(tmp_path):
    path = tmp_path / "model.keras"
    first, second = scaled(2.0), scaled(7.0)
    saved(make(first, second), path)
    loaded = load(path, compile=False, custom_objects={"scaled_error": first})
    with pytest.raises(ValueError) as error:
        loaded.compile()
    assert str(error.value) == lacking("scaled_error", None, " (2 losses and metrics are lacking.)")
    loaded.replace_losses([Task(n, layers.Dense(1), f) for n, f in (("a", first), ("b", second))])
    loaded.compile(run_eagerly=True)
    assert losses(loaded) == [2.0, 7.0]
    assert np.isfinite(loaded.evaluate(X, {"a": Y, "b": Y}, verbose=0)).all()


def test_one_closure_of_two_tasks_comes_back_by_its_name(tmp_path):
    path, both = tmp_path / "model.keras", scaled(2.0)
    saved(make(both, both), path)
    assert losses(load(path, custom_objects={"scaled_error": both})) == [2.0, 2.0]


def test_closures_registered_under_one_name_are_told_apart():
    """Registering the second one takes the name away from the first."""
    first, second = scaled(2.0), scaled(7.0)
    register = keras.saving.register_keras_serializable("test_unregistered")
    register(first)
    register(second)
    tasks = [Task("a", layers.Dense(1), first), Task("b", layers.Dense(1), second)]
    with pytest.warns(UserWarning, match="without the loss 'scaled_error' of task 'a', which"):
        configs = task_configs(tasks)
    again = [Task.from_config(config) for config in configs]
    assert again[0].lost_parts() and not again[1].lost_parts()
    assert float(again[1].loss_per_label(Y, Y + 1)[0][0]) == 7.0


def test_function_named_like_one_of_keras_does_not_become_it():
    def mean_squared_error(y_true, y_pred):
        return 5.0 * ops.mean(ops.square(y_true - y_pred), axis=-1)

    class MeanSquaredError(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return 5.0 * ops.mean(ops.square(y_true - y_pred), axis=-1)

    for loss in (MeanSquaredError(), lambda y, p: mean_squared_error(y, p)):
        again = Task.from_config(Task("a", layers.Dense(1), loss).get_config())
        assert [kind for kind, _, _ in again.lost_parts()] == ["loss"]


def test_class_whose_settings_are_not_kept_is_lost():
    config = Task("a", layers.Dense(1), Sealed(2.0)).get_config()
    with keras.saving.custom_object_scope({"Sealed": Sealed}):
        assert Task.from_config(config).lost_parts()
    with keras.saving.custom_object_scope({"Sealed": Sealed(2.0)}):
        assert float(Task.from_config(config).loss_per_label(Y, Y + 1)[0][0]) == 4.0


def test_lambdas_are_lost_without_unsafe_code(tmp_path):
    path = tmp_path / "model.keras"
    model = make(lambda y, p: ops.mean(ops.abs(y - p), axis=-1))
    assert saved(model, path) == [WARNING.format("the loss '<lambda>' of task 'a'")]
    with pytest.raises(ValueError) as error:
        load(path)
    assert str(error.value) == lacking("<lambda>", "<lambda>")


@pytest.mark.parametrize("task_type", ["loss", "metric"])
def test_what_is_registered_is_saved_without_a_word(tmp_path, task_type):
    path = tmp_path / "model.keras"
    model = make(registered_error, metrics=[registered_error] if task_type == "metric" else ())
    assert saved(model, path) == []
    loaded = load(path)
    assert losses(loaded) == [3.0]
    data = X, {"a": Y}
    np.testing.assert_allclose(
        loaded.evaluate(*data, verbose=0), model.evaluate(*data, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.Huber(delta=0.1),
        keras.losses.CosineSimilarity(axis=1),
        keras.losses.MeanSquaredError(dtype="float64", reduction="mean_with_sample_weight"),
        keras.losses.Dice(axis=(1,)),
    ],
    ids=lambda loss: loss.name,
)
def test_settings_that_keras_leaves_out_of_a_configuration_are_saved(loss):
    again = Task.from_config(Task("a", layers.Dense(1), loss).get_config()).loss
    assert (again.dtype, again.reduction) == (loss.dtype, loss.reduction)
    y_true, y_pred = np.random.default_rng(0).random((2, 4, 3)).astype("float32")
    np.testing.assert_array_equal(again.call(y_true, y_pred), loss.call(y_true, y_pred))


def test_losses_are_replaced_for_every_task():
    model = make("mse", "mse")
    with pytest.raises(ValueError) as error:
        model.replace_losses([Task("a", layers.Dense(1), "mse")])
    assert str(error.value) == "`tasks` must be for ['a', 'b']. Received: tasks ['a']."


def test_functions_with_settled_arguments_and_objects_to_call(tmp_path):
    class Callable:
        def __call__(self, y_true, y_pred):
            return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    model = make(functools.partial(keras.losses.huber, delta=0.5), Callable())
    with pytest.warns(UserWarning, match="without the loss 'loss' of task 'a', the loss 'loss' of"):
        model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras", compile=False)
    assert [task.lost_parts()[0][:2] for task in again.tasks] == [("loss", "loss")] * 2
    again.replace_losses(model.tasks)
    again.compile("sgd")
