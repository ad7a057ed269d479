"""NDDRFusion: mixes a column's features with those of other columns by a 1x1 convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl.graph.costs import register_flops
from keras_mtl.layers._columns import (
    check_that_they_fit,
    constant,
    own_and_others,
    resize,
    shapes_of,
    share,
    total,
)

STATISTICS = 4  # of batch normalisation, for each channel: gamma, beta, mean and variance


@keras.saving.register_keras_serializable("keras_mtl")
class NDDRFusion(keras.layers.Layer):
    r"""Mixes a task's own features with those of other columns, from any number of sources.

    $O = \mathrm{ReLU}(\mathrm{BN}(W [F, z_1 R(S_1), …, z_n R(S_n)]))$ with the own features $F$,
    the sources $S_i$, the gates $z_i$, bilinear resizing $R$ to the size of $F$ and a 1x1
    convolution $W$ without bias; batch normalisation has epsilon 1e-3 and momentum 0.95. Maps may
    have any number of spatial axes; vectors get a dense $W$.

    At first $W$ is `w_own` times the identity on the own features and `(1 - w_own) / n` times the
    identity on each source; without sources the identity. Where a source has more or fewer
    channels than the column, its block is the rectangular identity: the channels that both have
    are connected, the others start at 0 and can be learned.

    With `w_own=1` the convolution is at first the exact identity on the own features and takes
    nothing from the sources: the gates' first gradient is exactly 0. What follows is no identity:
    in inference, with the first statistics, the result is $\mathrm{ReLU}(F / \sqrt{1 + 0.001})$
    (0.9995 of what is positive); in training the features are normalised by the batch. Pass
    `normalise=False` and `activation=None` for a layer that changes nothing at first.

    Gates are float32 under every policy. They scale the blocks of the kernel, which is the same as
    scaling the sources and needs no copies of these.

    Args:
        w_own: float between 0 and 1. First weight of the own features.
        normalise: bool. Whether batch normalisation follows.
        activation: name, function or `None`. What follows last.

    Call arguments:
        own: tensor of shape `(batch, *spatial, channels)`.
        sources: list of tensors of the same rank, of any size and width; may be empty.
        gates: `None` (all sources count fully), a tensor of shape `(len(sources),)`, or a sequence
            of as many scalars (all tensors or all numbers); between 0 and 1.

    Returns:
        Tensor of the shape of `own`.

    Raises:
        TypeError: when `w_own` is no number.
        ValueError: when `w_own` is not between 0 and 1, a source cannot be resized to `own`, or
            the number of sources or gates is not the one that the layer was built for.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import NDDRFusion
    >>> fusion = NDDRFusion()
    >>> own, other = np.ones((2, 8, 8, 4)), np.ones((2, 4, 4, 6))
    >>> fusion(own, [other], gates=[0.5]).shape
    TensorShape([2, 8, 8, 4])
    >>> NDDRFusion.costs((None, 8, 8, 4), [(None, 4, 4, 6)]) == (4 * 10 + 16, 2 * 64 * 4 * 10)
    True

    Reference:
        [MTL-NAS](https://arxiv.org/abs/2003.14058), equations 1 to 3, after
        [NDDR-CNN](https://arxiv.org/abs/1801.08297). The papers have maps of one width only.
    """

    def __init__(
        self,
        w_own: float = 0.9,
        *,
        normalise: bool = True,
        activation: str | Callable[..., Any] | None = "relu",
        **kwargs: Any,
    ) -> None:
        # Else the gates would be cast with the features.
        super().__init__(autocast=False, **kwargs)
        self.w_own = share("w_own", w_own)
        self.normalise = normalise
        self.activation = keras.activations.get(activation)
        self.supports_masking = True

    def build(self, own_shape: Any, sources_shape: Any = ()) -> None:
        own_shape = tuple(own_shape)
        shapes = shapes_of("sources", sources_shape)
        check_that_they_fit("sources", shapes, own_shape)
        self.widths = [shape[-1] for shape in (own_shape, *shapes)]
        self.ranks = len(own_shape)
        weights = own_and_others(len(self.widths), self.w_own)[0]
        channels = own_shape[-1]
        blocks = [w * np.eye(c, channels) for w, c in zip(weights, self.widths, strict=True)]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(sum(self.widths), channels),
            initializer=constant(np.concatenate(blocks)),
            autocast=False,
        )
        self.normalisation = None
        if self.normalise:
            self.normalisation = keras.layers.BatchNormalization(
                epsilon=1e-3, momentum=0.95, dtype=self.dtype_policy, name="normalisation"
            )
            self.normalisation.build(own_shape)
        self.built = True

    def call(
        self, own: Any, sources: Sequence[Any], gates: Any = None, training: bool | None = None
    ) -> Any:
        blocks = self._blocks(self._check_call(sources, gates))
        folds = self.normalisation is not None and not training
        if folds:
            scale, offset = self._scale_and_offset()
            blocks = [block * scale for block in blocks]
        products = []
        for tensor, block in zip((own, *sources), blocks, strict=True):
            tensor = ops.cast(resize(tensor, own.shape[1:-1]), self.compute_dtype)
            products.append(_product(tensor, ops.cast(block, self.compute_dtype)))
        # The sum is the product with the concatenation, which need not be copied together.
        outputs = total(products)
        if folds:
            outputs = outputs + ops.cast(offset, self.compute_dtype)
        elif self.normalisation is not None:
            outputs = self.normalisation(outputs, training=training)
        return self.activation(outputs)

    def _scale_and_offset(self):
        """What normalisation does in inference, where it can be part of the kernel."""
        layer = self.normalisation
        variance = ops.convert_to_tensor(layer.moving_variance)
        scale = ops.convert_to_tensor(layer.gamma) * ops.rsqrt(variance + layer.epsilon)
        return scale, ops.convert_to_tensor(layer.beta) - layer.moving_mean * scale

    def _check_call(self, sources, gates):
        expected = len(self.widths) - 1
        if not isinstance(sources, (list, tuple)) or len(sources) != expected:
            raise ValueError(
                f"`sources` must be a list of {expected} tensors, as many as the layer was built "
                f"for. Received: {type(sources).__name__} of length {len(sources)}. Call `pruned` "
                "for a layer of fewer sources."
            )
        if gates is None:
            return [None] * expected
        if not isinstance(gates, (list, tuple)):
            gates = ops.convert_to_tensor(gates)
        shape = (len(gates),) if isinstance(gates, (list, tuple)) else tuple(gates.shape)
        if shape != (expected,):
            raise ValueError(
                "`gates` must have one number for each source. "
                f"Received: gates of shape {shape} for {expected} sources."
            )
        return [ops.cast(gates[i], self.kernel.dtype) for i in range(expected)]

    def _blocks(self, gates):
        """The kernel's rows of the own features and of every source, scaled by its gate."""
        ends = np.cumsum(self.widths)
        kernel = ops.convert_to_tensor(self.kernel)
        blocks = [kernel[: ends[0]]]
        for begin, end, gate in zip(ends, ends[1:], gates, strict=False):
            block = kernel[begin:end]
            blocks.append(block if gate is None else gate * block)
        return blocks

    def pruned(self, keep: Sequence[bool]) -> NDDRFusion:
        """A layer of the kept sources only, with what this layer has learned.

        The other sources' rows are cut out of the kernel, so that the new layer is smaller; its
        outputs are those of this layer with gates of 1 (kept) and 0.

        Args:
            keep: sequence of bool, one for each source.

        Returns:
            A built `NDDRFusion` of the same name; its `sources` are the kept ones, in order.

        Raises:
            ValueError: when the layer is not built, or `keep` does not fit its sources.

        Example:

        >>> import numpy as np
        >>> from keras_mtl.layers import NDDRFusion
        >>> fusion = NDDRFusion()
        >>> fusion.build((None, 8), [(None, 8), (None, 8)])
        >>> smaller = fusion.pruned([True, False])
        >>> tuple(fusion.kernel.shape), tuple(smaller.kernel.shape)
        ((24, 8), (16, 8))
        """
        if not self.built:
            raise ValueError(
                f"`pruned` must follow the building of the layer. Received: built={self.built} "
                "for a layer without weights. Call the layer, or `build` with its shapes, first."
            )
        keep = list(keep)
        all_bool = all(isinstance(each, (bool, np.bool_)) for each in keep)
        if not all_bool or len(keep) != len(self.widths) - 1:
            raise ValueError(
                f"`keep` must have a bool for each of the {len(self.widths) - 1} sources. "
                f"Received: keep={keep}."
            )
        kept = [True, *map(bool, keep)]
        widths = [width for width, stays in zip(self.widths, kept, strict=True) if stays]
        unknown = (None,) * (self.ranks - 1)
        smaller = type(self).from_config(self.get_config())
        smaller.build((*unknown, widths[0]), [(*unknown, width) for width in widths[1:]])
        rows = np.repeat(kept, self.widths)
        smaller.kernel.assign(ops.convert_to_numpy(self.kernel)[rows])
        if self.normalise:
            smaller.normalisation.set_weights(self.normalisation.get_weights())
        return smaller

    @staticmethod
    def costs(
        own_shape: Sequence[Any],
        source_shapes: Sequence[Sequence[Any]],
        *,
        normalise: bool = True,
    ) -> tuple[int, int]:
        """Parameters and FLOPs of a fusion, without building it.

        FLOPs are those of the 1x1 convolution at batch 1, 2 x multiply-adds; resizing, gates,
        normalisation and activation count 0, as in `keras_mtl.graph.costs`. Parameters are
        those of the convolution and 4 for each channel that is normalised.

        Args:
            own_shape: tuple. Shape of the own features, with the batch, which does not matter.
            source_shapes: list of tuples. Shapes of the sources; only their channels matter.
            normalise: bool. As in the constructor.

        Returns:
            `(parameters, flops)`, two ints.

        Raises:
            ValueError: when a size that matters is unknown.
        """
        sizes = (*own_shape[1:], *(shape[-1] for shape in source_shapes))
        if any(size is None for size in sizes):
            raise ValueError(
                "`own_shape` and the channels of `source_shapes` must be known. "
                f"Received: own_shape={own_shape}, source_shapes={source_shapes}."
            )
        *spatial, channels = own_shape[1:]
        convolution = channels * sum((channels, *(shape[-1] for shape in source_shapes)))
        statistics = STATISTICS * channels if normalise else 0
        return convolution + statistics, 2 * math.prod(spatial) * convolution

    def compute_output_shape(self, own_shape: Any, sources_shape: Any = ()) -> Any:
        return tuple(own_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            w_own=self.w_own,
            normalise=self.normalise,
            activation=keras.activations.serialize(self.activation),
        )
        return config


def _product(x, kernel):
    """`x @ kernel` along the channels; for images as a convolution, which is quicker there."""
    if len(x.shape) != 4:
        return ops.matmul(x, kernel)
    return ops.conv(x, kernel[None, None], data_format="channels_last")


@register_flops(NDDRFusion)
def _fusion_flops(layer, inputs, outputs):
    # Gates may be among the inputs; they have a lower rank.
    own, *others = inputs
    return NDDRFusion.costs(own, [shape for shape in others if len(shape) == len(own)])[1]
