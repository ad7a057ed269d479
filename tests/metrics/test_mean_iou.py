import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.metrics import MeanIoU

# Confusion matrix of one 2 x 4 image, rows true and columns predicted:
# [[2, 1, 0], [0, 2, 1], [0, 0, 2]], intersections 2 2 2, unions 3 4 3.
LABELS = np.array([[[0, 0, 0, 1], [1, 1, 2, 2]]])
SCORES = np.eye(3, dtype="float32")[[[[0, 0, 1, 1], [1, 2, 2, 2]]]]
EXPECTED = (2 / 3 + 2 / 4 + 2 / 3) / 3


def evaluate(metric, *args):
    metric.reset_state()
    metric.update_state(*args)
    return float(metric.result())


def test_hand_computed():
    metric = MeanIoU(3)
    assert evaluate(metric, LABELS, SCORES) == pytest.approx(EXPECTED)
    np.testing.assert_array_equal(metric.confusion_matrix, [[2, 1, 0], [0, 2, 1], [0, 0, 2]])
    for labels in (LABELS[..., None], LABELS.astype("uint8"), LABELS.astype("float32")):
        assert evaluate(metric, labels, SCORES) == pytest.approx(EXPECTED)


def test_class_that_does_not_occur_is_left_out():
    scores = np.pad(SCORES, [(0, 0), (0, 0), (0, 0), (0, 2)])
    assert evaluate(MeanIoU(5), LABELS, scores) == pytest.approx(EXPECTED)


@pytest.mark.parametrize("missing", [255, -1, 3, 7])
def test_missing_labels_do_not_count(missing):
    labels = LABELS.copy()
    labels[0, 0, 2] = missing
    # The confused pixel of class 0 is gone: unions 2 3 3.
    expected = (1 + 2 / 3 + 2 / 3) / 3
    assert evaluate(MeanIoU(3, ignore=missing), labels, SCORES) == pytest.approx(expected)
    assert evaluate(MeanIoU(3), labels, SCORES) == pytest.approx(expected)


def test_nan_labels_do_not_count():
    labels = LABELS.astype("float32")
    labels[0, 0, 2] = np.nan
    assert evaluate(MeanIoU(3), labels, SCORES) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_ignored_class_is_no_class():
    # Without the true 0: [[0, 0, 0], [0, 2, 1], [0, 0, 2]].
    assert evaluate(MeanIoU(3, ignore=0), LABELS, SCORES) == pytest.approx(2 / 3)
    scores = SCORES.copy()
    scores[0, 0, 3] = [1, 0, 0]  # a true 1 predicted as the ignored class is still a miss
    expected = (1 / 3 + 2 / 3) / 2
    assert evaluate(MeanIoU(3, ignore=0), LABELS, scores) == pytest.approx(expected)


def test_sample_weight():
    mask = np.array([[[1, 1, 0, 1], [1, 0, 1, 1]]])
    for weights in (mask, mask[..., None], mask.astype(bool), mask * 0.25):
        assert evaluate(MeanIoU(3), LABELS, SCORES, weights) == 1
    labels = np.concatenate([LABELS, 2 - LABELS])
    scores = np.concatenate([SCORES, SCORES])
    for weights in ([1, 0], [[1], [0]], np.reshape([1, 0], (2, 1, 1))):
        result = evaluate(MeanIoU(3), labels, scores, np.array(weights))
        assert result == pytest.approx(EXPECTED)


def test_fractional_weights():
    # A true 0 predicted as 1 with weight 0.5, a true 1 predicted as 1 with weight 2.
    weights = np.array([[[0, 0, 0.5, 2], [0, 0, 0, 0]]])
    assert evaluate(MeanIoU(3), LABELS, SCORES, weights) == pytest.approx((0 + 2 / 2.5) / 2)


def test_updates_accumulate_and_reset():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (6, 5, 5))
    scores = rng.normal(size=(6, 5, 5, 4))
    weights = rng.uniform(size=(6, 5, 5))
    metric = MeanIoU(4, ignore=3)
    whole = evaluate(metric, labels, scores, weights)
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        metric.update_state(labels[part], scores[part], weights[part])
    assert float(metric.result()) == pytest.approx(whole)


def test_counts_beyond_float32():
    metric = MeanIoU(2)
    metric.confusion_matrix.assign([[2.0**24, 0], [0, 1]])
    metric.update_state(np.zeros((1, 1, 3)), np.eye(2)[np.zeros((1, 1, 3), int)])
    assert float(metric.confusion_matrix[0, 0]) == 2**24 + 3


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph_with_half_precision_scores(jit_compile):
    metric = MeanIoU(3)
    signature = [tf.TensorSpec((None, 2, None), "int64"), tf.TensorSpec((None, 2, None, 3), "half")]
    if jit_compile:
        signature = None
    update = tf.function(metric.update_state, jit_compile=jit_compile, input_signature=signature)
    update(tf.constant(LABELS), tf.cast(SCORES, "float16"))
    assert float(metric.result()) == pytest.approx(EXPECTED)
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


def test_serialises():
    metric = MeanIoU(3, ignore=2, name="iou", dtype="float16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is MeanIoU
    assert copy.get_config() == metric.get_config()
    expected = {"num_classes": 3, "ignore": 2, "name": "iou", "dtype": "float16"}
    assert metric.get_config() == expected
    assert MeanIoU(3).name == "mean_iou"
    assert not MeanIoU.lower_is_better


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"num_classes": 2.0},
            TypeError,
            "`num_classes` must be an integer. Received: num_classes=2.0.",
        ),
        (
            {"num_classes": True},
            TypeError,
            "`num_classes` must be an integer. Received: num_classes=True.",
        ),
        (
            {"num_classes": 1},
            ValueError,
            "`num_classes` must be at least 2. Received: num_classes=1.",
        ),
        (
            {"num_classes": 2, "ignore": "void"},
            TypeError,
            "`ignore` must be an integer or None. Received: ignore='void'.",
        ),
    ],
)
def test_constructor_errors(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        MeanIoU(**arguments)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [(2, 4, 4), (2, 4, 4, 5)],
            "`y_pred` must hold 3 scores for each label. Received: y_pred.shape=(2, 4, 4, 5).",
        ),
        (
            [(2, 4, 5), (2, 4, 4, 3)],
            "`y_true` must hold one class id for each row of scores in `y_pred`. "
            "Received: y_true.shape=(2, 4, 5), y_pred.shape=(2, 4, 4, 3).",
        ),
        (
            [(2, 4, 4, 3), (2, 4, 4, 3)],
            "`y_true` must hold one class id for each row of scores in `y_pred`. "
            "Received: y_true.shape=(2, 4, 4, 3), y_pred.shape=(2, 4, 4, 3).",
        ),
        (
            [(2, 4, 4), (2, 4, 4, 3), (2, 3)],
            "`sample_weight` must broadcast to the labels' shape (2, 4, 4). "
            "Received: sample_weight.shape=(2, 3).",
        ),
    ],
)
def test_shape_errors(shapes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MeanIoU(3).update_state(*[np.zeros(shape) for shape in shapes])
