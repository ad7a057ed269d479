"""BestCheckpoint that waits until a search is open."""

import os
from typing import Any

import keras


class BestCheckpoint(keras.callbacks.ModelCheckpoint):
    """`keras.callbacks.ModelCheckpoint` of the best epoch by a score over all tasks.

    Epochs of a warm-up or of a curriculum do not count.

    Args:
        filepath: string. Ends in `.keras`, or in `.weights.h5` with `save_weights_only=True`.
        monitor: string. `"val_delta"`, which `RelativeScore` adds.
        mode: string.
        **options: of `keras.callbacks.ModelCheckpoint`.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.callbacks.BestCheckpoint("best.keras").save_best_only
    True
    """

    def __init__(
        self,
        filepath: os.PathLike[str] | str,
        monitor: str = "val_delta",
        *,
        mode: str = "max",
        **options: Any,
    ) -> None:
        options.setdefault("save_best_only", True)
        super().__init__(str(filepath), monitor=monitor, mode=mode, **options)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.model.search_is_open:
            super().on_epoch_end(epoch, logs)
