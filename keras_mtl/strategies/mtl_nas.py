"""MTL-NAS: columns whose units read each other through fusions with searched edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import keras
from keras import ops

from keras_mtl.architecture import OWN
from keras_mtl.assembly import Use
from keras_mtl.graph import GRANULARITIES
from keras_mtl.layers import GumbelGate
from keras_mtl.strategies.candidate_edges import candidate_fusions, chosen_fusions
from keras_mtl.strategies.edge_rule import edge_rule
from keras_mtl.strategies.schedules import PolynomialTemperature
from keras_mtl.strategies.strategy import (
    Phase,
    Plan,
    Search,
    SearchStrategy,
    check_temperature,
    one_of,
)

if TYPE_CHECKING:
    from keras_mtl.graph import BackboneGraph, Unit
    from keras_mtl.strategies.edge_rule import EdgeRule

RELAXATIONS = ("deterministic", "stochastic")
EVALUATIONS = ("decided", "relaxed")
FIRST = ("weights", "policy")


class MTLNAS(SearchStrategy):
    r"""Every task has a column of its own; which units read which others is learned.

    After unit j of a column stands a fusion $\mathrm{ReLU}(\mathrm{BN}(W [F_j, z_{ij} S_i, …]))$ of
    its own features and candidate units i of the other columns (`NDDRFusion`). Each edge has
    $α = σ(a)$; its gate z is α itself or is sampled from the relaxed Bernoulli distribution
    $σ((a + L)/τ)$ with logistic noise L. Weights and policy are updated in turn on two halves of
    the data; an entropy term drives every α to 0 or 1, so that the decided network needs **no
    retraining**: build it with `initial_weights=model`, and edges that were not chosen are cut out
    of the trained kernels. Trained columns go in by
    `keras_mtl.build(..., initial_weights={task: single_task_model})`.

    Args:
        edges: `EdgeRule`. The candidates, the same for every pair of columns.
        granularity: `"block"` (as in the paper: convolutions of VGG16, bottlenecks of ResNet-50),
            `"operator"` or `"stage"`: what a unit is.
        relaxation: `"deterministic"`, `"stochastic"` or a dict with one of them for `"weights"` and
            one for `"policy"`: what gates are while the search trains.
        entropy: float. γ, factor of the mean entropy of the edges, on policy steps.
        entropy_period: pair of floats. Between these shares of the search γ grows linearly from 0;
            it is γ all the time for `(0, 0)`. With `w_own=1` the first gradient of every α is
            exactly 0, and a constant γ would drive the first noise apart.
        temperature: pair of floats. First and last temperature; falls with the square of what is
            left (the paper ends at 0, where the gates have no gradient).
        w_own: float. First weight of a column's own features.
        evaluation: `"decided"` or `"relaxed"`: whether `evaluate` and calls use the most likely
            edges alone or α.
        first: `"weights"` or `"policy"`: which update of a step is made first.
        policy_moves_statistics: bool. Whether policy steps update normalisation statistics.

    Raises:
        ValueError: for settings outside these ranges.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.MTLNAS(relaxation="stochastic").relaxation["policy"]
    'stochastic'

    Reference:
        [MTL-NAS](https://arxiv.org/abs/2003.14058), equations 1 to 9. Equation 6 prints log α where
        its own limit P(z = 1) = α needs the logit: we take the logit.
    """

    name = "mtl_nas"
    begins_trained = True
    retrains = False

    def __init__(
        self,
        *,
        edges: EdgeRule | None = None,
        granularity: Literal["stage", "block", "operator"] = "block",
        relaxation: str | Mapping[str, str] = "deterministic",
        entropy: float = 10.0,
        entropy_period: tuple[float, float] = (0.0, 1.0),
        temperature: tuple[float, float] = (1.0, 0.05),
        w_own: float = 1.0,
        evaluation: Literal["decided", "relaxed"] = "decided",
        first: Literal["weights", "policy"] = "weights",
        policy_moves_statistics: bool = False,
    ) -> None:
        one_of("granularity", granularity, GRANULARITIES)
        one_of("evaluation", evaluation, EVALUATIONS)
        one_of("first", first, FIRST)
        if isinstance(relaxation, str):
            relaxation = {group: relaxation for group in FIRST}
        if not isinstance(relaxation, dict) or sorted(relaxation) != ["policy", "weights"]:
            raise ValueError(
                "`relaxation` must be a name, or a dict with one for 'weights' and one for "
                f"'policy'. Received: relaxation={relaxation!r}."
            )
        for kind in relaxation.values():
            one_of("relaxation", kind, RELAXATIONS)
        if len(entropy_period) != 2 or not 0 <= entropy_period[0] <= entropy_period[1] <= 1:
            raise ValueError(
                "`entropy_period` must be two shares of the search, the first at most the second. "
                f"Received: entropy_period={entropy_period!r}."
            )
        self.edges = edge_rule(edges)
        self.granularity = granularity
        self.relaxation = relaxation
        self.entropy = float(entropy)
        self.entropy_period = tuple(map(float, entropy_period))
        self.temperature = check_temperature(temperature)
        self.w_own = float(w_own)
        self.evaluation = evaluation
        self.first = first
        self.policy_moves_statistics = policy_moves_statistics

    @classmethod
    def reference(cls, **changes: Any) -> Self:
        """What the authors' published code does.

        Compile with `multipliers={".nddr.": 100}`, SGD 1e-3 with momentum 0.9 and polynomial decay
        for the weights and Adam 1e-3 for the policy, as it does.
        """
        settings = {
            "relaxation": {"weights": "stochastic", "policy": "deterministic"},
            "entropy_period": (0.0, 0.0),
            "first": "policy",
            "policy_moves_statistics": True,
        }
        return cls(**{**settings, **changes})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "edges": keras.saving.serialize_keras_object(self.edges)}

    def open(
        self, graph: BackboneGraph, units: Sequence[Unit], tasks: Sequence[str], seed: int
    ) -> Search:
        return MTLNASSearch(self, graph, units, tasks)


class MTLNASSearch(Search):
    """The open edges of one model; `gate` has one number for each, in the order of `edges`.

    Attributes:
        fusions: tuple of `Fusion` with all candidate sources.
        edges: tuple of `(source task, source unit, target task, target unit)`.
    """

    def __init__(self, strategy, graph, units, tasks):
        self.strategy = strategy
        self.tasks = tasks
        searchable = tuple(unit for unit in units if unit.searchable)
        self.choices = {task: (OWN,) * len(searchable) for task in tasks}
        self.fusions = candidate_fusions(graph, searchable, tasks, strategy.edges, strategy.w_own)
        if not self.fusions:
            raise ValueError(
                "`edges` must allow an edge between two tasks' columns. "
                f"Received: edges={strategy.edges!r} for {len(searchable)} units and "
                f"{len(tasks)} tasks. Use another rule, and two tasks or more."
            )
        self.edges = tuple(
            (*source, fusion.targets[0], fusion.unit)
            for fusion in self.fusions
            for source in fusion.sources[1:]
        )
        fused = {fusion.unit for fusion in self.fusions}
        self.units = tuple(unit for unit in searchable if unit.name in fused)
        self.gate = GumbelGate((len(self.edges),), name="edges")
        self.layers = [self.gate]

    def plan(self, epochs, steps_per_epoch):
        return MTLNASPlan(self.strategy, len(self.units), epochs * steps_per_epoch)

    def structures(self):
        return (self._phase,)

    @property
    def _phase(self):
        return MTLNASPlan(self.strategy, len(self.units), 1).phase(0)

    def draw(self, moment):
        if moment.training:
            if self.strategy.relaxation[moment.group] == "deterministic":
                return self.gate.probabilities()[:, 0]
            sampled = self.gate(temperature=moment.temperature, seed=moment.noise(), training=True)
            return sampled[:, 0]
        if self.strategy.evaluation == "relaxed":
            return self.gate.probabilities()[:, 0]
        return ops.cast(self.gate.logits()[:, 0] > 0, "float32")

    def resolve(self, phase, drawn):
        return lambda task, unit: Use(task)

    def gates(self, drawn):
        found, begin = {}, 0
        for fusion in self.fusions:
            end = begin + len(fusion.sources) - 1
            found[fusion.name] = drawn[begin:end]
            begin = end
        return found

    def regularisers(self, moment, drawn):
        begin, end = self.strategy.entropy_period
        ramp = 1.0
        if end > 0:
            grown = (moment.progress - begin) / max(end - begin, 1e-6)
            ramp = ops.clip(ops.cast(grown, "float32"), 0.0, 1.0)
        return {"entropy_loss": self.strategy.entropy * ramp * self._entropy()}

    def _entropy(self):
        """Mean entropy of the edges, in nats (equation 9)."""
        probabilities, logarithms = self.gate.probabilities(), self.gate.log_probabilities()
        return -ops.mean(ops.sum(probabilities * logarithms, axis=-1))

    def monitors(self):
        return {
            "entropy": self._entropy(),
            "expected_edges": ops.sum(self.gate.probabilities()[:, 0]),
        }

    def probabilities(self):
        """α of every edge, as an array in the order of `edges`."""
        return ops.convert_to_numpy(self.gate.probabilities()[:, 0])

    def most_likely(self):
        return self._decided(ops.convert_to_numpy(self.gate.logits()[:, 0]) > 0)

    def sample(self, generator):
        return self._decided(generator.random(len(self.edges)) < self.probabilities())

    def _decided(self, chosen):
        return {"choices": self.choices, "fusions": chosen_fusions(self.fusions, chosen)}


@dataclasses.dataclass(frozen=True)
class MTLNASPlan(Plan):
    """All edges are open from the first step on."""

    strategy: MTLNAS
    num_units: int
    steps: int

    def phase(self, step):
        order = FIRST if self.strategy.first == "weights" else FIRST[::-1]
        return Phase("search", self.num_units, order)

    def temperature(self, step):
        start, end = self.strategy.temperature
        return PolynomialTemperature(start, end, steps=self.steps)(step)

    @property
    def first_open_step(self):
        return 0
