import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from keras import layers, ops

import keras_mtl
from keras_mtl import Task

NAN = float("nan")

# The predictions of `affine` with a head `one_weight` are the inputs, so squared errors are known.
X = np.array([[1.0], [2.0], [3.0], [4.0]], "float32")
ERRORS = X[:, 0] ** 2  # against labels of 0


def shared(backbone, tasks, optimizer=None, **options):
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    return model


@pytest.fixture(scope="module")
def model(affine, one_weight):
    """Two tasks, `a` ignores -1; used by tests that only evaluate."""
    tasks = [one_weight("a", ignore=-1.0, metrics=["mae"]), one_weight("b")]
    return shared(affine(), tasks)


def evaluated(model, a, b=None, weights=None, batch_size=4):
    y = {"a": np.array(a, "float32"), "b": np.zeros(4, "float32") if b is None else np.array(b)}
    return model.evaluate(
        X, y, sample_weight=weights, batch_size=batch_size, return_dict=True, verbose=0
    )


# Means over present labels ----------------------------------------------------------------------


def test_all_labels_present(model):
    logs = evaluated(model, [0, 0, 0, 0])
    assert logs["a_loss"] == pytest.approx(30 / 4)
    assert logs["loss"] == pytest.approx(30 / 2)


@pytest.mark.parametrize("missing", [NAN, -1.0], ids=["nan", "ignored"])
def test_missing_label_is_not_in_the_mean(model, missing):
    logs = evaluated(model, [0, missing, 0, 0])
    assert logs["a_loss"] == pytest.approx((1 + 9 + 16) / 3)
    assert logs["b_loss"] == pytest.approx(30 / 4)
    assert logs["loss"] == pytest.approx(26 / 3 + 30 / 4)
    assert logs["a_mean_absolute_error"] == pytest.approx((1 + 3 + 4) / 3)


def test_weight_zero_is_not_in_the_mean(model):
    logs = evaluated(model, [0, 0, 0, 0], weights={"a": np.array([1.0, 0.0, 0.0, 1.0])})
    assert logs["a_loss"] == pytest.approx((1 + 16) / 2)
    assert logs["b_loss"] == pytest.approx(30 / 4)
    assert logs["a_mean_absolute_error"] == pytest.approx((1 + 4) / 2)


def test_half_of_the_labels_with_weight_zero_do_not_halve_the_loss(model):
    labels = np.where(np.arange(4) < 2, X[:, 0] + 1.0, 1000.0)
    logs = evaluated(model, labels, weights={"a": np.array([1.0, 1.0, 0.0, 0.0])})
    assert logs["a_loss"] == pytest.approx(1.0)


def test_weights_multiply_and_the_mean_is_over_labels(model):
    weights = np.array([2.0, 0.5, 1.0, 3.0])
    logs = evaluated(model, [0, 0, 0, 0], weights={"a": weights})
    assert logs["a_loss"] == pytest.approx((weights * ERRORS).sum() / 4)
    # A metric sees no weights, as in Keras.
    assert logs["a_mean_absolute_error"] == pytest.approx(X[:, 0].mean())


def test_everything_mixed(model):
    weights = {"a": np.array([2.0, 5.0, 0.0, 3.0]), "b": np.array([0.0, 0.0, 4.0, 1.0])}
    logs = evaluated(model, [0, NAN, 0, -1.0], [NAN, 0, 0, 0], weights)
    assert logs["a_loss"] == pytest.approx(2 * 1 / 1)
    assert logs["b_loss"] == pytest.approx((4 * 9 + 16) / 2)
    assert logs["loss"] == pytest.approx(2 + 26)


def test_task_loss_is_the_mean_over_all_labels_of_the_epoch(model):
    """Batches have two and one present labels."""
    logs = evaluated(model, [0, 0, NAN, 0], batch_size=2)
    assert logs["a_loss"] == pytest.approx((1 + 4 + 16) / 3)
    assert logs["loss"] == pytest.approx((1 + 4 + 16) / 3 + 30 / 4)


