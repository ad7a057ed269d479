"""Architecture: plain data that is immutable, comparable, JSON both ways, and refuses nonsense."""

import dataclasses
import json
import pickle
import re

import numpy as np
import pytest

import keras_mtl
from keras_mtl import Architecture, ArchitectureError, ChannelUse, Fusion
from tests import toys

CHOICES = {"a": ("shared", "own", "skip"), "b": ("shared", "ab", "shared")}


def plan(**changes):
    settings = {
        "tasks": ("a", "b"),
        "units": ("stem", "block1", "block2"),
        "choices": CHOICES,
        "fingerprint": "0123456789abcdef",
    }
    return Architecture(**{**settings, **changes})


USE = ChannelUse({"a": "10", "b": "01"})
FUSION = Fusion("f", "nddr", "stem", [("a", "stem"), ("b", "stem")], ["a"], {"w_own": 0.9})


def full():
    """One with every field off its default."""
    return plan(
        granularity="operator",
        normalisation="task",
        projections="task",
        masks={"stem": {"forward": {"a": [1, 0], "b": [1, 1]}, "backward": {"a": "00", "b": "01"}}},
        frozen=["block1"],
        fusions=(FUSION, dataclasses.replace(FUSION, name="g", targets=["b"]).to_data()),
        origin={"strategy": "adashare", "seed": 0, "settings": {"temperature": (5.0, 0.1)}},
        costs={
            "parameters": {"tasks": {"a": 10, "b": 2_000}, "together": 2_005},
            "flops": {"tasks": {"a": 1, "b": 3_500_000}, "together": 7_250_000_000},
        },
    )


def refused(message, make):
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$"):
        make()


# JSON and files -----------------------------------------------------------------------------------


def test_json_round_trip():
    again = Architecture.from_json(full().to_json())
    assert again == full()
    for field in dataclasses.fields(Architecture):
        assert getattr(again, field.name) == getattr(full(), field.name), field.name
    assert again.to_json() == full().to_json()
    assert json.loads(full().to_json())["format_version"] == 1


def test_every_field_is_off_its_default_in_that_test():
    for field in dataclasses.fields(Architecture):
        assert getattr(full(), field.name) != field.default
        if field.default_factory is not dataclasses.MISSING:
            assert getattr(full(), field.name) != field.default_factory()


def test_files(tmp_path):
    path = tmp_path / "plan.json"
    full().save(path)
    assert Architecture.load(path) == full()
    assert Architecture.load(path).costs == full().costs
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "plan.json"
    plan().save(path)
    broken = plan()
    object.__setattr__(broken, "origin", {"seed": object()})
    with pytest.raises(TypeError):
        broken.save(path)
    assert Architecture.load(path) == plan()


def test_pickle():
    again = pickle.loads(pickle.dumps(full()))
    assert again == full()
    assert again.origin == full().origin


# Equality and immutability ------------------------------------------------------------------------


def test_equality_ignores_origin_and_costs():
    bare = full().replace(origin={}, costs={})
    assert bare == full()
    assert hash(bare) == hash(full())
    assert len({bare, full()}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": {**CHOICES, "a": ("shared", "own", "own")}},
        {"units": ("stem", "block1", "block3")},
        {"fingerprint": "fedcba9876543210"},
        {"granularity": "stage"},
        {"normalisation": "task"},
        {"projections": "task"},
        {"frozen": ("stem",)},
        {"fusions": (FUSION,)},
    ],
)
def test_everything_else_counts(changes):
    assert plan(**changes) != plan()


def test_masks_count():
    plain = plan(granularity="operator")
    masked = plain.replace(masks={"stem": USE})
    assert masked != plain and hash(masked) != hash(plain)
    assert masked == plain.replace(masks={"stem": USE.to_data()})
    backward = ChannelUse(USE.forward, {"a": "00", "b": "01"})
    assert masked != plain.replace(masks={"stem": backward})


def test_the_order_of_tasks_counts():
    assert plan() != plan(tasks=("b", "a"))


