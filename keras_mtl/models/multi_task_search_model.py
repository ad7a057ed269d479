"""MultiTaskSearchModel: a supernet whose policy is learned with its weights."""

from __future__ import annotations

import os
import types
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

import keras
import numpy as np
from keras import ops

from keras_mtl import strategies
from keras_mtl.architecture import Architecture
from keras_mtl.assembly import assemble, count, resolve_architecture, trace_table
from keras_mtl.checks import check_count, check_seed
from keras_mtl.data.epoch_dataset import EpochDataset
from keras_mtl.errors import DataError
from keras_mtl.graph import find_units, read
from keras_mtl.layers import ArchitectureLayer
from keras_mtl.models import tensorflow_step
from keras_mtl.models.check_data import check_batches, check_lasts, check_not_empty, with_length
from keras_mtl.models.copies import BACKBONE, Copies, clone_head, head_costs
from keras_mtl.models.derive import check_input_sets, input_names, priced, with_heads
from keras_mtl.models.identity import of_search
from keras_mtl.models.layer_names import by_name, check_names_apart
from keras_mtl.models.optimizers import begin_again, check_optimizers
from keras_mtl.models.task_model import TaskModel
from keras_mtl.models.undertrained import undertrained
from keras_mtl.report import say
from keras_mtl.strategies.strategy import Moment, child_seed
from keras_mtl.task import Task, task_configs

if TYPE_CHECKING:
    from keras_mtl.fusion import Fusion
    from keras_mtl.models.loss_weighting import LossWeighting
    from keras_mtl.strategies import Phase, SearchStrategy
    from keras_mtl.strategies.strategy import Plan


