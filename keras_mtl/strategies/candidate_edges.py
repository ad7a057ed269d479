"""Fusions with all the edges that a rule allows, and with those of them that were chosen."""

import dataclasses

import numpy as np

from keras_mtl.strategies.columns import nddr_fusion


def candidate_fusions(graph, units, tasks, rule, w_own):
    """The fusions of a supernet in which every edge that the rule allows is there.

    Args:
        graph: `BackboneGraph`.
        units: sequence of `Unit`, those with a choice.
        tasks: tuple of task names.
        rule: `EdgeRule`.
        w_own: float.

    Returns:
        A tuple of `Fusion`, by unit and task.
    """
    sources = {}
    for source, target in rule.edges([graph.spec(unit.output).shape[1:-1] for unit in units]):
        sources.setdefault(target, []).append(units[source].name)
    return tuple(
        nddr_fusion(
            units[target].name,
            task,
            [(other, name) for other in tasks if other != task for name in names],
            w_own,
        )
        for target, names in sources.items()
        for task in tasks
        if len(tasks) > 1
    )


def chosen_fusions(fusions, chosen):
    """The fusions with the chosen edges alone.

    Args:
        fusions: tuple of `Fusion`.
        chosen: sequence of bool. One for each source but the first of every fusion, in order.

    Returns:
        A tuple of as many `Fusion`: where no edge is left a fusion still normalises, as it did when
        it was trained.
    """
    chosen = iter(np.asarray(chosen, bool).tolist())
    found = []
    for fusion in fusions:
        own, *others = fusion.sources
        kept = [source for source in others if next(chosen)]
        found.append(dataclasses.replace(fusion, sources=(own, *kept)))
    return tuple(found)
