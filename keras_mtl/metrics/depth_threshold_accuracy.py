import numbers
from typing import Any

import keras
from keras import ops

from keras_mtl.metrics._labels import depth_labels
from keras_mtl.metrics._weighted_mean import WeightedMean


@keras.saving.register_keras_serializable(package="keras_mtl")
class DepthThresholdAccuracy(WeightedMean):
    """Share of the depths within a factor of the label, `max(d / d*, d* / d) < 1.25**power`.

    `d` is the prediction and `d*` the label; the papers write `delta < 1.25`, `1.25**2` and
    `1.25**3`. A prediction that is not positive is a miss. Labels that are not finite or not
    positive are missing and do not count. The result is NaN as long as no label has been seen.

    Args:
        power: Integer of at least 1. The power of the factor 1.25.
        name: String. The metric's name; by default `delta_` and the power.
        dtype: The dtype of the result.

    Call arguments:
        y_true: Depths of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        y_pred: Depths of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        sample_weight: Mask or weights that broadcast to `(batch, height, width)`.

    Raises:
        TypeError: When `power` is not an integer.
        ValueError: When `power` is below 1 or shapes do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.metrics import DepthThresholdAccuracy
    >>> metric = DepthThresholdAccuracy(power=2)
    >>> metric.name
    'delta_2'
    >>> metric.update_state(np.array([[[2.0, 4.0, 0.0]]]), np.array([[[3.0, 8.0, 9.0]]]))
    >>> float(metric.result())
    0.5
    """

    lower_is_better = False

    def __init__(self, power: int = 1, *, name: str | None = None, dtype: Any = None) -> None:
        if isinstance(power, bool) or not isinstance(power, numbers.Integral):
            raise TypeError(f"`power` must be an integer. Received: power={power!r}.")
        if power < 1:
            raise ValueError(f"`power` must be at least 1. Received: power={power}.")
        super().__init__(name=name or f"delta_{power}", dtype=dtype)
        self.power = int(power)

    def measure(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        labels, predictions, present = depth_labels(y_true, y_pred)
        factor = 1.25**self.power
        # Products instead of quotients: a prediction of zero or below fails the first test.
        near = ops.logical_and(labels < factor * predictions, predictions < factor * labels)
        return ops.cast(near, "float32"), present

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"power": self.power})
        return config
