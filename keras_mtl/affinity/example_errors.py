"""The loss of every single example, for the affinity by hard and easy examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

if TYPE_CHECKING:
    from keras_mtl.task import Task


def example_errors(model: keras.Model, task: Task, data: Iterable[Any]) -> np.ndarray:
    """How wrong a network is on every example: its loss, a mean over the example's labels.

    Args:
        model: a model of this library that has the task.
        task: `Task`.
        data: iterable of batches `(x, y)`, such as a `tf.data.Dataset` in a fixed order; `y` is the
            labels of the task, or a dict by task name.

    Returns:
        A float64 array of shape `(examples,)`; NaN where an example has no label.

    Raises:
        ValueError: when the loss of a label is not finite: the training has failed.

    Example:

    >>> import keras, keras_mtl
    >>> inputs = keras.Input((1,))
    >>> backbone = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(inputs))
    >>> task = keras_mtl.Task("double", keras.layers.Identity(), "mse")
    >>> model = keras_mtl.build(backbone, [task], "shared", seed=0)
    >>> x = np.array([[1.0], [3.0]], "float32")
    >>> keras_mtl.affinity.example_errors(model, task, [(x, 2 * x)]).tolist()
    [1.0, 9.0]
    """
    errors = []
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                "`data` must be an iterable of batches `(x, y)`. Received: a batch of type "
                f"{type(batch).__name__}. For arrays pass `[(x, y)]`."
            )
        x, y = batch
        labels = y[task.name] if isinstance(y, dict) else y
        values, _, present = task.loss_per_label(labels, model(x, training=False)[task.name])
        values, present = (
            ops.convert_to_numpy(v).reshape(len(v), -1).astype("float64") for v in (values, present)
        )
        if not np.isfinite(values[present > 0]).all():
            raise ValueError(
                "`model` must have a finite loss for every label. Received: a loss of task "
                f"{task.name!r} that is NaN or infinite, which would count as a missing label. "
                "Look at how the model was trained."
            )
        with np.errstate(invalid="ignore"):
            errors.append((values * present).sum(axis=1) / present.sum(axis=1))
    if not errors:
        raise ValueError("`data` must have at least one batch. Received: none.")
    return np.concatenate(errors)
