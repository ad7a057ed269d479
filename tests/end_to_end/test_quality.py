"""The harness of the fair table: every method on a toy suite, killed and resumed; its tables."""

import copy
import functools
import html.parser
import itertools
import json
import pathlib
import re
import sys
import types

import keras
import kills
import numpy as np
import pytest
import tensorflow as tf
import toys

import keras_mtl

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def on_the_path():
    before, known = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples")]
    yield
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(ROOT / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")) or str(
            ROOT / "examples"
        ) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def untraced():
    """A few steps of a tiny network are quicker than tracing them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def few_answers(monkeypatch):
    from fair import costs, partitioning

    monkeypatch.setattr(costs, "WARM", 1)
    monkeypatch.setattr(costs, "REPEATS", 1)
    monkeypatch.setattr(partitioning, "TRIALS", 1)


def backbone(width=4):
    """Two residual blocks of two layers, so that every method has something to choose."""
    x = inputs = keras.Input((width,), name="features")
    for block in ("low", "high"):
        y = keras.layers.Dense(width, activation="tanh", name=f"{block}_first")(x)
        y = keras.layers.Dense(width, name=f"{block}_second")(y)
        x = keras.layers.Add(name=block)([x, y])
    return keras.Model(inputs, x, name="blocks")


def parts(tasks):
    """Training, validation and test data of a toy."""
    x, y = toys.data(backbone(), tasks, examples=48)
    cuts = slice(0, 16), slice(16, 32), slice(32, 48)
    return [(x[cut], {name: labels[cut] for name, labels in y.items()}) for cut in cuts]


def toy_suite(samples=2):
    """A suite on a residual MLP, with two classifications of its numbers."""
    import protocol
    import suites

    def experiment(seed, folder, quick=False):
        suites.begin(seed)
        tasks = [toys.classification("first"), toys.classification("second")]
        train, validation, test = parts(tasks)
        return protocol.Experiment(
            backbone=backbone(),
            tasks=tasks,
            train=train,
            search_data=functools.partial(
                keras_mtl.data.search_split, train, batch_size=8, seed=seed
            ),
            validation=validation,
            test=test,
            epochs=1,
            search_epochs=2,
            strategies={"adashare": keras_mtl.strategies.AdaShare(max_stages=1)},
            optimizer=suites.optimizer(0.05),
            search_optimizers=suites.search_optimizers(0.05, lambda: keras.optimizers.SGD(0.1)),
            samples=samples,
            seed=seed,
            folder=pathlib.Path(folder),
            batch_size=8,
            settings={"seed": seed},
        )

    return types.SimpleNamespace(TITLE="a toy & its tasks", REASONS={}, experiment=experiment)


def without_times(found):
    """The figures that a second run must give again."""
    found = copy.deepcopy(found)
    found.pop("command")
    for seed in found["seeds"].values():
        for key in ("single_seconds", "epoch_seconds", "wall_seconds"):
            seed.pop(key)
        for row in seed["rows"].values():
            row.pop("time"), row.pop("latency", None)
            for candidate in row.get("candidates", ()):
                candidate.pop("seconds")
    return found


@pytest.mark.slow
def test_every_method(tmp_path, untraced, few_answers, capsys):
    import quality
    from fair import methods, report
    from fair import tables as quality_tables

    variants = ["stochastic_depth", "auto_mtl_random", "random_edges", "random_partitions"]
    variants += ["all_channels", "shared_normalised"]
    asked = methods.names(["all", *variants])
    found = quality.run(toy_suite(), asked, [0], tmp_path / "run", tmp_path / "toy.json")
    assert found["left_out"] == {}
    rows = found["seeds"]["0"]["rows"]
    expected = [name for name in ("single_task", "single_again", *asked)]
    assert list(found["titles"]) == list(rows) == expected
    # As many candidates for every method that decides, random ones too.
    deciding = [n for n in asked if n in rows and methods.EVERY[n].kind in ("search", "random")]
    assert {n: rows[n]["num_candidates"] for n in deciding} == dict.fromkeys(deciding, 2)
    best = rows["adashare"]
    assert best["validation_delta"] == max(c["validation_delta"] for c in best["candidates"])
    assert best["work"]["search"] > 0 and rows["mtl_nas"]["work"]["training"] == 0
    assert rows["random_1"]["work"]["candidates"] == pytest.approx(
        sum(c["flops"] for c in rows["random_1"]["candidates"]) / rows["single_task"]["flops"]
    )
    assert set(rows["mtan"]["latency"]) == {"1", "8"}
    text = "\n".join(quality_tables.tables(found))
    for title in found["titles"].values():
        assert text.count(f"| {title} |") == 3
    page = report.write(found, tmp_path / "run").read_text()
    check_page(page, found)
    assert page.count("is that of <i>shared</i>") >= 2  # the weightings of its losses
    # A second run makes nothing again.
    capsys.readouterr()
    again = quality.run(toy_suite(), asked, [0], tmp_path / "run", tmp_path / "again.json")
    assert again == {**found, "command": again["command"]}
    assert "[ 1/" not in capsys.readouterr().out


def check_page(page, found):
    """Nothing from outside, every tag closed, every picture a PNG, every method named."""

    class Reader(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.sources = [], []

        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img"):
                self.open.append(tag)
            self.sources += [v for key, v in attributes if key in ("src", "href")]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(page)
    assert not reader.open
    assert len(reader.sources) > 15
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in reader.sources)
    assert "A toy &amp; its tasks" in page
    # A picture says what it shows twice: policies, edges, channels (searched, random and all).
    for words, least in (("learned policy", 2), ("edges between", 1), ("channels that", 3)):
        assert page.count(words) >= 2 * least
    assert all(html.escape(title) in page for title in found["titles"].values())


@pytest.mark.slow
def test_killed_anywhere_it_goes_on(tmp_path, untraced, few_answers):
    import quality

    asked = ["shared", "adashare", "random_1", "cross_stitch"]
    whole = quality.run(toy_suite(1), asked, [0], tmp_path / "whole", tmp_path / "whole.json")
    kept = tmp_path / "killed", tmp_path / "killed.json"
    for number in itertools.count():
        keras.backend.clear_session()
        with kills.at_file(6 + number, kills.MOMENTS[number % 3]) as killer:
            found = quality.run(toy_suite(1), asked, [0], *kept)
        if not killer.killed:
            break
    assert number >= 3
    assert without_times(found) == without_times(whole)


def figures(seeds, names=("single_task", "shared")):
    """What `quality.py` writes, by hand."""
    rows = [
        {
            name: {
                "test": {"a": {"accuracy": 0.5 * (1 + score / 100)}},
                "delta": {"a": score},
                "total_delta": score,
                "parameters": 2000,
                "flops": 3_000_000,
                "num_candidates": 1,
                "time": {"search": 0.0, "training": 1.0, "candidates": 1.0},
                "work": {"training": 1.0},
            }
            for name, score in zip(names, scores, strict=True)
        }
        for scores in seeds
    ]
    return {
        "suite": {
            "title": "toy",
            "better": {"a": {"accuracy": "higher"}},
            "trivial": {"a": {"accuracy": 0.25}},
        },
        "left_out": {"mtan": "It has no maps."},
        "titles": {name: name.replace("_", "-") for name in names},
        "seeds": {str(i): {"rows": row} for i, row in enumerate(rows)},
    }


def test_tables_by_hand():
    from fair import tables as quality_tables

    found = figures([(0.0, 10.0), (0.0, 16.0)])
    lines = list(quality_tables.main_table(found))
    assert lines[0] == "| method | Δ a | Δ_T | parameters | FLOPs | candidates |"
    assert lines[2].startswith("| trivial predictor | -50.0 ± 0.0 | -50.00 ± 0.00 |")
    # Mean and sample deviation of 10 and 16.
    assert lines[4] == "| shared | +13.0 ± 4.2 | +13.00 ± 4.24 | 2 k | 3 M | 1 |"
    assert "| shared | 0.5650 ± 0.0212 |" in "\n".join(quality_tables.metric_table(found))
    assert list(quality_tables.tables(found))[-1] == "Left out: mtan. It has no maps."


def test_ablations_stand_below_their_method():
    from fair import summary

    names = ("single_task", "branched", "auto_mtl", "random_trees", "auto_mtl_0.1")
    found = figures([(0.0, 1.0, 2.0, 3.0, 4.0), (0.0, 1.0, 2.0, 3.0, 6.0)], names)
    assert list(summary.ablation_table(found))[2:] == [
        "| **branched** | +1.00 ± 0.00 | 2 k |",
        "| random-trees | +3.00 ± 0.00 | 2 k |",
        "| **auto-mtl** | +2.00 ± 0.00 | 2 k |",
        "| auto-mtl-0.1 | +5.00 ± 1.41 | 2 k |",
    ]
    # The table of all suites has the methods alone.
    assert not any("random-trees" in line for line in summary.delta_table({"toy": found}))


def test_claims_are_differences_within_a_seed():
    from fair import summary

    # The second seed has no AutoMTL: 1 - 3 alone counts.
    found = figures(
        [(0.0, 3.0, 5.0, 1.0), (0.0, 8.0, 6.0, 9.0)],
        ("single_task", "adashare", "shared", "auto_mtl"),
    )
    del found["seeds"]["1"]["rows"]["auto_mtl"]
    lines = list(summary.claim_table({"toy": found, "none": figures([(0.0, 1.0)])}))[2:]
    assert lines == [
        "| AdaShare > shared | +0.00 ± 2.83 | – |",
        "| AutoMTL > AdaShare | -2.00 | – |",
    ]


def test_an_ablation_that_changes_nothing_is_not_run_again():
    from fair.methods import EVERY, Seed

    given = keras_mtl.strategies.AutoMTL(regularisation=0.1)
    setup = types.SimpleNamespace(strategies={"auto_mtl": given})
    row = {"total_delta": 1.0}
    seed = Seed(setup, None, {"auto_mtl": row})
    assert EVERY["auto_mtl_0.1"].run(seed, "AutoMTL, λ = 0.1") is row


def test_reasons():
    import protocol
    from fair.reasons import reason

    def setup(backbone, tasks):
        made = object.__new__(protocol.Experiment)
        made.backbone, made.tasks, made.seed, made.samples = backbone, tasks, 0, 1
        return made

    tasks = [toys.classification(name) for name in ("a", "b")]
    residual = setup(toys.mlp(), tasks)
    assert reason(residual, "adashare", {}) is None and reason(residual, "mtl_nas", {}) is None
    assert reason(residual, "auto_mtl_0.1", {"auto_mtl": "Too slow."}) == "Too slow."
    assert reason(residual, "random_1", {"adashare": "Too slow."}) == "Too slow."
    own = [keras_mtl.Task(name, keras.layers.Dense(1), "mse", inputs=name) for name in ("a", "b")]
    assert "inputs of its own" in reason(setup(toys.mlp(), own), "sluice", {})
    many = [toys.classification(f"task{i}") for i in range(16)]
    assert "240 directions" in reason(setup(toys.mlp(), many), "random_edges", {})
    narrowing = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    assert "skipped" in reason(setup(narrowing, tasks), "random_2", {})
    assert reason(setup(backbone(), tasks), "random_partitions", {}) is None
    assert "masked" in reason(residual, "feature_partition", {})


def test_unknown_method():
    from fair import methods

    with pytest.raises(SystemExit, match="must be all, ablations, or some of"):
        methods.names(["adashar"])
    assert methods.names(["random_1"]) == ["adashare", "random_1"]


def test_trivial_predictor():
    import protocol
    from fair import trivial

    made = object.__new__(protocol.Experiment)
    made.backbone, made.batch_size, made.seed = backbone(), 4, 0
    made.tasks = [
        toys.classification("class"),
        keras_mtl.Task(
            "yes",
            keras_mtl.heads.Classifier(1),
            keras.losses.BinaryCrossentropy(from_logits=True),
            ["accuracy"],
        ),
        keras_mtl.Task("number", keras.layers.Dense(1), "mae", ["mean_absolute_error"]),
    ]
    x = np.zeros((4, 4), "float32")
    train = {
        "class": np.array([2, 2, 1, 0]),
        "yes": np.array([0, 0, 1, 0]),
        "number": np.array([[0.0], [1.0], [2.0], [100.0]]),
    }
    test = {
        "class": np.array([2, 0, 1, 0]),
        "yes": np.array([0, 1, 1, 0]),
        "number": np.array([[1.5], [1.5], [2.5], [0.5]]),
    }
    made.train, made.test = (x, train), (x, test)
    found = trivial.trivial(made)
    assert found["class"]["accuracy"] == 0.25
    assert found["yes"]["accuracy"] == 0.5
    assert found["number"]["mean_absolute_error"] == pytest.approx(0.5)


def test_pages_say_what_the_data_say():
    import tables

    for path, sections in tables.PAGES.items():
        text = path.read_text()
        assert tables.rewritten(text, sections) == text, "run `python benchmarks/tables.py --write`"


def test_numbers_of_the_prose_are_in_the_tables():
    """README's findings: a score or ratio that no table has was typed in by hand."""
    import tables

    pages = [path.read_text() for path in tables.PAGES]
    generated = [re.split(r"<!-- \w+ tables: (?:begin|end).*-->", text)[1::2] for text in pages]
    known = "".join(itertools.chain(*generated))
    results = pages[0].split("## What comes out")[1].split("## What is in it")[0]
    prose = "".join(re.split(r"<!-- \w+ tables: (?:begin|end).*-->", results)[::2])
    numbers = set(re.findall(r"[-+−]?\d+\.\d+(?: ± \d+\.\d+)?", prose))
    assert numbers
    unknown = {x for x in numbers if not re.search(rf"(?<!\d){re.escape(x)}(?!\d)", known)}
    assert not unknown
    assert not re.findall(r"\d+ ?%", prose)


