"""Loss weighting: how the tasks' losses become one number."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl.errors import suggestion

if TYPE_CHECKING:
    from keras_mtl.task import Task


class LossWeighting(keras.layers.Layer):
    """Sum of the tasks' losses by fixed factors; the base of schemes that learn or adapt them.

    `call(losses)` takes a dict from task to its loss, already multiplied by the task's weight, and
    returns the total. A scheme may own variables; trainable ones are trained with the weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Losses stay float32 under mixed precision.
        super().__init__(**{"dtype": "float32", **kwargs})

    def setup(self, tasks: Sequence[Task]) -> None:
        """Makes the variables; called once by `compile` with the model's tasks."""
        self.task_names = tuple(task.name for task in tasks)
        self.built = True

    def call(self, losses: Mapping[str, Any]) -> Any:
        return sum(losses.values())

    def total(self, losses: Mapping[str, Any], present: Mapping[str, Any]) -> Any:
        """Like a call, but told which tasks have labels in the step: `present[task]` is 1 or 0."""
        return self(losses)

    def update_scales(self, task: str) -> dict[int, Any]:
        """What a step of one task may move of the scheme's variables; see `TaskModel`."""
        return {}

    def epoch_ended(self, losses: Mapping[str, float]) -> None:
        """Hears every epoch's mean losses, a dict from task to float; NaN for one without steps."""

    def factors(self) -> dict[str, float]:
        """Current factor of every task, for people to look at."""
        return {task: 1.0 for task in self.task_names}


@keras.saving.register_keras_serializable("keras_mtl")
class EqualWeighting(LossWeighting):
    """The plain sum of the weighted losses."""


@keras.saving.register_keras_serializable("keras_mtl")
class UncertaintyWeighting(LossWeighting):
    r"""Learns one noise scale per task: regression L/(2σ²) + log σ, classification L/σ² + log σ.

    With $s = \log σ^2$ trained, which starts at 0. A task whose loss is a crossentropy counts as
    classification, every other as regression.

    Args:
        regression: list of task names or `None`. Overrules which tasks count as regression.

    Reference:
        [Kendall et al.](https://arxiv.org/abs/1705.07115), equations 7 to 10.
    """

    def __init__(self, regression: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.regression = None if regression is None else list(regression)

    def setup(self, tasks: Sequence[Task]) -> None:
        super().setup(tasks)
        if self.regression is None:
            kinds = ["crossentropy" not in type(t.loss).__name__.lower() for t in tasks]
        else:
            unknown = [name for name in self.regression if name not in self.task_names]
            if unknown:
                raise ValueError(
                    f"`regression` must name tasks of {list(self.task_names)}. "
                    f"Received: {unknown[0]!r}." + suggestion(unknown[0], self.task_names)
                )
            kinds = [t.name in self.regression for t in tasks]
        self.scales = tuple(0.5 if regression else 1.0 for regression in kinds)
        self.log_variances = self.add_weight(
            name="log_variances", shape=(len(tasks),), initializer="zeros", autocast=False
        )

    def call(self, losses: Mapping[str, Any]) -> Any:
        return sum(self._terms(losses).values())

    def total(self, losses: Mapping[str, Any], present: Mapping[str, Any]) -> Any:
        # A task that is absent from a step has no say in it.
        return sum(present[task] * term for task, term in self._terms(losses).items())

    def update_scales(self, task: str) -> dict[int, Any]:
        own = [float(name == task) for name in self.task_names]
        return {id(self.log_variances): np.array(own, "float32")}

    def _terms(self, losses):
        return {
            task: self.scales[i] * ops.exp(-self.log_variances[i]) * loss
            + 0.5 * self.log_variances[i]
            for i, (task, loss) in enumerate(losses.items())
        }

    def factors(self) -> dict[str, float]:
        values = ops.convert_to_numpy(ops.exp(-self.log_variances))
        return {
            t: float(s * v) for t, s, v in zip(self.task_names, self.scales, values, strict=True)
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "regression": self.regression}


@keras.saving.register_keras_serializable("keras_mtl")
class DynamicWeightAverage(LossWeighting):
    r"""DWA: a task whose loss falls slowly weighs more.

    $λ_k = K \exp(r_k / T) / Σ_i \exp(r_i / T)$, $r_k = L_k(t-1) / L_k(t-2)$ with the mean losses of
    the last two epochs; 1 in the first two. Losses must be positive for the rates to mean anything:
    with others the factors stay as they are, with a warning.

    Args:
        temperature: positive float, T.

    Reference:
        [MTAN, Liu et al.](https://arxiv.org/abs/1803.10704), equation 7.
    """

    def __init__(self, temperature: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(
                f"`temperature` must be positive. Received: temperature={temperature}."
            )
        self.temperature = temperature

    def setup(self, tasks: Sequence[Task]) -> None:
        super().setup(tasks)
        options = {"trainable": False, "autocast": False}
        shape = (len(tasks),)
        self.current = self.add_weight(name="factors", shape=shape, initializer="ones", **options)
        self.last = self.add_weight(name="last_losses", shape=shape, initializer="zeros", **options)

    def call(self, losses: Mapping[str, Any]) -> Any:
        return sum(self.current[i] * loss for i, loss in enumerate(losses.values()))

    def epoch_ended(self, losses: Mapping[str, float]) -> None:
        now = ops.convert_to_tensor([losses[task] for task in self.task_names], dtype="float32")
        last = ops.convert_to_tensor(self.last)
        now = ops.where(ops.isnan(now), last, now)
        negative = [task for task in self.task_names if losses[task] < 0]
        if negative:
            warnings.warn(
                "DynamicWeightAverage needs positive losses. Received: "
                f"{losses[negative[0]]:.3g} of task {negative[0]!r}; the factors stay as they are.",
                stacklevel=2,
            )
        elif bool(ops.all(last > 0)):
            self.current.assign(len(losses) * ops.softmax(now / last / self.temperature))
        self.last.assign(now)

    def factors(self) -> dict[str, float]:
        values = ops.convert_to_numpy(self.current)
        return dict(zip(self.task_names, map(float, values), strict=True))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


_BY_NAME = {
    "equal": EqualWeighting,
    "uncertainty": UncertaintyWeighting,
    "dwa": DynamicWeightAverage,
}


def get(weighting):
    """Returns a `LossWeighting` for `None`, a name or an object."""
    if weighting is None:
        return EqualWeighting()
    if isinstance(weighting, LossWeighting):
        # One that another model has (or this one had) keeps its variables to itself.
        return type(weighting).from_config(weighting.get_config()) if weighting.built else weighting
    if weighting in _BY_NAME:
        return _BY_NAME[weighting]()
    raise ValueError(
        f"`loss_weighting` must be a LossWeighting object or one of {sorted(_BY_NAME)}. "
        f"Received: loss_weighting={weighting!r}."
    )
