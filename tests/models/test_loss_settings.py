"""Losses of every shape and setting: what they reduce, what is missing, and what Keras says."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_mtl
from keras_mtl import Task
from keras_mtl.errors import DataError
from keras_mtl.models import tensorflow_step

NAN = float("nan")
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(6, 3, 4, 2)).astype("float32")
Y = (GENERATOR.random((6, 3, 4, 1)) > 0.5).astype("float32")


def with_hole(labels):
    labels = labels.copy()
    labels[:, 0, 0] = NAN
    return labels


def scale_invariant(y_true, y_pred):
    error = y_true - y_pred
    return ops.mean(error**2, axis=(1, 2, 3)) - ops.mean(error, axis=(1, 2, 3)) ** 2


def masked_scale_invariant(y_true, y_pred, mask):
    error, count = mask * (y_true - y_pred), ops.sum(mask, axis=(1, 2, 3))
    mean = ops.sum(error, axis=(1, 2, 3)) / count
    return ops.sum(error**2, axis=(1, 2, 3)) / count - mean**2


class MaskedLoss(keras.losses.Loss):
    def call(self, y_true, y_pred, mask=None):
        return masked_scale_invariant(y_true, y_pred, mask)


def picture_model(loss, **options):
    inputs = keras.Input((3, 4, 2))
    backbone = keras.Model(inputs, layers.Conv2D(2, 1)(inputs))
    head = layers.Conv2D(1, 1, activation="sigmoid")
    model = keras_mtl.build(backbone, Task("t", head, loss), "shared", seed=0)
    model.compile("sgd", run_eagerly=True, **options)
    return model


def loss_of(loss, y_true, y_pred, weight=None):
    """The mean that a task makes of its losses."""
    task = Task("t", layers.Dense(1), loss)
    values, weights, present = task.loss_per_label(y_true, y_pred, weight)
    return float(ops.sum(values * weights) / ops.sum(present))


PARTLY = (
    "Labels of task 't' must be all present or all missing in an example, since its loss "
    "'scale_invariant' gives one value for several labels. Received: an example with missing "
    "labels among present ones. Let the loss take a third argument `mask`, which is 1 for present "
    "labels, or use a loss per label."
)

# One value for several labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [keras.losses.Dice, functools.partial(keras.losses.Tversky, alpha=0.3, beta=0.7)]
)
@pytest.mark.parametrize("shape", [(6, 3, 4, 1), (6, 3, 4)])
def test_dice_with_a_missing_pixel_is_that_of_the_picture_without_it(kind, shape):
    y_pred = GENERATOR.random((6, 3, 4, 1)).astype("float32")
    found = loss_of(kind(axis=(1, 2, 3)), with_hole(Y).reshape(shape), y_pred)
    cropped = [a.reshape(6, 12)[:, 1:] for a in (Y, y_pred)]
    assert found == pytest.approx(float(kind(axis=1)(*cropped)), rel=1e-5)


def test_dice_trains_with_a_missing_pixel_in_every_picture():
    model = picture_model(keras.losses.Dice(axis=(1, 2, 3)))
    kernel = model.network.get_layer("t.head").kernel
    before = keras.ops.convert_to_numpy(kernel).copy()
    logs = model.fit(X, {"t": with_hole(Y)}, verbose=0).history
    assert logs["t_loss"][0] > 0.1
    assert not np.array_equal(before, keras.ops.convert_to_numpy(kernel))


@pytest.mark.parametrize("loss", [masked_scale_invariant, MaskedLoss()], ids=["function", "class"])
def test_loss_with_a_mask_leaves_missing_labels_out_by_itself(loss):
    y_true, y_pred = with_hole(Y), GENERATOR.random((6, 3, 4, 1)).astype("float32")
    y_true[3] = NAN
    error = (Y - y_pred).reshape(6, 12)[[0, 1, 2, 4, 5], 1:]
    assert loss_of(loss, y_true, y_pred) == pytest.approx(error.var(axis=1).mean(), rel=1e-4)


def test_loss_with_a_mask_is_finite_for_examples_without_labels():
    model = picture_model(masked_scale_invariant)
    y = with_hole(Y)
    y[3] = NAN
    assert np.isfinite(model.fit(X, {"t": y}, verbose=0).history["t_loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_partly_missing_examples_are_refused_in_arrays():
    model = picture_model(scale_invariant)
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError) as error:
            call(X, {"t": with_hole(Y)}, verbose=0)
        assert str(error.value) == PARTLY
    weight = np.ones((6, 3, 4), "float32")
    weight[:, 1, 1] = 0
    with pytest.raises(DataError, match="must be one number per example, since its loss"):
        model.fit(X, {"t": Y}, sample_weight={"t": weight}, verbose=0)


def test_examples_without_any_label_are_left_out():
    y = Y.copy()
    y[2] = NAN
    y_pred = GENERATOR.random((6, 3, 4, 1)).astype("float32")
    kept = [0, 1, 3, 4, 5]
    assert loss_of(scale_invariant, y, y_pred) == pytest.approx(
        loss_of(scale_invariant, Y[kept], y_pred[kept]), rel=1e-5
    )


def test_labels_of_several_numbers_of_which_none_is_whole_are_refused():
    inputs = keras.Input((4,))
    task = Task("t", layers.Dense(3, activation="sigmoid"), "binary_crossentropy")
    model = keras_mtl.build(keras.Model(inputs, layers.Dense(4)(inputs)), task, "shared", seed=0)
    model.compile(run_eagerly=True)
    y = np.ones((6, 3), "float32")
    y[:4, 1] = y[4:5, 2] = NAN
    with pytest.warns(UserWarning) as found:
        model.evaluate(np.ones((6, 4)), {"t": y}, verbose=0)
    way_out = (
        "Make a task of each number, or let the loss take a third argument `mask`, which is 1 for "
        "present numbers."
    )
    assert str(found[0].message) == (
        "Task 't' does without 5 of its 6 labels, of which some numbers are missing and others are "
        f"there. {way_out}"
    )
    y[5, 0] = NAN
    with pytest.raises(DataError) as error:
        model.fit(np.ones((6, 4)), {"t": y}, verbose=0)
    assert str(error.value) == (
        "Labels of task 't' must be whole: one of several numbers counts as missing where a number "
        f"is missing. Received: 6 labels, none of which is whole. {way_out}"
    )


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_partly_missing_examples_of_a_dataset_stop_the_step(run_eagerly):
    model = picture_model(scale_invariant)
    model.run_eagerly = run_eagerly
    before = model.get_weights()
    y = Y.copy()
    y[5, 0, 0] = NAN
    dataset = tf.data.Dataset.from_tensor_slices((X, {"t": y})).batch(6)
    with pytest.raises(DataError) as error:
        model.fit(dataset, verbose=0)
    assert str(error.value) == PARTLY
    assert all(map(np.array_equal, before, model.get_weights()))
    assert int(model.optimizer.iterations) == 0


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return X, {"t": Y}


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda y, p: ops.mean((y - p) ** 2), ()),
        (keras.losses.Dice(), ()),
        (keras.losses.Dice(axis=(0, 1, 2)), (1,)),
    ],
    ids=["function", "dice", "batch"],
)
def test_losses_without_a_value_per_example_are_refused_with_unknown_sizes(loss, shape):
    with pytest.raises(DataError) as error:
        picture_model(loss).fit(Batches(), verbose=0)
    assert str(error.value) == (
        f"The loss of task 't' must return one value per label. Received: shape {shape} for "
        "labels of shape ('batch', 3, 4, 1). Let it not take the mean over the batch."
    )


def test_loss_that_reduces_the_batch_and_leaves_as_many_channels_is_refused():
    """Two made-up examples would look like its two channels."""
    inputs = keras.Input((3, 4, 2))
    backbone = keras.Model(inputs, layers.Conv2D(2, 1)(inputs))
    loss = keras.losses.Dice(axis=(0, 1, 2))
    model = keras_mtl.build(backbone, Task("t", layers.Conv2D(2, 1), loss), "shared", seed=0)
    model.compile(run_eagerly=True)
    with pytest.raises(DataError, match=r"one value per label. Received: shape \(2,\)"):
        model.evaluate(X, {"t": np.repeat(Y, 2, axis=-1)}, verbose=0)


# Which axes -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.loss. of task .t. must take logits")
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(
    "kind", [keras.losses.CategoricalCrossentropy, keras.losses.CosineSimilarity]
)
def test_presence_is_folded_over_the_axis_of_the_loss(kind, axis):
    """All sizes are one, so that shapes do not tell the axis."""
    y_true, y_pred = GENERATOR.dirichlet([1.0] * 3, (2, 4, 3, 3)).astype("float32")
    y_true, y_pred = (np.moveaxis(a, -1, axis) for a in (y_true, y_pred))
    missing, weight = np.zeros((4, 3, 3), bool), np.ones((4, 3, 3))
    missing[1, 0, 2], weight[2, 1, 0] = True, 0
    holes = np.where(np.expand_dims(missing, axis), NAN, y_true)
    expected = keras.ops.convert_to_numpy(kind(axis=axis, reduction=None)(y_true, y_pred))
    kept = expected[~missing & (weight > 0)]
    found = loss_of(kind(axis=axis), holes, y_pred, weight)
    assert found == pytest.approx(kept.mean(), rel=1e-5)


def test_an_axis_that_is_kept_is_folded_too():
    y_true = np.array([[1.0, 2.0], [1.0, NAN]])
    values, _, present = Task(
        "t", layers.Dense(2), lambda y, p: ops.mean(y - p, axis=-1, keepdims=True)
    ).loss_per_label(y_true, np.zeros((2, 2)))
    np.testing.assert_array_equal(present, [[1.0], [0.0]])
    np.testing.assert_array_equal(values, [[1.5], [0.0]])


def test_a_loss_with_several_values_per_label_counts_them_all():
    def one_hot_error(y_true, y_pred):
        return ops.abs(ops.one_hot(ops.cast(y_true, "int32"), 3) - y_pred)

    found = loss_of(one_hot_error, np.array([0.0, NAN, 2.0]), np.zeros((3, 3)))
    assert found == pytest.approx(1 / 3)


def test_time_is_no_channel():
    """A loss over time that leaves channels must have all labels of a series."""
    task = Task("t", layers.Dense(2), lambda y, p: ops.mean(ops.abs(y - p), axis=1))
    y_true = np.ones((4, 5, 2))
    y_true[0, 1, 0] = NAN
    with pytest.raises(DataError, match="must be all present or all missing in an example"):
        task.loss_per_label(y_true, np.zeros((4, 5, 2)))


def test_the_sizes_of_a_traced_step_may_be_unknown():
    task = Task("t", layers.Conv2D(1, 1), "mae")
    guard = functools.partial(tensorflow_step.unless_partly_missing, task=task)
    open_sizes = tf.TensorSpec((None, None, None, 1))
    step = tf.function(
        lambda y, p: task.loss_per_label(y, p, None, guard),
        input_signature=[open_sizes] * 2,
        autograph=False,
    )
    values, _, present = step(with_hole(Y), np.zeros_like(Y))
    assert values.shape == present.shape == (6, 3, 4)
    assert float(ops.sum(present)) == 6 * 11


# Settings outside of `call` -----------------------------------------------------------------------


def compared(loss, y, weight=None, units=3, activation="softmax"):
    """What this library and plain Keras say for one network: their values of the loss."""
    inputs = keras.Input((5,))
    backbone = keras.Model(inputs, layers.Dense(4)(inputs))
    head = layers.Dense(units, activation=activation)
    model = keras_mtl.build(backbone, Task("t", head, loss), "shared", seed=0)
    model.compile(run_eagerly=True)
    plain = keras.Model(inputs, model.network(inputs)["t"])
    plain.compile(loss=loss, run_eagerly=True)
    x = np.random.default_rng(1).normal(size=(len(y), 5)).astype("float32")
    weights = None if weight is None else {"t": weight}
    found = model.evaluate(x, {"t": y}, sample_weight=weights, verbose=0, return_dict=True)
    expected = plain.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    return found["t_loss"], pytest.approx(expected["loss"], rel=1e-5)


CLASSES = np.arange(20) % 3
HALF = np.where(np.arange(20) % 2, CLASSES, -1)
SMALL = np.linspace(0.001, 0.02, 20).astype("float32")
NUMBERS = np.random.default_rng(2).normal(size=(20, 3)).astype("float32")
SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize(
    ("loss", "y", "weight", "activation"),
    [
        (SPARSE(ignore_class=-1), HALF, None, "softmax"),
        (SPARSE(reduction="mean"), CLASSES, SMALL, "softmax"),
        (SPARSE(reduction="mean_with_sample_weight"), CLASSES, SMALL, "softmax"),
        (SPARSE(reduction="mean_with_sample_weight", ignore_class=-1), HALF, None, "softmax"),
        (keras.losses.MeanSquaredError(dtype="float64"), NUMBERS, None, None),
        (keras.losses.Huber(delta=0.1), NUMBERS, SMALL, None),
        (keras.losses.Circle(gamma=2.0), CLASSES, None, None),
        (lambda y, p: tf.reduce_mean(tf.square(y - p), -1), NUMBERS.astype("int32"), None, None),
    ],
    ids=["ignore", "mean", "weighted", "both", "dtype", "huber", "circle", "integers"],
)
def test_settings_of_a_loss_are_those_of_keras(loss, y, weight, activation):
    found, expected = compared(loss, y, weight, activation=activation)
    assert found == expected


@pytest.mark.filterwarnings("ignore:.loss. of task .t. must take logits")
def test_half_of_the_classes_ignored_by_the_loss():
    """The half that is there counts fully: 1.193 where it was 0.596."""
    y_pred = np.full((4, 3), np.exp(-1.193), "float32")
    y_pred[:, 1:] = (1 - y_pred[:, :1]) / 2
    loss = SPARSE(ignore_class=-1)
    labels = np.array([0, -1, 0, -1])
    assert loss_of(loss, labels, y_pred) == pytest.approx(1.193, rel=1e-5)
    assert float(loss(labels, y_pred)) == pytest.approx(1.193, rel=1e-5)


@pytest.mark.filterwarnings("ignore:.loss. of task .t. must take logits")
def test_ignore_of_the_loss_and_of_the_task():
    task = Task("t", layers.Dense(3), SPARSE(ignore_class=0), ignore=255)
    labels, present = task.labels(np.array([0, 1, 255, 2]))
    np.testing.assert_array_equal(present, [0, 1, 0, 1])
    np.testing.assert_array_equal(labels, [0, 1, 0, 2])
    metrics = Task("t", layers.Dense(3), SPARSE(ignore_class=0), ["accuracy"]).new_metrics()
    task.update_metrics(metrics, np.array([0, 1, 255, 2]), np.eye(3)[[2, 1, 2, 1]])
    assert float(metrics[0].result()) == 0.5


def test_mean_over_weights_does_not_depend_on_the_batch_size():
    inputs = keras.Input((1,))
    task = Task("t", layers.Identity(), keras.losses.MeanSquaredError("mean_with_sample_weight"))
    model = keras_mtl.build(keras.Model(inputs, layers.Identity()(inputs)), task, "shared", seed=0)
    model.compile(run_eagerly=True)
    x = np.arange(5.0)[:, None]
    weight = np.array([0.1, 0.5, 0.0, 0.2, 0.1])
    for size in (1, 2, 5):
        logs = model.evaluate(
            x, {"t": 0 * x}, sample_weight={"t": weight}, batch_size=size, verbose=0,
            return_dict=True,
        )  # fmt: skip
        assert logs["t_loss"] == pytest.approx((0.5 + 0.2 * 9 + 0.1 * 16) / 0.9)


def test_a_sum_is_refused():
    with pytest.raises(ValueError) as error:
        Task("t", layers.Dense(1), keras.losses.MeanSquaredError(reduction="sum"))
    assert str(error.value) == (
        "`loss` of task 't' must be a mean over labels. Received: loss 'mean_squared_error' with "
        "reduction='sum'. Leave `reduction` out, and set the task's `weight` instead."
    )


def test_losses_are_computed_in_their_own_type():
    seen = []

    class Look(keras.losses.Loss):
        def call(self, y_true, y_pred):
            seen.append((y_true.dtype.name, y_pred.dtype.name))
            return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    for dtype in ("float16", "float64", None):
        task = Task("t", layers.Dense(1), Look(dtype=dtype))
        values, *_ = task.loss_per_label(np.ones((2, 1), "float32"), np.zeros((2, 1), "float32"))
        assert values.dtype == "float32"
    assert seen == [(name, name) for name in ("float16", "float64", "float32")]


def test_circle_loss_compares_present_examples_only():
    y_pred = keras.ops.convert_to_numpy(ops.normalize(GENERATOR.normal(size=(9, 4)), axis=-1))
    labels = np.array([0.0, NAN, 1, 1, 0, NAN, 1, NAN, 0])
    kept = ~np.isnan(labels)
    task = Task("t", layers.Dense(4), keras.losses.Circle(gamma=2.0))
    values, _, present = task.loss_per_label(labels, y_pred)
    expected = keras.losses.Circle(gamma=2.0)(labels[kept], y_pred[kept])
    assert float(ops.sum(values * present) / ops.sum(present)) == pytest.approx(
        float(expected), rel=1e-4
    )
    assert values.shape == (9,)
    nothing, _, none = task.loss_per_label(labels * NAN, y_pred)
    assert float(ops.sum(nothing)) == float(ops.sum(none)) == 0.0


@pytest.mark.parametrize("strategy", ["shared", "adashare"])
def test_masks_of_the_predictions_are_missing_labels(strategy):
    tokens, labels = np.random.default_rng(0).integers(1, 7, (2, 8, 6))
    tokens[:, 4:] = 0
    labels = labels % 3
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(inputs)
    x = layers.Add()([x, layers.Dense(4, activation="tanh")(x)])
    head = layers.Dense(3, activation="softmax")
    task = Task("t", head, "sparse_categorical_crossentropy", ["accuracy"])
    model = keras_mtl.build(keras.Model(inputs, x), task, strategy, seed=0)
    model.compile(run_eagerly=True)
    found = model.evaluate(tokens, {"t": labels}, verbose=0, return_dict=True)
    y_pred = model(tokens)["t"]
    loss = keras.losses.SparseCategoricalCrossentropy()(labels, y_pred)
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(labels, y_pred)
    assert found["t_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found["t_accuracy"] == pytest.approx(float(accuracy.result()))
    weight = np.linspace(0.5, 2, 8, dtype="float32")
    weighted = model.evaluate(
        tokens, {"t": labels}, sample_weight={"t": weight}, verbose=0, return_dict=True
    )
    values = keras.losses.SparseCategoricalCrossentropy(reduction=None)(labels, y_pred)
    kept = keras.ops.convert_to_numpy(values)[:, :4]
    assert weighted["t_loss"] == pytest.approx((kept * weight[:, None]).mean(), rel=1e-5)
