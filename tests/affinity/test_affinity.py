"""Affinity: a tensor with names, as data."""

import json
import pickle

import numpy as np
import pytest

from keras_mtl.affinity import Affinity

TASKS, LOCATIONS = ("depth", "normal", "edges"), ("block1", "block2")


def values(num_tasks=3, num_locations=2):
    made = np.random.default_rng(0).uniform(-1, 1, (num_locations, num_tasks, num_tasks))
    made = (made + made.transpose(0, 2, 1)) / 2
    made[:, range(num_tasks), range(num_tasks)] = 1
    return made


def test_values_are_a_read_only_copy():
    given = values()
    affinity = Affinity(given, list(TASKS), list(LOCATIONS))
    np.testing.assert_array_equal(affinity.values, given)
    given[0, 0, 1] = 0.5
    assert affinity.values[0, 0, 1] != 0.5
    with pytest.raises(ValueError, match="read-only"):
        affinity.values[0, 0, 1] = 0.5
    assert (affinity.tasks, affinity.locations) == (TASKS, LOCATIONS)
    assert affinity.values.dtype == "float64"


def test_rounding_errors_are_mended():
    given = values()
    given[0, 0, 1] += 1e-7
    given[0, 0, 2] = given[0, 2, 0] = 1 + 1e-7
    given[1, 1, 1] -= 1e-7
    affinity = Affinity(given, TASKS, LOCATIONS)
    np.testing.assert_array_equal(affinity.values, affinity.values.transpose(0, 2, 1))
    np.testing.assert_array_equal(affinity.dissimilarity[:, range(3), range(3)], np.zeros((2, 3)))
    assert affinity.values.max() == 1


def test_dissimilarity():
    affinity = Affinity([[[1, 0.25], [0.25, 1]]], ("a", "b"), ("x",))
    assert affinity.dissimilarity.tolist() == [[[0, 0.75], [0.75, 0]]]


def test_json_keeps_every_digit(tmp_path):
    affinity = Affinity(values(), TASKS, LOCATIONS, {"images": 40, "seeds": [1, 2]})
    path = tmp_path / "affinity.json"
    affinity.save(path)
    loaded = Affinity.load(path)
    assert loaded == affinity and hash(loaded) == hash(affinity)
    assert dict(loaded.origin) == {"images": 40, "seeds": [1, 2]}
    assert [each.name for each in tmp_path.iterdir()] == ["affinity.json"]
    assert pickle.loads(pickle.dumps(affinity)) == affinity


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "affinity.json"
    Affinity(values(), TASKS, LOCATIONS).save(path)
    before = path.read_text()
    with pytest.raises(TypeError):
        Affinity(values(), TASKS, LOCATIONS, {"model": object()}).save(path)
    assert path.read_text() == before


def test_equality_is_by_names_and_values():
    affinity = Affinity(values(), TASKS, LOCATIONS)
    assert affinity == Affinity(values(), TASKS, LOCATIONS, {"other": 1})
    assert affinity != Affinity(values(), TASKS, ("block1", "block3"))
    assert affinity != Affinity(values(), ("depth", "edges", "normal"), LOCATIONS)
    other = values()
    other[0, 0, 1] = other[0, 1, 0] = 0
    assert affinity != Affinity(other, TASKS, LOCATIONS)
    assert affinity != "affinity"


def test_repr():
    affinity = Affinity([[[1, 0.25], [0.25, 1]]], ("a", "b"), ("x",))
    assert repr(affinity) == "<Affinity locations=['x'] tasks=['a', 'b'] from 0.250 to 0.250>"
    many = Affinity(np.ones((1, 9, 9)), [f"t{i}" for i in range(9)], ("x",))
    assert repr(many) == "<Affinity locations=['x'] tasks=9 from 1.000 to 1.000>"
    assert repr(Affinity([[[1]]], ("a",), ("x",))) == "<Affinity locations=['x'] tasks=['a']>"


def changed(where, value, both=True):
    given = values()
    given[where] = value
    if both:
        given[where[0], where[2], where[1]] = value
    return given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (values(2), TASKS, LOCATIONS),
            "`values` must have shape (locations, tasks, tasks) = (2, 3, 3). Received: "
            "values.shape=(2, 2, 2).",
        ),
        (
            (changed((1, 0, 2), np.inf), TASKS, LOCATIONS),
            "`values` must be finite. Received: inf for tasks 'depth' and 'edges' at location "
            "'block2'.",
        ),
        (
            (changed((0, 1, 2), 0.5, both=False), TASKS, LOCATIONS),
            "`values` must be symmetric in the tasks. Received: 0.5 for tasks 'normal' and "
            "'edges' at location 'block1'.",
        ),
        (
            (changed((0, 1, 1), 0.5), TASKS, LOCATIONS),
            "`values` must have ones on the diagonal. Received: 0.5 for tasks 'normal' and "
            "'normal' at location 'block1'.",
        ),
        (
            (changed((0, 0, 1), -1.5), TASKS, LOCATIONS),
            "`values` must lie between -1 and 1. Received: -1.5 for tasks 'depth' and 'normal' at "
            "location 'block1'.",
        ),
        (
            ("high", TASKS, LOCATIONS),
            "`values` must be an array of numbers with shape (locations, tasks, tasks). Received: "
            "str that is none.",
        ),
        (
            (values(), ("a", "b", "a"), LOCATIONS),
            "`tasks` must name each thing once. Received: 'a' twice.",
        ),
        (
            (values(), TASKS, "block1"),
            "`locations` must be a sequence of names. Received: locations='block1'.",
        ),
        ((values(), (), LOCATIONS), "`tasks` must be a sequence of names. Received: tasks=()."),
        (
            (values(), TASKS, LOCATIONS, "paper"),
            "`origin` must be a mapping. Received: origin='paper'.",
        ),
    ],
)
def test_bad_parts(arguments, message):
    with pytest.raises(ValueError) as error:
        Affinity(*arguments)
    assert str(error.value) == message


def test_bad_json():
    text = Affinity(values(), TASKS, LOCATIONS).to_json()
    with pytest.raises(ValueError, match="Received: text that breaks off"):
        Affinity.from_json(text[:-10])
    with pytest.raises(ValueError, match="with a `format_version`"):
        Affinity.from_json("[1]")
    data = json.loads(text)
    with pytest.raises(ValueError) as error:
        Affinity.from_json(json.dumps(data | {"format_version": 9}))
    assert str(error.value) == (
        "`format_version` must be 1. Received: format_version=9. Use the version of keras_mtl "
        "that wrote it."
    )
    del data["tasks"]
    with pytest.raises(ValueError) as error:
        Affinity.from_json(json.dumps(data | {"names": 1}))
    assert str(error.value) == (
        "`text` must have the fields of an affinity. Received: text without ['tasks'] and with "
        "['names']."
    )
