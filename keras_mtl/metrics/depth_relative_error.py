from typing import Any

import keras
from keras import ops

from keras_mtl.metrics._labels import depth_labels
from keras_mtl.metrics._weighted_mean import WeightedMean


@keras.saving.register_keras_serializable(package="keras_mtl")
class DepthRelativeError(WeightedMean):
    """Mean relative error of a depth map, `|d - d*| / d*`.

    `d` is the prediction and `d*` the label. Labels that are not finite or not positive are
    missing and do not count. The result is NaN as long as no label has been seen.

    Args:
        name: String. The metric's name.
        dtype: The dtype of the result.

    Call arguments:
        y_true: Depths of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        y_pred: Depths of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        sample_weight: Mask or weights that broadcast to `(batch, height, width)`.

    Raises:
        ValueError: When shapes do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.metrics import DepthRelativeError
    >>> metric = DepthRelativeError()
    >>> metric.update_state(np.array([[[2.0, 4.0, 0.0]]]), np.array([[[3.0, 4.0, 9.0]]]))
    >>> float(metric.result())
    0.25
    """

    lower_is_better = True

    def __init__(self, *, name: str = "relative_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def measure(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        labels, predictions, present = depth_labels(y_true, y_pred)
        return ops.abs(predictions - labels) / labels, present
