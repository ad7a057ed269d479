"""RelativeScore: one number over all tasks, to stop early or keep the best by."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_mtl.metrics import relative_performance
from keras_mtl.metrics.relative_performance import directions


class RelativeScore(keras.callbacks.Callback):
    """Adds `val_delta` to the logs: Δ_T of the papers, in percent against stored results.

    Every task has a row `val_<task>_delta` too. Put it before callbacks that monitor the score.

    Args:
        baseline: dict from task to a dict from metric name to value, such as
            `model.task_results(...)` of single-task models on the same validation data.
        lower_is_better: as in `relative_performance`: a dict such as `{"wer": True}` for metrics
            that are not Keras' or this library's, or `None`.

    Raises:
        ValueError: when nothing says whether a metric is better when smaller.

    Example:

    >>> import keras_mtl
    >>> score = keras_mtl.callbacks.RelativeScore({"a": {"accuracy": 0.5}})
    >>> stop = keras_mtl.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    >>> [callback.__class__.__name__ for callback in (score, stop)], stop.monitor
    (['RelativeScore', 'EarlyStopping'], 'val_delta')
    """

    def __init__(
        self,
        baseline: Mapping[str, Mapping[str, Any]],
        *,
        lower_is_better: Mapping[str, bool] | None = None,
    ) -> None:
        super().__init__()
        self.reference = {task: dict(metrics) for task, metrics in baseline.items()}
        directions(self.reference, lower_is_better)  # says before the training what it misses
        self.lower_is_better = lower_is_better

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        missing = [
            name
            for name in (f"val_{t}_{m}" for t, ms in self.reference.items() for m in ms)
            if name not in logs
        ]
        if missing:
            raise ValueError(
                "`baseline` must have metrics that validation gives. Received: a baseline with "
                f"{missing[0]!r}, which is not among {sorted(logs)}. Pass `validation_data` to "
                "`fit`, and the metric to its task."
            )
        results = {
            task: {metric: logs[f"val_{task}_{metric}"] for metric in metrics}
            for task, metrics in self.reference.items()
        }
        delta = relative_performance(results, self.reference, lower_is_better=self.lower_is_better)
        logs["val_delta"] = delta.total
        for task, value in delta.per_task.items():
            logs[f"val_{task}_delta"] = value