@pytest.mark.parametrize("missing", ["nan", "ignored", "weight"])
def test_task_without_labels_has_loss_zero(model, missing):
    labels = {"nan": [NAN] * 4, "ignored": [-1.0] * 4, "weight": [0.0] * 4}[missing]
    weights = {"a": np.zeros(4)} if missing == "weight" else None
    logs = evaluated(model, labels, weights=weights)
    assert logs["a_loss"] == 0.0
    assert logs["loss"] == pytest.approx(30 / 4)
    assert all(np.isfinite(list(logs.values())))


def test_pixels_are_labels():
    """A mask of class numbers with holes: the mean is over the pixels that are there."""
    inputs = keras.Input((2, 2, 3), name="image")
    backbone = keras.Model(inputs, layers.Conv2D(4, 1)(inputs))
    zeros = {"kernel_initializer": "zeros", "bias_initializer": "zeros"}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head = layers.Conv2D(3, 1, **zeros)
    model = shared(backbone, [Task("mask", head, loss, ["accuracy"], ignore=255)])
    y = np.array([[[0, 255], [255, 255]], [[0, 0], [0, 1]]], "uint8")
    x = np.ones((2, 2, 2, 3), "float32")
    logs = model.evaluate(x, {"mask": y}, return_dict=True, verbose=0)
    assert logs["mask_loss"] == pytest.approx(np.log(3.0))
    assert logs["mask_accuracy"] == pytest.approx(4 / 5)


# Gradients --------------------------------------------------------------------------------------


def test_a_step_is_the_gradient_of_the_mean_over_present_labels(affine, one_weight):
    model = shared(affine(trainable=False), [one_weight("a")])
    head = model.network.get_layer("a.head")
    model.fit(X, {"a": np.array([0, NAN, NAN, 0], "float32")}, batch_size=4, verbose=0)
    # d/dw of mean((w x)^2) over x = 1 and 4 is 2 * (1 + 16) / 2 = 17.
    assert float(ops.squeeze(head.kernel)) == pytest.approx(1 - 0.1 * 17)
    assert float(ops.squeeze(model.network.get_layer("stem").kernel)) == 1.0


def test_a_step_moves_exactly_what_the_present_task_needs(normalised_mlp, values_of, same):
    """Own trunks: without labels of `value`, its trunk and head stay bit-identical."""
    backbone, tasks = normalised_mlp(), [toys.classification(), toys.regression()]
    model = keras_mtl.build(backbone, tasks, "independent", seed=0)
    model.compile(keras.optimizers.SGD(0.1))
    groups = {"classes": [], "value": []}
    for name, layer in model.named_layers().items():
        for task in groups:
            if name.endswith(f".{task}") or name == f"{task}.head":
                groups[task] += layer.trainable_variables
    assert sum(map(len, groups.values())) == len(model.trainable_variables)
    before = {task: values_of(variables) for task, variables in groups.items()}
    x, y = toys.data(backbone, tasks, examples=8)
    y["value"] = np.full((8, 1), NAN, "float32")
    logs = model.fit(x, y, batch_size=4, verbose=0).history
    assert logs["value_loss"] == [0.0]
    assert np.isfinite(logs["loss"]).all()
    assert same(values_of(groups["value"]), before["value"])
    for variable, old in zip(values_of(groups["classes"]), before["classes"], strict=True):
        assert not np.array_equal(variable, old)
        assert np.isfinite(variable).all()


def log_error(y_true, y_pred):
    return ops.mean(ops.square(ops.log(y_true) - ops.log(y_pred)), axis=-1)


@pytest.mark.parametrize("missing", [NAN, "ignored", "weight"])
def test_loss_with_a_logarithm_has_finite_gradients_where_labels_are_missing(
    affine, one_weight, missing
):
    """Log 0 is infinite, and 0 times infinity is NaN, unless the label never gets there."""
    value = missing if missing is NAN else 0.0
    task = one_weight("a", loss=log_error, ignore=0.0 if missing == "ignored" else None)
    model = shared(affine(trainable=False), [task])
    weights = {"a": np.array([1.0, 0.0, 0.0, 1.0])} if missing == "weight" else None
    labels = np.array([1, value, value, 1], "float32")
    model.fit(X, {"a": labels}, sample_weight=weights, batch_size=4, verbose=0)
    # d/dw of mean(log(w x)^2) at w = 1 is 2 mean(log x).
    expected = 1 - 0.1 * 2 * (np.log(1) + np.log(4)) / 2
    assert float(ops.squeeze(model.network.get_layer("a.head").kernel)) == pytest.approx(expected)


