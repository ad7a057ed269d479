"""What the examples of branched networks share: affinities, trees, and their training."""

import dataclasses
import json

import keras
import numpy as np
from training_log import feed, num_batches

import keras_mtl
from keras_mtl import affinity
from keras_mtl.graph import find_units, read
from keras_mtl.strategies import Branched


@dataclasses.dataclass
class Trees:
    """The trees of one backbone, and what to choose among them by.

    Args:
        locations: names of layers.
        sizes: list of int. Parameters of a copy of every stretch.
        fronts: dict from name (`"affinity"`, `"errors"`) to a list of `ScoredTree`.
    """

    locations: tuple
    sizes: list
    fronts: dict

    def strategy(self, tree):
        return Branched(tree=tree, locations=self.locations)

    def within(self, budget, by="affinity"):
        """The tree of least cost; `budget` is in multiples of the backbone."""
        limit = int(budget * sum(self.sizes))
        return [scored for scored in self.fronts[by] if scored.size <= limit][-1].tree


def batches(setup, data):
    """Examples in their order, in batches."""
    if not isinstance(data, tuple):
        return data
    x, y = data
    number = len(next(iter(y.values())))
    cuts = [slice(i, i + setup.batch_size) for i in range(0, number, setup.batch_size)]
    return [
        (
            keras.tree.map_structure(lambda array, cut=cut: array[cut], x),
            {task: labels[cut] for task, labels in y.items()},
        )
        for cut in cuts
    ]


def probes(data, most=400):
    """The inputs that every task's network sees when they are compared.

    Where tasks have inputs of their own, as many of each.
    """
    if isinstance(data, dict):
        share = max(1, most // len(data))
        return np.concatenate([x[:share] for x, _ in data.values()])
    return data[0] if isinstance(data, tuple) else data


def affinities(setup, models, locations):
    """How alike the tasks are on validation data: by their networks' features, by their errors.

    Where tasks have inputs of their own there are no errors on the same ones.
    """
    held_out = setup.validation
    rdms = {
        task: affinity.representation_dissimilarity(model, probes(held_out), locations, verbose=0)
        for task, model in models.items()
    }
    found = {"affinity": affinity.task_affinity(rdms, locations)}
    found["affinity"].save(setup.folder / "affinity.json")
    keras_mtl.plot.affinity(found["affinity"], path=setup.folder / "affinity.png")
    if not isinstance(held_out, dict):
        errors = {
            task.name: affinity.example_errors(models[task.name], task, batches(setup, held_out))
            for task in setup.tasks
        }
        found["errors"] = affinity.error_affinity(errors, locations)
    return found


def find_trees(setup, found, **options):
    """The cheapest trees of every size whose tasks share the first stretch; `search_trees`."""
    locations = found["affinity"].locations
    graph = read(setup.backbone)
    sizes = affinity.segment_sizes(graph, find_units(graph), locations)
    fronts = {
        name: affinity.search_trees(by, sizes, first_shared=True, **options)
        for name, by in found.items()
    }
    return Trees(locations, sizes, fronts)


def trained(setup, log, trees, candidates):
    """Trains every candidate with a tuner, and evaluates it on test data.

    Returns:
        The tuner, and a dict from tree to its row of the table.
    """
    plans = {
        keras_mtl.plan(setup.backbone, setup.tasks, trees.strategy(tree), seed=setup.seed): tree
        for tree in candidates
    }
    fed = feed(setup, setup.train, None, setup.batch_size, training=True)
    steps = setup.epochs * num_batches(fed)
    baseline = log.baseline["validation"]
    tuner = keras_mtl.tuners.BranchTuner(
        setup.backbone,
        setup.tasks,
        list(plans),
        compile=lambda model: model.compile(setup.optimizer(steps)),
        objective=lambda results: keras_mtl.relative_performance(results, baseline).total,
        seed=setup.seed,
        directory=setup.folder,
        project_name=f"trees_{len(plans)}",
    )
    held_out = feed(setup, setup.validation, None, setup.batch_size)
    validation = (held_out["x"], held_out["y"]) if "y" in held_out else held_out["x"]
    tuner.search(**fed, validation_data=validation, epochs=setup.epochs)
    return tuner, {
        plans[result.architecture]: row(setup, log, tuner, result) for result in tuner.results()
    }


def row(setup, log, tuner, result):
    """The row of one trained candidate; what was evaluated once is kept."""
    path = setup.folder / tuner.project_name / f"test_{result.index}.json"
    if path.exists():
        return json.loads(path.read_text())
    found = {
        "test": log.results(tuner.model_of(result), setup.test, None),
        "validation_delta": result.score,
        "parameters": result.parameters,
        "flops": result.flops,
    }
    delta = keras_mtl.relative_performance(found["test"], log.baseline["test"])
    found |= {"delta": dict(delta.per_task), "total_delta": delta.total}
    path.write_text(json.dumps(found, indent=1))
    return found


def model_of(setup, trees, tuner, tree):
    """The trained model of a tree."""
    plan = keras_mtl.plan(setup.backbone, setup.tasks, trees.strategy(tree), seed=setup.seed)
    (result,) = [result for result in tuner.results() if result.architecture == plan]
    return tuner.model_of(result)
