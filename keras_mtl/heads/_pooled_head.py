import numbers
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mtl.graph.costs import register_flops


class PooledHead(keras.layers.Layer):
    """Mean over the spatial axes, dropout, and one dense layer.

    What a classifier and a regressor have in common. Inputs of shape `(batch, features)` have no
    spatial axes and are not averaged.

    Args:
        units: Integer of at least 1. The number of outputs.
        dropout: Float from 0 up to but not including 1.
        activation: Name or function of the outputs, or `None`.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self, units: int, dropout: float, activation: str | Callable[..., Any] | None, **kwargs: Any
    ) -> None:
        if isinstance(dropout, bool) or not isinstance(dropout, numbers.Real):
            raise TypeError(f"`dropout` must be a number. Received: dropout={dropout!r}.")
        if not 0 <= dropout < 1:
            raise ValueError(
                f"`dropout` must be at least 0 and below 1. Received: dropout={dropout}."
            )
        super().__init__(**kwargs)
        self.units = units
        self.dropout = float(dropout)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(
                "`inputs` must have a batch axis, any number of spatial axes and a known number "
                f"of channels. Received: inputs.shape={tuple(input_shape)}."
            )
        features = (input_shape[0], input_shape[-1])
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.dropout_layer.build(features)
        self.dense = keras.layers.Dense(
            self.units, activation=self.activation, dtype=self.dtype_policy, name="dense"
        )
        self.dense.build(features)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        spatial = tuple(range(1, len(inputs.shape) - 1))
        features = ops.mean(inputs, axis=spatial) if spatial else inputs
        return self.dense(self.dropout_layer(features, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            {
                "dropout": self.dropout,
                "activation": keras.activations.serialize(self.activation),
            }
        )
        return config


@register_flops(PooledHead)
def _pooled_head_flops(layer, inputs, outputs):
    return 2 * inputs[0][-1] * layer.units
