"""AutoMTL: every task shares, copies or skips every operator."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from keras import ops

from keras_mtl.architecture import OWN, SHARED, SKIP
from keras_mtl.assembly import Mix, Skip, Use
from keras_mtl.layers import GumbelGate
from keras_mtl.strategies.operator_rows import depths, find_operators, mask_maker, operator_costs
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

OPTIONS = (SHARED, OWN, SKIP)


class AutoMTL(SearchStrategy):
    r"""Three choices per operator and task, learned with the weights: share it, own it, skip it.

    In training a soft choice P' of every gate is sampled (`GumbelGate`), and an operator's output
    is P'(0)·shared(x) + P'(1)·own(x) + P'(2)·skip(x), where skip is the identity, or a 1x1
    projection of the task's own where shapes differ. The search begins with a pre-training in which
    the output is the mean of the options; then weights and policy are updated in turn on two halves
    of the data. Operators near the input are drawn to being shared by `regularisation`.

    Normalisation layers belong to the task by default: they run behind the chosen operator, also
    where it is skipped. In the pre-training a shared and an own one are averaged.

    Args:
        regularisation: float. λ_reg, the factor of the policy regulariser: the larger, the more
            operators are shared, and the fewer parameters come out.
        form: `"paper"` or `"reference"`. Equation 2 on the soft policy of the step; or on a fresh
            sample, its differences multiplied by 6, as in the authors' code.
        pretrain: float in [0, 1). Share of the epochs that pre-train; 0 for none.
        temperature: pair of floats. First and last temperature of the gates.
        alternate: `"step"` (every step moves the weights on one batch and the policy on another) or
            a pair of ints: so many steps for the policy, then so many for the weights, in turn.
        sampling: `"soft"` (all options are computed and mixed) or `"hard"` (only the sampled one
            is executed: y = f_s(x)·(1 + p_s − stop_gradient(p_s)); the gradient of the policy then
            knows the sampled option alone, so it is biased and noisier; momentum and weight decay
            move the other copies all the same).
        normalisation: `"task"`, or `"shared"`: it then belongs to the operator's copy.
        policy_moves_statistics: bool. Whether policy steps update normalisation statistics.

    Raises:
        ValueError: for settings outside these ranges.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.AutoMTL(regularisation=1e-3).pretrain
    0.3333333333333333

    Reference:
        [AutoMTL](https://arxiv.org/abs/2110.13076), equations 1 and 2 and "Training Pipelines".
    """

    name = "auto_mtl"
    granularity = "operator"
    projections = "task"

    def __init__(
        self,
        *,
        regularisation: float = 5e-4,
        form: Literal["paper", "reference"] = "paper",
        pretrain: float = 1 / 3,
        temperature: tuple[float, float] = (5.0, 0.1),
        alternate: Literal["step"] | tuple[int, int] = "step",
        sampling: Literal["soft", "hard"] = "soft",
        normalisation: Literal["shared", "task"] = "task",
        policy_moves_statistics: bool = False,
    ) -> None:
        one_of("form", form, ("paper", "reference"))
        one_of("sampling", sampling, ("soft", "hard"))
        if not _is_number(regularisation) or regularisation < 0:
            raise ValueError(
                "`regularisation` must be a number of at least 0. "
                f"Received: regularisation={regularisation!r}."
            )
        if not _is_number(pretrain) or not 0 <= pretrain < 1:
            raise ValueError(
                f"`pretrain` must be at least 0 and below 1. Received: pretrain={pretrain!r}."
            )
        if alternate != "step" and (
            not isinstance(alternate, (tuple, list))
            or len(alternate) != 2
            or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in alternate)
        ):
            raise ValueError(
                "`alternate` must be 'step' or two positive integers, steps for the policy and for "
                f"the weights. Received: alternate={alternate!r}."
            )
        self.regularisation = float(regularisation)
        self.form = form
        self.pretrain = float(pretrain)
        self.temperature = check_temperature(temperature)
        self.alternate = alternate if alternate == "step" else tuple(alternate)
        self.sampling = sampling
        self.normalisation = check_normalisation(normalisation)
        self.policy_moves_statistics = policy_moves_statistics

    @classmethod
    def reference(cls, **changes: Any) -> Self:
        """What the authors' published code does (its optimizers: see the user guide)."""
        settings = {
            "form": "reference",
            "alternate": (100, 400),
            "policy_moves_statistics": True,
        }
        return cls(**{**settings, **changes})

    def open(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str], seed: int
    ) -> Search:
        return AutoMTLSearch(self, graph, units, tasks)


