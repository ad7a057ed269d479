"""FDU-MTL: reviews of sixteen domains, each a task with texts of its own."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_mtl.checks import check_count
from keras_mtl.data.tfds_folder import find_folder, open_folder

_FOLDER = "fdu_mtl_reviews"
_VAL_SHARE = 0.15
_SPLITS = ("train", "val", "train+val", "test")


def load_reviews(
    split: str,
    *,
    domains: Sequence[str] | None = None,
    data_dir: os.PathLike[str] | str | None = None,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Product and film reviews of 16 domains, positive or negative: one dataset per task.

    Every domain has 1,360 to 1,600 texts to train on and 400 test texts, cut to 128 tokens. A
    training text belongs to `"val"`, the rest to `"train"`, by a hash of the text and `seed`: about
    15 % of each domain. A text that occurs more than once (a twentieth do) is therefore never in
    both. Texts without a token are left out. The order is that of the source.

    Args:
        split: `"train"`, `"val"`, `"train+val"` or `"test"`.
        domains: list of names, such as `"books"`; by default all 16.
        data_dir: the folder that contains the TFDS folder `fdu_mtl_reviews`; by default
            `$KERAS_MTL_DATA/tfds`.
        seed: int. Fixes which texts are for validation.

    Returns:
        A dict from domain to `(texts, labels)`: an array of strings, lower case with spaces between
        tokens, and int32 labels, 1 for a positive review.

    Raises:
        ValueError: when an argument is out of range.
        FileNotFoundError: when the data are not there.

    Reference: [Adversarial Multi-task Learning for Text
        Classification](https://arxiv.org/abs/1704.05742), Section 5.1.
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("seed", seed, 0)  # none is drawn: two splits must agree
    builder, reading = open_folder(find_folder(_FOLDER, data_dir))
    known = builder.info.features["domain"].names
    domains = known if domains is None else domains
    if isinstance(domains, str) or not domains or not set(domains) <= set(known):
        raise ValueError(
            f"`domains` must be a list of names among {known}. Received: domains={domains!r}."
        )
    part = "test" if split == "test" else "train"
    dataset = builder.as_dataset(split=part, shuffle_files=False, read_config=reading)
    whole = next(dataset.batch(builder.info.splits[part].num_examples).as_numpy_iterator())
    kept = np.array([_belongs(text, split, seed) for text in whole["text"]])
    reviews = {}
    for domain in domains:
        chosen = np.flatnonzero(kept & (whole["domain"] == known.index(domain)))
        texts = np.array([text.decode() for text in whole["text"][chosen]])
        reviews[domain] = texts, whole["label"][chosen].astype("int32")
    return reviews


def tokenise(
    train: Mapping[str, tuple[Any, Any]],
    *others: Mapping[str, tuple[Any, Any]],
    vocabulary: int = 10_000,
    length: int = 128,
) -> list[dict[str, tuple[np.ndarray, Any]]]:
    """Reviews as numbers of their tokens, from the vocabulary of the training texts.

    Args:
        train: dict from domain to `(texts, labels)`, from `load_reviews`. Its most frequent tokens
            make the vocabulary, which all domains share.
        *others: more such dicts, for validation or test.
        vocabulary: int of at least 3. Largest number of different numbers, with 0 for padding and 1
            for tokens that are not in the vocabulary.
        length: positive int. Tokens of each text; longer ones are cut, shorter ones padded with 0.

    Returns:
        A list of dicts like `train` and `others` with int32 arrays of shape `(n, length)` for the
        texts.

    Raises:
        ValueError: when an argument is out of range.

    Example:

    >>> train = {"books": (np.array(["a good good book"]), np.array([1]))}
    >>> test = {"books": (np.array(["good grief"]), np.array([0]))}
    >>> _, found = keras_mtl.data.tokenise(train, test, length=4)
    >>> found["books"][0].tolist()
    [[2, 1, 0, 0]]
    """
    if vocabulary is True or not isinstance(vocabulary, (int, np.integer)) or vocabulary < 3:
        raise ValueError(
            f"`vocabulary` must be an integer of at least 3. Received: vocabulary={vocabulary!r}."
        )
    check_count("length", length)
    vectorise = keras.layers.TextVectorization(
        vocabulary, standardize=None, split="whitespace", output_sequence_length=length
    )
    vectorise.adapt(np.concatenate([texts for texts, _ in train.values()]))
    return [
        {
            domain: (np.asarray(vectorise(texts)).astype("int32"), labels)
            for domain, (texts, labels) in part.items()
        }
        for part in (train, *others)
    ]


def _belongs(text, split, seed):
    if not text.strip():
        return False
    if split not in ("train", "val"):
        return True
    digest = hashlib.blake2b(text, digest_size=4, key=str(seed).encode()).digest()
    return (int.from_bytes(digest) < _VAL_SHARE * 2**32) == (split == "val")