def test_lists_and_tuples_are_the_same():
    lists = plan(
        tasks=["a", "b"],
        units=["stem", "block1", "block2"],
        choices={task: list(row) for task, row in CHOICES.items()},
    )
    assert lists == plan()
    assert hash(lists) == hash(plan())


def test_nothing_can_be_changed():
    made = full()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.tasks = ("c",)
    with pytest.raises(TypeError):
        made.choices["a"] = ("own",) * 3
    with pytest.raises(TypeError):
        made.origin["settings"]["temperature"] = 1
    with pytest.raises(TypeError):
        made.masks["stem"].forward["a"] = "11"


def test_the_makers_dicts_may_change_afterwards():
    choices = {task: list(row) for task, row in CHOICES.items()}
    origin = {"settings": {"seed": 1}}
    made = plan(choices=choices, origin=origin)
    choices["a"][0] = "own"
    choices["b"] = []
    origin["settings"]["seed"] = 2
    assert made.choices == plan().choices
    assert made.origin["settings"]["seed"] == 1


def test_replace_leaves_the_first_alone():
    first = plan()
    second = first.replace(normalisation="task")
    assert (first.normalisation, second.normalisation) == ("shared", "task")


def test_choice_by_name():
    assert plan().choice("a", "block2") == "skip"
    assert plan().choice("b", "block1") == "ab"


# What people see ----------------------------------------------------------------------------------


def test_repr():
    assert repr(plan()) == "<Architecture tasks=['a', 'b'] units=3 skipped=1>"
    assert repr(full()) == (
        "<Architecture tasks=['a', 'b'] units=3 skipped=1, strategy='adashare'>"
    )


def test_summary():
    assert plan().summary() == "\n".join(
        [
            "unit         a       b",
            "------  ------  ------",
            "stem    shared  shared",
            "block1     own      ab",
            "block2       -  shared",
        ]
    )
    assert full().summary() == plan().summary() + "\n\n" + "\n".join(
        [
            "             a       b  together",
            "----------  --  ------  --------",
            "parameters  10  2.00 k    2.00 k",
            "FLOPs        1  3.50 M    7.25 G",
            "",
            "Channels that each task uses (and may change, where fewer):",
            "",
            "unit  channels           a             b",
            "----  --------  ----------  ------------",
            "stem         2  50 % (0 %)  100 % (50 %)",
            "",
            "Frozen: the operators of block1",
            "",
            "After these units tasks exchange features:",
            "  stem: nddr of a, b for a",
            "  stem: nddr of a, b for b",
        ]
    )


def test_summary_says_which_choices_were_not_open():
    limits = {"stem": "never skipped (changes the rank)", "block2": "one choice for its 2 calls"}
    assert plan(origin={"limits": limits}).summary() == plan().summary() + "\n\n" + "\n".join(
        [
            "Not every choice was open:",
            "  stem: never skipped (changes the rank)",
            "  block2: one choice for its 2 calls",
        ]
    )


def test_costs_by_task_and_together():
    assert full().parameters() == 2_005
    assert full().parameters("a") == 10
    assert full().flops("b") == 3_500_000


# Refusals -----------------------------------------------------------------------------------------


def test_costs_of_a_hand_made_plan():
    refused(
        "`flops()` needs the costs of the units, which `keras_mtl.build` fills in for a backbone "
        "whose inputs have known sizes. Received: an architecture without costs. Use "
        "`keras_mtl.build(backbone, tasks, architecture=...).architecture`, with a `keras.Input` "
        "that leaves no size open.",
        plan().flops,
    )


def test_costs_of_an_unknown_task():
    refused(
        "`task` must be one of ['depth', 'normals']. Received: task='dept'. Did you mean 'depth'?",
        lambda: Architecture(
            ("depth", "normals"),
            (),
            {"depth": (), "normals": ()},
            costs={
                kind: {"tasks": {"depth": 1, "normals": 2}, "together": 3}
                for kind in ("parameters", "flops")
            },
        ).parameters("dept"),
    )


