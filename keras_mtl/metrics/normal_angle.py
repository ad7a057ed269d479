import math
import numbers
from typing import Any, Literal

import keras
from keras import ops

from keras_mtl.metrics._labels import ACCUMULATOR_DTYPE, label_weights
from keras_mtl.metrics._weighted_mean import WeightedMean

STATISTICS = ("mean", "median", "within")
BINS_PER_DEGREE = 10


@keras.saving.register_keras_serializable(package="keras_mtl")
class NormalAngle(WeightedMean):
    """Angle between predicted and true surface normals, in degrees.

    Both vectors are scaled to length one, `a` and `b`; the angle is
    `2 atan2(|a - b|, |a + b|)`, which unlike the arc cosine is exact for small angles too.
    A true normal that is zero or not finite is missing and does not count; a predicted normal of
    zero is 90 degrees away from any other. The result is NaN as long as no label has been seen.

    The median is read from a histogram with 1800 bins of 0.1 degree, kept over all batches: it is
    the centre of the bin that holds the (lower, weighted) median, at most 0.05 degree off.

    Args:
        statistic: `"mean"` or `"median"` of the angles, or `"within"`: the share of the angles
            that are smaller than `degrees`.
        degrees: Number above 0 and up to 180, for `"within"` only.
        name: String. The metric's name; by default `angle_mean`, `angle_median` or, as an
            example, `within_11.25`.
        dtype: The dtype of the result.

    Call arguments:
        y_true: Normals of shape `(batch, height, width, 3)`.
        y_pred: Normals of shape `(batch, height, width, 3)`.
        sample_weight: Mask or weights that broadcast to `(batch, height, width)`.

    Raises:
        TypeError: When `degrees` is not a number.
        ValueError: When `statistic` is unknown, `degrees` does not go with it or is out of range,
            or shapes do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.metrics import NormalAngle
    >>> metric = NormalAngle("within", degrees=11.25)
    >>> metric.name
    'within_11.25'
    >>> labels = np.array([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]]])
    >>> normals = np.array([[[[0.0, 0.1, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]]])
    >>> metric.update_state(labels, normals)
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self,
        statistic: Literal["mean", "median", "within"] = "mean",
        *,
        degrees: float | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if statistic not in STATISTICS:
            raise ValueError(
                f"`statistic` must be one of {STATISTICS}. Received: statistic={statistic!r}."
            )
        if statistic != "within":
            if degrees is not None:
                raise ValueError(
                    f'`degrees` must be None when statistic="{statistic}". '
                    f'Received: degrees={degrees!r}. Use statistic="within".'
                )
            default_name = f"angle_{statistic}"
        else:
            if isinstance(degrees, bool) or not isinstance(degrees, numbers.Real):
                raise TypeError(
                    '`degrees` must be a number when statistic="within". '
                    f"Received: degrees={degrees!r}."
                )
            if not 0 < degrees <= 180:
                raise ValueError(
                    f"`degrees` must be above 0 and at most 180. Received: degrees={degrees}."
                )
            degrees = float(degrees)
            default_name = f"within_{degrees:g}"
        super().__init__(name=name or default_name, dtype=dtype)
        self.statistic = statistic
        self.degrees = degrees
        if statistic == "median":
            self.histogram = self.add_variable(
                (180 * BINS_PER_DEGREE,), "zeros", dtype=ACCUMULATOR_DTYPE, name="histogram"
            )

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller result is a better one."""
        return self.statistic != "within"

    def measure(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        angles, present = _angles(y_true, y_pred)
        if self.statistic == "within":
            return ops.cast(angles < self.degrees, "float32"), present
        return angles, present

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, y_pred, sample_weight)
        if self.statistic != "median":
            return
        angles, present = _angles(y_true, y_pred)
        weights = label_weights(sample_weight, present)
        # A NaN has no bin; it is counted as the worst angle.
        angles = ops.where(ops.isnan(angles), 180.0, angles)
        last = 180 * BINS_PER_DEGREE - 1
        bins = ops.clip(ops.cast(angles * BINS_PER_DEGREE, "int32"), 0, last)
        self.histogram.assign_add(
            ops.segment_sum(
                ops.reshape(weights, (-1,)), ops.reshape(bins, (-1,)), num_segments=last + 1
            )
        )

    def result(self) -> Any:
        if self.statistic != "median":
            return super().result()
        cumulated = ops.cumsum(self.histogram)
        reached = ops.cast(cumulated >= cumulated[-1] / 2, "int32")
        centre = (ops.cast(ops.argmax(reached), "float32") + 0.5) / BINS_PER_DEGREE
        return ops.cast(ops.where(cumulated[-1] > 0, centre, float("nan")), self.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"statistic": self.statistic, "degrees": self.degrees})
        return config


def _angles(y_true, y_pred):
    """Return the angle at every label in degrees, and where a label is present."""
    y_true = ops.cast(ops.convert_to_tensor(y_true), "float32")
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    shapes = (tuple(y_true.shape), tuple(y_pred.shape))
    fits = len(shapes[0]) == len(shapes[1]) and shapes[0][-1] == shapes[1][-1] == 3
    if not fits or any(
        size != other and None not in (size, other) for size, other in zip(*shapes, strict=True)
    ):
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape with 3 components on the last axis. "
            f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}."
        )
    present = ops.logical_and(ops.all(ops.isfinite(y_true), axis=-1), ops.any(y_true != 0, axis=-1))
    truth = _unit(ops.where(ops.expand_dims(present, -1), y_true, 1.0))
    prediction = _unit(y_pred)
    angles = 2 * ops.arctan2(_length(truth - prediction), _length(truth + prediction))
    return angles * (180 / math.pi), present


def _unit(vectors):
    # Scaled by the largest component first, so that no square over- or underflows.
    largest = ops.max(ops.abs(vectors), axis=-1, keepdims=True)
    scaled = vectors / ops.where(largest > 0, largest, 1.0)
    length = ops.expand_dims(_length(scaled), axis=-1)
    return scaled / ops.where(length > 0, length, 1.0)


def _length(vectors):
    return ops.sqrt(ops.sum(ops.square(vectors), axis=-1))
