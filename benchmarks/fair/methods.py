"""The methods that `quality.py` compares: one row of `METHODS` each.

A method is a function of a `Seed` (one seed of one suite) that trains what it compares, with
`protocol.py`, and returns the row of its best candidate with what the report draws.
"""

import dataclasses
import functools
from collections.abc import Callable

import branching
import numpy as np
import protocol
from keras import ops
from training_log import feed, num_batches

import keras_mtl
from fair import costs, partitioning
from fair.stochastic_depth import StochasticDepth
from keras_mtl import strategies
from keras_mtl.affinity import find_locations, random_trees
from keras_mtl.strategies import SearchStrategy


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table.

    Args:
        title: string. What the tables call it.
        run: function of a `Seed` and the title that returns a row.
        kind: `"fixed"` or `"columns"` (one training), `"search"` (and its candidates), `"random"`
            or `"tree"` (candidates alone).
        cost: float. A first guess of its time, in units of all single-task trainings.
        needs: the method that must be there before, or `None`.
        begins_trained: bool. Whether it begins with the trained single-task networks.
        of: the method that it is an ablation of, or `None`.
    """

    title: str
    run: Callable
    kind: str
    cost: float
    needs: str | None = None
    begins_trained: bool = False
    of: str | None = None

    def trainings(self, samples):
        """How many networks it trains, or evaluates, beside its search."""
        return 1 if self.kind in ("fixed", "columns") else samples


@dataclasses.dataclass
class Seed:
    """One seed of one suite, while it runs.

    Args:
        setup: `protocol.Experiment`.
        log: `training_log.Log`, which has the single-task networks.
        rows: dict from method to its row, so far.
    """

    setup: protocol.Experiment
    log: object
    rows: dict
    trees: object = None

    def strategy(self, name, **changes):
        """The strategy of a name with the suite's settings, or some of them changed."""
        given = self.setup.strategies.get(name) or strategies.get_class(name)()
        return type(given).from_config({**given.get_config(), **changes})

    def plan(self, method):
        """The architecture that a finished method chose."""
        return keras_mtl.Architecture.from_json(self.rows[method]["architecture"])


def described(seed, row, plan, search=None, search_work=0):
    """A row with its plan, the costs of its parts, and what its search has learned."""
    setup = seed.setup
    trained = row.get("candidates", [row])
    single = sum(
        costs.training_work(setup, seed.log.baseline["flops"][task.name], task)
        for task in setup.tasks
    )
    work = {
        "training": costs.training_work(setup, row["flops"]) if row["history"] else 0,
        "candidates": sum(
            costs.training_work(setup, one["flops"]) for one in trained if one["seconds"]
        ),
        "search": costs.search_work(setup, search) if search else search_work,
    }
    return {
        **row,
        "architecture": plan.to_json(),
        "flops_per_task": {task: plan.flops(task) for task in plan.tasks},
        "parameters_per_task": {task: plan.parameters(task) for task in plan.tasks},
        "num_candidates": len(trained),
        "candidates_seconds": sum(one["seconds"] for one in trained),
        "work": {part: amount / single for part, amount in work.items()},
        **(learned(search) if search else {}),
    }


def learned(search):
    """The curves of a search and, where it has them, its policy and how alike the tasks' are."""
    found = {"search_history": {k: list(map(float, v)) for k, v in search.history.history.items()}}
    if hasattr(search.search, "task_correlation"):
        found["policy"] = {
            "units": [unit.name for unit in search.search.units],
            "probabilities": np.asarray(search.search.probabilities()).tolist(),
            "correlation": np.asarray(search.search.task_correlation()).tolist(),
        }
    elif hasattr(search.search, "probabilities"):
        found["edges"] = np.asarray(ops.convert_to_numpy(search.search.probabilities())).tolist()
    return found


# The methods ------------------------------------------------------------------------------------


def weighted(weighting):
    """Hard sharing; `weighting` is `compile`'s `loss_weighting`."""

    def run(seed, title):
        model = protocol.build(seed.setup, strategy="shared")
        row = seed.log.trained(title, model, loss_weighting=weighting)
        return described(seed, row, model.architecture)

    return run


def of_strategy(name, **changes):
    """A strategy of the library: decided at once, or searched."""

    def run(seed, title):
        setup, log, strategy = seed.setup, seed.log, seed.strategy(name, **changes)
        if changes and name in seed.rows and same(strategy, seed.strategy(name)):
            return seed.rows[name]
        if not isinstance(strategy, SearchStrategy):
            _, model, row = protocol.method(setup, log, title, strategy)
            return described(seed, row, model.architecture)
        search = protocol.searched(setup, log, title, strategy)
        kept = {} if strategy.retrains else {"epochs": 0, "initial_weights": search}
        plans = protocol.decided(setup, search)
        model, row = protocol.best_of(setup, log, title, plans, **kept)
        row["search_seconds"] = log.seconds(title)
        return described(seed, row, model.architecture, search)

    return run


def same(strategy, other):
    return strategy.get_config() == other.get_config()


