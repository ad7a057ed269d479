"""Feature partitioning: which channels every task uses, searched by distillation or drawn."""

import numpy as np
from training_log import feed, num_batches, write

import keras_mtl
from keras_mtl.models import DistillationProxy
from keras_mtl.partition import PartitionSpace
from keras_mtl.strategies import FeaturePartition
from keras_mtl.tuners import PartitionTuner

TRIALS = 8  # scored partitions for each candidate that is trained


def strategy(partition, seed):
    """Masks after every other operator; nothing is frozen, since nothing has been trained."""
    return FeaturePartition.of(partition, frozen=0, seed=seed)


def space(setup):
    """All forward matrices; with one step for all tasks there is no one to be masked backward."""
    return PartitionSpace([task.name for task in setup.tasks], backward=False)


def plan(setup, partition):
    """The masks of a partition."""
    return keras_mtl.plan(
        setup.backbone, setup.tasks, strategy(partition, setup.seed), seed=setup.seed
    )


def drawn(setup):
    """As many random partitions as there are candidates."""
    generator, points = np.random.default_rng(setup.seed), space(setup)
    return [points.partition(points.draw(generator)) for _ in range(setup.samples)]


def evolved(seed, title):
    """The partitions with the best scores, what scoring took in seconds, and its FLOPs.

    A score is what distilling the single-task networks into the masked network comes to in the
    steps of two epochs of one task, from the first weights of all methods.
    """
    setup, log = seed.setup, seed.log
    task = setup.tasks[0]
    steps = 2 * num_batches(feed(setup, setup.train, task, setup.batch_size, training=True))
    proxy = DistillationProxy(
        setup.backbone,
        setup.tasks,
        log.single_models,
        frozen=0,
        steps=steps,
        batch_size=setup.batch_size,
        learning_rate=0.1,
        seed=setup.seed,
    )
    proxy.prepare(arrays(setup.train), arrays(setup.validation))
    trials = TRIALS * setup.samples
    directions = max(1, trials // 8)
    tuner = PartitionTuner(
        lambda partition, run: proxy.score(plan(setup, partition), seed=run.seed),
        space(setup),
        max_trials=trials,
        starts=trials // 2,
        directions=directions,
        kept=max(1, directions // 2),
        seed=setup.seed,
        directory=setup.folder,
        project_name="partitions",
    )
    log.title(f"{title} search")
    tuner.search(verbose=0)
    write(f"{trials} partitions")
    log.close("search")
    results = tuner.results()
    best = sorted(
        (row for row in results if row.score is not None), key=lambda row: row.score, reverse=True
    )
    single = np.mean(list(log.baseline["flops"].values()))
    return (
        [row.partition for row in best[: setup.samples]],
        sum(row.seconds for row in results),
        trials * steps * setup.batch_size * single,
    )


def arrays(data):
    """Examples as arrays: a dataset of batches is read to its end."""
    if isinstance(data, (tuple, dict)):
        return data
    batches = [(np.asarray(x), {k: np.asarray(v) for k, v in y.items()}) for x, y in data]
    images = np.concatenate([x for x, _ in batches])
    return images, {k: np.concatenate([y[k] for _, y in batches]) for k in batches[0][1]}


def no_partition(setup):
    """Why there is nothing to partition, or `None`."""
    if len(setup.backbone.inputs) > 1:
        return "The distillation that scores partitions reads networks with one input."
    try:
        plan(setup, drawn(setup)[0])
    except ValueError as error:
        return str(error)
    return None
