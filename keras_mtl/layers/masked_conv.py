"""MaskedConv: a convolution of which every task uses and changes some channels."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
from keras import ops

from keras_mtl.channel_use import ChannelUse
from keras_mtl.graph.channel_selection import bits
from keras_mtl.graph.channels import channels_of, spread
from keras_mtl.layers.channel_mask import ChannelMask


@keras.saving.register_keras_serializable("keras_mtl")
class MaskedConv(keras.layers.Layer):
    r"""A convolution or dense layer that tasks share by channels.

    For task $t$ with forward mask $f_t$ and backward mask $b_t$:
    $y = f_t \odot σ(\mathrm{BN}_t(x * W_t + B_t))$ with
    $W_t = b_t \odot W + (1 - b_t) \odot \mathrm{sg}(W)$, so that only channels in the backward mask
    have gradients, exactly 0 elsewhere, while the gradient of $x$ flows through all channels of the
    forward mask. $W_t$ has the value of $W$: the masks of weights cost no accuracy.

    Masks hold for gradients here. An optimizer with momentum or weight decay moves variables
    without gradients, too: models of `keras_mtl.build` mask the final update instead.

    Args:
        layer: Keras layer whose channels can be masked: `Conv1D`, `Conv2D`, `Conv3D`, their
            transposed and separable forms, `Dense`, or a `DepthwiseConv1D` or `DepthwiseConv2D`,
            which has the channels of its inputs.
        forward: mapping from task to mask, as of `ChannelUse`.
        backward: the same, or `None`: every task may change what it uses.
        backward_inputs: mapping from task to a mask of the *input* channels, or `None`: the
            channels of the layer before that a task may change, and so may the kernel that reads
            them.
        normalise: bool. Whether a batch normalisation of every task's own follows, before the
            activation.
        activation: activation, its name, or `None`. After the normalisation; that of `layer` comes
            before.

    Call arguments:
        inputs: tensor of shape `(batch, ..., channels)`.
        task: string. Whose masks to use.
        training: bool or `None`. Of the normalisation.

    Returns:
        Tensor of shape `(batch, ..., channels)`, 0 where the task uses no channel.

    Raises:
        TypeError: when `layer` cannot be masked.
        ValueError: for an unknown task, or masks that do not fit the layer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_mtl.layers import MaskedConv
    >>> conv = keras.layers.Conv2D(4, 3, padding="same")
    >>> layer = MaskedConv(conv, {"a": "1110", "b": "0111"}, {"a": "1100", "b": "0011"})
    >>> y = layer(np.ones((1, 8, 8, 3)), task="a")
    >>> [bool(np.any(y[..., channel])) for channel in range(4)]
    [True, True, True, False]

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        forward: Mapping[str, str],
        backward: Mapping[str, str] | None = None,
        *,
        backward_inputs: Mapping[str, str] | None = None,
        normalise: bool = False,
        activation: str | Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        known = channels_of(layer) if isinstance(layer, keras.layers.Layer) else None
        if known is None or not any(name.endswith("kernel") for name in known.axes):
            raise TypeError(
                "`layer` must be a convolution or dense layer whose channels can be masked. "
                f"Received: layer={layer!r}."
            )
        self.layer = layer
        self.use = ChannelUse(forward, backward)
        self.read = backward_inputs and ChannelUse(backward_inputs)
        if self.read and set(self.read.forward) != set(self.use.forward):
            raise ValueError(
                f"`backward_inputs` must have a mask for each of the tasks "
                f"{list(self.use.forward)}. Received: masks for {list(self.read.forward)}."
            )
        self.normalise = normalise
        self.activation = keras.activations.get(activation)
        options = {"dtype": self.dtype_policy}
        self.masks, self.normalisations = {}, {}
        for task, mask in self.use.forward.items():
            self.masks[task] = ChannelMask(mask, name=f"mask_{task}", **options)
            if normalise:
                self.normalisations[task] = keras.layers.BatchNormalization(
                    name=f"normalisation_{task}", **options
                )

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        shape = self.layer.compute_output_shape(input_shape)
        for name, use, found in (
            ("forward", self.use, shape[-1]),
            ("backward_inputs", self.read, input_shape[-1]),
        ):
            if use and use.channels != found:
                raise ValueError(
                    f"`{name}` must have masks of {found} channels, as the layer has. Received: "
                    f"masks of length {use.channels}."
                )
        for layer in (*self.normalisations.values(), *self.masks.values()):
            layer.build(shape)
        self.built = True

    def call(self, inputs: Any, task: str, training: bool | None = None) -> Any:
        if task not in self.use.forward:
            raise ValueError(
                f"`task` must be one of {list(self.use.forward)}. Received: task={task!r}."
            )
        with keras.StatelessScope(state_mapping=self._guarded(task)):
            x = self.layer(inputs)
        if self.normalise:
            x = self.normalisations[task](x, training=training)
        return self.masks[task](self.activation(x))

    def _guarded(self, task):
        """Pairs of variables and values whose gradients are 0 outside of the backward mask."""
        known = channels_of(self.layer)
        outputs = bits(self.use.backward[task])
        inputs = self.read and bits(self.read.forward[task])
        pairs = []
        for variable in self.layer.weights:
            axes = known.axes[variable.name]
            free = ops.cast(spread(variable.shape, axes, inputs, outputs) > 0, "bool")
            value = ops.convert_to_tensor(variable)
            pairs.append((variable, ops.where(free, value, ops.stop_gradient(value))))
        return pairs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "forward": dict(self.use.forward),
            "backward": dict(self.use.backward),
            "backward_inputs": self.read and dict(self.read.forward),
            "normalise": self.normalise,
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})
