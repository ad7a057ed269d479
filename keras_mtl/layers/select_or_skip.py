"""SelectOrSkip: mixes a block's output with its shortcut by a decision."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_mtl")
class SelectOrSkip(keras.layers.Layer):
    r"""Mixes the outputs of several options of one unit, such as "run the block" and "skip it".

    $y = Σ_j v_j · x_j$. For a residual block, $x_1 = \mathrm{ReLU}(\mathrm{shortcut}(x) + F(x))$
    and $x_2 = \mathrm{shortcut}(x)$, without the ReLU on the skipped branch.
    One decision holds for the whole batch. It has no weights: the decision comes from a gate.

    Call arguments:
        inputs: list of tensors of one shape, `(batch, ...)`.
        decision: tensor of shape `(len(inputs),)`, or a tuple of as many scalars (all
            tensors or all numbers); `None` in it marks an input that is weighted already.

    Returns:
        Tensor of the shape and type of `inputs[0]`.

    Example:

    >>> from keras_mtl.layers import SelectOrSkip
    >>> import numpy as np
    >>> options = [np.ones((1, 2)), np.zeros((1, 2))]
    >>> SelectOrSkip()(options, decision=np.array([0.75, 0.25])).numpy().tolist()
    [[0.75, 0.75]]

    Reference:
        [AdaShare](https://arxiv.org/abs/1911.12423), section 3.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if any(tuple(shape) != tuple(input_shape[0]) for shape in input_shape):
            raise ValueError(
                "`inputs` must be a list of tensors of one shape. "
                f"Received: shapes={[tuple(s) for s in input_shape]}."
            )
        super().build(input_shape)

    def call(self, inputs: Any, decision: Any) -> Any:
        if not isinstance(decision, (tuple, list)):
            decision = ops.convert_to_tensor(decision)
        mixed = None
        for i, tensor in enumerate(inputs):
            if decision[i] is not None:
                tensor = tensor * ops.cast(decision[i], tensor.dtype)
            mixed = tensor if mixed is None else mixed + tensor
        return mixed

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]
