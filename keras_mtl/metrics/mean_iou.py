import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl.metrics._labels import (
    ACCUMULATOR_DTYPE,
    class_labels,
    label_weights,
    ratio,
    validate_ignore,
)


@keras.saving.register_keras_serializable(package="keras_mtl")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union of a semantic segmentation.

    Labels are counted in a confusion matrix over everything seen since the last reset, so the
    result does not depend on how the data was cut into batches. With `N[i, j]` the weight of the
    labels `i` that were predicted as `j`, the result is the mean over the classes of
    `N[c, c] / (sum_j N[c, j] + sum_i N[i, c] - N[c, c])`. Only classes that occur, as a label or
    as a prediction, enter the mean; the class `ignore` never does. The result is NaN as long as
    no label has been seen.

    The matrix has float64 entries: float32 could count a class up to 2**24 pixels only.

    Args:
        num_classes: Integer of at least 2. The number of classes.
        ignore: Integer or `None`. The class id of labels that do not count. Ids outside
            `0 ... num_classes - 1` and NaN never count.
        name: String. The metric's name.
        dtype: The dtype of the result.

    Call arguments:
        y_true: Class ids of shape `(batch, height, width)` or `(batch, height, width, 1)`.
        y_pred: Scores of shape `(batch, height, width, num_classes)`.
        sample_weight: Mask or weights that broadcast to `(batch, height, width)`.

    Raises:
        TypeError: When `num_classes` or `ignore` is not an integer.
        ValueError: When `num_classes` is below 2 or shapes do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.metrics import MeanIoU
    >>> metric = MeanIoU(2, ignore=255)
    >>> labels = np.array([[[0, 0, 1, 255]]])
    >>> scores = np.eye(2)[[[[0, 1, 1, 0]]]]
    >>> metric.update_state(labels, scores)
    >>> float(metric.result())
    0.5
    """

    lower_is_better = False

    def __init__(
        self,
        num_classes: int,
        *,
        ignore: int | None = None,
        name: str = "mean_iou",
        dtype: Any = None,
    ) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, numbers.Integral):
            raise TypeError(
                f"`num_classes` must be an integer. Received: num_classes={num_classes!r}."
            )
        if num_classes < 2:
            raise ValueError(
                f"`num_classes` must be at least 2. Received: num_classes={num_classes}."
            )
        ignore = validate_ignore(ignore)
        super().__init__(name=name, dtype=dtype)
        self.num_classes = int(num_classes)
        self.ignore = ignore
        self.confusion_matrix = self.add_variable(
            (self.num_classes, self.num_classes),
            "zeros",
            dtype=ACCUMULATOR_DTYPE,
            name="confusion_matrix",
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_pred = ops.convert_to_tensor(y_pred)
        if y_pred.shape[-1] != self.num_classes:
            raise ValueError(
                f"`y_pred` must hold {self.num_classes} scores for each label. "
                f"Received: y_pred.shape={tuple(y_pred.shape)}."
            )
        labels, predictions, present = class_labels(y_true, y_pred, self.ignore)
        weights = label_weights(sample_weight, present)
        # Missing labels have weight zero; they only need a cell that exists.
        cells = ops.where(present, labels, 0) * self.num_classes + predictions
        counts = ops.segment_sum(
            ops.reshape(weights, (-1,)),
            ops.reshape(cells, (-1,)),
            num_segments=self.num_classes**2,
        )
        self.confusion_matrix.assign_add(ops.reshape(counts, (self.num_classes, self.num_classes)))

    def result(self) -> Any:
        matrix = ops.convert_to_tensor(self.confusion_matrix)
        intersection = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - intersection
        occurs = ops.logical_and(union > 0, np.arange(self.num_classes) != self.ignore)
        scores = ops.where(occurs, ratio(intersection, union), ops.zeros_like(union))
        count = ops.sum(ops.cast(occurs, ACCUMULATOR_DTYPE))
        return ops.cast(ratio(ops.sum(scores), count), self.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"num_classes": self.num_classes, "ignore": self.ignore})
        return config
