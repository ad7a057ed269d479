"""The base of every layer that owns policy variables."""

import abc
from typing import Any

import keras


class ArchitectureLayer(keras.layers.Layer, abc.ABC):
    """A layer with policy variables: they belong to the architecture, not to the weights.

    A search model trains them with its policy optimizer on policy batches. It finds them by asking
    their owner, never by name.
    """

    @property
    @abc.abstractmethod
    def architecture_variables(self) -> list[Any]:
        """List of the trainable policy variables that this layer owns."""