def test_choices_for_other_tasks():
    refused(
        "`choices` must have one entry for each of the tasks ['a', 'b']. "
        "Received: choices for ['a'].",
        lambda: plan(choices={"a": CHOICES["a"]}),
    )
    with pytest.raises(ArchitectureError, match=r"^`choices` must have one entry"):
        plan(choices=[("shared",) * 3] * 2)


def test_choices_of_another_number_or_kind():
    refused(
        "`choices['b']` must hold one string for each of the 3 units. Received: ['shared'].",
        lambda: plan(choices={**CHOICES, "b": ("shared",)}),
    )
    refused(
        "`choices['b']` must hold one string for each of the 3 units. "
        "Received: ['shared', 1, 'shared'].",
        lambda: plan(choices={**CHOICES, "b": ("shared", 1, "shared")}),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"granularity": "block"},
            "`masks` need units that are single operators. Received: masks with "
            "granularity='block'. Use granularity 'operator'.",
        ),
        (
            {"masks": {"stam": USE}},
            "`masks` must name units of the architecture. Received: 'stam'. Did you mean 'stem'?",
        ),
        (
            {"frozen": ("stam",)},
            "`frozen` must name units of the architecture. Received: 'stam'. Did you mean 'stem'?",
        ),
        (
            {"masks": {"stem": ChannelUse({"a": "10", "c": "01"})}},
            "`masks['stem']` must have a mask for each of the tasks ['a', 'b']. Received: masks "
            "for ['a', 'c'].",
        ),
        (
            {"masks": {"stem": {"a": "10", "b": "01"}}},
            "Masks must be a `ChannelUse`, or a mapping with `forward` and `backward`. Received: "
            "{'a': '10', 'b': '01'}.",
        ),
    ],
)
def test_masks_that_do_not_fit(changes, message):
    refused(message, lambda: plan(**{"granularity": "operator", "masks": {"stem": USE}} | changes))


def test_units_of_other_names():
    masked = plan(granularity="operator", masks={"block1": USE}, frozen=("stem",))
    renamed = masked.renamed(("x", "y", "z"))
    assert dict(renamed.masks) == {"y": USE} and renamed.frozen == ("x",)


def test_an_unknown_normalisation():
    refused(
        "`normalisation` must be one of ('shared', 'task'). Received: normalisation='mine'.",
        lambda: plan(normalisation="mine"),
    )


def test_unknown_projections():
    refused(
        "`projections` must be one of ('shared', 'task'). Received: projections='mine'.",
        lambda: plan(projections="mine"),
    )


def test_a_plan_from_before_there_were_projections_of_tasks():
    data = json.loads(plan().to_json())
    del data["projections"]
    assert Architecture.from_json(json.dumps(data)) == plan()


@pytest.mark.parametrize("length", [0, 1, 40, 200])
def test_text_that_breaks_off(length):
    text = full().to_json()[:length]
    with pytest.raises(
        ArchitectureError,
        match=r"^`text` must be the JSON of an architecture. Received: text that breaks off or "
        r"does not parse \(.+\)\.$",
    ):
        Architecture.from_json(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '{"tasks": ["a"]}'])
def test_json_of_something_else(text):
    refused(
        f"`text` must be the JSON of an architecture, with a `format_version`. Received: {text!r}.",
        lambda: Architecture.from_json(text),
    )


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version(version):
    data = json.loads(plan().to_json())
    data["format_version"] = version
    refused(
        f"`format_version` must be 1. Received: format_version={version!r}. "
        "Use the version of keras_mtl that wrote it.",
        lambda: Architecture.from_json(json.dumps(data)),
    )


def test_missing_and_unknown_fields():
    data = json.loads(plan().to_json())
    del data["units"]
    data["colour"] = "red"
    refused(
        "`text` must have the fields of an architecture. Missing: ['units']; unknown: ['colour'].",
        lambda: Architecture.from_json(json.dumps(data)),
    )


