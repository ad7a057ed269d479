"""Adult: three questions about a person in the census."""

import csv
import gzip
import hashlib
import os
from pathlib import Path

import numpy as np

from keras_mtl.checks import check_count

ADULT_NUMBERS = ("age", "capital_gain", "capital_loss", "hours_per_week")
ADULT_CATEGORIES = {
    "workclass": 9,
    "occupation": 15,
    "race": 6,
    "sex": 3,
    "native_country": 42,
}
_LOGARITHMS = ("capital_gain", "capital_loss")
_COLLEGE = ("Bachelors", "Masters", "Prof-school", "Doctorate")
_ANSWERS = {
    "income": ("income", lambda value: value == ">50K"),
    "never_married": ("marital_status", lambda value: value == "Never-married"),
    "college": ("education", lambda value: value in _COLLEGE),
}
_MISSING = "?"
_VAL_SHARE = 0.15
_SPLITS = ("train", "val", "train+val", "test")


def load_adult(
    split: str,
    *,
    data_dir: os.PathLike[str] | str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """48,842 persons of a census, with three yes-or-no tasks.

    The tasks are whether the income is above 50,000 dollars (`"income"`), whether the person has
    never married (`"never_married"`), and has a college degree (`"college"`). Columns that give an
    answer away are left out: education, marital status and relationship; and the weight of the
    sample (`fnlwgt`).

    A row of the training part belongs to `"val"`, the rest to `"train"`, by a hash of its inputs
    and `seed`: about 15 %; equal rows are never in both. The order is that of the source.

    Args:
        split: `"train"`, `"val"`, `"train+val"` or `"test"`.
        data_dir: the folder that contains `adult_train.csv.gz` and `adult_test.csv.gz`; by default
            `$KERAS_MTL_DATA/adult`.
        limit: positive int. The number of first rows to use; by default all.
        seed: int. Fixes which rows are for validation.

    Returns:
        `(x, y)`. `x` is a dict of `"numbers"`, float32 of shape `(n, 4)`, the columns of
        `keras_mtl.data.ADULT_NUMBERS`, with mean 0 and deviation 1 over the whole training part
        (capital gain and loss are logarithms of 1 + dollars); and `"categories"`, int32 of shape
        `(n, 5)`, the columns of `keras_mtl.data.ADULT_CATEGORIES` as numbers from 1 in alphabetical
        order, 0 where the value is missing. That dict has the number of different numbers. `y`
        maps a task to float32 0 or 1 of shape `(n, 1)`.

    Raises:
        ValueError: when an argument is out of range.
        FileNotFoundError: when the data are not there.

    Example:

    >>> keras_mtl.data.ADULT_CATEGORIES["occupation"]
    15

    Reference: [Modeling Task Relationships in Multi-task Learning with Multi-gate
        Mixture-of-Experts](https://dl.acm.org/doi/10.1145/3219819.3220007), Section 6.
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("limit", limit, optional=True)
    check_count("seed", seed, 0)  # none is drawn: two splits must agree
    folder = _find_folder(data_dir)
    whole = _rows(folder, "train")
    rows = _rows(folder, "test") if split == "test" else whole
    rows = [row for row in rows if _belongs(row, split, seed)][:limit]
    x = {"numbers": _numbers(rows, whole), "categories": _categories(rows, whole)}
    return x, {
        task: np.array([[is_so(row[column])] for row in rows], "float32")
        for task, (column, is_so) in _ANSWERS.items()
    }


def _find_folder(data_dir):
    if data_dir is None:
        root = os.environ.get("KERAS_MTL_DATA")
        data_dir = Path(root) / "adult" if root else None
    if data_dir is None or not (Path(data_dir) / "adult_train.csv.gz").is_file():
        raise FileNotFoundError(
            "`data_dir` must contain `adult_train.csv.gz`. "
            f"Received: data_dir={data_dir and str(data_dir)!r}. Pass another `data_dir`, or set "
            "the environment variable KERAS_MTL_DATA to the folder that contains `adult`."
        )
    return Path(data_dir)


def _rows(folder, part):
    with gzip.open(folder / f"adult_{part}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _belongs(row, split, seed):
    if split not in ("train", "val"):
        return True
    text = "|".join(row[column] for column in (*ADULT_NUMBERS, *ADULT_CATEGORIES))
    digest = hashlib.blake2b(text.encode(), digest_size=4, key=str(seed).encode()).digest()
    return (int.from_bytes(digest) < _VAL_SHARE * 2**32) == (split == "val")


def _numbers(rows, whole):
    columns = []
    for name in ADULT_NUMBERS:
        known, own = (np.array([float(row[name]) for row in part]) for part in (whole, rows))
        if name in _LOGARITHMS:
            known, own = np.log1p(known), np.log1p(own)
        columns.append((own - known.mean()) / (known.std() or 1.0))
    return np.stack(columns, axis=1).astype("float32")


def _categories(rows, whole):
    columns = []
    for name in ADULT_CATEGORIES:
        known = sorted({row[name] for row in whole} - {_MISSING})
        numbers = {value: number for number, value in enumerate(known, start=1)}
        columns.append([numbers.get(row[name], 0) for row in rows])
    return np.array(columns, "int32").T