class AutoMTLSearch(Search):
    """The open gates of one model; `gate` has a row per operator, a column per task.

    Calls of one layer have one choice: a choice is about parameters.
    """

    OPTIONS = OPTIONS

    def __init__(self, strategy, graph, units, tasks):
        self.strategy = strategy
        self.columns = {task: column for column, task in enumerate(tasks)}
        self.searchable = tuple(unit.name for unit in units if unit.searchable)
        rows, limits = find_operators(graph, units)
        if not rows:
            raise ValueError(
                f"`backbone` {graph.name!r} must have an operator with a choice. Received: "
                f"{len(units)} units, none of them in the support table. Add your layer classes "
                "by `keras_mtl.graph.register_operator`."
            )
        if strategy.sampling == "hard":
            _refuse_masks(graph)
            _refuse_activity_regularisers(graph, units)
        self.units = tuple(same[0] for same, _ in rows)
        self.rows = {unit.name: row for row, (same, _) in enumerate(rows) for unit in same}
        self.limits = limits
        self.available = np.array([available for _, available in rows])
        self.gate = GumbelGate(
            (len(rows), len(tasks)),
            len(OPTIONS),
            pinned=False,
            available=np.repeat(self.available[:, None], len(tasks), axis=1).tolist(),
            name="policy",
        )
        self.layers = [self.gate]
        self.emphasis = depth_emphasis(depths(graph, rows))
        self.costs = np.array([operator_costs(graph, same) for same, _ in rows], "float32")

    @property
    def skippable(self):
        return tuple(name for name, row in self.rows.items() if self.available[row, 2])

    def plan(self, epochs, steps_per_epoch):
        return AutoMTLPlan(self.strategy, len(self.units), epochs, steps_per_epoch)

    def structures(self):
        search = Phase("search", len(self.units))
        return (PRETRAINING, search) if self.strategy.pretrain else (search,)

    def draw(self, moment):
        return self.gate(
            temperature=moment.temperature, seed=moment.noise(), training=moment.training
        )

    def resolve(self, phase, drawn):
        pretraining = phase.open_units == 0
        per_task = self.strategy.normalisation == "task"
        hard = self.strategy.sampling == "hard" and not pretraining
        # Taken apart once: a slice for each weight would have a gradient of the whole array.
        weights = None if drawn is None else ops.unstack(ops.reshape(self._choice(drawn), (-1,)))

        def resolve(task, unit):
            own_set = task if per_task else None
            row = self.rows.get(unit.name)
            if row is None:
                if pretraining and per_task and unit.normalises:
                    return Mix((Use(SHARED), Use(task)), (0.5, 0.5), "mean")
                return Use(SHARED, own_set)
            all_options = Use(SHARED, own_set), Use(task, own_set), Skip(task, own_set)
            there = np.flatnonzero(self.available[row])
            options = tuple(all_options[i] for i in there)
            if pretraining:
                sets = (SHARED, task) if per_task else ()
                return Mix(options, (1.0 / len(options),) * len(options), "mean", sets)
            given = None
            if weights is not None:
                first = (row * len(self.columns) + self.columns[task]) * len(OPTIONS)
                given = tuple(weights[first + i] for i in there)
            return Mix(options, given, task, (task,) if per_task else (), hard)

        return resolve

    def _choice(self, drawn):
        """The soft choice; or in hard sampling its largest option, with the gradient of that."""
        if self.strategy.sampling == "soft":
            return drawn
        chosen = ops.one_hot(ops.argmax(drawn, axis=-1), len(OPTIONS), dtype=drawn.dtype)
        return chosen * (1.0 + drawn - ops.stop_gradient(drawn))

    def regularisers(self, moment, drawn):
        scale = 1.0
        if self.strategy.form == "reference":
            seed = moment.noise("regulariser")
            drawn = self.gate(temperature=moment.temperature, seed=seed, training=moment.training)
            scale = 6.0
        loss = policy_regulariser(drawn, self.emphasis, self.available, scale)
        return {"regularisation_loss": self.strategy.regularisation * loss}

    def monitors(self):
        # Of the operators with a choice; FLOPs of all tasks, as if no prefix were common.
        shared, own, skip = ops.unstack(self.gate.probabilities(), axis=-1)
        copies = 1.0 - ops.prod(1.0 - shared, axis=1) + ops.sum(own, axis=1)
        skips = ops.sum(skip, axis=1)
        runs = len(self.columns) - skips
        sets = len(self.columns) if self.strategy.normalisation == "task" else copies
        size, normalisation, projection, work, projection_work = np.moveaxis(self.costs, 1, 0)
        parameters = copies * size + sets * normalisation + skips * projection
        return {
            "expected_parameters": ops.sum(parameters),
            "expected_flops": ops.sum(runs * work + skips * projection_work),
        }

    def probabilities(self):
        """The learned distribution as an array of shape `(operators, tasks, 3)`; see `OPTIONS`."""
        return ops.convert_to_numpy(self.gate.probabilities())

    def task_correlation(self):
        """Cosine between the tasks' policies; see `task_correlation`."""
        logits = ops.convert_to_numpy(self.gate.logits())
        return task_correlation(np.where(self.available[:, None], logits, 0.0))

    def most_likely(self):
        # Of the logits, as the gate does: probabilities may be equal where logits are not.
        return self._choices(ops.convert_to_numpy(self.gate.logits()).argmax(axis=-1))

    def sample(self, generator):
        cumulative = self.probabilities().cumsum(axis=-1)
        drawn = generator.random(cumulative.shape[:2])[..., None] * cumulative[..., -1:]
        return self._choices((drawn >= cumulative).sum(axis=-1))

    def _choices(self, picked):
        choices = {
            task: tuple(
                OPTIONS[picked[self.rows[name], column]] if name in self.rows else SHARED
                for name in self.searchable
            )
            for task, column in self.columns.items()
        }
        return {"choices": choices}