KINDS = {
    "tasks": "a sequence of different names",
    "units": "a sequence of different names",
    "frozen": "a sequence of different names",
    "fusions": "a sequence",
    "masks": "a mapping",
    "origin": "a mapping",
    "costs": "a mapping",
}


@pytest.mark.parametrize("field", KINDS)
@pytest.mark.parametrize("value", [3, "abc", None])
def test_fields_of_another_kind(field, value):
    data = json.loads(plan().to_json())
    data[field] = value
    refused(
        f"`{field}` must be {KINDS[field]}. Received: {field}={value!r}.",
        lambda: Architecture.from_json(json.dumps(data)),
    )


def test_names_that_come_twice():
    refused(
        "`units` must be a sequence of different names. Received: units=('stem', 'a', 'stem').",
        lambda: plan(units=("stem", "a", "stem")),
    )


@pytest.mark.parametrize("value", ["own", 3, None])
def test_a_row_of_choices_of_another_kind(value):
    # "own" has three letters, but is not a choice for each of three units.
    refused(
        f"`choices['a']` must hold one string for each of the 3 units. Received: {[value]}.",
        lambda: plan(choices={**CHOICES, "a": value}),
    )


# With a backbone ----------------------------------------------------------------------------------


def architecture_of(backbone, tasks):
    return keras_mtl.build(backbone, tasks, "shared", seed=0).architecture


def test_another_backbone_is_refused():
    tasks = toys.tasks()
    given = architecture_of(toys.mlp(blocks=2), tasks)
    fingerprint = keras_mtl.graph.read(toys.mlp(blocks=3)).fingerprint
    refused(
        "`architecture` must belong to this backbone. Received: an architecture for fingerprint "
        f"{given.fingerprint!r}; the backbone's is {fingerprint!r}. Build it with the backbone it "
        "was decided for (same layers and input shape).",
        lambda: keras_mtl.build(toys.mlp(blocks=3), tasks, architecture=given),
    )


def test_unknown_units_are_refused():
    tasks = toys.tasks()
    given = architecture_of(toys.mlp(blocks=2), tasks)
    given = given.replace(fingerprint="", units=("stem", "block2", "blokc1"))
    refused(
        "`architecture` must name the backbone's 3 units in order. Received: 3 units; "
        "unknown: ['blokc1'], missing: ['block1'].",
        lambda: keras_mtl.build(toys.mlp(blocks=2), tasks, architecture=given),
    )


def test_units_in_another_order_are_refused():
    tasks = toys.tasks()
    given = architecture_of(toys.mlp(blocks=2), tasks)
    given = given.replace(fingerprint="", units=("stem", "block2", "block1"))
    refused(
        "`architecture` must name the backbone's 3 units in order. Received: 3 units; "
        "unknown: [], missing: [].",
        lambda: keras_mtl.build(toys.mlp(blocks=2), tasks, architecture=given),
    )


def test_other_tasks_are_refused():
    backbone, tasks = toys.mlp(), toys.tasks()
    given = architecture_of(backbone, tasks)
    refused(
        "`architecture` must be for the tasks ['value', 'classes'], in this order. "
        "Received: an architecture for ['classes', 'value'].",
        lambda: keras_mtl.build(backbone, tasks[::-1], architecture=given),
    )


def test_what_is_no_architecture_is_refused():
    with pytest.raises(TypeError, match=r"^`architecture` must be a `keras_mtl.Architecture`\. "):
        keras_mtl.build(toys.mlp(), toys.tasks(), architecture={"tasks": []})


def test_no_fingerprint_fits_any_backbone():
    backbone, tasks = toys.mlp(), toys.tasks()
    given = architecture_of(backbone, tasks).replace(fingerprint="", costs={})
    model = keras_mtl.build(backbone, tasks, architecture=given)
    assert model.architecture.choices == given.choices
    assert model.architecture.parameters() == architecture_of(backbone, tasks).parameters()


