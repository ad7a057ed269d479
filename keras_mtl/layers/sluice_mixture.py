"""SluiceMixture: what a task's head sees is a learned mixture of its column's layers."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl.checks import check_count
from keras_mtl.graph.costs import free, register_flops
from keras_mtl.layers._columns import (
    check_that_they_fit,
    constant,
    fit_channels,
    resize,
    shapes_of,
    share,
    total,
)


@keras.saving.register_keras_serializable("keras_mtl")
class SluiceMixture(keras.layers.Layer):
    r"""Mixes the outputs of several places of one task's column into what its head sees.

    $\tilde{h} = Σ_l β_l h_l$ with one weight for each place, the last of which is the top. At first
    the last place has the weight `last` and the others have equal parts of the rest; a single
    place has the weight 1. Training and inference are the same. `last=1 / num_places` is
    the even first mixture. Every task has a mixture of its own.

    In the paper all layers have one shape. Here other places are brought to the last one's without
    parameters: maps are resized bilinearly, and the last channels are cut off or zeros
    added.

    Args:
        num_places: int of at least 1. How many places are mixed.
        last: float between 0 and 1. First weight of the last place.

    Call arguments:
        inputs: list of `num_places` tensors of one rank, `(batch, *spatial, channels)`.

    Returns:
        Tensor of the shape of the last input.

    Raises:
        TypeError: when `last` is no number.
        ValueError: when an argument is out of range, or the inputs are not `num_places` tensors
            that can be resized to the last one.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import SluiceMixture
    >>> SluiceMixture(2, last=0.75)([np.ones((1, 2)), np.array([[8.0, 16.0]])]).numpy().tolist()
    [[6.25, 12.25]]

    Reference:
        [Latent multi-task architecture learning](https://arxiv.org/abs/1705.08142), the β
        parameters. First values are those of the authors' program: 0.9 for the last.
    """

    def __init__(self, num_places: int, *, last: float = 0.9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_places = check_count("num_places", num_places)
        self.last = share("last", last)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shapes = shapes_of("inputs", input_shape)
        if len(shapes) != self.num_places:
            raise ValueError(
                f"`inputs` must be a list of {self.num_places} tensors, one for each place. "
                f"Received: shapes={shapes}."
            )
        check_that_they_fit("inputs", shapes, shapes[-1])
        others = self.num_places - 1
        first = [*[(1 - self.last) / others] * others, self.last] if others else [1.0]
        self.beta = self.add_weight(
            name="beta", shape=(self.num_places,), initializer=constant(np.array(first))
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        beta = ops.convert_to_tensor(self.beta)
        *spatial, channels = inputs[-1].shape[1:]
        return total(
            beta[i] * fit_channels(resize(tensor, spatial), channels)
            for i, tensor in enumerate(inputs)
        )

    @staticmethod
    def costs(num_places: int) -> tuple[int, int]:
        """Parameters and FLOPs of a mixture; FLOPs are 0, as those of `Sluice`.

        Args:
            num_places: int. As in the constructor.

        Returns:
            `(parameters, flops)`, two ints.
        """
        return num_places, 0

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return previous_mask[-1] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(num_places=self.num_places, last=self.last)
        return config


register_flops(SluiceMixture)(free)
