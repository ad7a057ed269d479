"""BranchTuner: trains candidate trees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl.architecture import OWN, SKIP, Architecture
from keras_mtl.tuners.architecture_tuner import ArchitectureTuner

if TYPE_CHECKING:
    from keras_mtl.task import Task


class BranchTuner(ArchitectureTuner):
    """Trains trees of a budget, and keeps every result.

    The candidates are trees as `Architecture`s, such as those of
    `keras_mtl.strategies.Branched`, in order of their cost or any other; once tasks have parted,
    they stay apart. Everything else is as in `ArchitectureTuner`.

    Args:
        backbone, tasks, candidates: as in `ArchitectureTuner`.
        **options: of `ArchitectureTuner`.

    Raises:
        ValueError: when a candidate is no tree.

    Example:

    >>> import keras, keras_mtl
    >>> x = inputs = keras.Input((4,))
    >>> for name in ("low", "high"):
    ...     x = keras.layers.Dense(4, name=name)(x)
    >>> backbone = keras.Model(inputs, x)
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> levels = [[["a", "b"]], [["a"], ["b"]]]
    >>> tree = keras_mtl.strategies.Branched(tree=levels, locations=["low", "high"])
    >>> tuner = keras_mtl.tuners.BranchTuner(
    ...     backbone, tasks, [keras_mtl.plan(backbone, tasks, tree)], objective="val_loss",
    ...     compile=lambda model: model.compile("adam"), directory="/tmp/keras_mtl_example",
    ...     project_name="trees", overwrite=True)
    >>> tuner.oracle.max_trials
    1

    Reference:
        [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), section 4.
    """

    def __init__(
        self,
        backbone: keras.Model,
        tasks: Sequence[Task] | Task,
        candidates: Sequence[Architecture],
        **options: Any,
    ) -> None:
        candidates = [candidates] if isinstance(candidates, Architecture) else list(candidates)
        for candidate in candidates:
            if isinstance(candidate, Architecture):
                _check_tree(candidate)
        super().__init__(backbone, tasks, candidates, **options)


def _check_tree(architecture):
    """Raises unless tasks that have parted never use one copy again."""
    for one, other in itertools.combinations(architecture.tasks, 2):
        parted = None
        rows = zip(architecture.units, *map(architecture.choices.get, (one, other)), strict=True)
        for unit, *choices in rows:
            together = choices[0] == choices[1] not in (OWN, SKIP)
            if (together and parted) or SKIP in choices:
                what = "a skipped unit" if SKIP in choices else f"tasks that part at {parted!r}"
                raise ValueError(
                    "`candidates` must be trees: all units used, and tasks that have parted stay "
                    f"apart. Received: {what}, and choices {choices} of {[one, other]} at "
                    f"{unit!r}. Use `ArchitectureTuner` for other architectures."
                )
            parted = parted or (None if together else unit)
