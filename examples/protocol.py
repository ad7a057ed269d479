"""The protocol that the examples share: one budget, one initialisation, choices on validation data.

Every method trains the same backbone from the same first weights, on the same data, for as many
epochs. A method that decides gets the same number of candidates as every other; the best of them on
*validation* data is then reported on test data. Finished trainings are kept in the output folder,
so that an interrupted run goes on where it was.
"""

import dataclasses
import json
import pathlib
import re
import sys
import time

import keras

import keras_mtl


@dataclasses.dataclass
class Experiment:
    """What is compared.

    Where tasks have inputs of their own (`Task(..., inputs="books")`), `train`, `validation` and
    `test` are dicts from the name of the inputs to `(x, y)`.

    Args:
        backbone: functional Keras model.
        tasks: list of `keras_mtl.Task`.
        train: `(x, y)` arrays or a dataset of batches, for every training.
        search_data: `keras_mtl.data.SearchDataset`, the same examples in two halves.
        validation, test: like `train`.
        epochs: int. Of every training.
        search_epochs: int. Of every search.
        strategies: dict from name to `SearchStrategy`. Pictures and random policies are of the
            last.
        optimizer: function of the number of training steps that returns a Keras optimizer.
        search_optimizers: function that returns the arguments of a search's `compile`.
        samples: int. Candidates of every method that decides.
        seed: int.
        folder: path. For results, pictures and the SavedModel.
        batch_size: int.
        settings: dict of everything that was chosen; results are kept for these alone.
    """

    backbone: keras.Model
    tasks: list
    train: tuple
    search_data: object
    validation: tuple
    test: tuple
    epochs: int
    search_epochs: int
    strategies: dict
    optimizer: object
    search_optimizers: object
    samples: int
    seed: int
    folder: pathlib.Path
    batch_size: int = 64
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def numbers(self):
        """How many candidates, and their seed: the arguments of `decide`."""
        return {"samples": self.samples, "seed": self.seed}


def run(experiment):
    """Trains and compares everything; returns the last search, its best model, and the rows."""
    log = Log(experiment)
    named = list(experiment.strategies.values())[-1]
    compared = len(experiment.strategies) + len(random_rows(named))
    log.expect(
        trainings=len(experiment.tasks) + 1 + compared * experiment.samples,
        searches=len(experiment.strategies),
    )
    rows = baselines(experiment, log)
    for name, strategy in experiment.strategies.items():
        search = searched(experiment, log, name, strategy)
        if strategy is named:
            draw_policy(experiment, search)
        best, rows[name] = best_of(experiment, log, name, search.decide(**experiment.numbers))
    for name in random_rows(named):
        policies = random_policies(experiment, name, named, best.architecture)
        _, rows[name] = best_of(experiment, log, name, policies)
    return search, best, rows


def deliver(experiment, best, rows, *, part="the test part"):
    """Prints and writes what came out: the table, and the best model's plan and SavedModel."""
    text = table(experiment, rows)
    print(f"\nOn {part}, best of {experiment.samples} by validation:\n\n{text}\n")
    (experiment.folder / "table.md").write_text(text + "\n")
    print(best.architecture.summary())
    best.architecture.save(experiment.folder / "architecture.json")
    keras_mtl.plot.architecture(best.architecture, path=experiment.folder / "architecture.png")
    best.export(experiment.folder / "saved_model")


def baselines(experiment, log):
    """The rows of single-task networks, to which every Δ is relative, and of hard sharing."""
    log.baseline = single_task(experiment, log)
    shared = build(experiment, strategy="shared")
    return {"single-task": single_row(log.baseline), "shared": log.trained("shared", shared)}


def best_of(experiment, log, method, architectures, **choice):
    """Trains every candidate; returns the model and row of the best on validation data."""
    candidates = []
    for number, architecture in enumerate(architectures, start=1):
        model = build(experiment, architecture=architecture, **choice)
        row = log.trained(f"{method}, {number} of {len(architectures)}", model)
        candidates.append((row["validation_delta"], row, model))
    _, row, model = max(candidates, key=lambda candidate: candidate[0])
    return model, row


def random_rows(strategy):
    """The names of the random policies that a strategy's decisions are compared with."""
    select_or_skip = isinstance(strategy, keras_mtl.strategies.AdaShare)
    return ("random #1", "random #2") if select_or_skip else ("random",)


def random_policies(experiment, name, strategy, decided):
    """As many skips as were decided, at random places; or what an untrained policy says."""
    if name == "random":
        return build(experiment, strategy=strategy).decide(**experiment.numbers)
    return keras_mtl.strategies.random_policies(
        decided, per_task=name == "random #2", **experiment.numbers
    )


def build(experiment, **choice):
    """A model from the common first weights."""
    return keras_mtl.build(experiment.backbone, experiment.tasks, seed=experiment.seed, **choice)


def single_task(experiment, log):
    """One network per task: results on validation and test data, parameters and FLOPs."""
    found = {"validation": {}, "test": {}, "parameters": {}, "flops": {}}
    for task in experiment.tasks:
        model = keras_mtl.build(
            experiment.backbone, [task], strategy="shared", seed=experiment.seed
        )
        row = log.trained(f"single-task, {task.name}", model, only=task)
        log.single_models[task.name] = model
        for part in ("validation", "test"):
            found[part][task.name] = row[part][task.name]
        found["parameters"][task.name] = row["parameters"]
        found["flops"][task.name] = row["flops"]
    return found


