"""Stretchable capacity made visible: what a network may weigh, and what it is worth then.

AutoMTL on the data, backbone and tasks of `multidigits.py` (no download): four weights of its
regulariser, the larger the fewer parameters, beside single-task networks and hard sharing. Then
what its parts are worth, as rows of the same table: no regulariser, policies that were never
trained, no pre-training, and fine-tuning the search's weights instead of training anew.

    python examples/front.py [--regularisations 0.01 0.03 0.1 0.3] [--ablations random ...]

Takes about half an hour on two cores; an interrupted run goes on, and one with other rows uses
those that are there. Writes the table, the picture and their data to `runs/front/`.
"""

import dataclasses
import json

import multidigits
import protocol
import training_log

import keras_mtl

ABLATIONS = {
    "regulariser": "w/o L_reg",
    "random": "random",
    "pretraining": "w/o pre-training",
    "finetuning": "fine-tuned",
}
SEARCHED_ANEW = ("regulariser", "pretraining")


def run(setup, arguments):
    """Trains everything; returns the rows of the table, the baselines first."""
    log = protocol.Log(setup)
    num_sweep = len(arguments.regularisations)
    compared = num_sweep + len(arguments.ablations)
    log.expect(
        trainings=len(setup.tasks) + 1 + compared * setup.samples,
        searches=num_sweep + sum(name in SEARCHED_ANEW for name in arguments.ablations),
    )
    rows = protocol.baselines(setup, log)
    for value in arguments.regularisations:
        tell_time_left(log)
        name, strategy = sweep_name(value), strategy_of(regularisation=value)
        search, plans, rows[name] = searched_and_trained(setup, log, name, strategy)
        if value == arguments.ablated:
            reference = search, plans
            protocol.draw_policy(setup, search)
    for ablation in arguments.ablations:
        tell_time_left(log)
        rows[ABLATIONS[ablation]] = ablated(setup, log, ablation, arguments.ablated, *reference)
    return rows


def ablated(setup, log, ablation, regularisation, search, plans):
    """The row of one ablation, with as many candidates as every other row."""
    name = ABLATIONS[ablation]
    if ablation == "regulariser":
        return searched_and_trained(setup, log, name, strategy_of(regularisation=0.0))[-1]
    if ablation == "pretraining":
        strategy = strategy_of(regularisation=regularisation, pretrain=0.0)
        return searched_and_trained(setup, log, name, strategy)[-1]
    if ablation == "random":
        untrained = protocol.build(setup, strategy=strategy_of())
        return protocol.best_of(setup, log, name, untrained.decide(**setup.numbers))[1]
    # The same plans, from the weights of their search: the one row that has trained for longer.
    return protocol.best_of(setup, log, name, plans, initial_weights=search)[1]


def searched_and_trained(setup, log, name, strategy):
    """A search, its candidates, and the row of the best of them."""
    search = protocol.searched(setup, log, name, strategy)
    plans = protocol.decided(setup, search)
    return search, plans, protocol.best_of(setup, log, name, plans)[1]


def strategy_of(**settings):
    return keras_mtl.strategies.AutoMTL(**settings)


def sweep_name(regularisation):
    return f"auto_mtl λ={regularisation:g}"


def tell_time_left(log):
    training_log.write(f"        about {log.seconds_left() / 60:.0f} minutes left\n")


def series(rows, arguments):
    """The points of the picture: the sweep is one series, every other row its own."""
    sweep = {sweep_name(value): f"{value:g}" for value in arguments.regularisations}
    points = {"auto_mtl, by λ": []}
    for name, row in rows.items():
        point = [row["parameters"], row["total_delta"]]
        if name in sweep:
            points["auto_mtl, by λ"].append([*point, sweep[name]])
        else:
            points[name] = [point]
    return points


def parse(arguments=None):
    parser = multidigits.parser(__doc__.splitlines()[0], samples=2, folder="runs/front")
    parser.add_argument(
        "--regularisations", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3], metavar="λ"
    )
    parser.add_argument("--ablated", type=float, default=0.1, help="the λ of the ablations")
    parser.add_argument("--ablations", nargs="*", default=list(ABLATIONS), choices=ABLATIONS)
    arguments = multidigits.prepared(parser.parse_args(arguments))
    if arguments.quick:
        arguments.regularisations = [arguments.ablated]
    if arguments.ablated not in arguments.regularisations:
        parser.error(f"--ablated must be one of the --regularisations: {arguments.ablated}")
    return arguments


def main(arguments=None):
    arguments = parse(arguments)
    setup = multidigits.experiment(arguments)
    rest = ("regularisations", "ablations")
    settings = {key: value for key, value in setup.settings.items() if key not in rest}
    setup = dataclasses.replace(setup, strategies={}, settings=settings)
    rows = run(setup, arguments)

    text = protocol.table(rows)
    print(f"\nOn test images, best of {setup.samples} by validation:\n\n{text}\n")
    (setup.folder / "table.md").write_text(text + "\n")
    picture = {
        "points": series(rows, arguments),
        "baseline": rows["single-task"]["parameters"],
    }
    (setup.folder / "front.json").write_text(json.dumps(picture, indent=1))
    keras_mtl.plot.front(**picture, path=setup.folder / "front.png")
    print(f"Table, pictures and their data are in {setup.folder}/.")


if __name__ == "__main__":
    main()
