"""CrossStitch: every column's features become a learned mixture of all columns'."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl.checks import check_count
from keras_mtl.graph.costs import free, register_flops
from keras_mtl.layers._columns import constant, own_and_others, shapes_of_columns, share, total


@keras.saving.register_keras_serializable("keras_mtl")
class CrossStitch(keras.layers.Layer):
    r"""Mixes the features of the columns of K tasks at one place of the network.

    $\tilde{x}_i = Σ_j a_{ij} x_j$, with a weight $a_{ij}$ for every channel. At first
    $a_{ii}$ is `own` and the others are `(1 - own) / (K - 1)`, so that every row sums to 1; a
    single column has the weight 1. Training and inference are the same.

    The paper has two tasks, tries other first values than 0.9 and 0.1, and sets no bounds on the
    weights; even parts for more tasks are our reading, and nothing keeps the sum at 1 later.

    Args:
        num_tasks: int of at least 1. K, the number of columns.
        own: float between 0 and 1. First weight of a column's own features.
        per_channel: bool. Whether every channel has weights of its own, as in the paper, or all
            channels have one set.

    Call arguments:
        inputs: list of K tensors of one shape, `(batch, ..., channels)`, in the order of the
            tasks.

    Returns:
        List of K tensors of the shape of the inputs.

    Raises:
        TypeError: when `own` is no number.
        ValueError: when `num_tasks` is no integer of at least 1, `own` is not between 0 and 1, or
            the inputs are not K tensors of one shape.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import CrossStitch
    >>> first, second = CrossStitch(2, 0.75)([np.array([[1.0, 0.0]]), np.array([[0.0, 8.0]])])
    >>> first.numpy().tolist(), second.numpy().tolist()
    ([[0.75, 2.0]], [[0.25, 6.0]])

    Reference:
        [Cross-stitch networks for multi-task learning](https://arxiv.org/abs/1604.03539),
        equation 1.
    """

    def __init__(
        self, num_tasks: int, own: float = 0.9, *, per_channel: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_tasks = check_count("num_tasks", num_tasks)
        self.own = share("own", own)
        self.per_channel = per_channel
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        channels = shapes_of_columns(self.num_tasks, input_shape)[-1]
        first = own_and_others(self.num_tasks, self.own)
        if self.per_channel:
            first = np.repeat(first[..., None], channels, axis=-1)
        self.mixing = self.add_weight(name="mixing", shape=first.shape, initializer=constant(first))
        self.built = True

    def call(self, inputs: Any) -> Any:
        mixing = ops.convert_to_tensor(self.mixing)
        return [
            total(mixing[i, j] * tensor for j, tensor in enumerate(inputs))
            for i in range(self.num_tasks)
        ]

    @staticmethod
    def costs(shape: Sequence[Any], num_tasks: int, *, per_channel: bool = True) -> tuple[int, int]:
        """Parameters and FLOPs of a unit, without building it.

        It multiplies element by element and adds, which counts 0 FLOPs everywhere in this library
        (`keras_mtl.graph.costs`: weighted operators and attention products count).

        Args:
            shape: tuple. Shape of one column's features.
            num_tasks: int. As in the constructor.
            per_channel: bool. As in the constructor.

        Returns:
            `(parameters, flops)`, two ints.
        """
        return num_tasks**2 * (shape[-1] if per_channel else 1), 0

    def compute_output_shape(self, input_shape: Any) -> Any:
        return [tuple(shape) for shape in input_shape]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(num_tasks=self.num_tasks, own=self.own, per_channel=self.per_channel)
        return config


register_flops(CrossStitch)(free)
