"""The protocol that the examples share: one budget, one initialisation, choices on validation data.

Every method trains the same backbone from the same first weights, on the same data, for as many
epochs. A method that decides gets the same number of candidates as every other; the best of them on
*validation* data is then reported on test data. Finished trainings are kept in the output folder,
so that an interrupted run goes on where it was.
"""

import collections
import dataclasses
import pathlib
import time

import keras
import numpy as np
from training_log import Log, file_name

import keras_mtl
from keras_mtl.strategies import MTLNAS, RandomEdges, SearchStrategy
from keras_mtl.tuners import files

FIGURES = ("test", "delta", "total_delta", "parameters", "flops")


@dataclasses.dataclass
class Experiment:
    """What is compared.

    Where tasks have inputs of their own (`Task(..., inputs="books")`), `train`, `validation` and
    `test` are dicts from the name of the inputs to `(x, y)`.

    Args:
        backbone: functional Keras model.
        tasks: list of `keras_mtl.Task`.
        train: `(x, y)` arrays or a dataset of batches, for every training.
        search_data: function with the keywords of `keras_mtl.data.search_split` that returns the
            same examples as its `SearchDataset`: in two halves, or `mixed` where a search's weights
            are kept.
        validation, test: like `train`.
        epochs: int. Of every training.
        search_epochs: int. Of every search.
        strategies: dict from name to `Strategy`. Pictures and random policies are of the last.
        optimizer: function of the number of training steps that returns a Keras optimizer.
        search_optimizers: function of a strategy and the number of steps that returns the
            arguments of its search's `compile`.
        samples: int. Candidates of every method that decides.
        seed: int.
        folder: path. For results, pictures and the SavedModel.
        batch_size: int.
        settings: dict of everything that was chosen; results are kept for these alone.
    """

    backbone: keras.Model
    tasks: list
    train: tuple
    search_data: collections.abc.Callable
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
    """Trains and compares everything.

    Returns:
        The last strategy's search (`None` without one), its best model, and the rows.
    """
    log = Log(experiment)
    methods = experiment.strategies.values()
    named = list(methods)[-1]
    trained = [how_often(experiment, strategy) for strategy in methods]
    trained += [how_often(experiment, named)] * len(random_rows(named))
    log.expect(
        trainings=len(experiment.tasks) + 1 + sum(trained),
        searches=sum(isinstance(strategy, SearchStrategy) for strategy in methods),
    )
    rows = baselines(experiment, log)
    for name, strategy in experiment.strategies.items():
        search, best, rows[name] = method(experiment, log, name, strategy)
    draw(experiment, search, best)
    for name in random_rows(named):
        rows[name] = random_row(experiment, log, name, named, best.architecture)
    return search, best, rows


def how_often(experiment, strategy):
    """How many networks a method trains, or evaluates."""
    return experiment.samples if getattr(strategy, "retrains", False) else 1


def method(experiment, log, name, strategy):
    """One method: its search (`None` without one), its best model, and the row of that."""
    if not isinstance(strategy, SearchStrategy):
        model = build(experiment, strategy=strategy, **first_weights(log, strategy))
        return None, model, log.trained(name, model)
    search = searched(experiment, log, name, strategy)
    if strategy.retrains:
        return search, *best_of(experiment, log, name, decided(experiment, search))
    model = build(experiment, architecture=search.decide(), initial_weights=search)
    return search, model, log.trained(name, model, epochs=0)


def first_weights(log, strategy):
    """Trained single-task networks for the methods that begin with them."""
    return {"initial_weights": log.single_models} if strategy.begins_trained else {}


def deliver(experiment, best, rows, *, part="the test part"):
    """Prints and writes what came out: the table, its figures, the best plan and SavedModel."""
    text = table(rows)
    print(f"\nOn {part}, best of {experiment.samples} by validation:\n\n{text}\n")
    (experiment.folder / "table.md").write_text(text + "\n")
    figures = {name: {key: row[key] for key in FIGURES} for name, row in rows.items()}
    made = {"date": time.strftime("%Y-%m-%d"), "settings": experiment.settings, "rows": figures}
    files.write_json(experiment.folder / "figures.json", made)
    print(best.architecture.summary())
    best.architecture.save(experiment.folder / "architecture.json")
    keras_mtl.plot.architecture(best.architecture, path=experiment.folder / "architecture.png")
    best.export(experiment.folder / "saved_model")


def baselines(experiment, log):
    """The rows of single-task networks, to which every Δ is relative, and of hard sharing."""
    log.baseline = single_task(experiment, log)
    shared = build(experiment, strategy="shared")
    return {"single-task": single_row(log.baseline), "shared": log.trained("shared", shared)}


def decided(experiment, search):
    """The likeliest decision of a search, and others drawn beside it: as many as everybody has.

    The papers draw all of eight. A policy that a short search has not settled is drawn from at the
    price of noise, and its likeliest decision is the best that it knows.
    """
    plans = [search.decide()]
    if experiment.samples > 1:
        plans += search.decide(samples=experiment.samples - 1, seed=experiment.seed)
    return plans


