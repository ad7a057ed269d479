"""Random numbers that are a pure function of (seed, step)."""

from typing import Any

import keras
from keras import ops


class StepSeed(keras.random.SeedGenerator):
    """A seed generator without a state of its own: its numbers follow from a seed and a step.

    Replicas of one step draw the same numbers, and a resumed training draws what it would have
    drawn, whether or not the generator was saved.

    Args:
        seed: int.
        step: integer variable or tensor of shape `()`; read at every draw.

    Example:

    >>> import keras
    >>> from keras_mtl.layers import StepSeed
    >>> first, second = (float(keras.random.uniform((), seed=StepSeed(1, s))) for s in (0, 1))
    >>> first == float(keras.random.uniform((), seed=StepSeed(1, 0))), first == second
    (True, False)
    """

    def __init__(self, seed: int, step: Any) -> None:
        # Without the base's: that would make a state, here and in every traced function.
        self.seed = seed % 2**31
        self.step = step

    def next(self, ordered: bool = True) -> Any:
        # JAX takes nothing but uint32; on TensorFlow other numbers would follow from it.
        dtype = "uint32" if keras.backend.backend() == "jax" else "int32"
        seed = ops.convert_to_tensor(self.seed, dtype=dtype)
        return ops.stack([seed, ops.cast(ops.convert_to_tensor(self.step), dtype)])
