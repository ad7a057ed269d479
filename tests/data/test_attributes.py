"""Photographs of clothes: shapes, splits, and what the 26 attributes are made of."""

import numpy as np
import pytest

from keras_mtl.data import load_attributes

GROUPS = {"pattern": 7, "sleeve": 3, "length": 3, "neckline": 4, "fabric": 6, "fit": 3}


@pytest.mark.real_data
def test_splits_and_groups():
    images, labels = load_attributes("train")
    val, _ = load_attributes("val")
    assert images.shape == (4250, 56, 56, 3) and images.dtype == "float32"
    assert len(val) == 750 and images.min() >= 0 and images.max() == 1
    assert {name: len(np.unique(classes)) for name, classes in labels.items()} == GROUPS
    both, _ = load_attributes("train+val", limit=4300)
    np.testing.assert_array_equal(both[4250:], val[:50])


@pytest.mark.real_data
def test_attributes_are_the_classes_one_by_one():
    _, groups = load_attributes("test", limit=200)
    images, attributes = load_attributes("test", binary=True, limit=200)
    assert images.shape == (200, 56, 56, 3)
    assert len(attributes) == 26 and all(x.shape == (200, 1) for x in attributes.values())
    stacked = np.concatenate(list(attributes.values()), axis=1)
    assert (stacked.sum(axis=1) == len(GROUPS)).all()
    np.testing.assert_array_equal(attributes["floral"][:, 0] == 1, groups["pattern"] == 0)
    np.testing.assert_array_equal(attributes["conventional"][:, 0] == 1, groups["fit"] == 2)


@pytest.mark.real_data
def test_attributes_are_those_of_the_file():
    from keras_mtl.data.tfds_folder import find_folder, open_folder

    builder, reading = open_folder(find_folder("fashion_attributes_small"))
    first = next(builder.as_dataset(split="test", read_config=reading).as_numpy_iterator())
    _, attributes = load_attributes("test", binary=True, limit=1)
    assert [int(x[0, 0]) for x in attributes.values()] == first["attributes"].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "`split` must be one of"),
        ({"split": "test", "limit": 0}, "`limit` must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_attributes(**arguments)


def test_no_data(monkeypatch):
    monkeypatch.delenv("KERAS_MTL_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="fashion_attributes_small"):
        load_attributes("test")
