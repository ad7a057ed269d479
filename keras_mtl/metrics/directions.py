"""Which metrics are better when they are smaller."""

import re
from collections.abc import Collection

import keras

# Of `keras.metrics`; all others there are errors. `Sum` and `Mean` may be of anything.
_HIGHER = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "SparseCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "AUC",
    "Precision",
    "PrecisionAtRecall",
    "Recall",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
    "TrueNegatives",
    "TruePositives",
    "F1Score",
    "FBetaScore",
    "BinaryIoU",
    "IoU",
    "MeanIoU",
    "OneHotIoU",
    "OneHotMeanIoU",
    "CosineSimilarity",
    "R2Score",
    "ConcordanceCorrelation",
    "PearsonCorrelation",
]
# Dice and Tversky are losses in Keras and scores in papers, under the same names.
_EITHER = ("Metric", "Mean", "MeanMetricWrapper", "Sum", "Loss", "Dice", "Tversky")
_OWN_HIGHER = ("mean_iou", "pixel_accuracy", "delta", "within", "acc", "f1", "r2")
_OWN_LOWER = [
    "loss",
    "absolute_error",
    "relative_error",
    "angle_mean",
    "angle_median",
    "perplexity",
    "logcosh",
    "mae",
    "mse",
    "mape",
    "msle",
    "rmse",
    "bce",
    "kld",
]


def _squashed(name):
    """`"f1_score_1"` and `"F1Score"` as one word."""
    return re.sub(r"_[\d.]+$", "", name).replace("_", "").lower()


def _known():
    """Squashed name of a metric -> whether it is better when smaller."""
    classes = [
        (name, kind)
        for module, kind in (
            (keras.losses, keras.losses.Loss),
            (keras.metrics, keras.metrics.Metric),
        )
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, kind) and name not in _EITHER
    ]
    known = {_squashed(name): name not in _HIGHER for name, _ in classes}
    known |= {_squashed(name): False for name in _OWN_HIGHER}
    return known | {_squashed(name): True for name in _OWN_LOWER}


_KNOWN = _known()


def known_direction(name, tasks=()):
    """Like `lower_is_better`, but `None` for a metric that it does not know."""
    name = name.removeprefix("val_")
    if name == "loss" or name.endswith("_loss"):
        return True
    for rest in (name, *(name.removeprefix(f"{task}_") for task in tasks)):
        if _squashed(rest) in _KNOWN:
            return _KNOWN[_squashed(rest)]
    return None


def lower_is_better(name: str, *, tasks: Collection[str] = ()) -> bool:
    """Return whether a metric of this name is better when it is smaller.

    Known are the names and class names of all metrics and losses of Keras (but for dice and
    tversky, which are scores or losses), also with the number that Keras adds (`"auc_1"`), those of
    `keras_mtl.metrics`, their usual abbreviations (`"mae"`), and every name that ends in `"loss"`.

    Args:
        name: String. The name of a metric, also as in `history`: after `"val_"` and the name of
            its task.
        tasks: Collection of strings. Names of the tasks that may stand before the metric's.

    Returns:
        Boolean.

    Raises:
        ValueError: When the metric is not known.

    Example:

    >>> from keras_mtl.metrics import lower_is_better
    >>> lower_is_better("relative_error"), lower_is_better("mean_iou")
    (True, False)
    >>> lower_is_better("val_depth_huber", tasks=["depth"])
    True
    """
    known = known_direction(name, tasks)
    if known is None:
        raise ValueError(
            "`lower_is_better` must say whether a metric that is not one of Keras' or of this "
            f"library's is better when smaller. Received: the metric {name!r}. Pass "
            f"`lower_is_better={{{name!r}: True}}`, or False."
        )
    return known
