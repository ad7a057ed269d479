import numpy as np
import pytest

from keras_mtl.data import DOMAINS, join_tasks, load_domains

SMALL = ["textures", "sign_digits"]


def pictures(part):
    return {image.tobytes() for image in part[0]}


@pytest.mark.real_data
def test_pictures_and_labels():
    domains = load_domains("test")
    sizes = [1000, 1000, 1000, 1210, 413, 240, 500, 500, 1000]
    assert list(domains) == list(DOMAINS)
    assert [len(labels) for _, labels in domains.values()] == sizes
    for domain, (images, labels) in domains.items():
        assert images.shape == (len(labels), 32, 32, 3)
        assert images.dtype == "float32" and labels.dtype == "int32"
        assert 0 <= images.min() < 0.2 < 0.8 < images.max() <= 1
        assert set(labels) == set(range(DOMAINS[domain]))
    digits = domains["mnist"][0]
    np.testing.assert_array_equal(digits[..., 0], digits[..., 2])
    assert digits.mean() < 0.3 < domains["omniglot"][0].mean()  # bright on dark, dark on bright


@pytest.mark.real_data
def test_no_picture_is_in_two_parts():
    parts = {s: load_domains(s, domains=SMALL) for s in ("train", "val", "train+val", "test")}
    for domain in SMALL:
        train, val, both, test = (part[domain] for part in parts.values())
        assert not pictures(train) & pictures(val)
        assert not pictures(both) & pictures(test)
        assert pictures(train) | pictures(val) == pictures(both)
        assert len(train[1]) + len(val[1]) == len(both[1])
        assert 0.12 < len(val[1]) / len(both[1]) < 0.18
        assert set(val[1]) == set(range(10))


@pytest.mark.real_data
def test_seed_limit_and_batches():
    again, other = (load_domains("val", domains=SMALL, seed=seed) for seed in (0, 1))
    first = load_domains("val", domains=SMALL, limit=7)
    for domain in SMALL:
        for part, whole in zip(first[domain], again[domain], strict=True):
            np.testing.assert_array_equal(part, whole[:7])
        assert pictures(again[domain]) != pictures(other[domain])
    x, y = next(iter(join_tasks(first, batch_size=4)))
    assert {name: image.shape for name, image in x.items()} == dict.fromkeys(SMALL, (4, 32, 32, 3))
    assert sorted(y) == sorted(SMALL)


def message(call, kind=ValueError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_wrong_arguments(tmp_path):
    assert message(lambda: load_domains("validation")) == (
        "`split` must be one of ('train', 'val', 'train+val', 'test'). "
        "Received: split='validation'."
    )
    assert message(lambda: load_domains("test", limit=0)) == (
        "`limit` must be an integer of at least 1 or None. Received: limit=0."
    )
    for domains in ([], "mnist", ["mnist", "imagenet"]):
        assert message(lambda names=domains: load_domains("test", domains=names)) == (
            f"`domains` must be a list of names among {list(DOMAINS)}. "
            f"Received: domains={domains!r}."
        )
    assert message(
        lambda: load_domains("test", domains=["mnist"], data_dir=tmp_path), FileNotFoundError
    ).startswith("`data_dir` must contain the TFDS folder `domains32_mnist/1.0.0`. ")