def partition_figures():
    """As `benchmarks/results/domains.json`: two domains, two seeds."""
    keys, told = ("0.05", "0.1", "proxy"), {"command": "python d.py", "date": "2026-11-22"}
    values = ([0.1, 0.2], [0.3, 0.4], [0.7, 0.8])
    seconds = dict(zip(keys, (5.0, 10.0, 2.0), strict=True)) | {"1": 100.0}
    correlation = {"domains": ["digits", "signs"], "seconds": seconds}
    correlation["correlation"] = dict(zip(keys, values, strict=True))
    costs = {"parameters": 2000, "flops": 3e6}
    seeds = {
        str(seed): {"evolved": {"accuracy": 0.5 + 0.02 * seed, "use": 0.5 + 0.2 * seed, **costs}}
        for seed in (0, 1)
    }
    return {
        "machine": "two cores",
        "correlation": correlation | told,
        "outcomes": {"seeds": seeds} | told,
    }


def test_a_changed_number_is_seen():
    import tables

    sections = ("demo", "fair", "quality", "partition")
    marks = (
        f"{tables.BEGIN.format(name)}\nstale\n{tables.END.format(name)}\n" for name in sections
    )
    text = f"before\n{''.join(marks)}after\n"
    toy = figures([(0.0, 10.0)])
    toy |= {"command": "python q.py", "date": "2026-11-22", "machine": "two cores"}
    toy["suite"] |= {"epochs": 1, "search_epochs": 2, "candidates": 3}
    toy["seeds"]["0"] |= {"wall_seconds": 90.0}
    results = {"fair": {"toy": toy, "toy-x3": toy}, "quality": {"toy": toy}}
    results["demo"] = {"rows": toy["seeds"]["0"]["rows"]}
    results["partition"] = partition_figures()
    written = tables.rewritten(text, sections, results)
    # What was run longer stands below, not among the methods.
    assert "| Δ_T, % | `toy` |\n" in written and "| `toy`, 3 × as long |" in written
    assert "| shared | +10.00 |\n" in written and "stale" not in written
    assert "| shared | +10.0 | +10.00 |" in written
    assert "2 minutes for 1 seed; 1 epochs" in written
    assert "| digits | 0.100 | 0.300 | 0.700 |" in written
    assert "| time, full = 1 | 0.050 | 0.100 | 0.020 |" in written
    assert "| evolved | 51.00 ± 1.41 | 60 ± 14.14 | 2 k | 3.0 M |" in written
    assert written.startswith("before\n") and written.endswith("after\n")
    assert tables.rewritten(written, sections, results) == written
    assert tables.rewritten(written.replace("+10.00", "+11.00"), sections, results) == written
    with pytest.raises(SystemExit, match="must have the lines"):
        tables.rewritten("no markers", sections, results)


def test_data_in_the_repository_are_whole():
    """Every file of results holds what the tables need, and was not made by a quick run."""
    from fair import tables as quality_tables

    for path in (ROOT / "benchmarks" / "results").glob("quality_*.json"):
        found = json.loads(path.read_text())
        assert list(quality_tables.tables(found))
        assert "--quick" not in found["command"]
