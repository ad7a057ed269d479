"""The door: from a backbone and tasks to a model."""

import random

from keras_mtl import strategies
from keras_mtl.architecture import Architecture
from keras_mtl.graph import find_units, read
from keras_mtl.models.copies import BACKBONE, FRESH
from keras_mtl.models.derive import derive
from keras_mtl.models.multi_task_search_model import MultiTaskSearchModel
from keras_mtl.models.task_model import TaskModel
from keras_mtl.strategies.strategy import FixedStrategy
from keras_mtl.task import check_tasks


def build(
    backbone,
    tasks,
    strategy="adashare",
    *,
    architecture=None,
    initial_weights=BACKBONE,
    seed=None,
    name=None,
):
    """Makes a multi-task model of any functional backbone.

    The backbone and the heads are cloned: the model owns its layers, and what you pass is never
    changed. With a searching strategy the result is a `MultiTaskSearchModel`; with a fixed one, or
    with an `architecture`, it is a `MultiTaskModel`.

    Args:
        backbone: functional `keras.Model` (or `Sequential`) with one output, the features.
        tasks: list of `Task`, or one.
        strategy: name or `Strategy`. How to find what is shared; ignored with `architecture`.
        architecture: `Architecture` or `None`. Builds this one.
        initial_weights: `"backbone"` (the backbone's present weights, so that all methods start
            alike), `"fresh"` (initialised anew from the seed), or a model of this library that
            hands on its weights.
        seed: int or `None`. Decides everything random of the model; `None` draws one, which is
            recorded in the model (`model.seed`) and, by a search, in `Architecture.origin`.
        name: string.

    Returns:
        `MultiTaskModel` or `MultiTaskSearchModel`.

    Raises:
        UnsupportedBackboneError: when the backbone cannot be read.
        ArchitectureError: when the architecture is for another backbone or other tasks.
        ValueError, TypeError: for other unusable arguments.

    Example:

    >>> import keras, keras_mtl
    >>> dense = keras.layers.Dense(8, activation="relu", name="dense")
    >>> backbone = keras.Sequential([keras.Input((4,)), dense])
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> print(keras_mtl.build(backbone, tasks, "independent", seed=0).architecture.summary())
    unit     a    b
    -----  ---  ---
    dense  own  own
    <BLANKLINE>
                 a   b  together
    ----------  --  --  --------
    parameters  49  49        98
    FLOPs       80  80       160
    """
    tasks = check_tasks(tasks)
    seed = random.SystemRandom().randrange(2**31) if seed is None else int(seed)
    source = _source(initial_weights)
    if architecture is None:
        strategy = strategies.get(strategy)
        if not isinstance(strategy, FixedStrategy):
            return MultiTaskSearchModel(
                backbone, tasks, strategy, initial_weights=source, seed=seed, name=name
            )
    graph = read(backbone)
    if architecture is None:
        architecture = _fixed(graph, tasks, strategy, seed)
    elif not isinstance(architecture, Architecture):
        raise TypeError(
            "`architecture` must be a `keras_mtl.Architecture`. "
            f"Received: architecture={architecture!r}. Use `Architecture.load(path)` for a file."
        )
    return derive(graph, tasks, architecture, seed=seed, source=source, name=name)


def _fixed(graph, tasks, strategy, seed):
    units = find_units(graph, strategy.granularity)
    names = tuple(task.name for task in tasks)
    searchable = tuple(unit.name for unit in units if unit.searchable)
    return Architecture(
        tasks=names,
        units=searchable,
        choices=strategy.choices(names, searchable),
        fingerprint=graph.fingerprint,
        granularity=strategy.granularity,
        normalisation=strategy.normalisation,
        projections=strategy.projections,
        origin={"strategy": strategy.name, "settings": strategy.get_config(), "seed": seed},
    )


def _source(initial_weights):
    if isinstance(initial_weights, TaskModel):
        return initial_weights.named_layers()
    if initial_weights not in (BACKBONE, FRESH):
        raise ValueError(
            f"`initial_weights` must be {BACKBONE!r}, {FRESH!r} or a model of this library. "
            f"Received: initial_weights={initial_weights!r}."
        )
    return initial_weights
