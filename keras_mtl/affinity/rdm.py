"""Representation dissimilarity: how differently a network sees each two of some images."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mtl.affinity._feature_store import FeatureStore
from keras_mtl.affinity._image_batches import image_batches
from keras_mtl.checks import check_names
from keras_mtl.graph.feature_model import feature_model


def representation_dissimilarity(
    model: keras.Model,
    images: Any,
    locations: Sequence[str],
    *,
    batch_size: int = 32,
    memory: int = 2**28,
    verbose: int = 1,
) -> np.ndarray:
    """Compares the features of every two images, at several locations of one network.

    `RDM[d, i, j] = 1 - ρ`, with ρ Pearson's correlation between the features of image i and of
    image j at location d, flattened. Features that are all equal have no correlation: ρ is 0 with
    all other images. Sums are float64, whatever the features. Values are rounded to 12 decimals:
    what is equal but for the order of a sum has one rank in `task_affinity`.

    The images pass the network once, in inference mode. Where their features take more than
    `memory` bytes, they go to a temporary file (in `tempfile.gettempdir()`, chosen by `TMPDIR`),
    which takes as much as the features, all locations together; it is deleted at the end.

    Args:
        model: a single-task model made by `keras_mtl.build`, or any functional `keras.Model`. It is
            left as it is.
        images: K held-out images, at least 2; the same ones in the same order for every task that
            is to be compared. An array, a dict or list of arrays by input, or a finite dataset of
            batches, which is read once; of a tuple `(x, y)`, the labels are left out.
        locations: sequence of str. Names of layers of the model (of `model.network`), whose output
            is compared; each called once, with one output. Where tasks have their own copies, a
            layer of the backbone is called `name.task`, in a nested model `model.name`; `name`
            alone will do where only one fits.
        batch_size: int. How many images of an array pass the network at a time.
        memory: int. How many bytes of features may be held in memory.
        verbose: 0 or 1. Whether to show progress.

    Returns:
        A float64 array of shape `(locations, K, K)` of values from 0 to 2: symmetric, with zeros on
        the diagonals.

    Raises:
        UnsupportedBackboneError: when the model's layers cannot be read.
        ValueError: when a location is not one layer, the images do not fit the model, or features
            are not finite.

    Example:

    >>> from keras_mtl.affinity import representation_dissimilarity
    >>> inputs = keras.Input((3,))
    >>> model = keras.Model(inputs, keras.layers.Rescaling(2.0, name="double")(inputs))
    >>> images = np.array([[1, 2, 3], [3, 2, 1], [10, 20, 30], [5, 5, 5]])
    >>> representation_dissimilarity(model, images, ["double"], verbose=0).tolist()
    [[[0.0, 2.0, 0.0, 1.0], [2.0, 0.0, 2.0, 1.0], [0.0, 2.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]]]

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Section 3.1.
    """
    locations = check_names("locations", locations if isinstance(locations, str) else [*locations])
    for name, value, least in (("batch_size", batch_size, 1), ("memory", memory, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}."
            )
    network = feature_model(model, locations)
    batches, number = image_batches(images, network.specs, batch_size)
    with FeatureStore(locations, memory) as store:
        bar = keras.utils.Progbar(number, verbose=verbose, unit_name="batch")
        for features in _features(network, batches, locations):
            store.add(features)
            bar.add(1)
        if store.images < 2:
            raise ValueError(
                f"`images` must be at least 2, to be compared. Received: {store.images}."
            )
        rdms = np.empty((len(locations), store.images, store.images))
        bar = keras.utils.Progbar(store.num_slices(), verbose=verbose, unit_name="slice")
        for d, rdm in enumerate(rdms):
            rdm[:] = _dissimilarity(store.correlation(d, bar.add))
        return rdms


def _features(network, batches, locations):
    """For each batch, a list of arrays `(batch, features)`, one for each location."""
    largest = 0
    for batch in batches:
        size = len(batch[0])
        if size == 0:
            continue
        largest = max(largest, size)
        # A smaller batch would be traced anew; in inference mode, images do not see each other.
        padded = [np.concatenate([x, np.repeat(x[-1:], largest - size, axis=0)]) for x in batch]
        features = [np.asarray(x) for x in network.predict_on_batch(padded)]
        for location, x in zip(locations, features, strict=True):
            if x.ndim == 0 or len(x) != largest:
                raise ValueError(
                    "`locations` must name layers that give features of each image. Received: "
                    f"{location!r}, which gives shape {x.shape} for {largest} images."
                )
        yield [x[:size].reshape(size, -1) for x in features]


def _dissimilarity(correlation):
    rdm = np.round(1.0 - np.clip(correlation, -1.0, 1.0), 12)
    rdm = np.maximum(rdm, rdm.T)
    np.fill_diagonal(rdm, 0.0)
    return rdm
