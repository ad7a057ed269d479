"""MTL-NAS on NYU Depth V2: searched edges between columns, and what the entropy term is for.

Trains small VGG-like columns for segmentation, depth and normals, one for each task; fuses them in
every way the library knows, from these columns; searches edges with and without the entropy term
and from several first weights of the own column (`w_own`). Shows the edges' probabilities (figure 2
of the paper), the loss before and after edges are decided, the spread of ten sampled decisions, and
the table with random edges and the supernet.

    KERAS_MTL_DATA=/path/to/data python examples/mtl_nas.py                # about an hour
    KERAS_MTL_DATA=/path/to/data python examples/mtl_nas.py --w-own --seeds 0   # half of that
    KERAS_MTL_DATA=/path/to/data python examples/mtl_nas.py --quick        # does it run?

Writes results, pictures and the SavedModel to `runs/mtl_nas/seed0/` and so on; an interrupted run
goes on.
"""

import argparse
import dataclasses
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import nyuv2
import protocol
from backbones import vgg
from matplotlib.figure import Figure

import keras_mtl
from keras_mtl.strategies import MTAN, MTLNAS, NDDRCNN, CrossStitch, RandomEdges, Sluice

FIXED = {
    "cross-stitch": CrossStitch(),
    "sluice": Sluice(),
    "NDDR-CNN": NDDRCNN(),
    "MTAN": MTAN(),
    "supernet, all edges": RandomEdges(share=1.0),
}
SURE = 30.0  # a logit whose edge is there or not


def run(setup, arguments):
    """One seed: rows of the table, and what was measured of every search."""
    log = protocol.Log(setup)
    searches = {"MTL-NAS": MTLNAS(), "MTL-NAS without entropy": MTLNAS(entropy=0.0)}
    searches |= {f"MTL-NAS, w_own {share:g}": MTLNAS(w_own=share) for share in arguments.w_own}
    log.expect(
        trainings=2 * len(setup.tasks) + 1 + len(FIXED) + len(searches) + arguments.random,
        searches=len(searches),
    )
    rows = protocol.baselines(setup, log)
    rows["single-task, as long again"] = protocol.single_again(setup, log)
    for name, strategy in FIXED.items():
        rows[name] = protocol.method(setup, log, name, strategy)[-1]
    measured, best = {}, None
    for name, strategy in searches.items():
        search, model, rows[name] = protocol.method(setup, log, name, strategy)
        measured[name] = measure(setup, log, name, search, arguments.samples)
        if best is None:
            best = model
            protocol.draw(setup, search, best)
            edges = protocol.random_edges(setup, strategy, best.architecture)
    for number in range(arguments.random):
        strategy = RandomEdges(**{**edges.get_config(), "seed": number})
        name = f"random edges, {number + 1}"
        rows[name] = protocol.method(setup, log, name, strategy)[-1]
    protocol.deliver(setup, best, rows)
    outcome = {"rows": rows, "searches": measured}
    (setup.folder / "outcome.json").write_text(json.dumps(outcome, indent=1))
    draw(setup, measured)
    return outcome


def measure(setup, log, name, search, samples):
    """The loss on validation data with relaxed, decided and sampled edges; α of every edge."""
    path = setup.folder / f"measured_{protocol.file_name(name)}.json"
    if path.exists():
        return json.loads(path.read_text())
    relaxed = MTLNAS(**{**search.strategy.get_config(), "evaluation": "relaxed"})
    before = keras_mtl.build(setup.backbone, setup.tasks, relaxed, seed=setup.seed)
    before.compile()
    before.set_weights(search.get_weights())
    found = {"alpha": search.search.probabilities().tolist()}
    found["relaxed"] = scores(setup, log, before)
    found["decided"] = scores(setup, log, search)
    found["sampled"] = []
    (logits,) = search.policy_variables()
    learned = logits.numpy()
    for plan in search.decide(samples=samples, seed=0):
        chosen = {
            (*source, fusion.targets[0], fusion.unit)
            for fusion in plan.fusions
            for source in fusion.sources[1:]
        }
        signs = [1.0 if edge in chosen else -1.0 for edge in search.search.edges]
        logits.assign(SURE * np.array(signs, "float32")[:, None])
        found["sampled"].append({**scores(setup, log, search), "edges": len(chosen)})
    logits.assign(learned)
    path.write_text(json.dumps(found, indent=1))
    return found


