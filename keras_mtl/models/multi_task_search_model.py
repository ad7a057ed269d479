"""MultiTaskSearchModel: a supernet whose policy is learned with its weights."""

import keras
import numpy as np
from keras import ops

from keras_mtl import strategies
from keras_mtl.architecture import Architecture
from keras_mtl.assemble import assemble
from keras_mtl.count import count
from keras_mtl.data.epoch_dataset import EpochDataset
from keras_mtl.errors import DataError
from keras_mtl.graph import find_units, read
from keras_mtl.layers import ArchitectureLayer
from keras_mtl.models import tensorflow_step
from keras_mtl.models.check_data import check_batches, with_length
from keras_mtl.models.copies import BACKBONE, Copies, clone_head
from keras_mtl.models.derive import check_input_sets, priced, with_heads
from keras_mtl.models.task_model import TaskModel, check_not_empty
from keras_mtl.report import say
from keras_mtl.strategies.strategy import Moment, child_seed
from keras_mtl.task import Task


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

    def __init__(self, backbone, tasks, strategy, *, initial_weights=BACKBONE, seed=0, name=None):
        super().__init__(tasks, name=name)
        self.strategy = strategy
        self.seed = seed
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
        self.copies = Copies(graph, self.units, needs, seed, initial_weights, merge=True)
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
        self.policy_optimizer = None
        self.warmup_optimizer = None
        self._plan = None
        self._tracing = None  # (phase, group) while a train function is traced
        self._train_functions = {}
        self._structure_when_traced = {}
        self._verbose = False
        self.built = True

    # Groups of variables -------------------------------------------------------------------------

    def policy_variables(self):
        """The trainable variables that architecture layers own."""
        layers = [x for x in self._owned if isinstance(x, ArchitectureLayer)]
        return [variable for layer in layers for variable in layer.architecture_variables]

    def weight_variables(self):
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
                f"Received: {len(policy)} policy variables, of which not trainable: {lost}."
            )

    # Compile -------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer="sgd",
        policy_optimizer="adam",
        *,
        warmup_optimizer=None,
        loss_weighting=None,
        **options,
    ):
        """Prepares the search; losses and metrics come from the tasks.

        Args:
            optimizer: Keras optimizer or its name, for the weights.
            policy_optimizer: Keras optimizer or its name, for the policy.
            warmup_optimizer: like `optimizer`, used for the weights during the warm-up, or `None`.
            loss_weighting: `None`, `"uncertainty"`, `"dwa"` or a `LossWeighting`.
            **options: `multipliers` of `TaskModel.compile`; `run_eagerly`, `jit_compile`,
                `auto_scale_loss` of `keras.Model.compile`.
        """
        super().compile(optimizer, loss_weighting=loss_weighting, **options)
        self._check_groups()
        scale = options.get("auto_scale_loss", True)
        self.policy_optimizer = self._prepare(policy_optimizer, self.policy_variables(), scale)
        if warmup_optimizer is not None:
            weights = self.weight_variables()
            self.warmup_optimizer = self._prepare(warmup_optimizer, weights, scale)
        self._train_functions = {}

    def _prepare(self, optimizer, variables, scale):
        optimizer = keras.optimizers.get(optimizer)
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        # Keras scales only its own `optimizer` under mixed precision.
        if scale and not scaled and isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
        optimizer.build(variables)
        return optimizer

    def get_compile_config(self):
        config = super().get_compile_config()
        if config is None:
            return None
        serialize = keras.saving.serialize_keras_object
        return {
            **config,
            "policy_optimizer": serialize(self.policy_optimizer),
            "warmup_optimizer": self.warmup_optimizer and serialize(self.warmup_optimizer),
        }

    def term_names(self):
        moment = Moment(self.search.structures()[-1], "policy", training=True, seed=self.seed)
        regularisers = self.search.regularisers(moment, self.search.draw(moment))
        return (*regularisers, *self.search.monitors(), "temperature")

    # The plan ------------------------------------------------------------------------------------

    @property
    def plan(self):
        """The schedule of this search, or `None` before the first `fit`."""
        if self._plan is None:
            epochs, steps = tensorflow_step.read_now(self._planned).tolist()
            if epochs:
                self._plan = self.search.plan(epochs, steps)
        return self._plan

    def _make_plan(self, epochs, steps_per_epoch):
        if self.plan is None:
            self._plan = self.search.plan(epochs, steps_per_epoch)  # may refuse: nothing is kept
            self._planned.assign([epochs, steps_per_epoch])
        planned = tensorflow_step.read_now(self._planned).tolist()
        if planned[1] != steps_per_epoch:
            raise DataError(
                f"The search was planned with {planned[1]} steps an epoch and must go on with as "
                f"many. Received: {steps_per_epoch} steps an epoch. Use the same data and batch "
                "size, or build a new search."
            )

    @property
    def phase(self):
        """The phase of the present step; everything is open before the first `fit`."""
        if self.plan is None:
            return self.search.structures()[-1]
        return self.plan.phase(self.current_step())

    @property
    def search_is_open(self):
        if self.plan is None:
            return True
        return self.current_step() > self.plan.first_open_step

    def current_step(self):
        """The number of steps made, an int; also while a function is traced."""
        return int(tensorflow_step.read_now(self.step))

    # Forward -------------------------------------------------------------------------------------

    def call(self, inputs, training=None):
        phase, group = self._tracing or (self.phase, "weights")
        drawn = self.search.draw(self._moment(phase, group, bool(training)))
        features = assemble(
            self.graph,
            self.units,
            self.input_sets,
            self.search.resolve(phase, drawn),
            self.copies,
            self.flat_inputs(inputs),
            self.search.fusions,
            self.search.gates(drawn),
        )
        return {task: head(features[task]) for task, head in self.heads.items()}

    def _moment(self, phase, group, training):
        if self.plan is None:
            return Moment(phase, group, self.step, ops.ones((), "float32"), training, self.seed)
        steps = float(tensorflow_step.read_now(self._planned).prod())
        return Moment(
            phase,
            group,
            self.step,
            self.plan.temperature(self.step),
            training,
            self.seed,
            ops.cast(self.step, "float32") / steps,
        )

    def compute_output_spec(self, inputs, training=None):
        return dict(self.output_specs)

    # Training ------------------------------------------------------------------------------------

    def make_train_function(self, force=False):
        """Keeps the traced function of the present phase, and lets the step choose it."""
        if force:
            self._train_functions = {}
        self.train_function = self._train_one_step

    def _train_one_step(self, iterator):
        phase = self.phase
        if phase not in self._train_functions:
            if self._verbose:
                say(f"Tracing {phase.describe(len(self.search.units))} ...")
            super().make_train_function(force=True)
            # Functions of finished phases keep much memory, and only alternation comes back.
            self._train_functions = {
                known: function
                for known, function in self._train_functions.items()
                if known.structure == phase.structure
            }
            self._train_functions[phase] = self.train_function
            self.train_function = self._train_one_step
        self._tracing = (phase, "weights")
        try:
            return self._train_functions[phase](iterator)
        finally:
            self._tracing = None

    def make_test_function(self, force=False):
        super().make_test_function(force=force or self._graph_changed("test"))

    def make_predict_function(self, force=False):
        return super().make_predict_function(force=force or self._graph_changed("predict"))

    def _graph_changed(self, kind):
        structure = self.phase.structure
        changed = self._structure_when_traced.get(kind, structure) != structure
        self._structure_when_traced[kind] = structure
        return changed

    def train_step(self, data):
        batches = dict(zip(("weights", "policy"), tensorflow_step.checked(self, data), strict=True))
        phase, _ = self._tracing
        loss = None
        for group in phase.updates:
            self._tracing = (phase, group)
            self.rows_open = loss is None
            if group == "weights":
                loss = self._weights_update(phase, batches[group])
            else:
                loss = self._policy_update(phase, batches[group])
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

    def check_training_data(self, x, y=None, sample_weight=None):
        """Raises `DataError` unless `x` gives pairs of batches for the weights and the policy."""
        spec = getattr(x, "element_spec", None)
        pairs = isinstance(spec, tuple) and len(spec) == 2
        pairs = pairs and all(isinstance(part, tuple) and len(part) in (2, 3) for part in spec)
        if y is not None or not pairs:
            raise DataError(
                "`fit` of a search needs pairs of batches, one for the weights and one for the "
                "policy. Received: plain data. Use "
                "`fit(keras_mtl.data.search_split((x, y)), ...)`."
            )
        check_not_empty(x)
        for part in spec:
            check_batches(self, part)

    def _run(self, x, y, sample_weight, epochs, callbacks, options):
        steps = options.get("steps_per_epoch")
        if steps is None:
            x, steps = with_length(x)
        self._make_plan(epochs, steps)
        self._verbose = bool(options.get("verbose", True))
        if isinstance(x, EpochDataset):
            # The position in the data follows from the step alone.
            epoch, batch = divmod(self.current_step(), len(x))
            x = x.stream(epoch).skip(batch)
            options["steps_per_epoch"] = steps
        return super()._run(x, y, sample_weight, epochs, callbacks, options)

    # Deciding ------------------------------------------------------------------------------------

    def decide(self, samples=None, seed=None):
        """Reads an Architecture off the learned policy.

        Args:
            samples: int or `None`. `None`: the most likely Architecture; n: a list of n sampled
                from the learned distribution.
            seed: int or `None`. Of the sampling; `None`: from the build's seed.

        Returns:
            An `Architecture`, or a list of them.
        """
        if samples is None:
            return self._architecture(self.search.most_likely(), {})
        if not isinstance(samples, int) or samples < 1:
            raise ValueError(
                f"`samples` must be a positive integer. Received: samples={samples!r}."
            )
        seed = child_seed(self.seed, "decide") if seed is None else seed
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

    @property
    def fusions(self):
        """What the tasks' paths exchange while everything is open."""
        return self.search.fusions

    def named_layers(self):
        """Name -> layer; a derived model takes its weights from here (`initial_weights=model`)."""
        layers = [*self.copies.named_layers(), *self.heads.values()]
        return {layer.name: layer for layer in layers}

    # Saving --------------------------------------------------------------------------------------

    def settings(self):
        return {**super().settings(), "strategy": repr(self.strategy)}

    def export(self, filepath, format="tf_saved_model", **options):
        """Refused: only a decided architecture can be served at its own cost."""
        raise ValueError(
            f"`export` needs a decided model. Received: the open search {self.name!r}. Use "
            "`keras_mtl.build(backbone, tasks, architecture=model.decide(), "
            "initial_weights=model).export(...)`."
        )

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.graph.backbone),
            "tasks": [task.get_config() for task in self.tasks],
            "strategy": {"name": self.strategy.name, "settings": self.strategy.get_config()},
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        strategy = strategies.get_class(config["strategy"]["name"])
        return cls(
            keras.saving.deserialize_keras_object(config["backbone"], custom_objects),
            [Task.from_config(task) for task in config["tasks"]],
            strategy.from_config(config["strategy"]["settings"]),
            seed=config["seed"],
            name=config["name"],
        )
