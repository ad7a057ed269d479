"""Where the TFDS folders of the real data sets are."""

import os
from pathlib import Path

from keras_mtl.optional import require

_VERSION = "1.0.0"


def find_folder(name, data_dir=None):
    """The folder `name/1.0.0` below `data_dir`, by default below `$KERAS_MTL_DATA/tfds`.

    Raises:
        FileNotFoundError: when there is none.
    """
    if data_dir is None:
        root = os.environ.get("KERAS_MTL_DATA")
        if not root:
            raise FileNotFoundError(
                "`data_dir` must be given where the environment variable KERAS_MTL_DATA is not "
                f"set. Received: data_dir=None. Pass the folder that contains `{name}`."
            )
        data_dir = Path(root) / "tfds"
    folder = Path(data_dir) / name / _VERSION
    if not (folder / "dataset_info.json").is_file():
        raise FileNotFoundError(
            f"`data_dir` must contain the TFDS folder `{name}/{_VERSION}`. "
            f"Received: data_dir={str(data_dir)!r}. Pass another `data_dir`, or set the "
            f"environment variable KERAS_MTL_DATA to the folder that contains `tfds/{name}`."
        )
    return folder


def open_folder(folder):
    """The TFDS builder of a folder, and the way to read it in one order."""
    # Optional for those who bring their own data, and slow to import.
    tfds = require("tensorflow_datasets", "keras_mtl.data", "data")

    # TFDS reads files in parallel and, unless told otherwise, decides on its own to cache.
    reading = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return tfds.builder_from_directory(str(folder)), reading