def random_policies(per_task):
    """As many skips as AdaShare decided, at random places."""

    def run(seed, title):
        plans = strategies.random_policies(
            seed.plan("adashare"), per_task=per_task, **seed.setup.numbers
        )
        return chosen(seed, title, plans)

    return run


def untrained_policies(seed, title):
    """What an AutoMTL search decides before it has learned anything."""
    search = protocol.build(seed.setup, strategy=seed.strategy("auto_mtl"))
    return chosen(seed, title, search.decide(**seed.setup.numbers))


def chosen(seed, title, plans):
    """Trains the candidates; the best of them on validation data."""
    model, row = protocol.best_of(seed.setup, seed.log, title, plans)
    return described(seed, row, model.architecture)


def random_edges(seed, title):
    """As many edges as MTL-NAS decided, at random places, from the trained columns."""
    setup = seed.setup
    edges = protocol.random_edges(setup, seed.strategy("mtl_nas"), seed.plan("mtl_nas"))
    drawn = [
        type(edges)(**{**vars(edges), "seed": setup.seed + number})
        for number in range(setup.samples)
    ]
    plans = [keras_mtl.plan(setup.backbone, setup.tasks, one, seed=setup.seed) for one in drawn]
    model, row = protocol.best_of(
        setup, seed.log, title, plans, initial_weights=seed.log.single_models
    )
    return described(seed, row, model.architecture)


def stochastic_depth(seed, title):
    """The shared network, its blocks dropped at random; on all training examples but two."""
    setup, log = seed.setup, seed.log
    fed = feed(setup, setup.train, None, setup.batch_size, training=True)
    few = 2.0 / (num_batches(fed) * setup.batch_size)
    data = functools.partial(setup.search_data, policy_fraction=few)
    own = dataclasses.replace(setup, search_data=data, search_epochs=setup.epochs)
    search = protocol.searched(own, log, title, StochasticDepth())
    plan = search.decide()
    row = {
        "validation": log.results(search, setup.validation, None),
        "test": log.results(search, setup.test, None),
        "parameters": plan.parameters(),
        "flops": plan.flops(),
        "seconds": log.seconds(title),
        "history": {k: list(map(float, v)) for k, v in search.history.history.items()},
    }
    return described(seed, {**row, **log.deltas(row)}, plan)


def partitioned(seed, title):
    """The partitions of channels that distillation scores best, trained."""
    setup = seed.setup
    partitions, seconds, work = partitioning.evolved(seed, title)
    plans = [partitioning.plan(setup, partition) for partition in partitions]
    model, row = protocol.best_of(setup, seed.log, title, plans)
    row["search_seconds"] = seconds
    return described(seed, row, model.architecture, search_work=work)


def random_partitions(seed, title):
    """Partitions drawn from those that the search of `partitioned` begins with."""
    setup = seed.setup
    plans = [partitioning.plan(setup, one) for one in partitioning.drawn(setup)]
    return chosen(seed, title, plans)


def all_channels(seed, title):
    """All channels for every task, each with its own normalisation and projections."""
    tasks = [task.name for task in seed.setup.tasks]
    plan = partitioning.plan(seed.setup, keras_mtl.partition.Partition.share_all(tasks))
    return chosen(seed, title, [plan])


def branched(seed, title):
    """Trees of least dissimilarity, of as many budgets as there are candidates."""
    trees = found_trees(seed)
    return chosen(seed, title, [tree_plan(seed, one.tree) for one in spread(seed, trees)])


def random_branched(seed, title):
    """A random tree within the budget of each candidate of `branched`."""
    trees, names = found_trees(seed), [task.name for task in seed.setup.tasks]
    drawn = {}
    for number, one in enumerate(spread(seed, trees)):
        options = {"first_shared": True, "seed": seed.setup.seed + number}
        for tree in random_trees(names, trees.sizes, 4, budget=one.size, **options):
            if tree not in drawn:
                drawn[tree] = tree_plan(seed, tree)
                break
    return chosen(seed, title, list(drawn.values()))


def found_trees(seed):
    """Affinities and trees of one seed, found once."""
    if seed.trees is None:
        setup = seed.setup
        found = branching.affinities(setup, seed.log.single_models, tree_locations(setup.backbone))
        seed.trees = branching.find_trees(setup, found, improve=False)
    return seed.trees


def tree_locations(backbone, most=4):
    """Where trees may branch: ends of stages, or of blocks where there are few stages."""
    locations = find_locations(backbone)
    if len(locations) < 3:
        locations = find_locations(backbone, "block")
    places = np.linspace(0, len(locations) - 1, min(most, len(locations)) + 1)[1:]
    return tuple(locations[i] for i in dict.fromkeys(round(place) for place in places))


def spread(seed, trees):
    """As many trees of the front as there are candidates, of sizes spread evenly.

    The first shares everything and the last nothing, which other rows have: the first is a
    candidate only where there would be too few.
    """
    front, samples = trees.fronts["affinity"], seed.setup.samples
    inner = front[1:-1] if len(front) - 2 >= samples else front[: max(1, len(front) - 1)]
    places = np.linspace(0, len(inner) - 1, min(samples, len(inner)) + 2)[1:-1]
    return [inner[i] for i in dict.fromkeys(round(place) for place in places)]


