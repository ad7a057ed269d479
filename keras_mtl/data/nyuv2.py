"""NYU Depth V2 in small pictures: segmentation, depth and surface normals."""

import os
from typing import Literal

import tensorflow as tf

from keras_mtl.checks import check_count
from keras_mtl.data.tfds_folder import find_folder, open_folder

_FOLDER = "nyuv2_small"
_VAL_SHARE = 0.15
_SPLITS = ("train", "val", "train+val", "test")
_SEGMENTATION = {13: "segmentation_13", 40: "segmentation"}


def load_nyuv2(
    split: str,
    *,
    data_dir: os.PathLike[str] | str | None = None,
    classes: Literal[13, 40] = 13,
    batch_size: int | None = None,
    limit: int | None = None,
    cache: bool = False,
) -> tf.data.Dataset:
    """The 1,449 labelled pictures of NYU Depth V2 at 96×128 pixels, with three dense tasks.

    The official training part has 795 pictures; its last 15 % are `"val"`, the rest `"train"`.
    `"train+val"` is the whole of it and `"test"` the official test part of 654. Pictures come in
    the same order every time.

    Args:
        split: `"train"`, `"val"`, `"train+val"` or `"test"`.
        data_dir: the folder that contains the TFDS folder `nyuv2_small`; by default
            `$KERAS_MTL_DATA/tfds`.
        classes: 13 or 40. The set of segmentation classes.
        batch_size: positive int, or `None` for single pictures.
        limit: positive int. The number of first pictures to use; by default all.
        cache: bool. Whether to keep the decoded pictures in memory (0.4 MB each) once read.

    Returns:
        A `tf.data.Dataset` of `(image, labels)`. `image` is float32 of shape `(96, 128, 3)`
        between 0 and 1. `labels` has `"segmentation"`, int32 of shape `(96, 128)` where 255 is
        ignored; `"depth"`, metres in float32 of shape `(96, 128, 1)`, NaN where missing; and
        `"normals"`, float32 unit vectors of shape `(96, 128, 3)`.

    Raises:
        ValueError: when an argument is out of range.
        FileNotFoundError: when the data are not there.

    Reference: [Indoor Segmentation and Support Inference from RGBD
        Images](https://cs.nyu.edu/~fergus/papers/indoor_seg_support.pdf).
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    if classes not in _SEGMENTATION:
        raise ValueError(f"`classes` must be 13 or 40. Received: classes={classes!r}.")
    check_count("batch_size", batch_size, optional=True)
    check_count("limit", limit, optional=True)
    builder, reading = open_folder(find_folder(_FOLDER, data_dir))
    num_official = builder.info.splits["train"].num_examples
    num_train = num_official - round(_VAL_SHARE * num_official)
    part = {
        "train": f"train[:{num_train}]",
        "val": f"train[{num_train}:]",
        "train+val": "train",
        "test": "test",
    }[split]
    dataset = builder.as_dataset(split=part, shuffle_files=False, read_config=reading)
    if limit is not None:
        dataset = dataset.take(limit)
    dataset = dataset.map(
        lambda example: _convert(example, _SEGMENTATION[classes]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if cache:
        dataset = dataset.cache()
    if batch_size is not None:
        dataset = dataset.batch(batch_size)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _convert(example, segmentation):
    millimetres = tf.cast(example["depth"], "float32")
    # A byte v stands for the component v / 124 - 1, rounded: hence the normalisation.
    normals = tf.cast(example["normal"], "float32") / 124.0 - 1.0
    return tf.cast(example["image"], "float32") / 255.0, {
        "segmentation": tf.cast(example[segmentation], "int32")[..., 0],
        "depth": tf.where(millimetres > 0, millimetres / 1000.0, float("nan")),
        "normals": tf.math.l2_normalize(normals, axis=-1),
    }
