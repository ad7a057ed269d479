import dataclasses
import re

import keras
import numpy as np
import pytest

from keras_mtl.metrics import (
    DepthAbsoluteError,
    DepthRelativeError,
    DepthThresholdAccuracy,
    MeanIoU,
    NormalAngle,
    PixelAccuracy,
    RelativePerformance,
    lower_is_better,
    relative_performance,
)


def test_adashare_table_1():
    single = {
        "segmentation": {"mean_iou": 27.8, "pixel_accuracy": 58.5},
        "normals": {
            "angle_mean": 17.3,
            "angle_median": 14.4,
            "within_11.25": 37.2,
            "within_22.5": 73.7,
            "within_30": 85.1,
        },
    }
    multi = {
        "normals": {
            "angle_mean": 16.9,
            "angle_median": 13.7,
            "within_11.25": 41.0,
            "within_22.5": 73.1,
            "within_30": 84.3,
        },
        "segmentation": {"mean_iou": 22.6, "pixel_accuracy": 55.0},
    }
    outcome = relative_performance(multi, single)
    assert round(outcome.per_task["segmentation"], 1) == -12.3
    assert round(outcome.per_task["normals"], 1) == 3.1
    assert round(outcome.total, 1) == -4.6


def test_hand_computed():
    single = {"a": {"loss": 2.0, "accuracy": 0.5}, "b": {"recall": np.float32(4)}}
    multi = {"a": {"accuracy": 0.75, "loss": 3.0}, "b": {"recall": np.float32(5)}}
    assert relative_performance(multi, single) == RelativePerformance({"a": 0.0, "b": 25.0}, 12.5)
    assert relative_performance(single, single) == RelativePerformance({"a": 0.0, "b": 0.0}, 0.0)


def test_negative_baseline_keeps_the_direction():
    outcome = relative_performance({"a": {"r2_score": 1.0}}, {"a": {"r2_score": -2.0}})
    assert outcome.per_task == {"a": 150.0}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, -50.0),
        ({}, -50.0),
        ({"time": False}, -50.0),
        ({"absolute_error": False}, 50.0),
        ({"absolute_error": True}, -50.0),
    ],
)
def test_direction_rules(rule, expected):
    outcome = relative_performance(
        {"depth": {"absolute_error": 1.5}},
        {"depth": {"absolute_error": 1.0}},
        lower_is_better=rule,
    )
    assert outcome.total == expected


