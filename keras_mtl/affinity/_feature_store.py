"""Features of many images, kept until they can be compared: in memory, or in a temporary file."""

import tempfile

import numpy as np

WIDTH = 4096  # features of a slice
PART = 2**26  # bytes of the slices that are compared at a time, at least one


class FeatureStore:
    """Takes the features of batch after batch, and correlates those of all images.

    All locations share one temporary file, which is kept in memory until it exceeds `memory` bytes.
    A batch is written as slices of `WIDTH` features, so that one slice of all images can be read
    without the others.

    Args:
        locations: tuple of string, for messages.
        memory: int. Bytes.
    """

    def __init__(self, locations, memory):
        self._locations = locations
        # 0 would mean without limit there.
        self._file = tempfile.SpooledTemporaryFile(max_size=max(memory, 1))  # noqa: SIM115
        self._blocks = [{} for _ in locations]  # slice -> [(place in the file, images)]
        self._means = [[] for _ in locations]
        self._lengths = [[] for _ in locations]
        self._types = [None for _ in locations]
        self.images = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def add(self, features):
        """Keeps a batch: one array of shape `(batch, features)` for each location."""
        for d, batch in enumerate(features):
            if batch.dtype.kind != "f" or batch.dtype.itemsize < 4:
                batch = batch.astype("float64" if batch.dtype.kind in "iub" else "float32")
            self._types[d] = self._types[d] or batch.dtype
            if self._blocks[d] and batch.shape[1] != self._widths(d):
                raise ValueError(
                    f"`images` must have one size. Received: {self._widths(d)} and then "
                    f"{batch.shape[1]} features at location {self._locations[d]!r}."
                )
            for number, image in enumerate(batch):
                self._standardise(d, image, self.images + number)
            for start in range(0, batch.shape[1], WIDTH):
                part = np.ascontiguousarray(batch[:, start : start + WIDTH])
                self._blocks[d].setdefault(start, []).append((self._file.tell(), part.shape))
                self._file.write(part.data)
        self.images += len(features[0])

    def _widths(self, d):
        return sum(blocks[0][1][1] for blocks in self._blocks[d].values())

    def _standardise(self, d, image, number):
        """Notes mean and length of one image's features; length 0 where they are all equal."""
        if not np.isfinite(image).all():
            raise ValueError(
                f"`model` must give finite features. Received: NaN or infinite features of image "
                f"{number} at location {self._locations[d]!r}."
            )
        # Not by the length itself, which rounding would keep from 0.
        constant = image.size == 0 or image.min() == image.max()
        mean = 0.0 if constant else image.mean(dtype="float64")
        self._means[d].append(mean)
        self._lengths[d].append(0.0 if constant else np.linalg.norm(image.astype("float64") - mean))

    def num_slices(self):
        """How many slices all locations have together."""
        return sum(map(len, self._blocks))

    def correlation(self, d, done):
        """Pearson's correlations between all images at one location, `(images, images)`.

        Args:
            d: int. Number of the location.
            done: function, called with the number of slices after each few.
        """
        mean = np.array(self._means[d])[:, None]
        length = np.array(self._lengths[d])[:, None]
        scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
        total = np.zeros((self.images, self.images))
        starts = list(self._blocks[d])
        # Few images make small products, which would wait for one another's threads.
        step = max(1, PART // (8 * WIDTH * self.images))
        for first in range(0, len(starts), step):
            some = starts[first : first + step]
            part = np.concatenate([self._read(d, start) for start in some], axis=1)
            part -= mean
            part *= scale
            total += part @ part.T
            done(len(some))
        return total

    def _read(self, d, start):
        """One slice of the features of all images, as float64."""
        blocks = self._blocks[d][start]
        part = np.empty((self.images, blocks[0][1][1]))
        first = 0
        for place, shape in blocks:
            self._file.seek(place)
            data = self._file.read(shape[0] * shape[1] * self._types[d].itemsize)
            part[first : first + shape[0]] = np.frombuffer(data, self._types[d]).reshape(shape)
            first += shape[0]
        return part