# Damaged text and files ---------------------------------------------------------------------------


WRONG = (None, True, 3, -1.5, "x", "", [], [3], [[]], ["x", "x"], {}, {"x": 3}, {"a": []})


def places(data, path=()):
    """The path of every value in plain data."""
    yield path
    if isinstance(data, list):
        data = dict(enumerate(data))
    for key, value in data.items() if isinstance(data, dict) else ():
        yield from places(value, (*path, key))


def test_a_wrong_value_anywhere_is_an_architecture_error():
    text = full().to_json()
    refusals = 0
    for path in places(json.loads(text)):
        for value in WRONG:
            data = json.loads(text)
            if path:
                part = data
                for key in path[:-1]:
                    part = part[key]
                part[path[-1]] = value
            else:
                data = value
            try:
                found = Architecture.from_json(json.dumps(data))
                found.summary(), repr(found), hash(found), found.to_json()
                found.parameters() if found.costs else None
            except ArchitectureError as error:
                refusals += 1
                assert "Received" in str(error) or "Missing" in str(error)
    assert refusals > 700


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        '{"a": ' * 100_000,
        "nan",
        None,
        3,
        '{"format_version": ' + "1" * 5000 + "}",
        '{"format_version": true}',
    ],
)
@pytest.mark.parametrize("cls", [Architecture, keras_mtl.partition.Partition])
def test_text_that_is_none(cls, text):
    error = ArchitectureError if cls is Architecture else ValueError
    with pytest.raises(error, match="must be"):
        cls.from_json(text)


def test_a_mark_of_the_byte_order_does_not_count(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xef\xbb\xbf" + full().to_json().encode())
    assert Architecture.load(path) == full()
    assert Architecture.from_json("\ufeff" + full().to_json()) == full()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b'{"format_version": 1, "tas'])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=f"in the file {re.escape(repr(str(path)))}"):
        Architecture.load(path)
    with pytest.raises(ValueError, match="a folder"):
        Architecture.load(tmp_path)


@pytest.mark.parametrize("choice", ["", "a/b", "left out", "b", "\n", "ü"])
def test_names_of_branches(choice):
    refused(
        "`choices['a']` must be 'shared', 'own', 'skip' or the names of branches, which have only "
        "letters, digits, '_', '.' and '-' and are not called like a task. Received: "
        f"{choice!r}.",
        lambda: plan(choices={"a": ("shared", choice, "own"), "b": ("shared",) * 3}),
    )


def test_numbers_of_numpy_are_plain_numbers():
    again = plan(origin={"seed": np.int64(3), "settings": {"x": np.float32(0.5)}})
    assert Architecture.from_json(again.to_json()).origin == again.origin
    assert type(again.origin["seed"]) is int
    refused(
        "`origin['settings']['x']` must be what JSON can hold: text, numbers, lists, and dicts "
        "with names as keys. Received: {1: 2}.",
        lambda: plan(origin={"settings": {"x": {1: 2}}}),
    )


@pytest.mark.parametrize("text", [None, 3, {}])
def test_json_that_is_no_text(text):
    with pytest.raises(ArchitectureError) as error:
        Architecture.from_json(text)
    assert str(error.value) == (
        f"`text` must be the JSON of an architecture. Received: text={text!r}."
    )


@pytest.mark.parametrize("path", [None, 3, ""])
def test_path_that_is_no_name(path):
    for use in (plan().save, Architecture.load):
        with pytest.raises(TypeError) as error:
            use(path)
        assert str(error.value) == f"`path` must be the name of a file. Received: path={path!r}."


def test_path_that_cannot_be_written(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"^`path` must be a file\. Received: .*, a folder\.$"):
        plan().save(tmp_path / "folder")
    path = tmp_path / "no" / "plan.json"
    with pytest.raises(FileNotFoundError) as error:
        plan().save(path)
    assert str(error.value) == (
        f"`path` must be a file that can be written. Received: path={str(path)!r} (No such file or "
        "directory)."
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
