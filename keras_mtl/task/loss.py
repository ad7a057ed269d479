"""What a task may be given as its loss, and how a Keras loss is asked for one value per label."""

import inspect

import keras
from keras import ops

from keras_mtl.task.of_function import OfFunction
from keras_mtl.task.settings import settings_of, takes

_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None)


@keras.saving.register_keras_serializable("keras_mtl")
class FunctionLoss(OfFunction, keras.losses.Loss):
    """A loss function of `(y_true, y_pred)` or `(y_true, y_pred, mask)`, as an object."""

    def __init__(self, function, name=None):
        super().__init__(name=name or getattr(function, "__name__", "loss"), reduction="none")
        self.function = function

    def call(self, y_true, y_pred, **mask):
        return self.function(y_true, y_pred, **mask)


def as_loss(loss, task):
    """The Keras loss of a task, from an object, a name or a function."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError as error:
            raise ValueError(
                f"`loss` of task {task!r} must be known to Keras. Received: loss={loss!r}."
            ) from error
    if isinstance(loss, keras.losses.Loss):
        return _with_known_reduction(loss, task)
    known = class_of(loss, keras.losses, keras.losses.Loss)
    if known is not None:
        return known()
    if callable(loss) and not inspect.isclass(loss):
        return FunctionLoss(loss)
    raise TypeError(
        f"`loss` of task {task!r} must be a Keras loss, its name, or a function of "
        f"(y_true, y_pred). Received: loss={loss!r}."
    )


def values_of(loss, labels, y_pred, present):
    """The losses of labels without holes in the loss's own type, and their Keras mask or `None`.

    Args:
        loss: `keras.losses.Loss`.
        labels, y_pred: tensors.
        present: float tensor of the labels' shape.
    """
    dtype = keras.backend.standardize_dtype(loss.dtype)
    # As in Keras, a loss gets numbers of its own type. Class numbers need at least float32.
    exact = keras.backend.is_float_dtype(labels.dtype) or dtype == "float64"
    labels = ops.cast(labels, dtype if exact else "float32")
    y_pred = ops.cast(y_pred, dtype)
    if excludes_by_zeros(loss):
        there = ops.cast(present, dtype)
        return _called(loss, labels * there, y_pred * there)
    if isinstance(loss, keras.losses.Circle):
        return _of_present_rows(loss, labels, y_pred, present)
    if not takes_mask(loss):
        return _called(loss, labels, y_pred)
    # An example without labels is left out afterwards; until then its loss must be finite.
    others = tuple(range(1, len(present.shape)))
    empty = 1.0 - (ops.max(present, axis=others, keepdims=True) if others else present)
    return _called(loss, labels, y_pred, mask=ops.cast(present + empty, dtype))


def excludes_by_zeros(loss):
    """Whether a loss is made of sums of products, which zeros for both factors leave out."""
    return isinstance(loss, (keras.losses.Dice, keras.losses.Tversky))


def takes_mask(loss):
    """Whether a loss leaves missing labels out by itself."""
    return takes(loss.function if isinstance(loss, FunctionLoss) else loss.call, "mask")


def declared_axes(loss):
    """The axes that a loss says to reduce, a tuple; `None` where it says nothing."""
    axis = settings_of(loss).get("axis")
    if isinstance(axis, int):
        return (axis,)
    return tuple(axis) if isinstance(axis, (tuple, list)) else None


def class_of(function, module, base):
    """The class behind one of Keras' own functions: "mae" gives `MeanAbsoluteError`.

    A function of the user's may have the same name and mean something else.
    """
    name = getattr(function, "__name__", "").replace("_", "")
    if not getattr(function, "__module__", "").startswith("keras."):
        return None
    for known in vars(module).values():
        if isinstance(known, type) and issubclass(known, base) and known.__name__.lower() == name:
            return known
    return None


def _called(loss, *arguments, **mask):
    values = loss.call(*arguments, **mask)
    return values, getattr(values, "_keras_mask", None)


def _of_present_rows(loss, labels, y_pred, present):
    """The values of a loss that compares every example with all others of its batch."""
    (rows,) = ops.nonzero(ops.reshape(present, (-1,)))
    found, mask = _called(loss, ops.take(labels, rows, 0), ops.take(y_pred, rows, 0))
    rows, size = ops.expand_dims(rows, -1), ops.shape(y_pred)[:1]
    mask = ops.cast(mask, found.dtype)
    return ops.scatter(rows, found, size), ops.scatter(rows, mask, size)


def _with_known_reduction(loss, task):
    if loss.reduction not in _REDUCTIONS:
        raise ValueError(
            f"`loss` of task {task!r} must be a mean over labels. Received: loss {loss.name!r} "
            f"with reduction={loss.reduction!r}. Leave `reduction` out, and set the task's "
            "`weight` instead."
        )
    return loss