def tree_plan(seed, tree):
    setup = seed.setup
    strategy = seed.trees.strategy(tree)
    return keras_mtl.plan(setup.backbone, setup.tasks, strategy, seed=setup.seed)


METHODS = {
    "shared": Method("shared", weighted(None), "fixed", 0.6),
    "uncertainty": Method("shared, uncertainty", weighted("uncertainty"), "fixed", 0.6),
    "dwa": Method("shared, DWA", weighted("dwa"), "fixed", 0.6),
    "adashare": Method("AdaShare", of_strategy("adashare"), "search", 4.0),
    "random_1": Method("random #1", random_policies(False), "random", 2.0, "adashare"),
    "random_2": Method("random #2", random_policies(True), "random", 2.0, "adashare"),
    "auto_mtl": Method("AutoMTL", of_strategy("auto_mtl"), "search", 7.0),
    "mtl_nas": Method("MTL-NAS", of_strategy("mtl_nas"), "search", 4.0, begins_trained=True),
    "branched": Method("branched", branched, "tree", 2.5),
    "feature_partition": Method("feature partitioning", partitioned, "search", 4.0),
    "cross_stitch": Method(
        "cross-stitch", of_strategy("cross_stitch"), "columns", 1.2, begins_trained=True
    ),
    "sluice": Method("sluice", of_strategy("sluice"), "columns", 1.4, begins_trained=True),
    "nddr_cnn": Method("NDDR-CNN", of_strategy("nddr_cnn"), "columns", 1.3, begins_trained=True),
    "mtan": Method("MTAN", of_strategy("mtan"), "columns", 1.2),
}

ABLATIONS = {
    "stochastic_depth": Method(
        "shared, stochastic depth", stochastic_depth, "fixed", 1.0, of="shared"
    ),
    "shared_normalised": Method(
        "shared, own normalisation",
        of_strategy("shared", normalisation="task"),
        "fixed",
        1.0,
        of="shared",
    ),
    "adashare_normalised": Method(
        "AdaShare, own normalisation",
        of_strategy("adashare", normalisation="task"),
        "search",
        4.0,
        of="adashare",
    ),
    "adashare_no_curriculum": Method(
        "AdaShare, no curriculum",
        of_strategy("adashare", curriculum_epochs=0),
        "search",
        4.0,
        of="adashare",
    ),
    "adashare_no_sparsity": Method(
        "AdaShare, no sparsity", of_strategy("adashare", sparsity=0.0), "search", 4.0, of="adashare"
    ),
    "adashare_no_sharing": Method(
        "AdaShare, no sharing loss",
        of_strategy("adashare", sharing=0.0),
        "search",
        4.0,
        of="adashare",
    ),
    **{
        f"auto_mtl_{value:g}": Method(
            f"AutoMTL, λ = {value:g}",
            of_strategy("auto_mtl", regularisation=value),
            "search",
            7.0,
            of="auto_mtl",
        )
        for value in (0.01, 0.03, 0.1, 0.3)
    },
    "auto_mtl_no_regulariser": Method(
        "AutoMTL, no L_reg",
        of_strategy("auto_mtl", regularisation=0.0),
        "search",
        7.0,
        of="auto_mtl",
    ),
    "auto_mtl_no_pretraining": Method(
        "AutoMTL, no pre-training",
        of_strategy("auto_mtl", pretrain=0.0),
        "search",
        7.0,
        of="auto_mtl",
    ),
    "auto_mtl_random": Method(
        "AutoMTL, untrained policies", untrained_policies, "random", 4.0, of="auto_mtl"
    ),
    "mtl_nas_no_entropy": Method(
        "MTL-NAS, no entropy",
        of_strategy("mtl_nas", entropy=0.0),
        "search",
        4.0,
        begins_trained=True,
        of="mtl_nas",
    ),
    "random_edges": Method(
        "random edges", random_edges, "random", 4.0, "mtl_nas", begins_trained=True, of="mtl_nas"
    ),
    "random_trees": Method("random trees", random_branched, "tree", 2.5, of="branched"),
    "random_partitions": Method(
        "random partitions", random_partitions, "random", 2.5, of="feature_partition"
    ),
    "all_channels": Method(
        "all channels for all tasks", all_channels, "fixed", 1.2, of="feature_partition"
    ),
}
EVERY = METHODS | ABLATIONS


def names(asked):
    """The methods behind `all`, `ablations` and names, in the order of the table."""
    known = {"all": METHODS, "ablations": ABLATIONS}
    found = set()
    for name in asked:
        if name not in known and name not in EVERY:
            raise SystemExit(f"`--methods` must be all, ablations, or some of {', '.join(EVERY)}.")
        found |= set(known.get(name, [name]))
    found |= {EVERY[name].needs for name in found if EVERY[name].needs}
    return [name for name in EVERY if name in found]
