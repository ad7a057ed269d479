"""Projection: a skip between shapes that differ."""

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_mtl")
class Projection(keras.layers.Layer):
    """A 1x1 convolution with stride, from one shape to another.

    It stands in for a unit that has no shortcut and whose input and output differ in shape. The
    positions that it reads lie evenly around the middle of the input, as the windows of the unit
    do (`centred_positions`). Vectors get a dense projection. A padding mask is handed on.

    Args:
        filters: int. Channels of the output.
        size: tuple of int. Spatial size of the output; `()` for vectors, `None` along an axis
            where every position is taken.
        normalise: bool. Whether batch normalisation follows.

    Call arguments:
        inputs: tensor of shape `(batch, *spatial, channels)`.

    Returns:
        Tensor of shape `(batch, *size, filters)`.

    Raises:
        ValueError: on building, when `size` does not fit the input.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import Projection
    >>> Projection(8, size=(3, 3))(np.ones((1, 7, 7, 4))).shape
    TensorShape([1, 3, 3, 8])
    """

    def __init__(
        self,
        filters: int,
        size: Sequence[int | None] = (),
        *,
        normalise: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.size = tuple(size)
        self.normalise = normalise
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        spatial = tuple(input_shape[1:-1])
        fits = len(spatial) == len(self.size) and all(
            m is None or (n is not None and 1 <= m <= n)
            for n, m in zip(spatial, self.size, strict=True)
        )
        if not fits:
            raise ValueError(
                "`size` must have an entry for every spatial axis of the input, not larger than "
                f"it. Received: size={self.size} for an input of shape {tuple(input_shape)}."
            )
        self.taken = tuple(
            slice(None) if m is None else centred_positions(n, m)
            for n, m in zip(spatial, self.size, strict=True)
        )
        self.convolution = keras.layers.Dense(
            self.filters, use_bias=False, dtype=self.dtype_policy, name="convolution"
        )
        self.convolution.build(input_shape)
        self.normalisation = None
        if self.normalise:
            self.normalisation = keras.layers.BatchNormalization(
                dtype=self.dtype_policy, name="normalisation"
            )
            self.normalisation.build((*input_shape[:-1], self.filters))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        # A strided 1x1 convolution reads every n-th position.
        outputs = self.convolution(inputs[(slice(None), *self.taken)])
        if self.normalisation is None:
            return outputs
        return self.normalisation(outputs, training=training)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if previous_mask is None:
            return None
        axes = len(previous_mask.shape) - 1
        return previous_mask[(slice(None), *self.taken[:axes])]

    def compute_output_shape(self, input_shape: Any) -> Any:
        spatial = zip(input_shape[1:-1], self.size, strict=True)
        return (input_shape[0], *(n if m is None else m for n, m in spatial), self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(filters=self.filters, size=self.size, normalise=self.normalise)
        return config


def centred_positions(size, wanted):
    """Which positions of an axis stand for the outputs of an operator along it, as a slice.

    With n input and m output positions the stride is s = min(round(n / m), (n - 1) // (m - 1)), at
    least 1, and what (m - 1) s + 1 positions leave over lies half before the first. An operator
    that pads (8 -> 4, stride 2) and one that does not (8 -> 6, a 3x3 kernel) are both met.

    Args:
        size: int. Positions of the input, n.
        wanted: int. Positions of the output, m <= n.

    Returns:
        A `slice` of m positions.

    Example:

    >>> for size, wanted in [(8, 4), (8, 6), (7, 3), (5, 1)]:
    ...     print(list(range(size))[centred_positions(size, wanted)])
    [0, 2, 4, 6]
    [1, 2, 3, 4, 5, 6]
    [1, 3, 5]
    [2]
    """
    widest = (size - 1) // (wanted - 1) if wanted > 1 else size
    stride = max(1, min(round(size / wanted), widest))
    extent = (wanted - 1) * stride + 1
    offset = (size - extent) // 2
    return slice(offset, offset + extent, stride)
