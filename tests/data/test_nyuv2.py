import numpy as np
import pytest

from keras_mtl.data import load_nyuv2


@pytest.mark.real_data
def test_one_example():
    image, labels = next(iter(load_nyuv2("train", limit=1)))
    assert image.shape == (96, 128, 3)
    assert image.dtype == "float32"
    assert 0.0 <= image.numpy().min() < 0.2 < image.numpy().max() <= 1.0

    assert sorted(labels) == ["depth", "normals", "segmentation"]
    assert labels["segmentation"].shape == (96, 128)
    assert labels["segmentation"].dtype == "int32"
    assert set(np.unique(labels["segmentation"])) <= {*range(13), 255}

    assert labels["depth"].shape == (96, 128, 1)
    assert labels["depth"].dtype == "float32"
    assert 0.5 < np.nanmin(labels["depth"]) < np.nanmax(labels["depth"]) < 10.0

    assert labels["normals"].shape == (96, 128, 3)
    assert labels["normals"].dtype == "float32"
    np.testing.assert_allclose(np.linalg.norm(labels["normals"], axis=-1), 1.0, atol=1e-5)
    assert np.mean(labels["normals"][..., 2]) < 0.0


@pytest.mark.real_data
def test_splits():
    sizes = {split: int(load_nyuv2(split).cardinality()) for split in ("train", "val", "test")}
    assert sizes == {"train": 676, "val": 119, "test": 654}
    assert int(load_nyuv2("train+val").cardinality()) == 795

    whole = [float(image[0, 0, 0]) for image, _ in load_nyuv2("train+val")]
    parts = [float(image[0, 0, 0]) for split in ("train", "val") for image, _ in load_nyuv2(split)]
    assert whole == parts


@pytest.mark.real_data
def test_batches_and_limit():
    dataset = load_nyuv2("test", batch_size=4, limit=6, cache=True)
    first, second = (list(dataset) for _ in range(2))
    assert [image.shape for image, _ in first] == [(4, 96, 128, 3), (2, 96, 128, 3)]
    for (image, labels), (image_again, labels_again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(labels["depth"], labels_again["depth"])


@pytest.mark.real_data
def test_forty_classes():
    seen = [np.unique(labels["segmentation"]) for _, labels in load_nyuv2("val", classes=40)]
    assert set(np.concatenate(seen)) == {*range(40), 255}


def test_missing_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        load_nyuv2("train", data_dir=tmp_path)
    assert str(caught.value) == (
        "`data_dir` must contain the TFDS folder `nyuv2_small/1.0.0`. "
        f"Received: data_dir={str(tmp_path)!r}. Pass another `data_dir`, or set the "
        "environment variable KERAS_MTL_DATA to the folder that contains `tfds/nyuv2_small`."
    )
    monkeypatch.delenv("KERAS_MTL_DATA", raising=False)
    with pytest.raises(FileNotFoundError) as caught:
        load_nyuv2("train")
    assert str(caught.value) == (
        "`data_dir` must be given where the environment variable KERAS_MTL_DATA is not set. "
        "Received: data_dir=None. Pass the folder that contains `nyuv2_small`."
    )


def test_wrong_arguments():
    def message(*args, **kwargs):
        with pytest.raises(ValueError) as caught:
            load_nyuv2(*args, **kwargs)
        return str(caught.value)

    assert message("validation") == (
        "`split` must be one of ('train', 'val', 'train+val', 'test'). "
        "Received: split='validation'."
    )
    assert message("train", classes=20) == "`classes` must be 13 or 40. Received: classes=20."
    for name in ("batch_size", "limit"):
        assert message("train", **{name: 0}) == (
            f"`{name}` must be an integer of at least 1 or None. Received: {name}=0."
        )
