"""TaskAttention: what one task sees of a shared trunk, through a learned mask."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl.checks import check_count
from keras_mtl.graph.costs import register_flops
from keras_mtl.layers._columns import check_that_they_fit, resize

KERNEL = 3  # size of the convolution of previous features along every axis
STATISTICS = 4  # of batch normalisation, for each channel: gamma, beta, mean and variance
_CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


@keras.saving.register_keras_serializable("keras_mtl")
class TaskAttention(keras.layers.Layer):
    r"""Selects a task's features from a trunk that it shares, by a mask between 0 and 1.

    $\hat{a} = a ⊙ p$ with the mask $a = σ(\mathrm{BN}(W_h\,\mathrm{ReLU}(\mathrm{BN}(
    W_g [u, f(\hat{a}')]))))$: $p$ are the trunk's features at the end of a stage, $u$ those
    before its last block, and $\hat{a}'$ is what the same task selected at the stage before.
    $W_g$ and $W_h$ are 1x1 convolutions. Without $\hat{a}'$ the mask reads $u$ alone. In training
    the batch is normalised; momentum 0.9 and epsilon 1e-5 are those of the authors' programs.

    With `reduction=1`, the paper's form and the authors' for SegNet, $W_g$ keeps all channels of
    $p$ and $f$ is a convolution of size 3 with batch normalisation and ReLU. With a larger one, as
    in their program for ResNets, both work on a part of the channels: $W_g$ leaves so many, and
    $f$ is a convolution of size 1 to so many, one of size 3, and one of size 1 to all channels.

    Features may be maps with one to three spatial axes or vectors, for which f is dense. What f
    gives is brought to the size of $p$: pooled (maximum) where sizes are multiples, else resized
    bilinearly; of another rank, or of unknown size, its mean is read at all positions alike.

    What is ours: no biases before a normalisation, no shortcut around f, and an f for each task,
    where the authors' f is common to all tasks.

    Args:
        reduction: int of at least 1. Channels of the features for each one inside mask and f.

    Call arguments:
        features: tensor of shape `(batch, *spatial, channels)`. What is selected from, $p$.
        read: tensor of the same rank. What the mask reads, $u$; it may be the same tensor.
        previous: tensor of shape `(batch, *spatial, channels)` or `None`. $\hat{a}'$.

    Returns:
        Tensor of the shape of `features`.

    Raises:
        ValueError: when `reduction` is no integer of at least 1, `read` cannot be resized to
            `features`, or `previous` has more than three spatial axes or no known channels.

    Example:

    >>> import numpy as np
    >>> from keras_mtl.layers import TaskAttention
    >>> features, previous = np.ones((2, 4, 4, 8)), np.ones((2, 8, 8, 6))
    >>> TaskAttention()(features, features, previous).shape
    TensorShape([2, 4, 4, 8])
    >>> TaskAttention.costs((None, 4, 4, 8), (None, 4, 4, 8))
    (72, 1024)

    Reference:
        [End-to-End Multi-Task Learning with Attention](https://arxiv.org/abs/1803.10704),
        equations 1 and 2.
    """

    def __init__(self, reduction: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction = check_count("reduction", reduction)
        self.supports_masking = True

    def build(self, features_shape: Any, read_shape: Any, previous_shape: Any = None) -> None:
        check_that_they_fit("read", [tuple(read_shape)], tuple(features_shape))
        *unknown, channels = (None,) * (len(features_shape) - 1) + (features_shape[-1],)
        inner, width = max(channels // self.reduction, 1), read_shape[-1]
        self.extraction, self.extraction_normalisations = [], []
        if previous_shape is not None:
            self._build_extraction(tuple(previous_shape), channels)
            width += channels
        self.inner = self._convolution("inner", inner, (*unknown, width))
        self.inner_normalisation = self._normalisation("inner", (*unknown, inner))
        self.outer = self._convolution("outer", channels, (*unknown, inner))
        self.outer_normalisation = self._normalisation("outer", (*unknown, channels))
        self.built = True

    def _build_extraction(self, shape, channels):
        axes = len(shape) - 2
        if axes not in (0, *_CONVOLUTIONS) or shape[-1] is None:
            raise ValueError(
                "`previous` must have one to three spatial axes, or none, and known channels. "
                f"Received: shape={shape}."
            )
        for number, (size, given, found) in enumerate(_kernels(shape, channels, self.reduction)):
            name, read = f"extraction_{number}", (*shape[:-1], given)
            if size == 1 or not axes:
                layer = self._convolution(name, found, read)
            else:
                layer = _CONVOLUTIONS[axes](
                    found, size, padding="same", use_bias=False, data_format="channels_last",
                    dtype=self.dtype_policy, name=name,
                )  # fmt: skip
                layer.build(read)
                layer.supports_masking = True  # the mask of a sequence goes on with p, not here
            self.extraction.append(layer)
            self.extraction_normalisations.append(self._normalisation(name, (*shape[:-1], found)))

    def _convolution(self, name, filters, shape):
        layer = keras.layers.Dense(filters, use_bias=False, dtype=self.dtype_policy, name=name)
        layer.build(shape)
        return layer

    def _normalisation(self, name, shape):
        layer = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name=f"{name}_normalisation"
        )
        layer.build(shape)
        return layer

    def call(
        self, features: Any, read: Any, previous: Any = None, training: bool | None = None
    ) -> Any:
        parts = [resize(read, features.shape[1:-1])]
        if self.extraction:
            for layer, normalisation in zip(
                self.extraction, self.extraction_normalisations, strict=True
            ):
                previous = ops.relu(normalisation(layer(previous), training=training))
            parts.append(_fitted(previous, features))
        inner = self.inner(ops.concatenate(parts, axis=-1))
        inner = ops.relu(self.inner_normalisation(inner, training=training))
        mask = self.outer_normalisation(self.outer(inner), training=training)
        return ops.sigmoid(mask) * features

    @staticmethod
    def costs(
        features_shape: Sequence[Any],
        read_shape: Sequence[Any],
        previous_shape: Sequence[Any] | None = None,
        *,
        reduction: int = 4,
    ) -> tuple[int, int]:
        """Parameters and FLOPs of a mask, without building it.

        FLOPs are those of the convolutions at batch 1, 2 x multiply-adds, as in
        `keras_mtl.graph.costs`. Parameters are theirs and 4 for each channel that is normalised.

        Args:
            features_shape: tuple. Shape of the features, with the batch, which does not matter.
            read_shape: tuple. Shape of what the mask reads; only its channels matter.
            previous_shape: tuple or `None`. Shape of the previous features.
            reduction: int. As in the constructor.

        Returns:
            `(parameters, flops)`, two ints.

        Raises:
            ValueError: when a size that matters is unknown.
        """
        known = (*features_shape[1:], read_shape[-1], *(previous_shape or ())[1:])
        if None in known:
            raise ValueError(
                "The shapes must be known, but for the batch. Received: "
                f"features_shape={features_shape}, read_shape={read_shape}, "
                f"previous_shape={previous_shape}."
            )
        *spatial, channels = features_shape[1:]
        inner, width = max(channels // reduction, 1), read_shape[-1]
        parameters = work = 0
        if previous_shape is not None:
            axes, places = len(previous_shape) - 2, math.prod(previous_shape[1:-1])
            for size, given, found in _kernels(previous_shape, channels, reduction):
                kernel = size**axes * given * found
                parameters, work = parameters + kernel + STATISTICS * found, work + kernel * places
            width += channels
        convolutions = inner * (width + channels)
        parameters += convolutions + STATISTICS * (inner + channels)
        return parameters, 2 * (work + convolutions * math.prod(spatial))

    def compute_output_shape(
        self, features_shape: Any, read_shape: Any, previous_shape: Any = None
    ) -> Any:
        return tuple(features_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}


@register_flops(TaskAttention)
def _attention_flops(layer, inputs, outputs):
    return TaskAttention.costs(*inputs, reduction=layer.reduction)[1]


def _kernels(shape, channels, reduction):
    """The convolutions of f on previous features: size, channels read and channels given."""
    if reduction == 1:
        return [(KERNEL, shape[-1], channels)]
    inner = max(channels // reduction, 1)
    return [(1, shape[-1], inner), (KERNEL, inner, inner), (1, inner, channels)]


def _fitted(x, target):
    """Pools or resizes a map to the size of another; see `TaskAttention`."""
    before, after = tuple(x.shape[1:-1]), tuple(target.shape[1:-1])
    if before == after:
        return x
    if len(before) != len(after) or None in before + after:
        mean = ops.mean(x, axis=tuple(range(1, len(before) + 1))) if before else x
        mean = ops.reshape(mean, (-1, *[1] * len(after), x.shape[-1]))
        return mean * ops.ones_like(target[..., :1])
    if any(a % b for a, b in zip(before, after, strict=True)):
        return resize(x, after)
    blocks = [size for a, b in zip(before, after, strict=True) for size in (b, a // b)]
    x = ops.reshape(x, (-1, *blocks, x.shape[-1]))
    return ops.max(x, axis=tuple(range(2, len(blocks) + 1, 2)))
