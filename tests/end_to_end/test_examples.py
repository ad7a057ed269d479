"""The examples run from end to end, at a toy size."""

import functools
import json
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.affinity import ScoredTree, enumerate_trees

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in (
        "domains",
        "front",
        "mtl_nas",
        "multidigits",
        "nyuv2",
        "branched",
        "branching",
        "attributes",
        "protocol",
    ):
        sys.modules.pop(name, None)


@pytest.fixture
def untraced():
    """A few steps of a tiny network are quicker than tracing them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def check_outputs(folder, tasks, methods):
    """Every file that the example promises is there and says something."""
    table = (folder / "table.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == methods
    for picture in ("policy.png", "architecture.png", "task_correlation.png"):
        assert (folder / picture).stat().st_size > 2000
    plan = json.loads((folder / "architecture.json").read_text())
    assert plan["tasks"] == tasks
    served = tf.saved_model.load(str(folder / "saved_model"))
    assert {"serve", *tasks} <= set(served.signatures)


@pytest.mark.slow
def test_multidigits(tmp_path, capsys):
    import multidigits

    multidigits.main(["--quick", "--folder", str(tmp_path)])
    methods = ["single-task", "shared", "adashare", "random #1", "random #2"]
    check_outputs(tmp_path, ["left", "right", "sum"], methods)
    first = (tmp_path / "table.md").read_text()
    # A second run reuses what is kept: the table is the same, and nothing is trained again.
    kept = (tmp_path / "results.json").read_text()
    capsys.readouterr()
    keras.backend.clear_session()  # a new process would count layer names from 1 as well
    multidigits.main(["--quick", "--folder", str(tmp_path)])
    assert (tmp_path / "table.md").read_text() == first
    assert (tmp_path / "results.json").read_text() == kept
    assert "Continuing after epoch 3" in capsys.readouterr().out


@pytest.mark.heavy
@pytest.mark.real_data
def test_nyuv2(tmp_path, untraced):
    import nyuv2

    nyuv2.main(["--quick", "--folder", str(tmp_path)])
    methods = ["single-task", "shared", "adashare", "random #1", "random #2"]
    check_outputs(tmp_path, ["segmentation", "depth", "normals"], methods)


@pytest.mark.slow
@pytest.mark.real_data
def test_nyuv2_with_fused_columns(tmp_path, untraced):
    import nyuv2

    nyuv2.main(["--quick", "--strategy", "mtl_nas", "--folder", str(tmp_path)])
    lines = (tmp_path / "table.md").read_text().splitlines()[2:]
    rows = [line.split("|")[1].strip() for line in lines]
    assert rows == ["single-task", "shared", "mtl_nas", "random edges"]
    assert (tmp_path / "columns.png").stat().st_size > 2000
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    assert {"serve", "segmentation", "depth", "normals"} <= set(served.signatures)


@pytest.mark.heavy
@pytest.mark.real_data
def test_mtl_nas(tmp_path, untraced, capsys):
    import mtl_nas

    mtl_nas.main(["--quick", "--folder", str(tmp_path)])
    folder = tmp_path / "seed0"
    outcome = json.loads((folder / "outcome.json").read_text())
    assert list(outcome["rows"])[-3:] == ["MTL-NAS", "MTL-NAS without entropy", "random edges, 1"]
    for found in outcome["searches"].values():
        assert len(found["alpha"]) == 6 * (1 + 3)  # directions of three tasks, edges of two stages
        assert len(found["sampled"]) == 2
    for picture in ("columns", "edges"):
        assert (folder / f"{picture}.png").stat().st_size > 2000
    assert "undecided" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.real_data
def test_domains(tmp_path, untraced, capsys):
    import domains

    options = ["--quick", "--folder", str(tmp_path)]
    domains.main(options)
    folder = tmp_path / "seed0"
    rows = json.loads((folder / "outcome.json").read_text())
    assert list(rows) == ["single-task", "share all", "evolved"]
    assert rows["evolved"]["use"] < 1 == rows["share all"]["use"]
    assert rows["evolved"]["flops"] < rows["share all"]["flops"]
    assert (folder / "search.png").stat().st_size > 2000
    served = tf.saved_model.load(str(folder / "saved_model"))
    assert {"serve", "mnist", "cifar10"} <= set(served.signatures)
    assert "| share all |" in capsys.readouterr().out


@pytest.mark.heavy
@pytest.mark.real_data
def test_correlation_of_domains(tmp_path, untraced, capsys):
    import domains

    domains.main(["--quick", "--correlation", "3", "--folder", str(tmp_path)])
    assert (tmp_path / "seed0" / "correlation.png").stat().st_size > 2000
    assert "| time, full = 1 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.real_data
def test_branched(tmp_path, untraced):
    import branched

    branched.main(["--quick", "--folder", str(tmp_path)])
    folder = tmp_path / "seed0"
    outcome = json.loads((folder / "outcome.json").read_text())
    trees = [row["tree"] for row in outcome["rows"]]
    assert [len(level) for level in trees[0]] == [1, 1, 1, 1]  # hard sharing is the smallest
    assert len(trees[-1][-1]) == 3
    for picture in ("affinity", "tree", "trees", "architecture"):
        assert (folder / f"{picture}.png").stat().st_size > 2000
    assert tf.saved_model.load(str(folder / "saved_model")).signatures.keys() >= {"depth"}


def test_ranks_of_trees():
    import branched

    trees = list(enumerate_trees(("a", "b", "c"), 2, first_shared=True))
    sizes = [1, 10]
    rows = {
        tree: {"validation_delta": -float(i), "total_delta": float(i)}
        for i, tree in enumerate(sorted(trees, key=lambda tree: tree.size(sizes)))
    }
    best = list(rows)[-1]
    (rank,) = branched.ranks(sizes, rows, [ScoredTree(best, 0.0, best.size(sizes))])
    assert rank["rivals"] == len(trees) == 5
    assert rank["total_delta_percentile"] == 100 and rank["validation_delta_percentile"] == 0
    assert rank["total_delta_median"] == 2


@pytest.mark.slow
@pytest.mark.real_data
def test_attributes(tmp_path, untraced):
    import attributes

    attributes.main(["--quick", "--folder", str(tmp_path)])
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "trivial predictor",
        "single-task",
        "shared",
        "tree, budget 1.5",
        "tree by errors, budget 1.5",
        "random tree, budget 1.5",
    ]
    assert (tmp_path / "seed0" / "affinity.png").stat().st_size > 2000


@pytest.mark.slow
def test_front(tmp_path, untraced):
    import front

    front.main(
        ["--quick", "--ablated=0.01", "--ablations", "finetuning", "--folder", str(tmp_path)]
    )
    table = (tmp_path / "table.md").read_text()
    methods = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert methods == ["single-task", "shared", "auto_mtl λ=0.01", "fine-tuned"]
    picture = json.loads((tmp_path / "front.json").read_text())
    assert list(picture["points"]) == ["auto_mtl, by λ", "single-task", "shared", "fine-tuned"]
    (sweep,), (tuned,) = (picture["points"][name] for name in ("auto_mtl, by λ", "fine-tuned"))
    assert sweep[0] == tuned[0]  # one plan, trained twice
    assert sweep[2] == "0.01"
    assert picture["points"]["single-task"] == [[picture["baseline"], 0.0]]
    for name in ("front", "policy", "task_correlation"):
        assert (tmp_path / f"{name}.png").stat().st_size > 2000


def test_rows_of_the_front(tmp_path, monkeypatch):
    """Which searches and candidates the rows are made of; nothing is trained."""
    import front
    import protocol

    arguments = front.parse(["--quick", "--samples=1", "--ablated=0.01", "--folder", str(tmp_path)])
    arguments.regularisations = [0.001, 0.01]
    setup = front.multidigits.experiment(arguments)
    searches, trained = {}, {}

    def searched(experiment, log, name, strategy):
        searches[name] = strategy
        return keras_mtl.build(experiment.backbone, experiment.tasks, strategy, seed=0)

    def best_of(experiment, log, name, plans, **choice):
        trained[name] = (plans, choice)
        return None, {"parameters": 1, "total_delta": 0.0}

    monkeypatch.setattr(protocol, "searched", searched)
    monkeypatch.setattr(protocol, "best_of", best_of)
    monkeypatch.setattr(protocol, "baselines", lambda experiment, log: {})
    monkeypatch.setattr(front, "tell_time_left", lambda log: None)
    rows = front.run(setup, arguments)
    sweep = ["auto_mtl λ=0.001", "auto_mtl λ=0.01"]
    assert list(rows) == [*sweep, *front.ABLATIONS.values()]
    assert {name: (s.regularisation, s.pretrain > 0) for name, s in searches.items()} == {
        sweep[0]: (0.001, True),
        sweep[1]: (0.01, True),
        "w/o L_reg": (0.0, True),
        "w/o pre-training": (0.01, False),
    }
    assert all(len(plans) == setup.samples for plans, _ in trained.values())
    plans, choice = trained["fine-tuned"]
    assert plans == trained[sweep[1]][0]
    assert choice["initial_weights"].strategy == searches[sweep[1]]
    assert [name for name, (_, choice) in trained.items() if choice] == ["fine-tuned"]


def vectors(number, task):
    """Examples of one task: is the sum, or the difference, of two coordinates positive?"""
    x = np.random.default_rng(len(task) + number).normal(size=(number, 6)).astype("float32")
    sign = 1 if task == "sum" else -1
    return x, {task: (x[:, 0] + sign * x[:, 1] > 0).astype("int32")}


def residual_network():
    x = inputs = keras.Input((6,))
    for _ in range(2):
        x = keras.layers.Add()([x, keras.layers.Dense(6, activation="relu")(x)])
    return keras.Model(inputs, x)


@pytest.mark.slow
def test_protocol_of_two_searches_on_data_of_each_task(tmp_path, capsys, untraced):
    """A table of several strategies, and tasks with data of their own."""
    import protocol

    names = ("sum", "difference")
    train = {name: vectors(64, name) for name in names}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    setup = protocol.Experiment(
        backbone=residual_network(),
        tasks=[
            keras_mtl.Task(name, keras.layers.Dense(2), loss, ["accuracy"], inputs=name)
            for name in names
        ],
        train=train,
        search_data=functools.partial(keras_mtl.data.search_split, train, batch_size=16),
        validation={name: vectors(32, name) for name in names},
        test={name: vectors(32, name) for name in names},
        epochs=1,
        search_epochs=3,
        strategies={
            "adashare": keras_mtl.strategies.AdaShare(),
            "auto_mtl": keras_mtl.strategies.AutoMTL(),
        },
        optimizer=lambda epochs: keras.optimizers.Adam(0.01),
        search_optimizers=lambda strategy, steps: {},
        samples=1,
        seed=0,
        folder=tmp_path,
        batch_size=16,
    )
    search, _, rows = protocol.run(setup)
    assert list(rows) == ["single-task", "shared", "adashare", "auto_mtl", "random"]
    assert search.strategy.name == "auto_mtl"
    assert {path.name for path in tmp_path.glob("search_*")} == {
        "search_adashare.npz",
        "search_auto_mtl.npz",
    }
    # 3 single-task and shared trainings, 2 searches, a candidate of each of 3 methods.
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert lines[-1].startswith("[ 8/8] random, 1 of 1")
    assert len(protocol.table(rows).splitlines()) == 7
    # Without AutoMTL the kept results are used, and AdaShare's own random policies are trained.
    kept = json.loads((tmp_path / "results.json").read_text())
    setup.strategies.pop("auto_mtl")
    _, _, again = protocol.run(setup)
    assert list(again) == ["single-task", "shared", "adashare", "random #1", "random #2"]
    assert all(again[name] == rows[name] for name in ("single-task", "shared", "adashare"))
    now = json.loads((tmp_path / "results.json").read_text())
    assert {key: now[key] for key in kept if key not in ("spent", "seconds")} == {
        key: kept[key] for key in kept if key not in ("spent", "seconds")
    }
    assert now["spent"]["training"][0] == kept["spent"]["training"][0] + 2