def best_of(experiment, log, method, architectures, *, epochs=None, **choice):
    """Trains every candidate; returns the model and row of the best on validation data.

    `epochs` is as in `Log.trained`; the row says in `candidates` what every one came to.
    """
    candidates = []
    for number, architecture in enumerate(architectures, start=1):
        model = build(experiment, architecture=architecture, **choice)
        row = log.trained(f"{method}, {number} of {len(architectures)}", model, epochs=epochs)
        candidates.append((row, model))
    row, model = max(candidates, key=lambda candidate: candidate[0]["validation_delta"])
    shown = ("validation_delta", "total_delta", "parameters", "flops", "seconds")
    return model, {
        **row,
        "candidates": [{key: row[key] for key in shown if key in row} for row, _ in candidates],
    }


def random_rows(strategy):
    """The names of the random decisions that a strategy's own are compared with."""
    if not isinstance(strategy, SearchStrategy):
        return ()
    select_or_skip = isinstance(strategy, keras_mtl.strategies.AdaShare)
    named = ("random #1", "random #2") if select_or_skip else ("random",)
    return ("random edges",) if isinstance(strategy, MTLNAS) else named


def random_row(experiment, log, name, strategy, decided):
    """As many edges or skips as were decided, at random places; or an untrained policy's choice."""
    if name == "random edges":
        edges = random_edges(experiment, strategy, decided)
        return method(experiment, log, name, edges)[-1]
    if name == "random":
        policies = build(experiment, strategy=strategy).decide(**experiment.numbers)
    else:
        policies = keras_mtl.strategies.random_policies(
            decided, per_task=name == "random #2", **experiment.numbers
        )
    return best_of(experiment, log, name, policies)[1]


def random_edges(experiment, strategy, decided):
    """The strategy that fuses along as many of a search's edges as it decided."""
    everything = RandomEdges(edges=strategy.edges, share=1.0, granularity=strategy.granularity)
    candidates = keras_mtl.plan(experiment.backbone, experiment.tasks, everything)
    return RandomEdges(
        edges=strategy.edges,
        share=num_edges(decided) / num_edges(candidates),
        granularity=strategy.granularity,
        seed=experiment.seed,
    )


def num_edges(architecture):
    """How many other features the fusions of an architecture read."""
    return sum(len(fusion.sources) - 1 for fusion in architecture.fusions)


def build(experiment, **choice):
    """A model from the common first weights."""
    return keras_mtl.build(experiment.backbone, experiment.tasks, seed=experiment.seed, **choice)


def single_task(experiment, log):
    """One network per task: results on validation and test data, parameters and FLOPs."""
    found = {"validation": {}, "test": {}, "parameters": {}, "flops": {}}
    again = bool(log.single_models)
    for task in experiment.tasks:
        first = {"initial_weights": log.single_models[task.name]} if again else {}
        model = keras_mtl.build(
            experiment.backbone, [task], strategy="shared", seed=experiment.seed, **first
        )
        name = f"single-task, {task.name}" + ", again" * again
        row = log.trained(name, model, only=task)
        log.single_models.setdefault(task.name, model)
        for part in ("validation", "test"):
            found[part][task.name] = row[part][task.name]
        found["parameters"][task.name] = row["parameters"]
        found["flops"][task.name] = row["flops"]
    return found


def single_again(experiment, log):
    """The row of single-task networks trained as long again, like columns that begin with them."""
    again = single_task(experiment, log)
    return {**single_row(again), **log.deltas(again)}


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
    model = build(experiment, strategy=strategy, **first_weights(log, strategy))
    data = experiment.search_data(mixed=not strategy.retrains)
    steps = experiment.search_epochs * len(data)
    model.compile(**experiment.search_optimizers(strategy, steps))
    model.fit(
        data,
        epochs=experiment.search_epochs,
        verbose=0,
        callbacks=[log.epochs("search", name), keras_mtl.callbacks.BackupAndResume(path)],
    )
    log.close("search")
    return model


def draw(experiment, search, best):
    """The pictures of the last strategy: what was learned, and what tasks exchange."""
    if hasattr(search, "search") and hasattr(search.search, "task_correlation"):
        draw_policy(experiment, search)
    if best.architecture.fusions:
        candidates = () if search is None else search.fusions
        keras_mtl.plot.columns(
            best.architecture, candidates, path=experiment.folder / "columns.png"
        )


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


def table(rows):
    """The table as text: per task its metrics and Δ, then Δ_T, parameters and FLOPs."""
    tasks = next(iter(rows.values()))["test"]
    head = ["method"]
    for task, metrics in tasks.items():
        head += [f"{task} {metric}" for metric in metrics] + [f"Δ {task}"]
    head += ["Δ_T", "parameters", "FLOPs"]
    body = []
    for method, row in rows.items():
        cells = [method]
        for task, metrics in tasks.items():
            cells += [f"{row['test'][task][metric]:.4f}" for metric in metrics]
            cells.append(f"{row['delta'][task]:+.1f} %")
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


def table_over_seeds(outcomes, columns):
    """The table as text: means and deviations over the seeds, parameters and FLOPs.

    Args:
        outcomes: list of dicts from method to its row, one for each seed.
        columns: dict from a title to `(key of the row, factor, format)`.
    """
    lines = [
        f"| method | {' | '.join(columns)} | parameters | FLOPs |",
        "|---|" + "---:|" * (len(columns) + 2),
    ]
    for name in outcomes[0]:
        cells = [name]
        for key, scale, form in columns.values():
            values = [scale * outcome[name][key] for outcome in outcomes]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):{form}}{spread}")
        size, work = (
            np.mean([outcome[name][key] for outcome in outcomes]) for key in ("parameters", "flops")
        )
        cells += [f"{size / 1e3:.0f} k", f"{work / 1e6:.1f} M"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
