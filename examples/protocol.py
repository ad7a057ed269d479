"""The protocol that the examples share: one budget, one initialisation, choices on validation data.

Every method trains the same backbone from the same first weights, on the same data, for as many
epochs. A method that decides gets the same number of candidates as every other; the best of them on
*validation* data is then reported on test data. Finished trainings are kept in the output folder,
so that an interrupted run goes on where it was.
"""

import dataclasses
import json
import pathlib
import sys
import time

import keras

import keras_mtl


@dataclasses.dataclass
class Experiment:
    """What is compared.

    Args:
        backbone: functional Keras model.
        tasks: list of `keras_mtl.Task`.
        train: `(x, y)` arrays or a dataset of batches, for every training.
        search_data: `keras_mtl.data.SearchDataset`, the same examples in two halves.
        validation, test: like `train`.
        epochs: int. Of every training.
        search_epochs: int.
        strategy: the `SearchStrategy`.
        optimizer: function of the number of epochs that returns a Keras optimizer.
        search_optimizers: function that returns the arguments of the search's `compile`.
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
    strategy: object
    optimizer: object
    search_optimizers: object
    samples: int
    seed: int
    folder: pathlib.Path
    batch_size: int = 64
    settings: dict = dataclasses.field(default_factory=dict)


def run(experiment):
    """Trains and compares everything; returns the finished model and the rows of the table."""
    log = Log(experiment)
    rows, total = {}, len(experiment.tasks) + 2 + 3 * experiment.samples
    log.total = total
    single = single_task(experiment, log)
    log.baseline = single
    rows["single-task"] = single_row(single)

    shared = build(experiment, strategy="shared")
    rows["shared"] = log.trained("shared", shared)

    search = searched(experiment, log)
    draw_policy(experiment, search)
    numbers = {"samples": experiment.samples, "seed": experiment.seed}
    method = experiment.strategy.name
    best, rows[method] = best_of(experiment, log, method, search.decide(**numbers))
    for name, per_task in (("random #1", False), ("random #2", True)):
        policies = keras_mtl.strategies.random_policies(
            best.architecture, per_task=per_task, **numbers
        )
        _, rows[name] = best_of(experiment, log, name, policies)
    return search, best, rows


def best_of(experiment, log, method, architectures):
    """Trains every candidate; returns the model and row of the best on validation data."""
    candidates = []
    for number, architecture in enumerate(architectures, start=1):
        model = build(experiment, architecture=architecture)
        row = log.trained(f"{method}, {number} of {len(architectures)}", model)
        candidates.append((row["validation_delta"], row, model))
    _, row, model = max(candidates, key=lambda candidate: candidate[0])
    return model, row


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
        row = log.trained(f"single-task, {task.name}", model, only=task.name)
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


def searched(experiment, log):
    """The search, kept in a file; an interrupted one goes on."""
    path = experiment.folder / "search.npz"
    log.title(f"{experiment.strategy.name} search")
    model = build(experiment, strategy=experiment.strategy)
    model.compile(**experiment.search_optimizers())
    model.fit(
        experiment.search_data,
        epochs=experiment.search_epochs,
        verbose=0,
        callbacks=[Epochs(), keras_mtl.callbacks.BackupAndResume(path)],
    )
    log.close()
    return model


def draw_policy(experiment, model):
    """The pictures of the paper's figure 3."""
    units = [unit.name for unit in model.search.units]
    names = [f"block {i + 1}" for i in range(len(units))]
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
    """Trains, evaluates, keeps results, and says where we are."""

    def __init__(self, experiment):
        self.experiment = experiment
        self.baseline = None
        self.total = 0
        self.number = 0
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

    def title(self, name):
        self.number += 1
        write(f"[{self.number:2d}/{self.total}] {name:24s}")

    def close(self, text=""):
        write(f" {text} ({time.time() - self.begun:.0f} s so far)\n")

    def trained(self, name, model, only=None):
        """Trains a model unless its result is kept; returns its row of the table."""
        experiment = self.experiment
        self.title(name)
        weights = experiment.folder / f"{name.replace(' ', '_').replace('#', '')}.weights.h5"
        key = f"{name} {model.architecture.to_json()}"
        model.compile(experiment.optimizer(experiment.epochs))
        if key in self.kept and weights.exists():
            model.load_weights(weights)
            row = self.kept[key]
        else:
            x, y = select(experiment.train, only)
            options = {"batch_size": experiment.batch_size} if y is not None else {}
            model.fit(x, y, epochs=experiment.epochs, verbose=0, callbacks=[Epochs()], **options)
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
            self.close(f"validation Δ_T {row['validation_delta']:+.1f} %")
        else:
            self.close()
        return row

    def results(self, model, data, only):
        x, y = select(data, only)
        options = {"batch_size": 500} if y is not None else {}
        return model.task_results(model.evaluate(x, y, verbose=0, return_dict=True, **options))

    def deltas(self, row):
        validation = keras_mtl.relative_performance(row["validation"], self.baseline["validation"])
        test = keras_mtl.relative_performance(row["test"], self.baseline["test"])
        return {
            "validation_delta": validation.total,
            "delta": test.per_task,
            "total_delta": test.total,
        }


class Epochs(keras.callbacks.Callback):
    """One mark per epoch, on the line of the training."""

    def on_epoch_end(self, epoch, logs=None):
        write("." if (epoch + 1) % 5 else str(epoch + 1))


def select(data, task):
    """The labels of one task, or of all."""
    if not isinstance(data, tuple):
        return (data if task is None else data.map(lambda x, y: (x, {task: y[task]}))), None
    x, y = data
    return x, (y if task is None else {task: y[task]})


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