def single_row(single):
    return {
        "test": single["test"],
        "delta": {task: 0.0 for task in single["test"]},
        "total_delta": 0.0,
        "parameters": sum(single["parameters"].values()),
        "flops": sum(single["flops"].values()),
    }


def searched(experiment, log, name, strategy):
    """A search, kept in a file of its own; an interrupted one goes on."""
    path = experiment.folder / f"search_{file_name(name)}.npz"
    log.title(f"{name} search")
    model = build(experiment, strategy=strategy)
    model.compile(**experiment.search_optimizers())
    model.fit(
        experiment.search_data,
        epochs=experiment.search_epochs,
        verbose=0,
        callbacks=[Epochs(log.spent["search"]), keras_mtl.callbacks.BackupAndResume(path)],
    )
    log.close("search")
    return model


def draw_policy(experiment, model):
    """The pictures of the papers' figures 3: the policy, and how alike the tasks' policies are."""
    units = [unit.name for unit in model.search.units]
    kind = "block " if model.strategy.granularity == "block" else ""
    names = [f"{kind}{i + 1}" for i in range(len(units))]
    likely = model.decide()
    decision = keras_mtl.Architecture(
        model.task_names,
        names,
        {task: [likely.choice(task, unit) for unit in units] for task in model.task_names},
    )
    keras_mtl.plot.policy(
        model.search.probabilities(),
        model.task_names,
        names,
        architecture=decision,
        path=experiment.folder / "policy.png",
    )
    keras_mtl.plot.task_correlation(
        model.search.task_correlation(),
        model.task_names,
        path=experiment.folder / "task_correlation.png",
    )


class Log:
    """Trains, evaluates, keeps results, and says where we are.

    Attributes:
        baseline: results of the single-task networks, once they are there; every later row has its
            Δ.
        single_models: dict from task to its trained single-task network.
        spent: dict from `"training"` and `"search"` to `[epochs, seconds]` so far, kept as well.
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
        self.kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        settings = self.kept.setdefault("settings", experiment.settings)
        if settings != experiment.settings:
            raise SystemExit(
                f"{experiment.folder} holds results of other settings: {settings}. Received: "
                f"{experiment.settings}. Choose another --folder, or delete this one."
            )
        self.spent = self.kept.setdefault("spent", {"training": [0, 0.0], "search": [0, 0.0]})

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

    def trained(self, name, model, only=None):
        """Trains a model unless its result is kept; returns its row of the table.

        Args:
            name: string. What the training is called.
            model: `MultiTaskModel`, not compiled.
            only: the one `Task` of a single-task network, or `None`.
        """
        experiment = self.experiment
        self.title(name)
        weights = experiment.folder / f"{file_name(name)}.weights.h5"
        key = f"{name} {model.architecture.to_json()}"
        fed = feed(experiment, experiment.train, only, experiment.batch_size, training=True)
        model.compile(experiment.optimizer(experiment.epochs * num_batches(fed)))
        if key in self.kept and weights.exists():
            model.load_weights(weights)
            row = self.kept[key]
        else:
            model.fit(
                **fed,
                epochs=experiment.epochs,
                verbose=0,
                callbacks=[Epochs(self.spent["training"])],
            )
            row = {
                "validation": self.results(model, experiment.validation, only),
                "test": self.results(model, experiment.test, only),
                "parameters": model.architecture.parameters(),
                "flops": model.architecture.flops(),
            }
            model.save_weights(weights)
            self.kept[key] = row
            self.path.write_text(json.dumps(self.kept, indent=1))
        if self.baseline:
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
    """One mark per epoch, on the line of the training; adds epochs and seconds to `spent`."""

    def __init__(self, spent):
        super().__init__()
        self._spent = spent

    def on_train_begin(self, logs=None):
        self._begun = time.time()

    def on_epoch_end(self, epoch, logs=None):
        write("." if (epoch + 1) % 5 else str(epoch + 1))
        now = time.time()
        self._spent[0] += 1
        self._spent[1] += now - self._begun
        self._begun = now


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
        return -(-len(fed["x"]) // fed["batch_size"])
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


def table(experiment, rows):
    """The table as text: per task its metrics and Δ, then Δ_T, parameters and FLOPs."""
    head = ["method"]
    for task in experiment.tasks:
        head += [f"{task.name} {metric.name}" for metric in task.metrics] + [f"Δ {task.name}"]
    head += ["Δ_T", "parameters", "FLOPs"]
    body = []
    for method, row in rows.items():
        cells = [method]
        for task in experiment.tasks:
            values = row["test"][task.name]
            cells += [f"{values[metric.name]:.4f}" for metric in task.metrics]
            cells.append(f"{row['delta'][task.name]:+.1f} %")
        cells.append(f"{row['total_delta']:+.2f} %")
        cells += [f"{row['parameters'] / 1e3:.1f} k", f"{row['flops'] / 1e6:.2f} M"]
        body.append(cells)
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in [head, *body]
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|")
    return "\n".join(lines)


def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()
