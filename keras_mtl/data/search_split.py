"""Splits training data into the part for the weights and the part for the policy."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.checks import check_count, check_seed
from keras_mtl.data.search_dataset import SearchDataset
from keras_mtl.data.source import Source, input_sets, task_sets


def search_split(
    data: Any,
    policy_fraction: float = 0.5,
    *,
    mixed: bool = False,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | None = 0,
    shuffle_buffer: int = 10_000,
) -> SearchDataset:
    """Splits examples into a half for the weights and one for the policy of a search model.

    Gates that are trained on the examples that the weights have fitted choose too much capacity,
    so a search trains its two variable groups on disjoint examples. The split goes by the number
    of an example and is spread evenly: example `i` belongs to the policy half where
    `floor((i + 1) * policy_fraction) > floor(i * policy_fraction)`. It does not depend on `seed`.

    A `tf.data.Dataset` is read as a stream and never held in memory: in an epoch once for the
    weights and once for each round of the policy half, so `.cache()` it where reading is slow.
    Its order must be the same every time. Leave shuffling to this function and random
    augmentation to layers of the model.

    Args:
        data: tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or a finite `tf.data.Dataset`
            of batches of that layout. `x` is an array or a dict of arrays, `y` a dict from task
            name to array, or an array where the model has one task. Missing labels (NaN, an ignored
            value) pass through. Where tasks have their own data, a dict from the name of an input
            set to such data, as `join_tasks` takes it: every set is split by the same rule.
        policy_fraction: float strictly between 0 and 1. Share of the examples for the policy.
        mixed: bool. Whether both see all examples instead, each in an order of its own; an epoch is
            as long as without. For a search whose weights are kept, such as that of `MTLNAS`, whose
            authors draw the halves anew in every epoch.
        batch_size: positive int. Examples in a batch of either half, of each input set; by
            default 32, and for a single `tf.data.Dataset` the size of its first batch.
        shuffle: bool. Whether to shuffle both halves anew in every epoch.
        seed: int. Fixes the order of the batches; `None` draws one, kept as `.seed`.
        shuffle_buffer: positive int. Examples of a `tf.data.Dataset` that are held for shuffling
            each half. Arrays are always shuffled completely.

    Returns:
        A `keras_mtl.data.SearchDataset`.

    Raises:
        TypeError: when `data` has another layout.
        ValueError: when an argument is out of range, `data` is empty or endless, its arrays
            differ in length, its order changes, one half would have no example, or two input sets
            have labels of one task.

    Example:

    >>> x, y = np.zeros((100, 8, 8, 3)), {"a": np.zeros(100), "b": np.zeros(100)}
    >>> keras_mtl.data.search_split((x, y), policy_fraction=0.2, batch_size=16)
    <SearchDataset: 5 batches of 16, 80 examples for the weights, 20 for the policy, \
shuffle=True, seed=0>
    """
    if not isinstance(policy_fraction, (float, np.floating)) or not 0.0 < policy_fraction < 1.0:
        raise ValueError(
            "`policy_fraction` must lie strictly between 0 and 1. "
            f"Received: policy_fraction={policy_fraction!r}."
        )
    if batch_size is not None:
        check_count("batch_size", batch_size)
    check_count("shuffle_buffer", shuffle_buffer)
    seed = check_seed(seed)

    def in_policy(index):
        index = tf.cast(index, "float64")
        fraction = tf.constant(policy_fraction, "float64")
        return tf.floor((index + 1.0) * fraction) > tf.floor(index * fraction)

    def in_weights(index):
        return ~in_policy(index)

    if isinstance(data, dict):
        sources = input_sets(data, "search_split", shuffle_buffer=shuffle_buffer)
    else:
        sources = Source(data, "search_split", shuffle_buffer=shuffle_buffer)
        batch_size = batch_size or sources.batch_size

    def half(source, belongs):
        if mixed:
            return source.whole()
        found = source.half(belongs)
        if found.size in (0, source.size):
            where = "" if sources is source else f" in `{source.where}`"
            raise ValueError(
                "`policy_fraction` must leave at least one example for the weights and one for the "
                f"policy. Received: policy_fraction={policy_fraction!r} with {source.size} "
                f"examples{where}."
            )
        return found

    split = SearchDataset(
        keras.tree.map_structure(lambda source: half(source, in_weights), sources),
        keras.tree.map_structure(lambda source: half(source, in_policy), sources),
        batch_size=batch_size or 32,
        shuffle=shuffle,
        seed=seed,
        share=1.0 - policy_fraction if mixed else 1.0,
    )
    split.task_sets = task_sets(sources) if isinstance(data, dict) else None
    return split
