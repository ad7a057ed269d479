"""EarlyStopping that waits until a search is open."""

from typing import Any

import keras


class EarlyStopping(keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` on a score over all tasks.

    Epochs of a warm-up or of a curriculum do not count: what scores best there is no decision.

    Args:
        monitor: string. `"val_delta"`, which `RelativeScore` adds.
        mode: string.
        **options: of `keras.callbacks.EarlyStopping`.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.callbacks.EarlyStopping(patience=3).patience
    3
    """

    def __init__(self, monitor: str = "val_delta", *, mode: str = "max", **options: Any) -> None:
        super().__init__(monitor=monitor, mode=mode, **options)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.model.search_is_open:
            super().on_epoch_end(epoch, logs)
