import re

import numpy as np
import pytest

from keras_mtl.data import join_tasks, load_reviews, tokenise

DOMAINS = [
    "MR",
    "apparel",
    "baby",
    "books",
    "camera_photo",
    "dvd",
    "electronics",
    "health_personal_care",
    "imdb",
    "kitchen_housewares",
    "magazines",
    "music",
    "software",
    "sports_outdoors",
    "toys_games",
    "video",
]


def texts_of(reviews):
    return set(np.concatenate([texts for texts, _ in reviews.values()]))


@pytest.fixture(scope="module")
def parts():
    return {split: load_reviews(split) for split in ("train", "val", "test", "train+val")}


@pytest.mark.real_data
def test_texts_and_labels(parts):
    reviews = parts["test"]
    assert list(reviews) == DOMAINS
    for texts, labels in reviews.values():
        assert texts.shape == labels.shape == (400,)
        assert texts.dtype.kind == "U"
        assert labels.dtype == "int32"
        assert set(labels) == {0, 1}
        assert 0.4 < labels.mean() < 0.6
        assert max(len(text.split()) for text in texts) <= 128
        assert not any(re.search("[A-Z]", text) for text in texts)
    texts, labels = reviews["books"]
    words = [{word for text in texts[labels == label] for word in text.split()} for label in (0, 1)]
    assert "waste" in words[0]
    assert "wonderful" in words[1]


@pytest.mark.real_data
def test_no_text_is_in_two_parts(parts):
    train, val, test, both = parts.values()
    assert not texts_of(train) & texts_of(val)
    assert not texts_of(both) & texts_of(test)
    assert "" not in texts_of(both)
    assert texts_of(train) | texts_of(val) == texts_of(both)
    for domain in DOMAINS:
        counts = [len(part[domain][1]) for part in (train, val, both)]
        assert counts[0] + counts[1] == counts[2]
        assert 0.12 < counts[1] / counts[2] < 0.18
    assert sum(len(labels) for _, labels in both.values()) == 24650


@pytest.mark.real_data
def test_domains_and_seed(parts):
    again, other = (load_reviews("val", domains=["music", "MR"], seed=seed) for seed in (0, 1))
    assert list(again) == ["music", "MR"]
    for domain in again:
        for a, b in zip(parts["val"][domain], again[domain], strict=True):
            np.testing.assert_array_equal(a, b)
        assert set(again[domain][0]) != set(other[domain][0])


@pytest.mark.real_data
def test_from_texts_to_batches(parts):
    domains = ["books", "magazines"]
    chosen = [{domain: parts[split][domain] for domain in domains} for split in ("train", "val")]
    train, val = tokenise(*chosen, vocabulary=500, length=20)
    for ids, labels in (*train.values(), *val.values()):
        assert ids.shape == (len(labels), 20)
        assert ids.dtype == "int32"
        assert ids.min() >= 0
        assert 400 < ids.max() < 500
    x, y = next(iter(join_tasks(train, batch_size=8)))
    assert {name: ids.shape for name, ids in x.items()} == {name: (8, 20) for name in domains}
    assert sorted(y) == domains


def test_numbers_come_from_the_training_texts_only():
    train = {
        "a": (np.array(["good good book .", "good ."]), np.array([1, 0])),
        "b": (np.array(["film . good"]), np.array([1])),
    }
    test = {"b": (np.array(["bad film", "BAD good", ""]), np.array([0, 1, 1]))}
    found_train, found_test = tokenise(train, test, length=3)
    # good 4 times, "." 3 times, then book and film in either order.
    assert found_train["a"][0][0, :2].tolist() == [2, 2]
    assert found_train["a"][0][1].tolist() == [2, 3, 0]
    assert found_train["b"][0][0, 1:].tolist() == [3, 2]
    film = found_train["b"][0][0, 0]
    assert {film, found_train["a"][0][0, 2]} == {4, 5}
    assert found_test["b"][0].tolist() == [[1, film, 0], [1, 2, 0], [0, 0, 0]]
    assert found_test["b"][1] is test["b"][1]
    (small,) = tokenise(train, vocabulary=4, length=3)
    assert small["b"][0].tolist() == [[1, 3, 2]]


def message(call, kind=ValueError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_missing_folder(tmp_path):
    assert message(lambda: load_reviews("train", data_dir=tmp_path), FileNotFoundError) == (
        "`data_dir` must contain the TFDS folder `fdu_mtl_reviews/1.0.0`. "
        f"Received: data_dir={str(tmp_path)!r}. Pass another `data_dir`, or set the "
        "environment variable KERAS_MTL_DATA to the folder that contains `tfds/fdu_mtl_reviews`."
    )


def test_wrong_split():
    assert message(lambda: load_reviews("validation")) == (
        "`split` must be one of ('train', 'val', 'train+val', 'test'). "
        "Received: split='validation'."
    )


@pytest.mark.real_data
@pytest.mark.parametrize("domains", [[], "books", ["books", "cars"]])
def test_wrong_domains(domains):
    assert message(lambda: load_reviews("test", domains=domains)) == (
        f"`domains` must be a list of names among {DOMAINS}. Received: domains={domains!r}."
    )


def test_wrong_sizes():
    train = {"a": (np.array(["good"]), np.array([1]))}
    for value in (2, True, 10.0):
        assert message(lambda value=value: tokenise(train, vocabulary=value)) == (
            f"`vocabulary` must be an integer of at least 3. Received: vocabulary={value!r}."
        )
    assert message(lambda: tokenise(train, length=0)) == (
        "`length` must be an integer of at least 1. Received: length=0."
    )
