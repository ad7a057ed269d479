"""MultiTaskModel: a decided architecture as an ordinary functional network."""

import keras

from keras_mtl.architecture import Architecture
from keras_mtl.export import export_saved_model
from keras_mtl.models.task_model import TaskModel
from keras_mtl.task import Task


@keras.saving.register_keras_serializable("keras_mtl")
class MultiTaskModel(TaskModel):
    """A network with one output per task, and the tasks that train it.

    Made by `keras_mtl.build`; `network` is a plain functional Keras model with dict outputs.

    Args:
        network: functional model with a dict of outputs by task name.
        tasks: list of `Task`.
        architecture: the `Architecture` that it realises, or `None`.
        seed: int or `None`. The seed it was built with.
        name: string.

    Example:

    >>> import keras, keras_mtl
    >>> backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu")])
    >>> tasks = [keras_mtl.Task(name, keras.layers.Dense(1), "mse") for name in ("a", "b")]
    >>> model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    >>> sorted(model.network.output)
    ['a', 'b']
    """

    def __init__(self, network, tasks, architecture=None, seed=None, name=None):
        super().__init__(tasks, name=name)
        self.seed = seed
        self.network = network
        self.architecture = architecture
        self.input_specs = {
            name: tuple(keras.tree.flatten(network.input if name is None else network.input[name]))
            for name in self.input_sets.values()
        }
        self.output_specs = dict(network.output)
        self.built = True

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def named_layers(self):
        """Name -> layer; another model takes its first weights from here."""
        return {layer.name: layer for layer in self.network.layers}

    def identity(self):
        if self.architecture is None:
            return super().identity()
        choices = {task: list(row) for task, row in self.architecture.choices.items()}
        return {**super().identity(), "choices": choices}

    def task_network(self, task):
        """A functional model of one task's path and head alone, from its own inputs."""
        name = self.input_sets[task]
        inputs = self.network.input if name is None else self.network.input[name]
        return keras.Model(inputs, self.network.output[task], name=f"{self.name}.{task}")

    def export(self, filepath, format="tf_saved_model", **options):
        """Writes one SavedModel: endpoint `"serve"` with all tasks, and one per task.

        A task's endpoint computes its own path only. The file loads with TensorFlow alone. Other
        formats go to `keras.Model.export` of the network.
        """
        if format != "tf_saved_model":
            return self.network.export(filepath, format=format, **options)
        return export_saved_model(self, filepath, **options)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "network": serialize(self.network),
            "tasks": [task.get_config() for task in self.tasks],
            "architecture": self.architecture and self.architecture.to_json(),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        architecture = config["architecture"]
        return cls(
            keras.saving.deserialize_keras_object(config["network"], custom_objects),
            [Task.from_config(task) for task in config["tasks"]],
            architecture and Architecture.from_json(architecture),
            seed=config["seed"],
            name=config["name"],
        )
