"""Projection: a skip between shapes that differ."""

import keras


@keras.saving.register_keras_serializable("keras_mtl")
class Projection(keras.layers.Layer):
    """A 1x1 convolution with stride and batch normalisation, from one shape to another.

    It stands in for a unit that has no shortcut and whose input and output differ in shape. Vectors
    get a dense projection.

    Args:
        filters: int. Channels of the output.
        strides: tuple of int. One per spatial axis; `()` for vectors.
        size: tuple of int. Spatial size of the output; what the stride leaves over is cropped.

    Call arguments:
        inputs: tensor of shape `(batch, *spatial, channels)`.

    Returns:
        Tensor of shape `(batch, *size, filters)`.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import Projection
    >>> Projection(8, strides=(2, 2), size=(3, 3))(np.ones((1, 7, 7, 4))).shape
    TensorShape([1, 3, 3, 8])
    """

    def __init__(self, filters, strides=(), size=(), **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = tuple(strides)
        self.size = tuple(size)

    def build(self, input_shape):
        self.convolution = keras.layers.Dense(self.filters, use_bias=False, dtype=self.dtype_policy)
        self.normalisation = keras.layers.BatchNormalization(dtype=self.dtype_policy)
        self.convolution.build((*input_shape[:-1], input_shape[-1]))
        self.normalisation.build((*input_shape[:-1], self.filters))
        self.built = True

    def call(self, inputs, training=None):
        # A strided 1x1 convolution reads every n-th position.
        taken = [slice(None)]
        taken += [
            slice(0, n * stride, stride) for n, stride in zip(self.size, self.strides, strict=True)
        ]
        return self.normalisation(self.convolution(inputs[tuple(taken)]), training=training)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, self.filters)

    def get_config(self):
        config = super().get_config()
        config.update(filters=self.filters, strides=self.strides, size=self.size)
        return config
