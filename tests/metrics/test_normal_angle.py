import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.metrics import NormalAngle


def normals(*degrees, length=1.0):
    """Vectors at these angles from the z axis, of shape (1, 1, number, 3)."""
    angles = np.radians(degrees)
    vectors = np.stack([np.sin(angles), 0 * angles, np.cos(angles)], axis=-1)
    return (length * vectors)[None, None]


TRUE = normals(0, 0, 0, 0, 0, length=3.0)
PREDICTED = normals(5, 10, 20, 60, 180, length=0.5)
CASES = [
    ({}, "angle_mean", 55.0),
    ({"statistic": "mean"}, "angle_mean", 55.0),
    ({"statistic": "median"}, "angle_median", 20.0),
    ({"statistic": "within", "degrees": 11.25}, "within_11.25", 0.4),
    ({"statistic": "within", "degrees": 30}, "within_30", 0.6),
]
each_case = pytest.mark.parametrize(("arguments", "name", "expected"), CASES)


def evaluate(metric, *args):
    metric.reset_state()
    metric.update_state(*args)
    return float(metric.result())


@each_case
def test_hand_computed(arguments, name, expected):
    metric = NormalAngle(**arguments)
    assert metric.name == name
    assert evaluate(metric, TRUE, PREDICTED) == pytest.approx(expected, abs=0.06)


@each_case
@pytest.mark.parametrize("missing", [[0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 1]])
def test_missing_labels_do_not_count(arguments, name, expected, missing):
    labels = np.concatenate([TRUE, np.reshape(missing, (1, 1, 1, 3))], axis=2)
    for prediction in ([1, 0, 0], [np.nan, 0, 0], [0, 0, 0]):
        vectors = np.concatenate([PREDICTED, np.reshape(prediction, (1, 1, 1, 3))], axis=2)
        value = evaluate(NormalAngle(**arguments), labels, vectors)
        assert value == pytest.approx(expected, abs=0.06)


@each_case
def test_nothing_seen_is_nan(arguments, name, expected):
    metric = NormalAngle(**arguments)
    assert np.isnan(float(metric.result()))
    assert np.isnan(evaluate(metric, 0 * TRUE, PREDICTED))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (10 + 3 * 60) / 4),
        ({"statistic": "median"}, 60),
        ({"statistic": "within", "degrees": 11.25}, 0.25),
    ],
)
def test_sample_weight(arguments, expected):
    weights = np.array([[[0, 1, 0, 3, 0]]])
    for shape in ((1, 1, 5), (1, 1, 5, 1)):
        value = evaluate(NormalAngle(**arguments), TRUE, PREDICTED, np.reshape(weights, shape))
        assert value == pytest.approx(expected, abs=0.06)


def test_small_angles_are_exact():
    value = evaluate(NormalAngle(), normals(0), normals(0.001))
    assert value == pytest.approx(0.001, rel=1e-3)  # the arc cosine gives 0 here
    assert evaluate(NormalAngle(), normals(33), normals(33, length=1e-30)) < 1e-4


def test_useless_predictions():
    zero, nan = np.zeros((1, 1, 1, 3)), np.full((1, 1, 1, 3), np.nan)
    assert evaluate(NormalAngle(), normals(7), zero) == pytest.approx(90)
    assert np.isnan(evaluate(NormalAngle(), normals(7), nan))
    assert evaluate(NormalAngle("within", degrees=180), normals(7), nan) == 0
    assert evaluate(NormalAngle("median"), normals(7), nan) == pytest.approx(179.95)


def test_median_resolution():
    rng = np.random.default_rng(0)
    angles = rng.gamma(2.0, 10.0, 2001)
    value = evaluate(NormalAngle("median"), normals(*(0 * angles)), normals(*angles))
    assert value == pytest.approx(np.median(angles), abs=0.051)


@each_case
def test_updates_accumulate_and_reset(arguments, name, expected):
    rng = np.random.default_rng(0)
    labels, vectors = rng.normal(size=(2, 6, 5, 5, 3))
    weights = rng.uniform(size=(6, 5, 5))
    metric = NormalAngle(**arguments)
    whole = evaluate(metric, labels, vectors, weights)
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        metric.update_state(labels[part], vectors[part], weights[part])
    assert float(metric.result()) == pytest.approx(whole)


@pytest.mark.parametrize(("arguments", "name", "expected"), CASES[2:4])
def test_in_a_graph_with_half_precision(arguments, name, expected):
    metric = NormalAngle(**arguments)
    tf.function(metric.update_state, jit_compile=True)(
        tf.constant(TRUE), tf.cast(PREDICTED, "float16")
    )
    assert float(metric.result()) == pytest.approx(expected, abs=0.11)
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


@each_case
def test_serialises(arguments, name, expected):
    metric = NormalAngle(**arguments, name="other", dtype="float16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is NormalAngle
    assert copy.get_config() == metric.get_config()
    given = {"statistic": "mean", "degrees": None, **arguments, "name": "other"}
    assert metric.get_config() == {**given, "dtype": "float16"}


def test_direction():
    assert NormalAngle().lower_is_better
    assert NormalAngle("median").lower_is_better
    assert not NormalAngle("within", degrees=30).lower_is_better


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"statistic": "mode"},
            ValueError,
            "`statistic` must be one of ('mean', 'median', 'within'). Received: statistic='mode'.",
        ),
        (
            {"statistic": "median", "degrees": 30},
            ValueError,
            '`degrees` must be None when statistic="median". Received: degrees=30. '
            'Use statistic="within".',
        ),
        (
            {"statistic": "within"},
            TypeError,
            '`degrees` must be a number when statistic="within". Received: degrees=None.',
        ),
        (
            {"statistic": "within", "degrees": 0},
            ValueError,
            "`degrees` must be above 0 and at most 180. Received: degrees=0.",
        ),
    ],
)
def test_constructor_errors(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        NormalAngle(**arguments)


@pytest.mark.parametrize("shapes", [((2, 4, 3), (2, 1, 3)), ((2, 4, 2), (2, 4, 2)), ((3,), (1, 3))])
def test_shape_errors(shapes):
    message = (
        "`y_true` and `y_pred` must have the same shape with 3 components on the last axis. "
        f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        NormalAngle().update_state(*[np.ones(shape) for shape in shapes])
