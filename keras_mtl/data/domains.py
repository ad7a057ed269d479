"""Nine small image classification sets, each a task with pictures of its own."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from keras_mtl.checks import check_count
from keras_mtl.data.tfds_folder import find_folder, open_folder

DOMAINS = {
    "mnist": 10,
    "cifar10": 10,
    "gtsrb": 43,
    "omniglot": 242,
    "sign_digits": 10,
    "textures": 10,
    "flowers": 5,
    "natural": 8,
    "expressions": 6,
}
_VAL_SHARE = 0.15
_SPLITS = ("train", "val", "train+val", "test")


def load_domains(
    split: str,
    *,
    domains: Sequence[str] | None = None,
    data_dir: os.PathLike[str] | str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Nine domains of 32×32 pictures with classes of their own: one dataset per task.

    In the manner of the Visual Decathlon, but small enough for a laptop:

    | domain | classes | train + val | test | pictures |
    |---|---|---|---|---|
    | `mnist` | 10 | 5000 | 1000 | handwritten digits |
    | `cifar10` | 10 | 3000 | 1000 | objects and animals |
    | `gtsrb` | 43 | 2500 | 1000 | traffic signs |
    | `omniglot` | 242 | 3630 | 1210 | handwritten characters of 8 alphabets |
    | `sign_digits` | 10 | 1649 | 413 | hands that sign 0 to 9 |
    | `textures` | 10 | 960 | 240 | describable textures |
    | `flowers` | 5 | 2000 | 500 | flowers |
    | `natural` | 8 | 1499 | 500 | vehicles, animals, fruit, persons |
    | `expressions` | 6 | 2988 | 1000 | faces |

    A training picture belongs to `"val"`, the rest to `"train"`, by a hash of the picture and
    `seed`: about 15 % of each domain, and a picture that occurs twice is never in both. (Other
    photographs of one traffic sign, or of one hand, may be.) The order is always the same.

    Args:
        split: `"train"`, `"val"`, `"train+val"` or `"test"`.
        domains: list of names of the table; by default all nine.
        data_dir: the folder that contains the TFDS folders `domains32_mnist` and so on; by default
            `$KERAS_MTL_DATA/tfds`.
        limit: positive int. The number of first pictures to use of each domain; by default all.
        seed: int. Fixes which pictures are for validation.

    Returns:
        A dict from domain to `(images, labels)`: float32 of shape `(n, 32, 32, 3)` between 0 and 1,
        and int32 classes of shape `(n,)`. The numbers of classes are in
        `keras_mtl.data.DOMAINS`.

    Raises:
        ValueError: when an argument is out of range.
        FileNotFoundError: when the data are not there.

    Example:

    >>> keras_mtl.data.DOMAINS["gtsrb"]
    43

    Reference: [Learning multiple visual domains with residual
        adapters](https://arxiv.org/abs/1705.08045), Section 4 (Visual Decathlon).
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("limit", limit, optional=True)
    check_count("seed", seed, 0)  # none is drawn: two splits must agree
    domains = list(DOMAINS) if domains is None else domains
    if isinstance(domains, str) or not domains or not set(domains) <= set(DOMAINS):
        raise ValueError(
            f"`domains` must be a list of names among {list(DOMAINS)}. "
            f"Received: domains={domains!r}."
        )
    folders = {domain: find_folder(f"domains32_{domain}", data_dir) for domain in domains}
    return {domain: _load(folder, split, limit, seed) for domain, folder in folders.items()}


def _load(folder, split, limit, seed):
    builder, reading = open_folder(folder)
    part = "test" if split == "test" else "train"
    dataset = builder.as_dataset(split=part, shuffle_files=False, read_config=reading)
    images, labels = [], []
    for example in dataset.as_numpy_iterator():
        if len(images) != limit and _belongs(example["image"], split, seed):
            images.append(example["image"])
            labels.append(example["label"])
    return np.stack(images).astype("float32") / 255.0, np.array(labels, "int32")


def _belongs(image, split, seed):
    if split not in ("train", "val"):
        return True
    digest = hashlib.blake2b(image.tobytes(), digest_size=4, key=str(seed).encode()).digest()
    return (int.from_bytes(digest) < _VAL_SHARE * 2**32) == (split == "val")
