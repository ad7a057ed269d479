from collections.abc import Callable
from typing import Any

import keras

from keras_mtl.checks import check_count
from keras_mtl.heads._pooled_head import PooledHead


@keras.saving.register_keras_serializable(package="keras_mtl")
class Classifier(PooledHead):
    """Head of a task with one class per sample.

    Spatial axes are averaged, then follow dropout (in training only) and one dense layer. The
    outputs are logits unless `activation` says otherwise: pass `from_logits=True` to the loss.

    Args:
        num_classes: Integer of at least 1. The number of scores; 1 for a binary task.
        dropout: Float from 0 up to but not including 1. The share of the features that are
            dropped in training.
        activation: Name or function of the outputs, such as `"softmax"`, or `None`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, features)` or with any number of spatial axes, such as
            `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, num_classes)`.

    Raises:
        TypeError: When `dropout` is not a number.
        ValueError: When an argument is out of range.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.heads import Classifier
    >>> head = Classifier(10, dropout=0.5)
    >>> tuple(head(np.ones((2, 7, 7, 32))).shape)
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int,
        *,
        dropout: float = 0.0,
        activation: str | Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        num_classes = check_count("num_classes", num_classes)
        super().__init__(num_classes, dropout, activation, **kwargs)
        self.num_classes = num_classes

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"num_classes": self.num_classes})
        return config
