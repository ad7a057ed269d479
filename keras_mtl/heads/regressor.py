from collections.abc import Callable
from typing import Any

import keras

from keras_mtl.checks import check_count
from keras_mtl.heads._pooled_head import PooledHead


@keras.saving.register_keras_serializable(package="keras_mtl")
class Regressor(PooledHead):
    """Head of a task with one number, or a few, per sample.

    Spatial axes are averaged, then follow dropout (in training only) and one dense layer.

    Args:
        units: Integer of at least 1. The number of outputs.
        dropout: Float from 0 up to but not including 1. The share of the features that are
            dropped in training.
        activation: Name or function of the outputs, such as `"softplus"`, or `None`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, features)` or with any number of spatial axes, such as
            `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, units)`.

    Raises:
        TypeError: When `dropout` is not a number.
        ValueError: When an argument is out of range.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.heads import Regressor
    >>> head = Regressor()
    >>> tuple(head(np.ones((2, 7, 7, 32))).shape)
    (2, 1)
    """

    def __init__(
        self,
        units: int = 1,
        *,
        dropout: float = 0.0,
        activation: str | Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(check_count("units", units), dropout, activation, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update({"units": self.units})
        return config