def scores(setup, log, model):
    """Total loss and Δ_T on validation data."""
    logs = model.evaluate(setup.validation, verbose=0, return_dict=True)
    results = model.task_results(logs)
    delta = keras_mtl.relative_performance(results, log.baseline["validation"])
    return {"loss": logs["loss"], "validation_delta": delta.total}


def draw(setup, measured):
    """α with and without the entropy term; the loss before and after the edges are decided."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, found in list(measured.items())[:2]:
        left.hist(found["alpha"], bins=np.linspace(0, 1, 21), alpha=0.6, label=name)
    left.set(xlabel="probability α of an edge", ylabel="edges")
    left.legend(frameon=False)
    for place, found in enumerate(measured.values()):
        sampled = [one["loss"] for one in found["sampled"]]
        right.plot([place] * len(sampled), sampled, "o", color="#9aa5b1", markersize=4)
        for part, mark, colour in (("relaxed", "_", "#1f77b4"), ("decided", "x", "#d95f02")):
            right.plot(place, found[part]["loss"], mark, color=colour, markersize=12, mew=2)
    for mark, colour, text in (
        ("_", "#1f77b4", "relaxed edges"),
        ("x", "#d95f02", "most likely edges"),
        ("o", "#9aa5b1", "sampled edges"),
    ):
        right.plot([], [], mark, color=colour, label=text)
    names = [name.replace("MTL-NAS", "").strip(" ,") or "MTL-NAS" for name in measured]
    right.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=8)
    right.set(ylabel="validation loss")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(setup.folder / "edges.png", dpi=150)


def experiment(arguments, seed):
    """The data, tasks and budget of `nyuv2.py`, with VGG-like columns."""
    keras.backend.clear_session()  # names of layers count from 1: results are kept by them
    setup = nyuv2.experiment(argparse.Namespace(**{**vars(arguments), "seed": seed}))
    size = (48, 64) if arguments.half else (96, 128)
    keras.utils.set_random_seed(seed)
    convolutions = (1, 2) if arguments.quick else (2, 2, 3, 3)
    backbone = vgg((*size, 3), width=arguments.width, convolutions=convolutions)
    kept = ("width", "half", "epochs", "search_epochs")
    return dataclasses.replace(
        setup,
        backbone=backbone,
        strategies={},
        folder=pathlib.Path(arguments.folder) / f"seed{seed}",
        settings={name: getattr(arguments, name) for name in kept},
    )


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--w-own", type=float, nargs="*", default=[0.0, 0.25, 0.5, 0.75, 0.9])
    parser.add_argument("--random", type=int, default=3, help="draws of random edges")
    parser.add_argument("--samples", type=int, default=10, help="sampled decisions of a search")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--full", action="store_true", help="the whole resolution, not half of it")
    parser.add_argument("--epochs", type=int, default=10, help="of every training")
    parser.add_argument("--search-epochs", type=int, default=20, help="of every search")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", default="runs/mtl_nas")
    parser.add_argument("--quick", action="store_true", help="tiny: only whether it runs")
    arguments = parser.parse_args(arguments)
    arguments.limit, arguments.batch = None, 16
    arguments.strategy, arguments.regularisation = ["mtl_nas"], 0.1
    if arguments.quick:
        arguments.width, arguments.batch, arguments.limit, arguments.w_own = 2, 8, 16, []
        arguments.epochs, arguments.search_epochs = 1, 1
        arguments.random, arguments.samples = 1, 2
    arguments.half = not arguments.full
    return arguments


def main(arguments=None):
    arguments = parse(arguments)
    outcomes = [run(experiment(arguments, seed), arguments) for seed in arguments.seeds]
    columns = {"Δ_T": ("total_delta", 1, "+.2f")}
    text = protocol.table_over_seeds([outcome["rows"] for outcome in outcomes], columns)
    print(f"\nOver the seeds {arguments.seeds}, on the test part:\n\n{text}")
    print(summary(outcomes[0]["searches"]))


def summary(searches):
    """What deciding cost: the validation loss of relaxed, decided and sampled edges."""
    lines = ["", "search                       undecided  relaxed  decided  sampled"]
    for name, found in searches.items():
        alpha = np.array(found["alpha"])
        sampled = [one["loss"] for one in found["sampled"]]
        lines.append(
            f"{name:27s}  {np.mean(np.minimum(alpha, 1 - alpha) > 0.05):8.0%}  "
            f"{found['relaxed']['loss']:7.3f}  {found['decided']['loss']:7.3f}  "
            f"{np.mean(sampled):.3f} ± {np.std(sampled):.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
