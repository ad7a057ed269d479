"""The three depth metrics; they differ only in the number that they compute per label."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.metrics import DepthAbsoluteError, DepthRelativeError, DepthThresholdAccuracy

LABELS = np.array([[[1.0, 2.0], [4.0, 8.0]]])
DEPTHS = np.array([[[1.2, 3.0], [4.0, 4.0]]])  # factors 1.2, 1.5, 1, 2
CASES = [
    (DepthAbsoluteError, {}, "absolute_error", (0.2 + 1 + 0 + 4) / 4),
    (DepthRelativeError, {}, "relative_error", (0.2 + 0.5 + 0 + 0.5) / 4),
    (DepthThresholdAccuracy, {}, "delta_1", 2 / 4),
    (DepthThresholdAccuracy, {"power": 2}, "delta_2", 3 / 4),
    (DepthThresholdAccuracy, {"power": 3}, "delta_3", 3 / 4),
    (DepthThresholdAccuracy, {"power": 4}, "delta_4", 4 / 4),
]
each_case = pytest.mark.parametrize(("metric_class", "arguments", "name", "expected"), CASES)


def evaluate(metric, *args):
    metric.reset_state()
    metric.update_state(*args)
    return float(metric.result())


@each_case
def test_hand_computed(metric_class, arguments, name, expected):
    metric = metric_class(**arguments)
    assert metric.name == name
    for labels in (LABELS, LABELS[..., None]):
        for depths in (DEPTHS, DEPTHS[..., None]):
            assert evaluate(metric, labels, depths) == pytest.approx(expected)


@each_case
@pytest.mark.parametrize("missing", [np.nan, 0.0, -1.0, np.inf])
def test_missing_labels_do_not_count(metric_class, arguments, name, expected, missing):
    labels = np.append(LABELS, missing)[None]
    for prediction in (2.0, np.nan, np.inf):
        depths = np.append(DEPTHS, prediction)[None]
        assert evaluate(metric_class(**arguments), labels, depths) == pytest.approx(expected)


@each_case
def test_nothing_seen_is_nan(metric_class, arguments, name, expected):
    metric = metric_class(**arguments)
    assert np.isnan(float(metric.result()))
    assert np.isnan(evaluate(metric, np.zeros((1, 2, 2)), DEPTHS))


def test_sample_weight():
    weights = np.array([[[0, 1], [0, 3]]])
    for shape in ((1, 2, 2), (1, 2, 2, 1)):
        value = evaluate(DepthAbsoluteError(), LABELS, DEPTHS, np.reshape(weights, shape))
        assert value == pytest.approx((1 + 3 * 4) / 4)
    assert evaluate(DepthThresholdAccuracy(2), LABELS, DEPTHS, weights) == 0.25
    # One weight for each row of the image.
    value = evaluate(DepthRelativeError(), LABELS, DEPTHS, np.array([[[1], [0]]]))
    assert value == pytest.approx(0.35)
    depths = np.where(weights > 0, DEPTHS, np.nan)
    assert evaluate(DepthAbsoluteError(), LABELS, depths, weights) == pytest.approx(13 / 4)


def test_prediction_that_is_not_positive_is_a_miss():
    metric = DepthThresholdAccuracy(3)
    for prediction in (-1.0, 0.0, np.nan, np.inf):
        assert evaluate(metric, np.ones((1, 2)), np.array([[prediction, 1.0]])) == 0.5


def test_nan_prediction_is_not_hidden():
    assert np.isnan(evaluate(DepthAbsoluteError(), LABELS, DEPTHS * np.nan))


@each_case
def test_updates_accumulate_and_reset(metric_class, arguments, name, expected):
    rng = np.random.default_rng(0)
    labels = rng.uniform(-0.5, 3, (6, 5, 5))
    depths = rng.uniform(0.5, 3, (6, 5, 5))
    weights = rng.uniform(size=(6, 5, 5))
    metric = metric_class(**arguments)
    whole = evaluate(metric, labels, depths, weights)
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        metric.update_state(labels[part], depths[part], weights[part])
    assert float(metric.result()) == pytest.approx(whole)


def test_sum_beyond_float32():
    metric = DepthAbsoluteError()
    metric.total.assign(2.0**24)
    metric.count.assign(2.0**24)
    metric.update_state(np.ones((1, 1, 1)), np.full((1, 1, 1), 2.0))
    assert float(metric.count) == float(metric.total) == 2**24 + 1


@pytest.mark.parametrize(("metric_class", "arguments", "name", "expected"), CASES[:3])
def test_in_a_graph_with_half_precision(metric_class, arguments, name, expected):
    metric = metric_class(**arguments)
    tf.function(metric.update_state, jit_compile=True)(
        tf.constant(LABELS), tf.cast(DEPTHS, "float16")
    )
    assert float(metric.result()) == pytest.approx(expected, abs=1e-3)


@each_case
def test_serialises(metric_class, arguments, name, expected):
    metric = metric_class(**arguments, name="other", dtype="float16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is metric_class
    assert copy.get_config() == metric.get_config()
    if metric_class is DepthThresholdAccuracy:
        arguments = {"power": 1, **arguments}
    assert metric.get_config() == {**arguments, "name": "other", "dtype": "float16"}


def test_direction():
    assert DepthAbsoluteError.lower_is_better
    assert DepthRelativeError.lower_is_better
    assert not DepthThresholdAccuracy.lower_is_better


@pytest.mark.parametrize(
    ("power", "error", "message"),
    [
        (1.5, TypeError, "`power` must be an integer. Received: power=1.5."),
        (True, TypeError, "`power` must be an integer. Received: power=True."),
        (0, ValueError, "`power` must be at least 1. Received: power=0."),
    ],
)
def test_constructor_errors(power, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        DepthThresholdAccuracy(power)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(2, 4, 4), (2, 1, 4)],
            "`y_pred` must have the shape of `y_true`. "
            "Received: y_true.shape=(2, 4, 4), y_pred.shape=(2, 1, 4).",
        ),
        (
            [(2, 4, 4), (2, 4, 4, 3)],
            "`y_pred` must have the shape of `y_true`. "
            "Received: y_true.shape=(2, 4, 4), y_pred.shape=(2, 4, 4, 3).",
        ),
        (
            [(2, 4, 4), (2, 4, 4), (4, 4)],
            "`sample_weight` must broadcast to the labels' shape (2, 4, 4). "
            "Received: sample_weight.shape=(4, 4).",
        ),
    ],
)
def test_shape_errors(shapes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        DepthAbsoluteError().update_state(*[np.ones(shape) for shape in shapes])
