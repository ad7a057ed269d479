from typing import Any

import keras
from keras import ops

from keras_mtl.metrics._labels import class_labels, validate_ignore
from keras_mtl.metrics._weighted_mean import WeightedMean


@keras.saving.register_keras_serializable(package="keras_mtl")
class PixelAccuracy(WeightedMean):
    """Share of the labels whose class has the highest score.

    The result is NaN as long as no label has been seen.

    Args:
        ignore: Integer or `None`. The class id of labels that do not count. Ids below 0 or
            beyond the number of scores, and NaN, never count.
        name: String. The metric's name.
        dtype: The dtype of the result.

    Call arguments:
        y_true: Class ids of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        y_pred: Scores of shape `(batch, height, width, num_classes)`.
        sample_weight: Mask or weights that broadcast to `(batch, height, width)`.

    Raises:
        TypeError: When `ignore` is not an integer.
        ValueError: When shapes do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.metrics import PixelAccuracy
    >>> metric = PixelAccuracy(ignore=255)
    >>> labels = np.array([[[0, 1, 1, 1, 255]]])
    >>> scores = np.eye(2)[[[[0, 1, 1, 0, 0]]]]
    >>> metric.update_state(labels, scores)
    >>> float(metric.result())
    0.75
    """

    lower_is_better = False

    def __init__(
        self, *, ignore: int | None = None, name: str = "pixel_accuracy", dtype: Any = None
    ) -> None:
        ignore = validate_ignore(ignore)
        super().__init__(name=name, dtype=dtype)
        self.ignore = ignore

    def measure(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        labels, predictions, present = class_labels(y_true, y_pred, self.ignore)
        return ops.cast(labels == predictions, "float32"), present

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"ignore": self.ignore})
        return config