# Regularisers, task weights ---------------------------------------------------------------------


def test_regularisers_count_once_in_a_network(affine, one_weight):
    tasks = [one_weight("a"), one_weight("b")]
    model = shared(affine(kernel_regularizer=keras.regularizers.L2(3.0)), tasks)
    zeros = np.zeros(4, "float32")
    logs = model.evaluate(X, {"a": zeros, "b": zeros}, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(30 / 4 + 30 / 4 + 3.0)
    assert (logs["a_loss"], logs["b_loss"]) == (pytest.approx(7.5), pytest.approx(7.5))


def test_regularisers_count_once_in_a_search(one_weight):
    """Three tasks use every layer, and the gates use the block and its shortcut."""
    inputs = keras.Input((1,), name="x")
    regularised = {
        "kernel_initializer": "ones",
        "kernel_regularizer": keras.regularizers.L2(1.0),
    }
    x = layers.Dense(1, name="stem", **regularised)(inputs)
    x = layers.Add()([x, layers.Dense(1, name="block", **regularised)(x)])
    names = ["a", "b", "c"]
    tasks = [one_weight(name) for name in names]
    tasks[0].head.kernel_regularizer = keras.regularizers.L2(0.5)
    model = keras_mtl.build(keras.Model(inputs, x), tasks, seed=0)
    model.compile()
    y = {name: np.full(4, NAN, "float32") for name in names}
    logs = model.evaluate(X, y, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(1.0 + 1.0 + 0.5)


class Doubling(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.set_task_weight("a", 2.0**epoch)


def test_task_weights_change_while_fit_runs(affine, one_weight):
    tasks = [one_weight("a", weight=5.0), one_weight("b", weight=3.0)]
    model = shared(affine(), tasks, keras.optimizers.SGD(0.0))
    assert (model.task_weight("a"), model.task_weight("b")) == (5.0, 3.0)
    zeros = np.zeros(4, "float32")
    y = {"a": zeros, "b": zeros}
    before = model.evaluate(X, y, return_dict=True, verbose=0)["loss"]
    assert before == pytest.approx(7.5 * (5 + 3))
    history = model.fit(X, y, epochs=3, callbacks=[Doubling()], verbose=0).history
    np.testing.assert_allclose(history["loss"], [7.5 * (w + 3) for w in (1, 2, 4)], rtol=1e-6)
    np.testing.assert_allclose(history["a_loss"], [7.5] * 3, rtol=1e-6)


def test_a_task_of_weight_zero_moves_nothing(affine, one_weight):
    model = shared(affine(), [one_weight("a", weight=0.0)])
    model.fit(X, {"a": np.zeros(4, "float32")}, verbose=0)
    assert [float(ops.squeeze(v)) for v in model.trainable_variables] == [1.0, 1.0]


def test_weight_of_an_unknown_task_is_refused(model):
    with pytest.raises(ValueError) as error:
        model.set_task_weight("aa", 1.0)
    assert str(error.value) == (
        "`task` must be one of ['a', 'b']. Received: task='aa'. Did you mean 'a'?"
    )


def test_a_task_is_not_changed_by_its_models(affine, one_weight):
    task = one_weight("a", weight=5.0)
    model = shared(affine(), [task])
    model.set_task_weight("a", 1.0)
    assert task.weight == 5.0
    assert not task.head.built


# Half precision ---------------------------------------------------------------------------------


def test_losses_are_float32_under_mixed_precision():
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        backbone, tasks = toys.mlp(blocks=1), toys.tasks()
        model = keras_mtl.build(backbone, tasks, "shared", seed=0)
        model.compile("sgd")
        x, y = toys.data(backbone, tasks, examples=4)
        loss = model.compute_loss(x, y, model(x), training=False)
        assert model(x)["value"].dtype == tf.float16
        assert loss.dtype == tf.float32
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
