"""Why a method does not apply to a suite, in a sentence."""

import keras_mtl
from fair import methods, partitioning
from keras_mtl.graph import find_units, read
from keras_mtl.strategies.adashare import find_skippable

DIRECTIONS = 30  # between columns; a supernet of more does not fit into the budget
COLUMNS = ("mtl_nas", "cross_stitch", "sluice", "nddr_cnn")
SKIPS = ("adashare", "random_1", "random_2")


def reason(setup, name, given):
    """Returns why, or `None` where the method applies.

    Args:
        setup: `protocol.Experiment`.
        name: string. A method.
        given: dict from method to a reason that the suite itself gives.
    """
    method = methods.EVERY[name]
    family = method.of or name
    for known in (name, method.needs, family):
        if known in given:
            return given[known]
    if name == "stochastic_depth" and not isinstance(setup.train, (tuple, dict)):
        return "The data are shuffled while they are read; it needs arrays."
    if family in COLUMNS:
        return no_columns(setup)
    if family in SKIPS or name == "stochastic_depth":
        return no_skips(setup)
    if family == "feature_partition":
        return partitioning.no_partition(setup)
    if name == "mtan":
        return no_attention(setup)
    return None


def no_columns(setup):
    if any(task.inputs for task in setup.tasks):
        return (
            "Columns exchange features of one input; here every task has inputs of its own, so "
            "the features of two tasks never belong together."
        )
    count = len(setup.tasks)
    if count * (count - 1) > DIRECTIONS:
        return (
            f"{count} columns read each other in {count * (count - 1)} directions, a network that "
            "does not fit into the budget."
        )
    return None


def no_skips(setup):
    graph = read(setup.backbone)
    if find_skippable(graph, find_units(graph, "block")):
        return None
    return "The backbone has no block that could be skipped."


def no_attention(setup):
    try:
        keras_mtl.plan(setup.backbone, setup.tasks, "mtan", seed=setup.seed)
    except ValueError as error:
        return str(error)
    return None
