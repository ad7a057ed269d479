import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.metrics import PixelAccuracy

LABELS = np.array([[[0, 0, 0, 1], [1, 1, 2, 2]]])
SCORES = np.eye(3, dtype="float32")[[[[0, 0, 1, 1], [1, 2, 2, 2]]]]  # 6 of 8 are right


def evaluate(metric, *args):
    metric.reset_state()
    metric.update_state(*args)
    return float(metric.result())


def test_hand_computed():
    assert evaluate(PixelAccuracy(), LABELS, SCORES) == 0.75
    assert evaluate(PixelAccuracy(), LABELS[..., None], SCORES) == 0.75
    assert evaluate(PixelAccuracy(), LABELS[0, 0], SCORES[0, 0]) == 0.75


def test_missing_labels_do_not_count():
    assert evaluate(PixelAccuracy(ignore=0), LABELS, SCORES) == pytest.approx(4 / 5)
    for missing in (255, -1, 3):
        labels = np.where(LABELS == 0, missing, LABELS)
        assert evaluate(PixelAccuracy(), labels, SCORES) == pytest.approx(4 / 5)
    labels = np.where(LABELS == 0, np.nan, LABELS)
    assert evaluate(PixelAccuracy(), labels, SCORES) == pytest.approx(4 / 5)


def test_sample_weight():
    weights = np.array([[[1, 0, 2, 0], [0, 1, 0, 0]]])
    assert evaluate(PixelAccuracy(), LABELS, SCORES, weights) == 0.25
    assert evaluate(PixelAccuracy(), LABELS, SCORES, weights[..., None] * 0.5) == 0.25
    assert evaluate(PixelAccuracy(), LABELS, SCORES, np.array([3.0])) == 0.75
    assert evaluate(PixelAccuracy(), LABELS, SCORES, 3.0) == 0.75


def test_updates_accumulate_and_reset():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (6, 5, 5))
    scores = rng.normal(size=(6, 5, 5, 4))
    metric = PixelAccuracy(ignore=3)
    whole = evaluate(metric, labels, scores)
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        metric.update_state(labels[part], scores[part])
    assert float(metric.result()) == pytest.approx(whole)


def test_in_a_graph_with_half_precision_scores():
    metric = PixelAccuracy()
    tf.function(metric.update_state, jit_compile=True)(
        tf.constant(LABELS), tf.cast(SCORES, "float16")
    )
    assert float(metric.result()) == 0.75


def test_in_a_model_with_mixed_precision():
    inputs = keras.Input((2, 4, 3))
    outputs = keras.layers.Activation("linear", dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(loss="sparse_categorical_crossentropy", weighted_metrics=[PixelAccuracy()])
    weights = np.array([[[1, 0, 2, 0], [0, 1, 0, 0]]], "float32")
    results = model.evaluate(SCORES, LABELS, sample_weight=weights, verbose=0, return_dict=True)
    assert results["pixel_accuracy"] == 0.25


def test_serialises():
    metric = PixelAccuracy(ignore=2, name="accuracy", dtype="float16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is PixelAccuracy
    assert copy.get_config() == metric.get_config()
    assert metric.get_config() == {"ignore": 2, "name": "accuracy", "dtype": "float16"}
    assert PixelAccuracy().name == "pixel_accuracy"
    assert not PixelAccuracy.lower_is_better


def test_errors():
    message = "`ignore` must be an integer or None. Received: ignore=0.5."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        PixelAccuracy(ignore=0.5)
    message = (
        "`y_true` must hold one class id for each row of scores in `y_pred`. "
        "Received: y_true.shape=(1, 2), y_pred.shape=(1, 2, 4, 3)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PixelAccuracy().update_state(LABELS[:, :, 0], SCORES)
