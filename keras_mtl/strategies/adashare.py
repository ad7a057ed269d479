"""AdaShare: every task selects or skips every block of one shared trunk."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from keras import ops

from keras_mtl.architecture import SHARED, SKIP
from keras_mtl.assembly import Mix, Skip, Use
from keras_mtl.graph import can_project, unit_costs
from keras_mtl.layers import GumbelGate
from keras_mtl.strategies.policy_correlation import task_correlation
from keras_mtl.strategies.schedules import ExponentialTemperature
from keras_mtl.strategies.strategy import (
    Phase,
    Plan,
    Search,
    SearchStrategy,
    check_normalisation,
    check_temperature,
    one_of,
)

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit

FORMS = ("paper", "reference")
SKIPPABLE = ("auto", "shortcut", "identity", "projection")


class AdaShare(SearchStrategy):
    r"""Select-or-skip decisions per block and task, learned with the weights.

    For block l and task k, α = σ(a) is the probability of selecting; in training a soft decision is
    sampled (`GumbelGate`) and x ← v_select·unit(x) + v_skip·shortcut(x). Weights and policy are
    updated in turn on two halves of the data. The search begins with a warm-up in which all tasks
    share all blocks, then opens the blocks from the last one backwards.

    Args:
        sparsity: float or `None`. Factor of the sparsity loss; `None`: 0.05 / L in the paper's form
            (a sum over blocks), 0.05 in the reference's (a mean).
        sharing: float. Factor of the sharing loss.
        form: `"paper"` or `"reference"`. The paper's equations 3 and 4, or what the authors' code
            computes: mean over the open blocks of −log P(skip); |difference| of the raw logits,
            weighted most at the top; two logits per gate that start at 0.5.
        warmup: float in [0, 1). Share of the epochs in which every task selects every block.
        curriculum_epochs: int or `None`. Epochs until every block is open; `None`: one per block,
            at most half of the epochs after the warm-up; 0: all open at once.
        epochs_per_block: int or `None`. Instead of `curriculum_epochs`: so many for each block.
        max_stages: int or `None`. The curriculum opens in at most so many steps, since each is
            traced anew; `None`: one block at a time, as in the paper.
        temperature: pair of floats. First and last temperature of the gates.
        alternate: `"step"` (every step moves the weights on one batch and the policy on another) or
            `"epoch"` (whole epochs in turn, as the authors' code).
        skippable: which units may be skipped: `"shortcut"` (those that end in an `Add`),
            `"identity"` (also those that keep their input's shape), `"projection"` (also others, by
            a 1x1 projection), or `"auto"` (shortcuts; identities where the backbone has none).
        normalisation: `"shared"` (one set, as in the paper) or `"task"`. A shared set sees every
            task's features in turn: K diverged paths update its statistics K times a step.
        policy_moves_statistics: bool. Whether policy steps update normalisation statistics.

    Raises:
        ValueError: for settings outside these ranges.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.AdaShare(warmup=0.1).temperature
    (5.0, 0.1)

    Reference:
        [AdaShare](https://arxiv.org/abs/1911.12423), equations 1 to 5 and "Training Strategy".
    """

    name = "adashare"

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        sharing: float = 0.05,
        form: Literal["paper", "reference"] = "paper",
        warmup: float = 0.2,
        curriculum_epochs: int | None = None,
        epochs_per_block: int | None = None,
        max_stages: int | None = 8,
        temperature: tuple[float, float] = (5.0, 0.1),
        alternate: Literal["step", "epoch"] = "step",
        skippable: Literal["shortcut", "identity", "projection", "auto"] = "auto",
        normalisation: Literal["shared", "task"] = "shared",
        policy_moves_statistics: bool = False,
    ) -> None:
        one_of("form", form, FORMS)
        one_of("alternate", alternate, ("step", "epoch"))
        one_of("skippable", skippable, SKIPPABLE)
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must be at least 0 and below 1. Received: warmup={warmup}.")
        if curriculum_epochs is not None and curriculum_epochs < 0:
            raise ValueError(
                "`curriculum_epochs` must be at least 0 or None. "
                f"Received: curriculum_epochs={curriculum_epochs}."
            )
        if max_stages is not None and max_stages < 1:
            raise ValueError(
                f"`max_stages` must be at least 1 or None. Received: max_stages={max_stages}."
            )
        self.sparsity = sparsity
        self.sharing = sharing
        self.form = form
        self.warmup = warmup
        self.curriculum_epochs = curriculum_epochs
        self.epochs_per_block = epochs_per_block
        self.max_stages = max_stages
        self.temperature = check_temperature(temperature)
        self.alternate = alternate
        self.skippable = skippable
        self.normalisation = check_normalisation(normalisation)
        self.policy_moves_statistics = policy_moves_statistics

    @classmethod
    def reference(cls, **changes: Any) -> Self:
        """What the authors' published code does (its optimizers: see the user guide).

        It opens a block every 3 epochs, one by one: a search of L blocks needs 3 L epochs after the
        warm-up, or other settings in `changes`, such as `epochs_per_block=1`.
        """
        settings = {
            "form": "reference",
            "sparsity": 0.05,
            "alternate": "epoch",
            "policy_moves_statistics": True,
            "epochs_per_block": 3,
            "max_stages": None,
        }
        if "curriculum_epochs" in changes:
            settings["epochs_per_block"] = None
        return cls(**{**settings, **changes})

    def open(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str], seed: int
    ) -> Search:
        return AdaShareSearch(self, graph, units, tasks)


class AdaShareSearch(Search):
    """The open gates of one model; `gate` has one row per skippable unit, one column per task."""

    def __init__(self, strategy, graph, units, tasks):
        self.strategy = strategy
        self.tasks = tasks
        self.searchable = tuple(unit.name for unit in units if unit.searchable)
        self.units = find_skippable(graph, units, strategy.skippable)
        if not self.units:
            raise ValueError(
                f"`backbone` {graph.name!r} must have a block that can be skipped. Received: "
                f"{len(units)} units, none with a shortcut or with equal input and output shapes. "
                'Use `AdaShare(skippable="projection")`, or a backbone with residual blocks.'
            )
        self.rows = {unit.name: row for row, unit in enumerate(self.units)}
        self.columns = {task: column for column, task in enumerate(tasks)}
        shape = (len(self.units), len(tasks))
        if strategy.form == "paper":
            self.gate = GumbelGate(shape, name="policy")
        else:
            self.gate = GumbelGate(shape, pinned=False, initial=0.5, name="policy")
        self.layers = [self.gate]
        self.unit_costs = np.array([unit_costs(graph, unit) for unit in self.units], "float32")

    @property
    def sparsity(self):
        """The factor of the sparsity loss, with its default filled in."""
        if self.strategy.sparsity is not None:
            return self.strategy.sparsity
        return 0.05 / len(self.units) if self.strategy.form == "paper" else 0.05

    def plan(self, epochs, steps_per_epoch):
        plan = AdaSharePlan(self.strategy, len(self.units), epochs, steps_per_epoch)
        needed = plan.curriculum_epochs
        if self.strategy.alternate == "epoch":
            needed = max(2, needed)
        if plan.search_epochs < needed:
            raise ValueError(
                f"`epochs` must leave {needed} epochs after the warm-up, so that every block is "
                f"opened and the policy moved. Received: epochs={epochs}, of which "
                f"{plan.warmup_epochs} are warm-up. Use more epochs, or a shorter curriculum "
                "(`curriculum_epochs`)."
            )
        return plan

    def draw(self, moment):
        return self.gate(
            temperature=moment.temperature, seed=moment.noise(), training=moment.training
        )

    def resolve(self, phase, drawn):
        first_open = len(self.units) - phase.open_units
        per_task = self.strategy.normalisation == "task"

        def resolve(task, unit):
            use = Use(SHARED, task if per_task else None)
            row = self.rows.get(unit.name, -1)
            if row < first_open:
                return use
            weights = None if drawn is None else drawn[row, self.columns[task]]
            return Mix((use, Skip(SHARED, use.normalisation)), weights, key=task)

        return resolve

    def regularisers(self, moment, drawn):
        open_units = moment.phase.open_units
        if self.strategy.form == "paper":
            log_select = self.gate.log_probabilities()[..., 0]
            sparsity = sparsity_loss(log_select, open_units)
            sharing = sharing_loss(ops.exp(log_select))
        else:
            log_skip = self.gate.log_probabilities()[..., 1]
            sparsity = reference_sparsity_loss(log_skip, open_units)
            sharing = reference_sharing_loss(self.gate.logits()[..., 0])
        return {
            "sparsity_loss": self.sparsity * sparsity,
            "sharing_loss": self.strategy.sharing * sharing,
        }

    def monitors(self):
        select = self.gate.probabilities()[..., 0]
        used = 1.0 - ops.prod(1.0 - select, axis=1)
        return {
            "expected_parameters": ops.sum(used * self.unit_costs[:, 0]),
            "expected_flops": ops.sum(ops.sum(select, axis=1) * self.unit_costs[:, 1]),
        }

    def probabilities(self):
        """P(select) as an array of shape `(skippable units, tasks)`."""
        return ops.convert_to_numpy(self.gate.probabilities()[..., 0])

    def task_correlation(self):
        """Cosine between the tasks' policies; see `task_correlation`."""
        logits = ops.convert_to_numpy(self.gate.logits())
        return task_correlation(logits[..., 0] - logits[..., 1])

    def most_likely(self):
        logits = ops.convert_to_numpy(self.gate.logits())  # ties as in the gate
        return self._choices(logits[..., 0] >= logits[..., 1])

    def sample(self, generator):
        probabilities = self.probabilities()
        return self._choices(generator.random(probabilities.shape) < probabilities)

    def _choices(self, selected):
        choices = {}
        for task, column in self.columns.items():
            choices[task] = tuple(
                SKIP if name in self.rows and not selected[self.rows[name], column] else SHARED
                for name in self.searchable
            )
        return {"choices": choices}


@dataclasses.dataclass(frozen=True)
class AdaSharePlan(Plan):
    """Warm-up, curriculum, temperature and alternation as functions of the step."""

    strategy: AdaShare
    num_units: int
    epochs: int
    steps_per_epoch: int

    @property
    def warmup_epochs(self):
        return min(round(self.strategy.warmup * self.epochs), self.epochs - 1)

    @property
    def search_epochs(self):
        return self.epochs - self.warmup_epochs

    @property
    def curriculum_epochs(self):
        if self.strategy.epochs_per_block is not None:
            return self.strategy.epochs_per_block * self.num_units
        asked = self.strategy.curriculum_epochs
        if asked is None:
            return max(1, min(self.num_units, self.search_epochs // 2))
        return max(1, asked)

    def open_units(self, epoch):
        """How many of the last units are open in an epoch of the search, counted from 0."""
        stages = min(self.num_units, self.curriculum_epochs)
        if self.strategy.max_stages is not None:
            stages = min(stages, self.strategy.max_stages)
        # Rounded before `ceil`, so that 0.1 * 10 is one stage and not two.
        share = min(1.0, (epoch + 1) / self.curriculum_epochs)
        stage = math.ceil(round(stages * share, 9))
        return math.ceil(round(self.num_units * stage / stages, 9))

    def phase(self, step):
        epoch = step // self.steps_per_epoch - self.warmup_epochs
        if epoch < 0:
            return Phase("warm-up", 0, ("weights",), "warmup_optimizer")
        opened = self.open_units(epoch)
        name = "search" if opened == self.num_units else "curriculum"
        if self.strategy.alternate == "step":
            return Phase(name, opened)
        return Phase(name, opened, ("policy",) if epoch % 2 else ("weights",))

    @property
    def _schedule(self):
        start, end = self.strategy.temperature
        epochs = 1 if self.strategy.alternate == "step" else 2
        return ExponentialTemperature(
            start,
            end,
            begin=self.warmup_epochs * self.steps_per_epoch,
            every=epochs * self.steps_per_epoch,
            phases=max(1, self.search_epochs // epochs),
        )

    def temperature(self, step):
        return self._schedule(step)

    @property
    def first_open_step(self):
        epoch = next(e for e in range(self.curriculum_epochs) if self._all_open(e))
        return (self.warmup_epochs + epoch) * self.steps_per_epoch

    def _all_open(self, epoch):
        return self.open_units(epoch) == self.num_units


def find_skippable(graph, units, skippable="auto"):
    """The units that may be skipped, in order; see `AdaShare(skippable=...)`."""
    units = [unit for unit in units if unit.searchable]
    if skippable == "auto":
        skippable = "shortcut" if any(u.skip_by == "shortcut" for u in units) else "identity"
    kinds = SKIPPABLE[1 : SKIPPABLE.index(skippable) + 1]
    return tuple(
        unit
        for unit in units
        if unit.skip_by in kinds or ("projection" in kinds and can_project(graph, unit))
    )


def sparsity_loss(log_select, open_units=None):
    """Σ log α over open blocks and tasks (equation 3); `log_select` has shape (blocks, tasks).

    Unbounded below: its gradient for a logit is 1 − α.
    """
    return ops.sum(_last(log_select, open_units))


def sharing_loss(select):
    """Σ over pairs of tasks and blocks of (L − l)/L · |α_1 − α_2| (equation 4), l = 1…L.

    Every unordered pair counts once (the printed double sum is twice that). `select` has shape
    (blocks, tasks).
    """
    blocks = select.shape[0]
    emphasis = (blocks - np.arange(1, blocks + 1)) / blocks
    return _pairwise(select, emphasis)


def reference_sparsity_loss(log_skip, open_units=None):
    """Mean over the open blocks of −log P(skip), summed over tasks (authors' code)."""
    open_rows = _last(log_skip, open_units)
    if open_rows.shape[0] == 0:
        return ops.zeros((), log_skip.dtype)
    return -ops.sum(ops.mean(open_rows, axis=0))


def reference_sharing_loss(logits):
    """Like `sharing_loss`, on raw logits and with the emphasis (l + 1)/L, l = 0…L−1."""
    blocks = logits.shape[0]
    return _pairwise(logits, (np.arange(blocks) + 1) / blocks)


def _pairwise(values, emphasis):
    total = ops.zeros((), values.dtype)
    emphasis = ops.convert_to_tensor(emphasis, dtype=values.dtype)
    for first in range(values.shape[1]):
        for second in range(first + 1, values.shape[1]):
            total = total + ops.sum(emphasis * ops.abs(values[:, first] - values[:, second]))
    return total


def _last(values, count):
    return values if count is None else values[values.shape[0] - count :]
