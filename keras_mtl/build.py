"""The door: from a backbone and tasks to a model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras

from keras_mtl import strategies
from keras_mtl.architecture import Architecture
from keras_mtl.checks import check_seed
from keras_mtl.graph import find_units, read
from keras_mtl.models.copies import BACKBONE, FRESH
from keras_mtl.models.derive import derive, fitted, with_costs
from keras_mtl.models.handed_weights import layers_of_model, mean_of_models
from keras_mtl.models.multi_task_search_model import MultiTaskSearchModel
from keras_mtl.models.task_model import TaskModel
from keras_mtl.strategies.strategy import FixedStrategy
from keras_mtl.task import check_tasks

if TYPE_CHECKING:
    from keras_mtl.models import MultiTaskModel
    from keras_mtl.strategies import Strategy
    from keras_mtl.task import Task


def build(
    backbone: keras.Model,
    tasks: Sequence[Task] | Task,
    strategy: str | Strategy | type[Strategy] | None = None,
    *,
    architecture: Architecture | None = None,
    initial_weights: str | TaskModel | Mapping[str, TaskModel] = BACKBONE,
    seed: int | None = None,
    name: str | None = None,
) -> MultiTaskModel | MultiTaskSearchModel:
    """Makes a multi-task model of any functional backbone.

    The backbone and the heads are cloned: the model owns its layers, and what you pass is never
    changed. With a searching strategy the result is a `MultiTaskSearchModel`; with a fixed one, or
    with an `architecture`, it is a `MultiTaskModel`.

    Args:
        backbone: functional `keras.Model` (or `Sequential`) with one output, the features.
        tasks: list of `Task`, or one.
        strategy: name or `Strategy`. How to find what is shared; by default AdaShare, unless there
            is an `architecture`.
        architecture: `Architecture` or `None`. Builds this one, which is decided already.
        initial_weights: `"backbone"` (the backbone's present weights, so that all methods start
            alike), `"fresh"` (initialised anew from the seed), a model of this library that hands
            on its weights (a task that it has not begins as with `"backbone"`, which is said), or
            a dict from every task's name to such a model: what several tasks share then begins as
            the mean of their layers.
        seed: int or `None`. Decides everything random of the model; `None` draws one, repeatable by
            `keras.utils.set_random_seed`, which is recorded in the model (`model.seed`) and, by a
            search, in `Architecture.origin`.
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
    seed = check_seed(seed)
    graph = read(backbone)
    if architecture is None:
        strategy = strategies.get("adashare" if strategy is None else strategy)
        if not isinstance(strategy, FixedStrategy):
            source = _source(initial_weights, graph, tasks, strategy.granularity)
            return MultiTaskSearchModel(
                backbone,
                tasks,
                strategy,  # type: ignore[arg-type]
                initial_weights=source,
                seed=seed,
                name=name,
            )
        architecture = _fixed(graph, tasks, strategy, seed)
    elif not isinstance(architecture, Architecture):
        raise TypeError(
            "`architecture` must be a `keras_mtl.Architecture`. "
            f"Received: architecture={architecture!r}. Use `Architecture.load(path)` for a file."
        )
    elif strategy is not None:
        raise ValueError(
            "`strategy` and `architecture` must not be given both: an architecture is decided. "
            f"Received: strategy={strategy!r} and {architecture!r}. Leave `strategy` out to build "
            "the architecture, or `architecture` to decide anew."
        )
    elif isinstance(initial_weights, str):
        _warn_without_weights(architecture)
    source = _source(initial_weights, graph, tasks, architecture.granularity, architecture)
    return derive(graph, tasks, architecture, seed=seed, source=source, name=name)


def plan(
    backbone: keras.Model,
    tasks: Sequence[Task] | Task,
    strategy: str | Strategy | type[Strategy],
    *,
    seed: int | None = None,
) -> Architecture:
    """The Architecture of a fixed strategy, with its costs, without making a model.

    Args:
        backbone, tasks: as in `build`.
        strategy: name or `Strategy` that decides without a search.
        seed: int or `None`.

    Returns:
        An `Architecture`.

    Raises:
        ValueError: when the strategy has to search first.

    Example:

    >>> import keras, keras_mtl
    >>> backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="dense")])
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> keras_mtl.plan(backbone, tasks, "independent").parameters("a")
    49
    """
    tasks = check_tasks(tasks)
    strategy = strategies.get(strategy)
    if not isinstance(strategy, FixedStrategy):
        raise ValueError(
            f"`strategy` must decide without a search. Received: strategy={strategy!r}. Use "
            "`keras_mtl.build(backbone, tasks, strategy)`, train it, and `decide()`."
        )
    graph = read(backbone)
    return with_costs(graph, tasks, _fixed(graph, tasks, strategy, check_seed(seed)))


def _fixed(graph, tasks, strategy, seed):
    units = tuple(u for u in find_units(graph, strategy.granularity) if u.searchable)
    names = tuple(task.name for task in tasks)
    return Architecture(
        tasks=names,
        units=tuple(unit.name for unit in units),
        fingerprint=graph.fingerprint,
        granularity=strategy.granularity,
        normalisation=strategy.normalisation,
        projections=strategy.projections,
        origin={"strategy": strategy.name, "settings": strategy.get_config(), "seed": seed},
        **strategy.decide(graph, units, names),
    )


def _warn_without_weights(architecture):
    """Says so where a method does not train its decision anew, and the weights are missing."""
    decided_by = strategies.STRATEGIES.get(architecture.origin.get("strategy"))
    if not getattr(decided_by, "retrains", True):
        warnings.warn(
            f"`initial_weights` should be the search that decided this architecture: "
            f"{decided_by.__name__} does not train a decided network anew. Pass "
            "`initial_weights=search`, or train the network that is built now from the start.",
            stacklevel=3,
        )


def _source(initial_weights, graph, tasks, granularity, architecture=None):
    if architecture is not None:
        units = find_units(graph, architecture.granularity)
        architecture = fitted(graph, units, tasks, architecture)
    if isinstance(initial_weights, TaskModel):
        return layers_of_model(initial_weights, graph, tasks, granularity, architecture)
    if isinstance(initial_weights, Mapping):
        given = {task.name: initial_weights.get(task.name) for task in tasks}
        if not all(isinstance(model, TaskModel) for model in given.values()):
            raise ValueError(
                f"`initial_weights` must have a model of this library for each of the tasks "
                f"{list(given)}. Received: initial_weights={initial_weights!r}."
            )
        return mean_of_models(graph, tasks, given, architecture)
    if not isinstance(initial_weights, str) or initial_weights not in (BACKBONE, FRESH):
        raise ValueError(
            f"`initial_weights` must be {BACKBONE!r}, {FRESH!r}, a model of this library, or a "
            f"dict from task to model. Received: initial_weights={initial_weights!r}."
        )
    return initial_weights
