"""Lets tasks with data of their own take turns: every step is a batch of one task."""

from collections.abc import Mapping
from typing import Any, Literal

from keras_mtl.checks import check_count, check_not_negative, check_positive, check_seed
from keras_mtl.data.sampled_dataset import SAMPLINGS, SampledDataset
from keras_mtl.data.source import input_sets, task_sets


def sample_tasks(
    data: Mapping[str, Any],
    batch_size: int = 32,
    *,
    sampling: Literal["uniform", "proportional", "lagging"] = "uniform",
    steps_per_epoch: int | None = None,
    shuffle: bool = True,
    seed: int | None = 0,
    temperature: float = 0.3,
    bias: float = 0.15,
    decay: float = 0.99,
    shuffle_buffer: int = 10_000,
) -> SampledDataset:
    r"""Batches of one task at a time, for tasks with data of their own.

    For `fit` of a `MultiTaskModel` whose tasks have `inputs`. A step computes the path of its task
    alone and moves only what that task uses, with an optimizer that the task has for itself: the
    parameters, momenta and statistics of the others keep their values bit for bit. Learning-rate
    schedules go by the steps of all tasks. Every task's examples are read in rounds, all of them
    once before one comes again, however its turns are spread.

    Whose turn a step is, is drawn with the probabilities

    - `"uniform"`: the same for every task,
    - `"proportional"`: by the number of examples,
    - `"lagging"`: $p = \operatorname{softmax}(\log(1 - a + b) / T)$, so that tasks with a low
      training accuracy $a$ come more often. $a$ begins at 0, and after a step of the task with
      accuracy $a'$ becomes $decay · a + (1 - decay) · a'$.

    The model counts the steps and keeps the accuracies: they are saved with it, and a second `fit`
    goes on where the first one ended.

    Args:
        data: dict from the name of an input set to `(x, y)` or `(x, y, sample_weight)`, as
            `join_tasks` takes it.
        batch_size: positive int. Examples in a batch.
        sampling: `"uniform"`, `"proportional"` or `"lagging"`; the last needs tasks with the metric
            `"accuracy"`.
        steps_per_epoch: positive int; by default the number of batches that all sets have together.
        shuffle: bool. Whether to shuffle each task's examples anew in every round.
        seed: int. Fixes the turns and the order of the examples; `None` draws one, kept as `.seed`.
        temperature: positive float, T. The smaller, the more a lagging task is preferred.
        bias: positive float, b. Keeps tasks without an error in the game.
        decay: float from 0 to below 1. Of the running accuracy.
        shuffle_buffer: positive int. Examples of a `tf.data.Dataset` that are held for shuffling
            each task. Arrays are always shuffled completely.

    Returns:
        A `keras_mtl.data.SampledDataset`, for `fit`. For validation use `join_tasks(...,
        training=False)`, or pass `fit` the dict of data itself.

    Raises:
        TypeError: when a set has another layout.
        ValueError: when an argument is out of range, a set is empty or endless, its arrays differ
            in length, its order changes, or two sets have labels of one task.

    Example:

    >>> x = np.arange(5.0)[:, None]
    >>> data = {"books": (x, x), "music": (x[:2], x[:2])}
    >>> turns = keras_mtl.data.sample_tasks(data, batch_size=2, sampling="lagging")
    >>> turns
    <SampledDataset: 4 batches of 2 in an epoch, each of one task, sampling='lagging',
    {'books': 5, 'music': 2} examples, shuffle=True, seed=0>
    >>> chances = turns.probabilities({"books": 0.9, "music": 0.5})
    >>> {task: round(chance, 3) for task, chance in chances.items()}
    {'books': 0.04, 'music': 0.96}

    Reference: [Feature Partitioning for Efficient Multi-Task
        Architectures](https://arxiv.org/abs/1908.04339), the training curriculum.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"`sampling` must be one of {SAMPLINGS}. Received: sampling={sampling!r}.")
    check_count("batch_size", batch_size)
    check_count("steps_per_epoch", steps_per_epoch, optional=True)
    check_count("shuffle_buffer", shuffle_buffer)
    check_positive("temperature", temperature)
    check_positive("bias", bias)
    if check_not_negative("decay", decay) >= 1:
        raise ValueError(f"`decay` must be below 1. Received: decay={decay!r}.")
    if not isinstance(data, dict):
        raise TypeError(
            "`data` must be a dict from the name of an input set to `(x, y)`. "
            f"Received: data of type {type(data).__name__}."
        )
    sources = input_sets(data, "sample_tasks", shuffle_buffer=shuffle_buffer)
    return SampledDataset(
        {name: source.whole() for name, source in sources.items()},
        task_sets(sources),
        batch_size=batch_size,
        sampling=sampling,
        steps_per_epoch=steps_per_epoch,
        shuffle=shuffle,
        seed=check_seed(seed),
        temperature=temperature,
        bias=bias,
        decay=decay,
    )
