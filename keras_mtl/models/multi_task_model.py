"""MultiTaskModel: a decided architecture as an ordinary functional network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import keras

from keras_mtl.architecture import Architecture
from keras_mtl.assembly import operations, trace_table
from keras_mtl.data.sampled_dataset import SampledDataset
from keras_mtl.errors import DataError
from keras_mtl.export import export_saved_model
from keras_mtl.graph import read
from keras_mtl.models.check_data import check_turns
from keras_mtl.models.extract import extract, has_masks
from keras_mtl.models.identity import of_architecture, of_layers
from keras_mtl.models.layer_names import by_name
from keras_mtl.models.task_model import TaskModel
from keras_mtl.models.task_parts import TaskParts
from keras_mtl.models.task_steps import TaskSteps
from keras_mtl.models.update_scales import update_scales
from keras_mtl.task import Task, task_configs

if TYPE_CHECKING:
    from keras_mtl.fusion import Fusion


@keras.saving.register_keras_serializable("keras_mtl")
class MultiTaskModel(TaskModel):
    """A network with one output per task, and the tasks that train it.

    Made by `keras_mtl.build`; `network` is a plain functional Keras model with dict outputs.

    Args:
        network: functional model with a dict of outputs by task name.
        tasks: list of `Task`.
        architecture: the `Architecture` that it realises, or `None`.
        seed: int or `None`. The seed it was built with.
        frozen: sequence of string. Names of the layers that `trainable = True` leaves frozen.
        input_names: list of string. The backbone's own names of its inputs, where tasks have input
            sets; by default the network's.
        name: string.

    Example:

    >>> import keras, keras_mtl
    >>> backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu")])
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    >>> sorted(model.network.output)
    ['a', 'b']
    """

    def __init__(
        self,
        network: keras.Model,
        tasks: Sequence[Task],
        architecture: Architecture | None = None,
        seed: int | None = None,
        name: str | None = None,
        *,
        frozen: Sequence[str] = (),
        input_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(tasks, name=name)
        self.seed = seed
        self.network = network
        self._parts = TaskParts(network, self.input_sets)
        self.architecture = architecture
        self.frozen = tuple(frozen)
        self.input_names = input_names and tuple(input_names)
        self.input_specs = {name: self._specs(name) for name in self.input_sets.values()}
        self.output_specs = dict(network.output)
        counter = {"trainable": False, "initializer": "zeros", "autocast": False}
        counter |= {"shape": (len(self.tasks),), "aggregation": "only_first_replica"}
        self.turn_counts = self.add_weight(name="turn_counts", dtype="int32", **counter)
        self.turn_accuracies = self.add_weight(name="turn_accuracies", dtype="float32", **counter)
        self.task_optimizers = {}
        self._task_steps = TaskSteps(self)
        self.built = True

    def _specs(self, input_set):
        tensors = keras.tree.flatten(self._parts.structure(input_set))
        names = self.input_names if input_set is not None and self.input_names else None
        return tuple(
            keras.KerasTensor(x.shape, x.dtype, name=name)
            for x, name in zip(tensors, names or [x.name for x in tensors], strict=True)
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if None in self.input_specs:
            return self.network(inputs, training=training)
        inputs = {
            name: keras.tree.pack_sequence_as(self._parts.structure(name), tensors)
            for name, tensors in self.flat_inputs(inputs).items()
        }
        if self.step_task is not None:
            (own,) = inputs.values()
            network = self._task_steps.network(self.step_task)
            return {self.step_task: network(own, training=training)}
        if len(inputs) == len(self.input_specs):
            return self.network(inputs, training=training)
        network = self._parts.from_sets(inputs)
        needed = {name: inputs[name] for name in network.input}
        return network(needed, training=training)

    def needed_sets(self, task: str) -> tuple[str | None, ...]:
        return self._parts.input_sets(task)

    @property
    def fusions(self) -> tuple[Fusion, ...]:
        """What the tasks' paths exchange."""
        return self.architecture.fusions if self.architecture else ()

    def named_layers(self) -> dict[str, keras.layers.Layer]:
        """Name -> layer; another model takes its first weights from here."""
        return by_name(self.network.layers)

    def freeze_fixed(self) -> None:
        layers = self.named_layers()
        for name in self.frozen:
            layers[name].trainable = False

    # Tasks that take turns ----------------------------------------------------------------------

    def compile(self, optimizer: Any = "adam", **options: Any) -> None:
        super().compile(optimizer, **options)
        self.task_optimizers = {}
        self._task_steps = TaskSteps(self)

    compile.__doc__ = TaskModel.compile.__doc__

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        return config and {**config, "task_optimizers": bool(self.task_optimizers)}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config = dict(config)
        takes_turns = config.pop("task_optimizers")
        super().compile_from_config(config)
        if takes_turns:
            self._task_steps.make_optimizers()

    def check_training_data(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        masks = self.architecture.masks.values() if self.architecture is not None else ()
        if isinstance(x, SampledDataset):
            check_turns(self, x)
        elif any(use.backward != use.forward for use in masks):
            raise DataError(
                "Backward masks need steps of one task each: a step on all tasks at once cannot "
                "tell whose update a channel gets. Received: an architecture with backward masks, "
                "and data of all tasks at once. Use `fit(keras_mtl.data.sample_tasks(...))`."
            )
        super().check_training_data(x, y, sample_weight)

    def prepared(self, x: Any, options: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
        if not isinstance(x, SampledDataset) or not self.compiled:
            return super().prepared(x, options)
        return self._task_steps.taking_turns(x, bool(options.get("verbose", True)))

    def _run(self, x, y, sample_weight, epochs, callbacks, options):
        if isinstance(x, SampledDataset):
            options.setdefault("steps_per_epoch", len(x))
            x = x.clock()
        return super()._run(x, y, sample_weight, epochs, callbacks, options)

    def train_step(self, data: Any) -> dict[str, Any]:
        if self.step_task is None:
            return super().train_step(data)
        return self._task_steps.train_step(data)

    def observe(self, y: Any, y_pred: Any, sample_weight: Any) -> None:
        if self.step_task is not None:
            self._task_steps.observe(y, y_pred, sample_weight)

    def step_losses(self) -> list[Any]:
        if self.step_task is None:
            return super().step_losses()
        return self._task_steps.network(self.step_task).losses

    def turns(self) -> dict[str, int]:
        return self._task_steps.counts() if self._task_steps.data is not None else {}

    # Saving -------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        decided = of_architecture(self.architecture) if self.architecture is not None else {}
        layers = of_layers(self.network.layers)
        return {**super().identity(), "kind": "network", **decided, "layers": layers}

    def task_network(self, task: str) -> keras.Model:
        """A functional model of one task's path and head alone.

        It takes the task's own inputs. Where these are sets (`Task(inputs=...)`) and the task
        depends on several, since columns exchange features, it takes a dict from set to inputs, of
        the sets that `needed_sets(task)` says.
        """
        self.check_task(task)
        return self._parts.network_of(task, f"{self.name}.{task}")

    def extract(self, task: str) -> keras.Model:
        """A functional model of one task alone, without the channels that its masks leave out.

        It takes what `task_network(task)` takes. It has smaller kernels and the same outputs; its
        parameters and FLOPs are those that `architecture.parameters(task)` and
        `architecture.flops(task)` say. Its weights are copies of their own. Where a task uses no
        channel of an operator, one stays, read with zeros.
        """
        return extract(self.task_network(task), self.seed or 0, f"{self.name}.{task}")

    def trace(self, task: str) -> str:
        """A table of what an answer for one task computes, and what each step costs.

        Of masked operators only the channels that the task uses, as in its endpoint.

        Args:
            task: string.

        Returns:
            A string, to be printed.
        """
        network = self.task_network(task)
        graph = read(self.extract(task) if has_masks(network) else network)
        return trace_table(graph, [operations.Run((), call, None) for call in graph.calls])

    def update_scales(self, task: str) -> dict[int, Any]:
        """What training on a task may change: id of a variable -> factor of its final update.

        A factor is 0 or 1, or an array of them that broadcasts to the variable:
        `new = old + factor * (optimizer's new - old)`, after momentum and weight decay. Variables
        that are not in it change fully.
        """
        return update_scales(self.task_network(task), self.architecture, task)

    def export(
        self, filepath: os.PathLike[str] | str, format: str = "tf_saved_model", **options: Any
    ) -> None:
        """Writes one SavedModel: endpoint `"serve"` with all tasks, and one per task.

        A task's endpoint computes its own path only, and takes the inputs that the path depends on.
        The file loads with TensorFlow alone. Other formats go to `keras.Model.export` of the
        network.

        Args:
            filepath: string or path. A folder.
            format: string.
            **options: `input_signature` and `verbose`, as in `keras.Model.export`; other formats
                may have more.
        """
        if format != "tf_saved_model":
            return self.network.export(filepath, format=format, **options)
        unknown = [name for name in options if name not in ("input_signature", "verbose")]
        if unknown:
            raise TypeError(
                "`export` to a SavedModel must have no options but `input_signature` and "
                f"`verbose`. Received: {unknown[0]}={options[unknown[0]]!r}."
            )
        return export_saved_model(self, filepath, **options)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "network": serialize(self.network),
            "tasks": task_configs(self.tasks),
            "architecture": self.architecture and self.architecture.to_json(),
            "seed": self.seed,
            "name": self.name,
            "frozen": self.frozen,
            "input_names": self.input_names,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        architecture = config["architecture"]
        return cls(
            keras.saving.deserialize_keras_object(config["network"], custom_objects),
            [Task.from_config(task) for task in config["tasks"]],
            architecture and Architecture.from_json(architecture),
            seed=config["seed"],
            name=config["name"],
            frozen=config["frozen"],
            input_names=config["input_names"],
        )