@pytest.mark.parametrize("name", ["wer", "brier", "score", "error", "negative_mse", "time", "dice"])
def test_unknown_metrics_need_a_direction(name):
    single, multi = {"a": {name: 0.2, "auc": 0.5}}, {"a": {name: 0.15, "auc": 0.5}}
    message = (
        "`lower_is_better` must say whether a metric that is not one of Keras' or of this "
        f"library's is better when smaller. Received: the metric {name!r}. Pass "
        f"`lower_is_better={{{name!r}: True}}`, or False."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        relative_performance(multi, single)
    for rule, expected in ((True, 12.5), (False, -12.5)):
        outcome = relative_performance(multi, single, lower_is_better={name: rule})
        assert outcome.total == pytest.approx(expected)


def test_outcome_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RelativePerformance({"a": 1.0}, 1.0).total = 2.0


@pytest.mark.parametrize(
    "name",
    [
        "loss",
        "val_loss",
        "depth_loss",
        "dice_loss",
        "relative_error",
        "mae",
        "MAE",
        "MSE",
        "rmse",
        "angle_mean",
        "angle_median",
        "perplexity",
        "binary_crossentropy",
        "kl_divergence",
        "squared_hinge",
        "logcosh",
        "log_cosh",
        "poisson",
        "huber",
        "Huber",
        "false_positives",
        "false_negatives_2",
        "root_mean_squared_error",
        "RootMeanSquaredError",
        "sparse_categorical_crossentropy_1",
        "mean_absolute_percentage_error",
        "ctc",
        "circle",
    ],
)
def test_lower_is_better(name):
    assert lower_is_better(name)


@pytest.mark.parametrize(
    "name",
    [
        "accuracy",
        "acc",
        "mean_iou",
        "pixel_accuracy",
        "delta_1",
        "within_11.25",
        "auc",
        "auc_1",
        "AUC",
        "cosine_similarity",
        "r2_score",
        "R2Score",
        "precision_3",
        "f1_score",
        "F1Score",
        "fbeta_score",
        "mean_io_u",
        "binary_io_u",
        "OneHotMeanIoU",
        "true_negatives",
        "top_k_categorical_accuracy",
        "recall_at_precision",
        "pearson_correlation",
        "val_delta",
    ],
)
def test_higher_is_better(name):
    assert not lower_is_better(name)


@pytest.mark.parametrize("module", [keras.losses, keras.metrics])
def test_all_names_of_keras_are_known(module):
    """Of classes and functions, but for means, sums and the two that are losses or scores."""
    either = {"Metric", "Mean", "MeanMetricWrapper", "Sum", "Loss", "Dice", "Tversky"}
    either |= {"deserialize", "get", "serialize", "dice", "tversky"}
    names = [n for n, found in vars(module).items() if callable(found) and n not in either]
    assert len(names) > 30
    for name in names:
        lower_is_better(name)


def test_names_of_rows():
    assert lower_is_better("val_speech_huber", tasks=["speech"])
    assert not lower_is_better("speech_accuracy", tasks=["a", "speech"])
    # What stands before a metric may turn it round.
    with pytest.raises(ValueError, match="Received: the metric 'negative_mse'"):
        lower_is_better("negative_mse", tasks=["a"])


@pytest.mark.parametrize(
    "metric",
    [
        MeanIoU(2),
        PixelAccuracy(),
        DepthAbsoluteError(),
        DepthRelativeError(),
        DepthThresholdAccuracy(),
        NormalAngle(),
        NormalAngle("median"),
        NormalAngle("within", degrees=30),
    ],
    ids=lambda metric: metric.name,
)
def test_names_agree_with_the_metrics(metric):
    assert lower_is_better(metric.name) == metric.lower_is_better


GOOD = {"a": {"accuracy": 0.5}}


@pytest.mark.parametrize(
    ("result", "baseline", "rule", "error", "message"),
    [
        (
            0.5,
            GOOD,
            None,
            TypeError,
            "`result` must be a dictionary {task: {metric: value}}. Received: result=0.5.",
        ),
        (
            GOOD,
            {},
            None,
            ValueError,
            "`baseline` must hold at least one task. Received: baseline={}.",
        ),
        (
            {"a_accuracy": 0.5},
            GOOD,
            None,
            TypeError,
            "`result` must map each task to a dictionary of its metrics. "
            "Received: result['a_accuracy']=0.5.",
        ),
        (
            {"a": {}},
            GOOD,
            None,
            ValueError,
            "`result` must hold at least one metric of each task. Received: result['a']={}.",
        ),
        (
            {"a": {"accuracy": "high"}},
            GOOD,
            None,
            TypeError,
            "`result` must hold numbers. Received: result['a']['accuracy']='high'.",
        ),
        (
            {"a": {"accuracy": float("nan")}},
            GOOD,
            None,
            ValueError,
            "`result` must hold finite numbers. Received: result['a']['accuracy']=nan.",
        ),
        (
            GOOD,
            {"a": {"accuracy": float("inf")}},
            None,
            ValueError,
            "`baseline` must hold finite numbers. Received: baseline['a']['accuracy']=inf.",
        ),
        (
            GOOD,
            {"a": {"accuracy": 0.0}},
            None,
            ValueError,
            "`baseline` must not be 0, a relative change would be infinite. "
            "Received: baseline['a']['accuracy']=0.0.",
        ),
        (
            {"a": {"accuracy": 0.5}, "c": {"accuracy": 0.5}},
            {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.5}},
            None,
            ValueError,
            "`result` must have the tasks of `baseline`. "
            "Received: result with ['a', 'c'], baseline with ['a', 'b'].",
        ),
        (
            {"a": {"accuracy": 0.5}},
            {"a": {"accuracy": 0.5, "loss": 1.0}},
            None,
            ValueError,
            "`result` must have the metrics of `baseline`. "
            "Received: result['a'] with ['accuracy'], baseline['a'] with ['accuracy', 'loss'].",
        ),
        (
            GOOD,
            GOOD,
            "loss",
            TypeError,
            "`lower_is_better` must be a dictionary from the name of a metric to True or False. "
            "Received: lower_is_better='loss'.",
        ),
        (
            GOOD,
            GOOD,
            {"accuracy": "max"},
            TypeError,
            "`lower_is_better` must be a dictionary from the name of a metric to True or False. "
            "Received: lower_is_better={'accuracy': 'max'}.",
        ),
    ],
)
def test_errors(result, baseline, rule, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        relative_performance(result, baseline, lower_is_better=rule)
