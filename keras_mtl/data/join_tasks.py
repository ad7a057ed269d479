"""Joins the data of tasks that have their own into batches of all of them."""

from collections.abc import Mapping
from typing import Any

from keras_mtl.checks import check_count, check_seed
from keras_mtl.data.joined_dataset import JoinedDataset
from keras_mtl.data.joined_pass import JoinedPass
from keras_mtl.data.source import input_sets, task_sets


def join_tasks(
    data: Mapping[str, Any],
    batch_size: int = 32,
    *,
    shuffle: bool = True,
    seed: int | None = 0,
    training: bool = True,
    shuffle_buffer: int = 10_000,
) -> JoinedDataset | JoinedPass:
    """Batches of every input set at once, for tasks with data of their own.

    `Task(..., inputs="books")` names the set that a task reads. In training every step has one full
    batch of every set; smaller sets go round more often than the largest, each of their examples as
    often as any other of the set. For validation and test (`training=False`) every example comes
    exactly once, in source order; where a shorter set has ended its rows are repeats with sample
    weight 0, which no loss and no metric counts.

    Args:
        data: dict from the name of an input set to `(x, y)` or `(x, y, sample_weight)`, arrays or
            a finite `tf.data.Dataset` of batches of that layout. `x` is an array, or a dict or
            list of arrays. `y` is an array, the labels of the task that is named like the set, or
            a dict from task name to array where several tasks read the set. `sample_weight` is an
            array for all tasks of the set, or a dict from task name; tasks without one have 1. A
            dataset must have the same order every time it is read.
        batch_size: positive int. Examples of each set in a batch.
        shuffle: bool. Whether to shuffle each set anew in every round of training.
        seed: int. Fixes the order of the batches; `None` draws one, kept as `.seed`.
        training: bool. Whether batches are for training, or one pass for validation or test.
        shuffle_buffer: positive int. Examples of a `tf.data.Dataset` that are held for shuffling
            each set. Arrays are always shuffled completely.

    Returns:
        For training a `keras_mtl.data.JoinedDataset` of `({set: x}, {task: y})`, with a third part
        `{task: sample_weight}` where any set has it. Otherwise a `keras_mtl.data.JoinedPass` of
        `({set: x}, {task: y}, {task: sample_weight})`. `fit`, `evaluate` and `predict` of a model
        also take the dict itself.

    Raises:
        TypeError: when a set has another layout.
        ValueError: when an argument is out of range, a set is empty or endless, its arrays differ
            in length, its order changes, or two sets have labels of one task.

    Example:

    >>> x = np.arange(5.0)[:, None]
    >>> data = {"books": (x, x), "music": (x[:2], {"mood": x[:2], "pace": x[:2]})}
    >>> keras_mtl.data.join_tasks(data, batch_size=2)
    <JoinedDataset: 3 batches of 2 from each set, {'books': 5, 'music': 2} examples, \
shuffle=True, seed=0>
    >>> for x, y, w in keras_mtl.data.join_tasks(data, batch_size=2, training=False):
    ...     print(sorted(y), w["books"].numpy().tolist(), w["mood"].numpy().tolist())
    ['books', 'mood', 'pace'] [1.0, 1.0] [1.0, 1.0]
    ['books', 'mood', 'pace'] [1.0, 1.0] [0.0, 0.0]
    ['books', 'mood', 'pace'] [1.0, 0.0] [0.0, 0.0]
    """
    check_count("batch_size", batch_size)
    check_count("shuffle_buffer", shuffle_buffer)
    seed = check_seed(seed)
    if not isinstance(data, dict):
        raise TypeError(
            "`data` must be a dict from the name of an input set to `(x, y)`. "
            f"Received: data of type {type(data).__name__}. "
            "Data with one input for all tasks need no joining."
        )
    sources = input_sets(data, "join_tasks", shuffle_buffer=shuffle_buffer)
    examples = {name: source.whole() for name, source in sources.items()}
    if training:
        joined = JoinedDataset(examples, batch_size=batch_size, shuffle=shuffle, seed=seed)
        joined.task_sets = task_sets(sources)
        return joined
    return JoinedPass(examples, task_sets(sources), batch_size=batch_size)