PRETRAINING = Phase(
    "pre-training", 0, ("weights",), "warmup_optimizer", "give the mean of their options"
)


@dataclasses.dataclass(frozen=True)
class AutoMTLPlan(Plan):
    """Pre-training, temperature and alternation as functions of the step."""

    strategy: AutoMTL
    num_units: int
    epochs: int
    steps_per_epoch: int

    def __post_init__(self):
        steps = self.search_epochs * self.steps_per_epoch
        if steps < self._cycle:
            raise ValueError(
                f"`alternate` must fit into the search of {steps} steps. Received: "
                f"alternate={self.strategy.alternate}. Use fewer steps in turn, or more epochs."
            )

    @property
    def pretrain_epochs(self):
        asked = self.strategy.pretrain * self.epochs
        return min(max(1, round(asked)) if asked else 0, self.epochs - 1)

    @property
    def search_epochs(self):
        return self.epochs - self.pretrain_epochs

    @property
    def first_open_step(self):
        return self.pretrain_epochs * self.steps_per_epoch

    @property
    def _cycle(self):
        return 1 if self.strategy.alternate == "step" else sum(self.strategy.alternate)

    def phase(self, step):
        step = step - self.first_open_step
        if step < 0:
            return PRETRAINING
        if self.strategy.alternate == "step":
            return Phase("search", self.num_units)
        policy = step % self._cycle < self.strategy.alternate[0]
        return Phase("search", self.num_units, ("policy",) if policy else ("weights",))

    def temperature(self, step):
        start, end = self.strategy.temperature
        every = self.steps_per_epoch if self.strategy.alternate == "step" else self._cycle
        phases = max(1, self.search_epochs * self.steps_per_epoch // every)
        schedule = ExponentialTemperature(
            start, end, begin=self.first_open_step, every=every, phases=phases
        )
        return schedule(step)


def depth_emphasis(depth):
    """(L − l)/L for depths l = 1…L: most at the first operator, 0 at the deepest."""
    return (depth.max() - depth) / depth.max()


def policy_regulariser(policy, emphasis, available, scale=1.0):
    """L_reg of equation 2: Σ (L − l)/L · [softplus(P'(1) − P'(0)) + softplus(P'(2) − P'(0))].

    Args:
        policy: tensor of shape `(operators, tasks, 3)`: shared, own, skip.
        emphasis: array of shape `(operators,)`, from `depth_emphasis`.
        available: bool array of shape `(operators, 3)`; what an operator cannot do has no term.
        scale: float. Factor of the differences.
    """
    shared = policy[..., :1]
    terms = ops.softplus(scale * (policy[..., 1:] - shared))
    weight = np.asarray(emphasis)[:, None, None] * np.asarray(available)[:, None, 1:]
    return ops.sum(terms * ops.cast(ops.convert_to_tensor(weight), "float32"))


def _refuse_masks(graph):
    if call := mask_maker(graph):
        raise ValueError(
            "`sampling` must be 'soft' for a backbone with implicit masks, which do not pass "
            f"through an executed branch. Received: sampling='hard' and layer {call.key!r}, "
            "which makes a mask. Hand masks over as arguments, or use 'soft'."
        )


def _refuse_activity_regularisers(graph, units):
    for unit in units:
        for call in (graph.calls[i] for i in unit.calls):
            if getattr(call.operation, "activity_regularizer", None) is not None:
                raise ValueError(
                    "`sampling` must be 'soft' for a backbone with activity regularisers, whose "
                    "losses do not pass out of an executed branch. Received: sampling='hard' and "
                    f"layer {call.key!r}, which has one."
                )


def _is_number(value):
    return isinstance(value, numbers.Real) and math.isfinite(value)