@keras.saving.register_keras_serializable("keras_mtl")
class MultiTaskSearchModel(TaskModel):
    """A model whose choices are open: made by `keras_mtl.build` for a searching strategy.

    Each step moves the weights on one batch, with the gates sampled, and the policy on another. The
    strategy's plan says which phase a step is in; the model finds it from its own step counter, and
    traces one train function per phase. `evaluate`, `predict` and calls use the most likely
    decision; before a gate has opened, what its phase does instead (all share, or the mean).

    Args:
        backbone: functional `keras.Model`.
        tasks: list of `Task`.
        strategy: `SearchStrategy`.
        initial_weights: `"backbone"`, `"fresh"`, or name -> layer of another model.
        seed: int.
        name: string.
    """

    def __init__(
        self,
        backbone: keras.Model,
        tasks: Sequence[Task],
        strategy: SearchStrategy,
        *,
        initial_weights: Any = BACKBONE,
        seed: int | None = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(tasks, name=name)
        self.strategy = strategy
        self.seed = seed = check_seed(seed)
        self.graph = graph = read(backbone)
        check_input_sets(graph, self.input_sets)
        self.units = find_units(graph, strategy.granularity)
        self.search = strategy.open(graph, self.units, self.task_names, child_seed(seed, "search"))
        needs = [
            count(
                graph,
                self.units,
                self.input_sets,
                self.search.resolve(phase, None),
                self.search.fusions,
            )
            for phase in self.search.structures()
        ]
        trace = [operation for need in needs for operation in need.operations]
        names = input_names(graph, self.input_sets)
        check_names_apart(graph, self.task_names, trace, names)
        self.copies = Copies(graph, trace, seed, initial_weights, merge=True)
        heads = [clone_head(task, graph.features, seed, initial_weights) for task in self.tasks]
        self.heads = dict(zip(self.task_names, heads, strict=True))
        self.supernet_costs = with_heads(needs[-1].costs, graph, self.heads)
        # Keras saves lists by position; the task names beside them keep the order from changing.
        self._owned = [*self.copies.all_layers(), *heads, *self.search.layers]
        self.input_specs = dict.fromkeys(self.input_sets.values(), graph.inputs)
        self.output_specs = {
            task: head.compute_output_spec(graph.features) for task, head in self.heads.items()
        }
        counter = {"trainable": False, "initializer": "zeros", "autocast": False, "dtype": "int32"}
        self.step = self.add_weight(
            name="step", shape=(), aggregation="only_first_replica", **counter
        )
        # Epochs and steps per epoch of the planned search; 0 until the first `fit`.
        self._planned = self.add_weight(name="planned", shape=(2,), **counter)
        self.first_policy = [ops.convert_to_numpy(v) for v in self.policy_variables()]
        self.policy_optimizer = None
        self.warmup_optimizer = None
        # Attribute -> settings as `compile` found them; no plain dict, which Keras would track.
        self._first_optimizers = types.MappingProxyType({})
        self._plan = (0, 0), None  # what it was made for, and the plan
        self._tracing: Any = None  # (phase, group) while a train function is traced
        self._train_functions = {}
        self._structure_when_traced = {}
        self._verbose = False
        self._steps_of_fit = 0
        self.built = True

    # Groups of variables -------------------------------------------------------------------------

    def policy_variables(self) -> list[Any]:
        """The trainable variables that architecture layers own."""
        layers = [x for x in self._owned if isinstance(x, ArchitectureLayer)]
        return [variable for layer in layers for variable in layer.architecture_variables]

    def weight_variables(self) -> list[Any]:
        """The trainable variables that are not policy."""
        policy = {id(variable) for variable in self.policy_variables()}
        return [v for v in self.trainable_variables if id(v) not in policy]

    def _check_groups(self):
        policy = self.policy_variables()
        trainable = {id(variable) for variable in self.trainable_variables}
        lost = [v.path for v in policy if id(v) not in trainable]
        if lost or not policy or len({id(v) for v in policy}) != len(policy):
            raise ValueError(
                "The policy variables must be trainable, owned once, and at least one. "
                f"Received: {len(policy)} policy variables, of which not trainable: {lost}. Set "
                "`model.trainable = True`, and freeze layers one by one in `model.named_layers()`."
            )

    # Compile -------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "sgd",
        policy_optimizer: Any = "adam",
        *,
        warmup_optimizer: Any = None,
        loss_weighting: str | LossWeighting | None = None,
        **options: Any,
    ) -> None:
        """Prepares the search; losses and metrics come from the tasks.

        Args:
            optimizer: Keras optimizer or its name, for the weights.
            policy_optimizer: Keras optimizer or its name, for the policy.
            warmup_optimizer: like `optimizer`, used for the weights during the warm-up, or `None`.
            loss_weighting: `None`, `"uncertainty"`, `"dwa"` or a `LossWeighting`.
            **options: `multipliers` of `TaskModel.compile`; `run_eagerly`, `jit_compile`,
                `auto_scale_loss` of `keras.Model.compile`.
        """
        given = {
            "optimizer": keras.optimizers.get(optimizer),
            "policy_optimizer": keras.optimizers.get(policy_optimizer),
        }
        if warmup_optimizer is not None:
            given["warmup_optimizer"] = keras.optimizers.get(warmup_optimizer)
        groups = [self.weight_variables(), self.policy_variables(), self.weight_variables()]
        check_optimizers(given, groups)
        super().compile(given["optimizer"], loss_weighting=loss_weighting, **options)
        self._check_groups()
        scale = options.get("auto_scale_loss", True)
        for name, variables in zip(list(given)[1:], groups[1:], strict=False):
            setattr(self, name, self._prepare(given[name], variables, scale))
        first = {name: getattr(self, name).get_config() for name in given}
        self._first_optimizers = types.MappingProxyType(first)
        self._train_functions = {}

    def _prepare(self, optimizer, variables, scale):
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        # Keras scales only its own `optimizer` under mixed precision.
        if scale and not scaled and isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
        optimizer.build(variables)
        return optimizer

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        if config is None:
            return None
        serialize = keras.saving.serialize_keras_object
        return {
            **config,
            "policy_optimizer": serialize(self.policy_optimizer),
            "warmup_optimizer": self.warmup_optimizer and serialize(self.warmup_optimizer),
        }

    def term_names(self) -> tuple[str, ...]:
        moment = Moment(self.search.structures()[-1], "policy", training=True, seed=self.seed)
        regularisers = self.search.regularisers(moment, self.search.draw(moment))
        return (*regularisers, *self.search.monitors(), "temperature")

    # The plan ------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan | None:
        """The schedule of this search, or `None` before the first `fit`."""
        planned = self.planned
        if planned != self._plan[0]:  # also when a file has brought the plan
            self._plan = planned, self.search.plan(*planned) if planned[0] else None
        return self._plan[1]

    @property
    def planned(self) -> tuple[int, int]:
        """Epochs and steps per epoch of the plan; zeros before the first `fit`."""
        return tuple(tensorflow_step.read_now(self._planned).tolist())

    def _make_plan(self, epochs, steps_per_epoch, initial_epoch):
        if self.current_step() == 0:
            self.search.plan(epochs, steps_per_epoch)  # may refuse: nothing is kept
            self._planned.assign([epochs, steps_per_epoch])
        planned = self.planned
        if planned[1] != steps_per_epoch:
            raise DataError(
                f"The search was planned with {planned[1]} steps an epoch and must go on with as "
                f"many. Received: {steps_per_epoch} steps an epoch. Use the same data and batch "
                "size, or begin again with `search.restart()`."
            )
        self._say_what_the_plan_does(planned[0], epochs, initial_epoch)

    def _say_what_the_plan_does(self, planned, epochs, initial_epoch):
        """One sentence where `fit` does something else than go through its plan to the end."""
        now = self.current_step() // self.planned[1]
        end = now + epochs - initial_epoch
        if epochs <= initial_epoch or (epochs, initial_epoch) == (planned, now):
            return
        where = "is finished" if now >= planned else f"is at epoch {now} and goes on"
        again = (
            f"Call `search.restart()` before `fit(epochs={epochs})` to begin again with a plan of "
            f"{epochs} epochs; where a `BackupAndResume` continues the training, delete its file."
        )
        if end > planned:
            last = float(self.plan.temperature(planned * self.planned[1]))
            warnings.warn(
                f"The search's plan of {planned} epochs {where}: {end - max(now, planned)} of the "
                f"{epochs - initial_epoch} epochs of this `fit` come after its end and keep its "
                f"last temperature, {last:.3g}. {again}",
                stacklevel=5,
            )
        else:
            say(f"The search's plan of {planned} epochs {where}, to epoch {end}. {again}")

    def restart(self) -> None:
        """Begins the search again: the next `fit` makes a new plan, from the first step.

        The policy goes back to its first logits, the optimizers to the settings and the empty state
        that `compile` gave them. Weights, normalisation statistics and the loss weighting keep what
        they have learned. A `BackupAndResume` brings back what its file holds: delete the file.

        Example:

        >>> import keras, keras_mtl
        >>> x = inputs = keras.Input((4,))
        >>> x = keras.layers.Add()([x, keras.layers.Dense(4, activation="relu")(x)])
        >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
        >>> search = keras_mtl.build(keras.Model(inputs, x), tasks, "adashare", seed=0)
        >>> search.compile(run_eagerly=True)
        >>> y = {"a": np.zeros(4), "b": np.ones(4)}
        >>> data = keras_mtl.data.search_split((np.ones((4, 4)), y))
        >>> trial = search.fit(data, epochs=2, verbose=0)
        >>> search.restart()
        >>> history = search.fit(data, epochs=4, verbose=0).history
        >>> [round(temperature, 2) for temperature in history["temperature"]]
        [5.0, 5.0, 0.71, 0.1]
        """
        self.step.assign(0)
        self._planned.assign([0, 0])
        for variable, first in zip(self.policy_variables(), self.first_policy, strict=True):
            variable.assign(first)
        for name, config in self._first_optimizers.items():
            optimizer = getattr(self, name)
            policy = name == "policy_optimizer"
            with self.distribute_strategy.scope():
                begin_again(
                    optimizer,
                    config,
                    self.policy_variables() if policy else self.weight_variables(),
                )

    @property
    def phase(self) -> Phase:
        """The phase of the present step; everything is open before the first `fit`."""
        if self.plan is None:
            return self.search.structures()[-1]
        return self.plan.phase(self.current_step())

    @property
    def search_is_open(self) -> bool:
        if self.plan is None:
            return True
        return self.current_step() > self.plan.first_open_step

    def current_step(self) -> int:
        """The number of steps made, an int; also while a function is traced."""
        return int(tensorflow_step.read_now(self.step))

    # Forward -------------------------------------------------------------------------------------

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        phase, group = self._tracing or (self.phase, "weights")
        drawn = self.search.draw(self._moment(phase, group, bool(training)))
        flat = self.flat_inputs(inputs)
        tasks = {t: own for t, own in self.input_sets.items() if {*self.needed_sets(t)} <= {*flat}}
        features = assemble(
            self.graph,
            self.units,
            tasks,
            self.search.resolve(phase, drawn),
            self.copies,
            flat,
            self.search.fusions,
            self.search.gates(drawn),
        )
        return {task: self.heads[task](features[task]) for task in tasks}

    def needed_sets(self, task: str) -> tuple[str | None, ...]:
        # Which columns will exchange features is what a search is to find out.
        return tuple(self.input_specs) if self.search.fusions else super().needed_sets(task)

    def _moment(self, phase, group, training):
        if self.plan is None:
            return Moment(phase, group, self.step, ops.ones((), "float32"), training, self.seed)
        epochs, steps = self.planned
        return Moment(
            phase,
            group,
            self.step,
            self.plan.temperature(self.step),
            training,
            self.seed,
            ops.cast(self.step, "float32") / float(epochs * steps),
        )

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        return dict(self.output_specs)

    # Training ------------------------------------------------------------------------------------

    def make_train_function(self, force: bool = False) -> Any:
        """Keeps the traced function of the present phase, and lets the step choose it."""
        if force:
            self._train_functions = {}
        self.train_function = self._train_one_step

    def _train_one_step(self, iterator):
        phase = self.phase
        key = self.planned, phase  # the plan's temperatures are numbers in the graph
        if key not in self._train_functions:
            if self._verbose:
                say(f"Tracing {phase.describe(len(self.search.units))} ...")
            super().make_train_function(force=True)
            # Functions of finished phases keep much memory, and only alternation comes back.
            self._train_functions = {
                (planned, known): function
                for (planned, known), function in self._train_functions.items()
                if known.structure == phase.structure and planned == key[0]
            }
            self._train_functions[key] = self.train_function
            self.train_function = self._train_one_step
        self._tracing = (phase, "weights")
        try:
            logs = self._train_functions[key](iterator)
        finally:
            self._tracing = None
        self._steps_of_fit += 1
        return logs

    def make_test_function(self, force: bool = False) -> Any:
        super().make_test_function(force=force or self._graph_changed("test"))

    def make_predict_function(self, force: bool = False) -> Any:
        return super().make_predict_function(force=force or self._graph_changed("predict"))

    def _graph_changed(self, kind):
        structure = self.planned, self.phase.structure
        changed = self._structure_when_traced.get(kind, structure) != structure
        self._structure_when_traced[kind] = structure
        return changed

    def train_step(self, data: Any) -> dict[str, Any]:
        batches = dict(zip(("weights", "policy"), tensorflow_step.checked(self, data), strict=True))
        phase, _ = self._tracing
        loss = None
        try:
            for group in phase.updates:
                self._tracing = (phase, group)
                self.rows_open = loss is None
                if group == "weights":
                    loss = self._weights_update(phase, batches[group])
                else:
                    loss = self._policy_update(phase, batches[group])
        finally:
            self.rows_open = True
        self._write_rows(phase)
        tensorflow_step.advance(self.step, loss)
        return self.get_metrics_result()

    def _weights_update(self, phase, batch):
        optimizer = getattr(self, phase.optimizer) or self.optimizer
        return tensorflow_step.update(
            self,
            batch,
            self.weight_variables(),
            optimizer,
            self.statistics(),
            scales=self.step_scales(),
        )

    def _policy_update(self, phase, batch):
        def regularisers():
            return sum(self._regularisers(phase).values())

        return tensorflow_step.update(
            self,
            batch,
            self.policy_variables(),
            self.policy_optimizer,
            self.statistics(),
            move_statistics=self.strategy.policy_moves_statistics,
            extra=regularisers,
        )

    def _regularisers(self, phase):
        # Drawn again, with the same noise: draws follow from the seed and the step.
        moment = self._moment(phase, "policy", training=True)
        return self.search.regularisers(moment, self.search.draw(moment))

    def _write_rows(self, phase):
        rows = {
            **self._regularisers(phase),
            **self.search.monitors(),
            "temperature": self.plan.temperature(self.step),
        }
        for name, value in rows.items():
            self._rows.terms[name].update_state(value)

    def by_set(self, data: Mapping[str, Any], options: dict[str, Any], sample_weight: Any) -> Any:
        return data  # `check_training_data` says what a search needs

    def check_training_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        """Raises `DataError` unless `x` gives pairs of batches for the weights and the policy."""
        spec = getattr(x, "element_spec", None) if hasattr(x, "cardinality") else None
        pairs = isinstance(spec, tuple) and len(spec) == 2
        pairs = pairs and all(isinstance(part, tuple) and len(part) in (2, 3) for part in spec)
        if y is not None or not pairs:
            given = "data" if isinstance(x, dict) and y is None else "(x, y)"
            raise DataError(
                "`fit` of a search needs pairs of batches, one for the weights and one for the "
                "policy. Received: plain data. Use "
                f"`fit(keras_mtl.data.search_split({given}), ...)`."
            )
        check_not_empty(x)
        for part in spec:
            check_batches(self, part)

    def train_on_batch(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: a step needs a plan, which `fit` makes from its number of epochs."""
        raise ValueError(
            "`train_on_batch` needs a model without a plan: phases and temperatures of a search "
            f"follow from the epochs of `fit`. Received: the open search {self.name!r}. Use "
            "`fit(keras_mtl.data.search_split((x, y)), epochs=...)`, with a callback's "
            "`on_train_batch_end` for what is to happen between steps."
        )

    def _run(self, x, y, sample_weight, epochs, callbacks, options):
        steps = options.get("steps_per_epoch")
        if steps is None:
            x, steps = with_length(x)
        first = options.get("initial_epoch", 0)
        if not isinstance(x, EpochDataset):
            check_lasts(x, steps, epochs - first)
        self._make_plan(epochs, steps, first)
        self._warn_of_impatience(callbacks, epochs - first)
        self._verbose = bool(options.get("verbose", True))
        self._steps_of_fit = 0
        if isinstance(x, EpochDataset):
            # The position in the data follows from the step alone.
            epoch, batch = divmod(self.current_step(), len(x))
            x = x.stream(epoch).skip(batch)
            options["steps_per_epoch"] = steps
        history = super()._run(x, y, sample_weight, epochs, callbacks, options)
        # Not by the model's step, which a callback may have brought back with the best weights.
        made, wanted = self._steps_of_fit, (epochs - first) * steps
        if made < wanted and not self.stop_training:
            warnings.warn(
                f"The dataset has ended early: {made} of {wanted} steps were made, and the "
                "search's plan is not finished. Give it as many batches, such as by `.repeat()`, "
                "and begin again with `search.restart()`.",
                stacklevel=3,
            )
        return history

    def _warn_of_impatience(self, callbacks, epochs):
        """Keras' own callbacks count a warm-up's scores, of a network without decisions."""
        if self.current_step() >= self.plan.first_open_step or epochs <= 0:
            return
        for callback in callbacks:
            kind = type(callback)
            picks = kind is keras.callbacks.EarlyStopping
            picks |= kind is keras.callbacks.ModelCheckpoint and callback.save_best_only
            if picks:
                waits = {"EarlyStopping": "EarlyStopping", "ModelCheckpoint": "BestCheckpoint"}
                warnings.warn(
                    f"`keras.callbacks.{kind.__name__}` also goes by the epochs before the search "
                    f"is open, in which no decision is tried. Use "
                    f"`keras_mtl.callbacks.{waits[kind.__name__]}"
                    f"(monitor={callback.monitor!r}, mode=...)`, which waits for it.",
                    stacklevel=4,
                )

    # Deciding ------------------------------------------------------------------------------------

    def decide(self, samples: int | None = None, seed: int | None = None) -> Any:
        """Reads an Architecture off the learned policy.

        Args:
            samples: int or `None`. `None`: the most likely Architecture; n: a list of n sampled
                from the learned distribution.
            seed: int or `None`. Of the sampling; `None` draws one, which is recorded as
                `origin["decide_seed"]`.

        Returns:
            An `Architecture`, or a list of them.

        Warns:
            UserWarning: when the search was stopped before its units were open, or hardly after.
        """
        if reason := undertrained(self):
            warnings.warn(reason, stacklevel=2)
        if samples is None:
            return self._architecture(self.search.most_likely(), {})
        samples, seed = check_count("samples", samples), check_seed(seed)
        generator = np.random.default_rng(seed)
        return [
            self._architecture(self.search.sample(generator), {"decide_seed": seed, "sample": i})
            for i in range(samples)
        ]

    def _architecture(self, parts, origin):
        architecture = Architecture(
            tasks=self.task_names,
            units=tuple(unit.name for unit in self.units if unit.searchable),
            fingerprint=self.graph.fingerprint,
            granularity=self.strategy.granularity,
            normalisation=self.strategy.normalisation,
            projections=self.strategy.projections,
            origin={
                "strategy": self.strategy.name,
                "settings": self.strategy.get_config(),
                "seed": self.seed,
                "step": self.current_step(),
                "skippable": self.search.skippable,
                **({"limits": dict(self.search.limits)} if self.search.limits else {}),
                **origin,
            },
            **parts,
        )
        return priced(self.graph, self.units, self.input_sets, self.heads, architecture)[0]

    def trace(self, task: str) -> str:
        """A table of what an answer for one task computes, and what each step costs.

        By the likeliest decision of the policy as it is now.

        Args:
            task: string.

        Returns:
            A string, to be printed.
        """
        self.check_task(task)
        likeliest = self._architecture(self.search.most_likely(), {})
        resolve = resolve_architecture(likeliest)
        needs = count(self.graph, self.units, self.input_sets, resolve, likeliest.fusions)
        head = self.heads[task]
        row = head.name, *head_costs(head, self.graph.features)
        return trace_table(self.graph, needs.trace[task], [row])

    @property
    def fusions(self) -> tuple[Fusion, ...]:
        """What the tasks' paths exchange while everything is open."""
        return self.search.fusions

    def named_layers(self) -> dict[str, keras.layers.Layer]:
        """Name -> layer; a derived model takes its weights from here (`initial_weights=model`)."""
        return by_name([*self.copies.named_layers(), *self.heads.values()])

    # Saving --------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "kind": "search", **of_search(self)}

    def export(
        self, filepath: os.PathLike[str] | str, format: str = "tf_saved_model", **options: Any
    ) -> NoReturn:
        """Refused: only a decided architecture can be served at its own cost."""
        raise ValueError(
            f"`export` needs a decided model. Received: the open search {self.name!r}. Use "
            "`keras_mtl.build(backbone, tasks, architecture=model.decide(), "
            "initial_weights=model).export(...)`."
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "backbone": keras.saving.serialize_keras_object(self.graph.backbone),
            "tasks": task_configs(self.tasks),
            "strategy": {"name": self.strategy.name, "settings": self.strategy.get_config()},
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        strategy = strategies.get_class(config["strategy"]["name"])
        return cls(
            keras.saving.deserialize_keras_object(config["backbone"], custom_objects),
            [Task.from_config(task) for task in config["tasks"]],
            strategy.from_config(config["strategy"]["settings"]),  # type: ignore[arg-type]
            seed=config["seed"],
            name=config["name"],
        )
