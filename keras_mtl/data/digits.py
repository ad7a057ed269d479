"""Two overlapping handwritten digits in one image: three tasks without a download."""

import numpy as np
from scipy import ndimage

from keras_mtl.checks import check_count, check_seed
from keras_mtl.optional import require

_CANVAS = 16
_SIZES = (9, 10, 11)
_JITTER = 1
_SOURCE_SHARES = (0.7, 0.15, 0.15)


def load_multidigits(
    num_train: int = 6000, num_val: int = 1000, num_test: int = 1000, *, seed: int = 0
) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Pictures of two overlapping digits, in the manner of MultiMNIST.

    scikit-learn's 1,797 handwritten digits of 8×8 pixels are divided into training, validation
    and test digits first, so no handwritten digit occurs in two parts. A picture shows two of
    them, enlarged to 9 to 11 pixels: one in the upper left corner, one in the lower right one,
    each moved by up to one pixel. Where they overlap the brighter pixel wins.

    The three tasks are the left digit (10 classes), the right digit (10 classes) and their sum
    (19 classes).

    Args:
        num_train: positive int. Number of training pictures.
        num_val: positive int. Number of validation pictures.
        num_test: positive int. Number of test pictures.
        seed: int. Fixes the division of the digits and all pictures.

    Returns:
        A dict with `"train"`, `"val"` and `"test"`; each is a tuple of float32 images of shape
        `(n, 16, 16, 1)` between 0 and 1 and a dict from `"left"`, `"right"` and `"sum"` to int32
        labels of shape `(n,)`.

    Raises:
        ImportError: without scikit-learn, which `pip install "keras_mtl[data]"` brings.
        ValueError: when a number of pictures is not a positive integer.

    Example:

    >>> digits = keras_mtl.data.load_multidigits(num_train=100, num_val=10, num_test=10)
    >>> images, labels = digits["train"]
    >>> images.shape, sorted(labels)
    ((100, 16, 16, 1), ['left', 'right', 'sum'])

    Reference: [Dynamic Routing Between Capsules](https://arxiv.org/abs/1710.09829), Section 6
        (MultiMNIST).
    """
    counts = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    for name, count in counts.items():
        check_count(name, count)

    # Optional for those who bring their own data, and slow to import.
    datasets = require("sklearn.datasets", "keras_mtl.data.load_multidigits", "data")
    source = datasets.load_digits()
    glyphs = {
        size: np.clip(ndimage.zoom(source.images / 16.0, (1, size / 8, size / 8), order=1), 0, 1)
        for size in _SIZES
    }
    generator = np.random.default_rng(check_seed(seed))
    order = generator.permutation(len(source.target))
    bounds = np.cumsum(np.multiply(_SOURCE_SHARES, len(order)).astype(int))[:-1]
    return {
        part: _compose(glyphs, source.target, digits, count, generator)
        for part, digits, count in zip(
            ("train", "val", "test"), np.split(order, bounds), counts.values(), strict=True
        )
    }


def _compose(glyphs, classes, digits, count, generator):
    """`count` pictures of two of `digits`, which number the handwritten digits to choose from."""
    pairs = generator.choice(digits, (count, 2))
    sizes = generator.choice(_SIZES, (count, 2))
    shifts = generator.integers(0, _JITTER + 1, (count, 2, 2))
    images = np.zeros((count, _CANVAS, _CANVAS, 1), "float32")
    for image, (first, second), (size, other), shift in zip(
        images[..., 0], pairs, sizes, shifts, strict=True
    ):
        row, column = shift[0]
        image[row : row + size, column : column + size] = glyphs[size][first]
        row, column = _CANVAS - other - shift[1]
        corner = image[row : row + other, column : column + other]
        np.maximum(corner, glyphs[other][second], out=corner)
    left, right = classes[pairs].astype("int32").T
    return images, {"left": left, "right": right, "sum": left + right}
