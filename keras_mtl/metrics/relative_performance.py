"""How much better multi-task results are than those of single-task models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mtl.metrics.directions import lower_is_better


@dataclasses.dataclass(frozen=True)
class RelativePerformance:
    """How much better multi-task models are than single-task models, in percent.

    Args:
        per_task: Dictionary from the name of a task to its relative performance.
        total: Float. The mean over the tasks.
    """

    per_task: dict
    total: float


def relative_performance(
    result: Mapping[str, Mapping[str, Any]],
    baseline: Mapping[str, Mapping[str, Any]],
    *,
    lower_is_better: Mapping[str, bool] | None = None,
) -> RelativePerformance:
    """Compare a multi-task result with the results of single-task models.

    With `M` a metric of the result and `B` the same metric of the baseline, the relative
    performance of a task is the mean over its metrics of `(-1)**l * (M - B) / |B| * 100`, where
    `l` is 1 if the metric is better when smaller and else 0; the total is the mean over tasks.
    The papers divide by `B`, the same for their metrics, which are all positive. A metric of
    several numbers, such as one per class, counts by their mean.

    Args:
        result: Dictionary `{task: {metric: value}}`; a value is a number or an array.
        baseline: Dictionary with the same tasks and metrics, from single-task models.
        lower_is_better: Dictionary from the name of a metric to whether it is better when
            smaller, or `None`. It is needed for metrics that `keras_mtl.metrics.lower_is_better`
            does not know, and goes before what that knows.

    Returns:
        A `RelativePerformance`. Positive numbers mean: better than the baseline.

    Raises:
        TypeError: When an argument or a value is of the wrong kind.
        ValueError: When tasks or metrics differ, a value is not finite, a baseline is 0, or
            nothing says whether a metric is better when smaller.

    Example:

    >>> from keras_mtl.metrics import relative_performance
    >>> single = {"segmentation": {"mean_iou": 0.25}, "depth": {"absolute_error": 0.5}}
    >>> multi = {"segmentation": {"mean_iou": 0.3125}, "depth": {"absolute_error": 0.75}}
    >>> relative_performance(multi, single)
    RelativePerformance(per_task={'segmentation': 25.0, 'depth': -50.0}, total=-12.5)
    >>> single, multi = {"speech": {"wer": 0.2}}, {"speech": {"wer": 0.15}}
    >>> round(relative_performance(multi, single, lower_is_better={"wer": True}).total)
    25

    Reference:
        [AdaShare: Learning What To Share For Efficient Deep Multi-Task Learning](
        https://arxiv.org/abs/1911.12423), Section 4, Equation 6.
    """
    result = _as_floats("result", result)
    baseline = _as_floats("baseline", baseline)
    _require_same_names("the tasks", "", result, baseline)
    signs = directions(baseline, lower_is_better)
    per_task = {}
    for task, metrics in result.items():
        _require_same_names("the metrics", f"[{task!r}]", metrics, baseline[task])
        gains = []
        for metric, value in metrics.items():
            single = baseline[task][metric]
            if single == 0:
                raise ValueError(
                    "`baseline` must not be 0, a relative change would be infinite. "
                    f"Received: baseline[{task!r}][{metric!r}]={single}."
                )
            gain = (value - single) / abs(single) * 100
            gains.append(-gain if signs[task][metric] else gain)
        per_task[task] = sum(gains) / len(gains)
    return RelativePerformance(per_task, sum(per_task.values()) / len(per_task))


def directions(tasks, given):
    """Whether every metric is better when smaller.

    Args:
        tasks: Dictionary from the name of a task to the names of its metrics.
        given: The argument `lower_is_better` of `relative_performance`.

    Returns:
        Dictionary `{task: {metric: boolean}}`.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not all(isinstance(v, bool) for v in given.values()):
        raise TypeError(
            "`lower_is_better` must be a dictionary from the name of a metric to True or False. "
            f"Received: lower_is_better={given!r}."
        )
    return {
        task: {
            name: given[name] if name in given else lower_is_better(name, tasks=[task])
            for name in metrics
        }
        for task, metrics in tasks.items()
    }


def _as_floats(argument, tasks):
    """Return a copy of `tasks` with finite floats."""
    if not isinstance(tasks, Mapping):
        raise TypeError(
            f"`{argument}` must be a dictionary {{task: {{metric: value}}}}. "
            f"Received: {argument}={tasks!r}."
        )
    if not tasks:
        raise ValueError(f"`{argument}` must hold at least one task. Received: {argument}={{}}.")
    return {
        task: _metrics_as_floats(f"{argument}[{task!r}]", argument, metrics)
        for task, metrics in tasks.items()
    }


def _metrics_as_floats(place, argument, metrics):
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"`{argument}` must map each task to a dictionary of its metrics. "
            f"Received: {place}={metrics!r}."
        )
    if not metrics:
        raise ValueError(
            f"`{argument}` must hold at least one metric of each task. Received: {place}={{}}."
        )
    values = {}
    for metric, value in metrics.items():
        received = f"Received: {place}[{metric!r}]={value!r}."
        try:
            numbers = np.asarray(value).astype("float64")
        except (TypeError, ValueError):
            raise TypeError(f"`{argument}` must hold numbers. {received}") from None
        if not numbers.size or not np.isfinite(numbers).all():
            raise ValueError(f"`{argument}` must hold finite numbers. {received}")
        values[metric] = float(numbers.mean())
    return values


def _require_same_names(what, place, result, baseline):
    if set(result) != set(baseline):
        raise ValueError(
            f"`result` must have {what} of `baseline`. "
            f"Received: result{place} with {sorted(result)}, baseline{place} with "
            f"{sorted(baseline)}."
        )
