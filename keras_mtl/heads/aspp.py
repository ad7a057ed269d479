from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl.checks import check_count, check_counts
from keras_mtl.graph.costs import flops, register_flops


@keras.saving.register_keras_serializable(package="keras_mtl")
class ASPP(keras.layers.Layer):
    """Head of a dense task: parallel dilated convolutions, summed (atrous spatial pyramid).

    Each branch sees the features at another scale. With `x` the inputs and `r` the rates,
    `y = sum_r Conv1x1_r(relu(Conv3x3_r(x)))`, where `Conv3x3_r` has dilation rate `r`. The
    outputs are logits or raw values: there is no activation. They are resized bilinearly to
    `size`, the size of the labels, if it is given.

    Args:
        filters: Integer of at least 1. The number of outputs per pixel.
        width: Integer of at least 1. The number of filters of each dilated convolution.
        rates: Tuple of integers of at least 1. The dilation rate of each branch.
        size: Tuple `(height, width)` of the outputs, or `None` to keep that of the inputs.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, height, width, filters)`, with the height and width of `size`
        if it is given.

    Raises:
        ValueError: When an argument is out of range or the inputs are not images.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.heads import ASPP
    >>> head = ASPP(13, width=8, rates=(1, 2), size=(32, 48))
    >>> tuple(head(np.ones((2, 4, 6, 16))).shape)
    (2, 32, 48, 13)

    Reference:
        [DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution,
        and Fully Connected CRFs](https://arxiv.org/abs/1606.00915), Section 3.2.
    """

    def __init__(
        self,
        filters: int,
        *,
        width: int = 64,
        rates: Sequence[int] = (6, 12, 18, 24),
        size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        filters = check_count("filters", filters)
        width = check_count("width", width)
        rates = check_counts("rates", rates)
        if size is not None:
            size = check_counts("size", size, length=2)
        super().__init__(**kwargs)
        self.filters = filters
        self.width = width
        self.rates = rates
        self.size = size

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise ValueError(
                "`inputs` must have the shape (batch, height, width, channels) with a known "
                f"number of channels. Received: inputs.shape={tuple(input_shape)}."
            )
        self.dilated_convolutions = []
        self.projections = []
        for index, rate in enumerate(self.rates):
            dilated = keras.layers.Conv2D(
                self.width,
                3,
                dilation_rate=rate,
                padding="same",
                activation="relu",
                data_format="channels_last",
                dtype=self.dtype_policy,
                name=f"dilated_{index}",
            )
            dilated.build(input_shape)
            self.dilated_convolutions.append(dilated)
            projection = keras.layers.Conv2D(
                self.filters,
                1,
                data_format="channels_last",
                dtype=self.dtype_policy,
                name=f"projection_{index}",
            )
            projection.build((*input_shape[:-1], self.width))
            self.projections.append(projection)

    def call(self, inputs: Any) -> Any:
        branches = [
            projection(dilated(inputs))
            for dilated, projection in zip(self.dilated_convolutions, self.projections, strict=True)
        ]
        outputs = sum(branches[1:], start=branches[0])
        if self.size is None:
            return outputs
        outputs = ops.image.resize(
            outputs, self.size, interpolation="bilinear", data_format="channels_last"
        )
        # TensorFlow resizes to float32 whatever comes in.
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        height, width = self.size or tuple(input_shape)[1:3]
        return (input_shape[0], height, width, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            {"filters": self.filters, "width": self.width, "rates": self.rates, "size": self.size}
        )
        return config


@register_flops(ASPP)
def _aspp_flops(layer, inputs, outputs):
    (shape,) = inputs
    inner = (*shape[:-1], layer.width)
    branches = zip(layer.dilated_convolutions, layer.projections, strict=True)
    return sum(
        flops(dilated, [shape], [inner])
        + flops(projection, [inner], [(*shape[:-1], layer.filters)])
        for dilated, projection in branches
    )
