"""What a training, a search and an answer cost: work by FLOPs, and times side by side."""

import time

import keras
import numpy as np
from training_log import feed, num_batches

from keras_mtl.assembly import count
from keras_mtl.models.derive import with_heads

WARM, REPEATS = 3, 30  # answers of every network before it is timed, and those that are


def examples_seen(setup, only=None):
    """Examples that one training reads; of data of several input sets, of all of them together."""
    fed = feed(setup, setup.train, only, setup.batch_size, training=True)
    return setup.epochs * num_batches(fed) * setup.batch_size


def training_work(setup, flops, only=None):
    """FLOPs of all forward passes of a training; backward ones cost twice as much in every row."""
    return flops * examples_seen(setup, only)


def search_work(setup, search):
    """The same of a search: of every update, what the phase that its step is in computes."""
    steps = len(setup.search_data())
    plan = search.search.plan(setup.search_epochs, steps)
    known, total = {}, 0
    for step in range(setup.search_epochs * steps):
        phase = plan.phase(step)
        if phase.structure not in known:
            known[phase.structure] = phase_flops(search, phase)
        total += len(phase.updates) * setup.batch_size * known[phase.structure]
    return total


def phase_flops(search, phase):
    """FLOPs of one example in one update of a search, heads included."""
    resolve = search.search.resolve(phase, None)
    found = count(search.graph, search.units, search.input_sets, resolve, search.search.fusions)
    return with_heads(found.costs, search.graph, search.heads)["flops"]["together"]


def latencies(models, x, *, batches=(1, 8)):
    """Seconds of an answer of every model, in turn, so that a slow moment hits all of them.

    Args:
        models: dict from name to a model of keras_mtl.
        x: array of examples, or a dict of them by input set.
        batches: sizes of the batches.

    Returns:
        A dict from name to a dict from the size (as a string) to seconds.
    """
    import tensorflow as tf

    functions = {
        name: tf.function(lambda given, model=model: model.network(given, training=False))
        for name, model in models.items()
    }
    found = {name: {} for name in models}
    for size in batches:
        given = keras.tree.map_structure(lambda array, n=size: tf.constant(array[:n]), x)
        seconds = {name: [] for name in models}
        for turn in range(WARM + REPEATS):
            for name, function in functions.items():
                begun = time.perf_counter()
                for answer in function(given).values():
                    answer.numpy()
                if turn >= WARM:
                    seconds[name].append(time.perf_counter() - begun)
        for name, values in seconds.items():
            found[name][str(size)] = float(np.median(values))
    return found
