from typing import Any

import keras
from keras import ops

from keras_mtl.metrics._labels import ACCUMULATOR_DTYPE, label_weights, ratio


class WeightedMean(keras.metrics.Metric):
    """The weighted mean of one number per label, over all labels that are present.

    Sums are kept in float64: a float32 sum over a validation set of images loses its last labels.
    The result is NaN as long as no label has been seen.

    Args:
        name: String. The metric's name.
        dtype: The dtype of the result; computations are in float32.
    """

    def __init__(self, name: str, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=ACCUMULATOR_DTYPE, name="total")
        self.count = self.add_variable((), "zeros", dtype=ACCUMULATOR_DTYPE, name="count")

    def measure(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return the number of each label and a boolean mask of the labels that are present."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        values, present = self.measure(y_true, y_pred)
        weights = label_weights(sample_weight, present)
        values = ops.cast(values, ACCUMULATOR_DTYPE)
        # Not a plain product: under a missing label the prediction may be NaN.
        weighted = ops.where(weights > 0, values * weights, ops.zeros_like(values))
        self.total.assign_add(ops.sum(weighted))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Any:
        return ops.cast(ratio(self.total, self.count), self.dtype)
