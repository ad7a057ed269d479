"""Trainings that are kept: what every experiment does with a model, a name and its data."""

import re
import sys
import time

import keras
import tensorflow as tf

import keras_mtl
from keras_mtl.tuners import files

# Where tasks take turns there is one train function for each, which TensorFlow takes for a mistake.
tf.get_logger().setLevel("ERROR")


class Log:
    """Trains, evaluates, keeps results, and says where we are.

    Attributes:
        baseline: results of the single-task networks, once they are there; every later row has its
            Δ.
        single_models: dict from task to its trained single-task network.
        spent: dict from `"training"` and `"search"` to `[epochs, seconds]` so far, kept as well.
        kept: plain data, written to `results.json` by `save`.
    """

    def __init__(self, experiment):
        self.experiment = experiment
        self.baseline = None
        self.single_models = {}
        self.total = 0
        self.number = 0
        self.ahead = {}
        self.begun = time.time()
        self.path = experiment.folder / "results.json"
        experiment.folder.mkdir(parents=True, exist_ok=True)
        self.kept = files.read_json(self.path) or {}
        settings = self.kept.setdefault("settings", experiment.settings)
        if settings != experiment.settings:
            raise SystemExit(
                f"{experiment.folder} holds results of other settings: {settings}. Received: "
                f"{experiment.settings}. Choose another --folder, or delete this one."
            )
        self.spent = self.kept.setdefault("spent", {"training": [0, 0.0], "search": [0, 0.0]})
        self._seconds = self.kept.setdefault("seconds", {})

    def save(self):
        """Writes everything that is kept, whole or not at all."""
        files.write_json(self.path, self.kept)

    def epochs(self, kind, name):
        """A callback that counts the epochs of a training or search; one that goes on adds up."""
        return Epochs(self.spent[kind], self._seconds.setdefault(name, {}), self.save)

    def seconds(self, name):
        """What the epochs of a training or search took together, its tracing included."""
        return sum(self._seconds.get(name, {}).values())

    def expect(self, *, trainings, searches):
        """Says how much there is to do."""
        self.total = trainings + searches
        self.ahead = {
            "training": trainings * self.experiment.epochs,
            "search": searches * self.experiment.search_epochs,
        }

    def seconds_left(self):
        """An estimate from the epochs so far; asked for when the baselines are there."""
        rates = {kind: s / epochs for kind, (epochs, s) in self.spent.items() if epochs}
        # Until a search has run: both groups move, and every task has a path of its own.
        rates.setdefault("search", 2 * len(self.experiment.tasks) * rates["training"])
        return sum(epochs * rates[kind] for kind, epochs in self.ahead.items())

    def title(self, name):
        self.number += 1
        write(f"[{self.number:2d}/{self.total}] {name:24s}")

    def close(self, kind, text=""):
        experiment = self.experiment
        self.ahead[kind] -= experiment.epochs if kind == "training" else experiment.search_epochs
        write(f" {text} ({time.time() - self.begun:.0f} s so far)\n")

    def trained(self, name, model, only=None, epochs=None, **options):
        """Trains a model unless its result is kept; returns its row of the table.

        Args:
            name: string. What the training is called.
            model: `MultiTaskModel`, not compiled.
            only: the one `Task` of a single-task network, or `None`.
            epochs: int or `None`. Those of the experiment; 0 only evaluates.
            **options: of the model's `compile`, such as `loss_weighting`.
        """
        experiment = self.experiment
        self.title(name)
        weights = experiment.folder / f"{file_name(name)}.weights.h5"
        key = f"{name} {model.architecture.to_json()}"
        fed = feed(experiment, experiment.train, only, experiment.batch_size, training=True)
        model.compile(experiment.optimizer(experiment.epochs * num_batches(fed)), **options)
        if key in self.kept and weights.exists():
            model.load_weights(weights)
            row = self.kept[key]
        else:
            self._seconds.pop(name, None)
            history = {}
            if epochs != 0:
                history = model.fit(
                    **fed,
                    epochs=epochs or experiment.epochs,
                    verbose=0,
                    callbacks=[self.epochs("training", name)],
                ).history
            row = {
                "validation": self.results(model, experiment.validation, only),
                "test": self.results(model, experiment.test, only),
                "parameters": model.architecture.parameters(),
                "flops": model.architecture.flops(),
                "seconds": self.seconds(name),
                "history": {key: list(map(float, values)) for key, values in history.items()},
            }
            files.write_whole(weights, model.save_weights)
            self.kept[key] = row
            self.save()
        if self.baseline and only is None:
            row = {**row, **self.deltas(row)}
            self.close("training", f"validation Δ_T {row['validation_delta']:+.1f} %")
        else:
            self.close("training")
        return row

    def results(self, model, data, only):
        batch_size = 500 if isinstance(data, tuple) else self.experiment.batch_size
        fed = feed(self.experiment, data, only, batch_size)
        logs = model.evaluate(**fed, verbose=0, return_dict=True)
        return model.task_results(logs)

    def deltas(self, row):
        validation = keras_mtl.relative_performance(row["validation"], self.baseline["validation"])
        test = keras_mtl.relative_performance(row["test"], self.baseline["test"])
        return {
            "validation_delta": validation.total,
            "delta": test.per_task,
            "total_delta": test.total,
        }


class Epochs(keras.callbacks.Callback):
    """One mark per epoch, on the line of the training; adds epochs and seconds to `spent`.

    Args:
        spent: list `[epochs, seconds]`.
        seconds: dict, for the seconds of every epoch.
        save: function that is called after every epoch.
    """

    def __init__(self, spent, seconds, save):
        super().__init__()
        self._spent = spent
        self._seconds = seconds
        self._save = save

    def on_train_begin(self, logs=None):
        self._begun = time.time()

    def on_epoch_end(self, epoch, logs=None):
        write("." if (epoch + 1) % 5 else str(epoch + 1))
        now = time.time()
        self._spent[0] += 1
        self._spent[1] += now - self._begun
        # By its number: an epoch that a kill has made run twice counts once.
        self._seconds[str(epoch)] = now - self._begun
        self._save()
        self._begun = time.time()


def feed(experiment, data, task, batch_size, training=False):
    """The data for `fit` or `evaluate`, as their arguments: all labels, or those of one task."""
    if isinstance(data, dict):
        own = data if task is None else {task.inputs: labelled(data[task.inputs], task)}
        seed = experiment.seed
        return {"x": keras_mtl.data.join_tasks(own, batch_size, training=training, seed=seed)}
    data = labelled(data, task)
    if isinstance(data, tuple):
        return {"x": data[0], "y": data[1], "batch_size": batch_size}
    return {"x": data}


def num_batches(fed):
    """Steps of an epoch on what `feed` gave."""
    if "batch_size" in fed:
        return -(-len(next(iter(fed["y"].values()))) // fed["batch_size"])
    return int(fed["x"].cardinality())


def labelled(data, task):
    """`(x, y)`, or a dataset of it, with the labels of one task; of all where `task` is `None`."""
    if task is None:
        return data
    if not isinstance(data, tuple):
        return data.map(lambda x, y: labelled((x, y), task))
    x, y = data
    return x, ({task.name: y[task.name]} if isinstance(y, dict) else y)


def file_name(name):
    """A name as the part of a file's name."""
    return re.sub(r"[^\w.,-]+", "_", name, flags=re.ASCII)


def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()
