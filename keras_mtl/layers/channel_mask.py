"""ChannelMask: sets channels to zero."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_mtl")
class ChannelMask(keras.layers.Layer):
    r"""Sets the channels that a task does not use to exactly 0; the last axis is that of channels.

    $y_c = m_c \cdot x_c$ with $m_c$ 0 or 1; where $m_c = 0$, $y_c$ is 0 even for an infinite $x_c$.
    It stands behind normalisation and activation, so that nothing of a masked channel reaches the
    next layer, and the channel can be cut off.

    Args:
        mask: text of 0 and 1, one for each channel, such as `"0110"`.

    Call arguments:
        inputs: tensor of shape `(batch, ..., channels)`.

    Returns:
        Tensor of the shape and type of `inputs`.

    Raises:
        ValueError: when the mask is no such text, or the inputs have another number of channels.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import ChannelMask
    >>> ChannelMask("011")(np.array([[1.0, 2.0, 3.0]])).numpy().tolist()
    [[0.0, 2.0, 3.0]]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """

    def __init__(self, mask: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(mask, str) or not mask or set(mask) - {"0", "1"}:
            raise ValueError(f"`mask` must be a text of 0 and 1. Received: mask={mask!r}.")
        self.mask = mask
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] != len(self.mask):
            raise ValueError(
                f"`inputs` must have {len(self.mask)} channels on the last axis, as the mask has. "
                f"Received: shape={tuple(input_shape)}."
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        used = ops.convert_to_tensor([bit == "1" for bit in self.mask], dtype="bool")
        return ops.where(used, inputs, ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mask": self.mask}
