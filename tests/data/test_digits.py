import numpy as np
import pytest

from keras_mtl.data import digits, load_multidigits


@pytest.fixture(scope="module")
def parts():
    return load_multidigits(300, 40, 50, seed=1)


def test_shapes_and_types(parts):
    assert list(parts) == ["train", "val", "test"]
    for (images, labels), count in zip(parts.values(), (300, 40, 50), strict=True):
        assert images.shape == (count, 16, 16, 1)
        assert images.dtype == "float32"
        assert images.min() == 0.0
        assert 0.9 < images.max() <= 1.0
        assert list(labels) == ["left", "right", "sum"]
        for label in labels.values():
            assert label.shape == (count,)
            assert label.dtype == "int32"


def test_labels(parts):
    labels = parts["train"][1]
    assert set(labels["left"]) == set(labels["right"]) == set(range(10))
    assert (labels["left"] != labels["right"]).mean() > 0.8
    np.testing.assert_array_equal(labels["sum"], labels["left"] + labels["right"])


def test_the_same_seed_gives_the_same_pictures(parts):
    again = load_multidigits(300, 40, 50, seed=1)
    other = load_multidigits(300, 40, 50, seed=2)
    for part in parts:
        np.testing.assert_array_equal(parts[part][0], again[part][0])
        np.testing.assert_array_equal(parts[part][1]["sum"], again[part][1]["sum"])
        assert not np.array_equal(parts[part][0], other[part][0])


def test_no_handwritten_digit_occurs_in_two_parts(monkeypatch):
    used = []
    compose = digits._compose

    def record(glyphs, classes, numbers, count, generator):
        used.append(set(numbers))
        return compose(glyphs, classes, numbers, count, generator)

    monkeypatch.setattr(digits, "_compose", record)
    load_multidigits(5, 5, 5)
    train, val, test = used
    assert not train & val | train & test | val & test
    assert train | val | test == set(range(1797))
    assert (len(train), len(val), len(test)) == (1257, 269, 271)


def test_left_digit_is_upper_left_and_the_two_overlap():
    # Glyph i is a square of brightness (i + 1) / 2, so the brighter one must win.
    glyphs = {
        size: np.stack([np.full((size, size), b) for b in (0.5, 1.0)]) for size in (9, 10, 11)
    }
    generator = np.random.default_rng(0)
    images, labels = digits._compose(glyphs, np.arange(2), np.arange(2), 20, generator)
    for image, left, right in zip(images[..., 0], labels["left"], labels["right"], strict=True):
        assert image[1:4, 1:4].min() == image[1:4, 1:4].max() == (left + 1) / 2
        assert image[12:15, 12:15].min() == image[12:15, 12:15].max() == (right + 1) / 2
        assert not image[0:4, 12:].any()
        assert not image[12:, 0:4].any()
        assert image[7:9, 7:9].max() == (max(left, right) + 1) / 2


@pytest.mark.parametrize("name", ["num_train", "num_val", "num_test"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_numbers_must_be_positive(name, value):
    with pytest.raises(ValueError) as caught:
        load_multidigits(**{name: value})
    assert (
        str(caught.value)
        == f"`{name}` must be an integer of at least 1. Received: {name}={value!r}."
    )
