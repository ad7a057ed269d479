"""Clothes: six properties of one small photograph, or 26 attributes."""

import os

import numpy as np

from keras_mtl.checks import check_count
from keras_mtl.data.tfds_folder import find_folder, open_folder

_FOLDER = "fashion_attributes_small"
_GROUPS = ("pattern", "sleeve", "length", "neckline", "fabric", "fit")
_VAL_SHARE = 0.15
_SPLITS = ("train", "val", "train+val", "test")


def load_attributes(
    split: str,
    *,
    data_dir: os.PathLike[str] | str | None = None,
    binary: bool = False,
    limit: int | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """6,000 photographs of clothes at 56×56 pixels, with six tasks or 26.

    The training part has 5,000 photographs; its last 15 % are `"val"`, the rest `"train"`.
    `"train+val"` is the whole of it. Photographs come in the same order every time.

    Args:
        split: `"train"`, `"val"`, `"train+val"` or `"test"`.
        data_dir: the folder that contains the TFDS folder `fashion_attributes_small`; by default
            `$KERAS_MTL_DATA/tfds`.
        binary: bool. Whether every one of the 26 attributes is a task of its own (is it there?), or
            their groups are: pattern, sleeve, length, neckline, fabric and fit, of which each
            photograph has one attribute.
        limit: positive int. The number of first photographs to use; by default all.

    Returns:
        `(images, labels)`. `images` is float32 of shape `(n, 56, 56, 3)` between 0 and 1. `labels`
        maps a group to int32 classes of shape `(n,)`, or an attribute to float32 0 or 1 of shape
        `(n, 1)`.

    Raises:
        ValueError: when an argument is out of range.
        FileNotFoundError: when the data are not there.
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("limit", limit, optional=True)
    builder, reading = open_folder(find_folder(_FOLDER, data_dir))
    size = builder.info.splits["train"].num_examples
    kept = size - round(_VAL_SHARE * size)
    part = {"train": f"train[:{kept}]", "val": f"train[{kept}:]", "train+val": "train"}
    dataset = builder.as_dataset(
        split=part.get(split, split), shuffle_files=False, read_config=reading
    )
    dataset = dataset if limit is None else dataset.take(limit)
    examples = list(dataset.as_numpy_iterator())
    images = np.stack([example["image"] for example in examples]).astype("float32") / 255.0
    classes = {name: np.array([x[name] for x in examples], "int32") for name in _GROUPS}
    if not binary:
        return images, classes
    return images, {
        attribute: (classes[group] == number).astype("float32")[:, None]
        for group in _GROUPS
        for number, attribute in enumerate(builder.info.features[group].names)
    }
