"""GumbelGate: a trainable categorical choice, relaxed by the Gumbel-softmax."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_mtl.layers.architecture_layer import ArchitectureLayer


@keras.saving.register_keras_serializable("keras_mtl")
class GumbelGate(ArchitectureLayer):
    r"""An array of trainable choices among `num_choices` options, relaxed by the Gumbel-softmax.

    In training a soft decision is sampled,
    $v_j = \exp((\log π_j + G_j)/τ) / Σ_i \exp((\log π_i + G_i)/τ)$ with $π$ = softmax of the logits
    and $G$ standard Gumbel noise, and used in the forward and the backward pass. In inference the
    most likely option is one-hot; ties go to the first option.

    With `pinned`, the last option's logit is fixed at 0, so that for two options
    $α = σ(a)$ and $π = [α, 1 - α]$ as in AdaShare's paper; without, every option has a logit, as
    in its authors' code.

    Args:
        shape: tuple of int. Shape of the array of gates, such as `(units, tasks)`.
        num_choices: int of at least 2.
        pinned: bool. Whether the last logit is 0 instead of trainable.
        initial: float or list of `num_choices` floats. First value of the logits.
        available: nested list of bool of shape `(*shape, num_choices)`, or `None`. Options that a
            gate does not have (`False`) get the probability 0 exactly; not with `pinned`.

    Call arguments:
        temperature: positive scalar, number or tensor.
        seed: `keras.random.SeedGenerator` or int; needed in training.
        training: bool. Sampled and soft, or most likely and hard.

    Returns:
        Tensor of shape `(*shape, num_choices)`; sums to 1 along the last axis.

    Raises:
        ValueError: when `num_choices` is below 2, `initial` has another length, or `available`
            has another shape or leaves a gate without options.

    Example:

    >>> from keras_mtl.layers import GumbelGate
    >>> gate = GumbelGate((2, 3), initial=[1.0, 0.0])
    >>> gate(temperature=1.0).shape, gate(temperature=1.0)[0, 0].numpy().tolist()
    (TensorShape([2, 3, 2]), [1.0, 0.0])

    Reference:
        [AdaShare](https://arxiv.org/abs/1911.12423), equations 1 and 2.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_choices: int = 2,
        *,
        pinned: bool = True,
        initial: Any = 0.0,
        available: ArrayLike | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if num_choices < 2:
            raise ValueError(
                f"`num_choices` must be at least 2. Received: num_choices={num_choices}."
            )
        if not isinstance(initial, (int, float)) and len(initial) != num_choices:
            raise ValueError(
                f"`initial` must be a number or have {num_choices} numbers. "
                f"Received: initial={initial}."
            )
        if available is not None:
            mask = np.asarray(available, bool)
            if pinned or mask.shape != (*shape, num_choices) or not mask.any(axis=-1).all():
                raise ValueError(
                    f"`available` must have shape {(*shape, num_choices)} and leave every gate an "
                    f"option, with `pinned=False`. Received: shape {mask.shape}, pinned={pinned}."
                )
            available = mask.tolist()
        self.shape = tuple(shape)
        self.num_choices = num_choices
        self.pinned = pinned
        self.initial = initial
        self.available = available
        self.build()

    def build(self, input_shape: Any = None) -> None:
        scalar = isinstance(self.initial, (int, float))
        first = [self.initial] * self.num_choices if scalar else list(self.initial)
        if self.pinned:
            # Only differences matter: the pinned logit is 0.
            first = [x - (0.0 if scalar else first[-1]) for x in first[:-1]]

        def initializer(shape, dtype=None):
            return ops.broadcast_to(ops.convert_to_tensor(first, dtype=dtype), shape)

        self.logits_variable = self.add_weight(
            name="logits",
            shape=(*self.shape, len(first)),
            initializer=initializer,
            dtype="float32",
            autocast=False,
        )
        self.built = True

    @property
    def architecture_variables(self) -> list[Any]:
        return [self.logits_variable]

    def logits(self) -> Any:
        """All logits, the pinned one included; shape `(*shape, num_choices)`."""
        logits = ops.convert_to_tensor(self.logits_variable)
        if self.pinned:
            logits = ops.concatenate([logits, ops.zeros_like(logits[..., :1])], axis=-1)
        if self.available is not None:
            logits = ops.where(np.array(self.available), logits, -1e9)
        return logits

    def probabilities(self) -> Any:
        """The distribution π that is learned; shape `(*shape, num_choices)`."""
        return ops.softmax(self.logits(), axis=-1)

    def log_probabilities(self) -> Any:
        """log π, exact where π underflows; shape `(*shape, num_choices)`."""
        return ops.log_softmax(self.logits(), axis=-1)

    def call(self, temperature: Any, seed: Any = None, training: bool | None = False) -> Any:
        logits = self.logits()
        if not training:
            return ops.one_hot(ops.argmax(logits, axis=-1), self.num_choices, dtype="float32")
        uniform = keras.random.uniform(ops.shape(logits), 1e-7, 1.0, dtype="float32", seed=seed)
        # The largest float32 below 1 keeps the outer logarithm finite.
        uniform = ops.minimum(uniform, 1.0 - 6e-8)
        gumbel = -ops.log(-ops.log(uniform))
        return ops.softmax((logits + gumbel) / ops.cast(temperature, "float32"), axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            shape=self.shape,
            num_choices=self.num_choices,
            pinned=self.pinned,
            initial=self.initial,
            available=self.available,
        )
        return config
