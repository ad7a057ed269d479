"""The census table: shapes, splits, codes, and what is left out."""

import gzip

import numpy as np
import pytest

from keras_mtl.data import ADULT_CATEGORIES, ADULT_NUMBERS, load_adult

COLUMNS = (
    "age,workclass,fnlwgt,education,education_num,marital_status,occupation,relationship,race,sex,"
    "capital_gain,capital_loss,hours_per_week,native_country,income"
)
ROWS = {
    "train": [
        "20,Private,1,Bachelors,13,Never-married,Sales,Own-child,White,Male,0,0,40,Cuba,<=50K",
        "40,?,1,HS-grad,9,Divorced,?,Unmarried,White,Female,99,0,40,Japan,>50K",
        "60,Private,1,Masters,14,Divorced,Sales,Husband,Black,Male,0,0,40,?,>50K",
    ],
    "test": [
        "50,Never-worked,1,10th,6,Widowed,Sales,Unmarried,White,Male,0,0,40,Japan,<=50K",
    ],
}


@pytest.fixture
def folder(tmp_path):
    for part, rows in ROWS.items():
        with gzip.open(tmp_path / f"adult_{part}.csv.gz", "wt") as file:
            file.write("\n".join([COLUMNS, *rows]) + "\n")
    return tmp_path


def test_values_by_hand(folder):
    x, y = load_adult("train+val", data_dir=folder)
    assert {task: labels[:, 0].tolist() for task, labels in y.items()} == {
        "income": [0, 1, 1],
        "never_married": [1, 0, 0],
        "college": [1, 0, 1],
    }
    assert all(labels.shape == (3, 1) and labels.dtype == "float32" for labels in y.values())
    # workclass: Private; occupation: Sales; race: Black, White; sex: Female, Male; Cuba, Japan.
    assert x["categories"].tolist() == [[1, 1, 2, 2, 1], [0, 0, 2, 1, 2], [1, 1, 1, 2, 0]]
    # Ages of mean 40 and deviation sqrt(800 / 3).
    np.testing.assert_allclose(x["numbers"][:, 0], [-1.224745, 0, 1.224745], atol=1e-5)
    # Logarithms 0, ln 100 and 0.
    np.testing.assert_allclose(x["numbers"][:, 1], [-0.707107, 1.414214, -0.707107], atol=1e-5)


def test_test_part_is_measured_by_the_training_part(folder):
    x, _ = load_adult("test", data_dir=folder)
    assert x["numbers"][0, 0] == pytest.approx(10 / np.sqrt(800 / 3))
    assert x["categories"].tolist() == [[0, 1, 2, 2, 2]]  # a class that training does not know
    assert np.isfinite(x["numbers"]).all()  # hours and losses are all equal


@pytest.mark.real_data
def test_splits():
    parts = {split: load_adult(split) for split in ("train", "val", "train+val", "test")}
    number = {split: len(y["income"]) for split, (_, y) in parts.items()}
    assert number["train"] + number["val"] == number["train+val"] == 32561
    assert number["test"] == 16281 and 0.13 < number["val"] / 32561 < 0.17
    x, y = parts["train+val"]
    np.testing.assert_allclose(x["numbers"].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x["numbers"].std(0), 1, atol=1e-4)
    assert x["numbers"].shape[1] == len(ADULT_NUMBERS)
    assert (x["categories"].max(0) + 1).tolist() == list(ADULT_CATEGORIES.values())
    assert y["income"].mean() == pytest.approx(0.2408, abs=1e-4)
    train, val = (
        {row.tobytes() for row in np.hstack([x["numbers"], x["categories"]])}
        for x, _ in (parts["train"], parts["val"])
    )
    assert not train & val


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "`split` must be one of"),
        ({"split": "test", "limit": 0}, "`limit` must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_adult(**arguments)


def test_no_data(monkeypatch):
    monkeypatch.delenv("KERAS_MTL_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="adult_train"):
        load_adult("test")
