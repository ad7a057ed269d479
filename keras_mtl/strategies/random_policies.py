"""Random policies to compare a learned one with (AdaShare's Random #1 and Random #2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.architecture import SHARED, SKIP
from keras_mtl.checks import check_count, check_seed
from keras_mtl.errors import ArchitectureError

if TYPE_CHECKING:
    from keras_mtl.architecture import Architecture


def random_policies(
    architecture: Architecture, *, per_task: bool, samples: int, seed: int
) -> list[Architecture]:
    """Architectures that skip as many blocks as a given one, at random places.

    Args:
        architecture: a decided `Architecture` of shared and skipped units.
        per_task: bool. `False` keeps the total number of skips (Random #1), `True` the number of
            skips of every task (Random #2).
        samples: int. How many; compare best of n with best of the same n.
        seed: int.

    Returns:
        A list of `samples` architectures.

    Raises:
        ArchitectureError: when the architecture does not say which units may be skipped, or has
            own copies.

    Reference:
        [AdaShare](https://arxiv.org/abs/1911.12423), section 4, "Ablation Studies".
    """
    skippable = architecture.origin.get("skippable")
    if not skippable:
        raise ArchitectureError(
            "`architecture` must come from a search that says which units may be skipped. "
            f"Received: origin={dict(architecture.origin)}."
        )
    if any(choice not in (SHARED, SKIP) for row in architecture.choices.values() for choice in row):
        raise ArchitectureError(
            "`architecture` must share or skip every unit. Received: one with copies. Use "
            "`keras_mtl.build(backbone, tasks, strategy).decide(samples=...)` of a search that was "
            "never trained."
        )
    places = np.array([architecture.units.index(unit) for unit in skippable])
    skipped = {
        task: sum(architecture.choices[task][i] == SKIP for i in places)
        for task in architecture.tasks
    }
    samples, seed = check_count("samples", samples), check_seed(seed)
    generator = np.random.default_rng(seed)
    found = []
    for number in range(samples):
        grid = np.zeros((len(architecture.tasks), len(places)), bool)
        if per_task:
            for row, task in enumerate(architecture.tasks):
                grid[row, generator.permutation(len(places))[: skipped[task]]] = True
        else:
            grid.flat[generator.permutation(grid.size)[: sum(skipped.values())]] = True
        choices = {}
        for row, task in enumerate(architecture.tasks):
            choice = [SHARED] * len(architecture.units)
            for place in places[grid[row]]:
                choice[place] = SKIP
            choices[task] = tuple(choice)
        origin = {
            "strategy": "random_2" if per_task else "random_1",
            "seed": seed,
            "sample": number,
            "skippable": skippable,
        }
        found.append(architecture.replace(choices=choices, origin=origin, costs={}))
    return found
