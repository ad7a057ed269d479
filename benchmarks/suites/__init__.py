"""The suites: what each loads, its backbone and its budget.

A suite is a module with

* `TITLE`: a line for people;
* `experiment(seed, folder, quick)`: the `protocol.Experiment`; its `strategies` hold the settings
  of the methods whose defaults do not fit;
* `REASONS`: a dict from a method to why it is left out, beyond what `reasons.py` finds.
"""

import functools
import importlib

import keras
import protocol

import keras_mtl

NAMES = ("multidigits", "nyuv2", "domains", "attributes", "reviews", "adult")


def load(name):
    """The module of a suite."""
    return importlib.import_module(f"suites.{name}")


def begin(seed):
    """Names of layers count from 1, and first weights from the seed: results are kept by both."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def optimizer(rate):
    """Adam with a cosine decay to 0, for every training."""
    return lambda steps: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))


def search_optimizers(rate, weights):
    """What searches are compiled with.

    A search that is not retrained is the training of its network: it gets the optimizer of all
    trainings.

    Args:
        rate: float. Of every training, and of a warm-up.
        weights: function that returns the optimizer of the weights of other searches.
    """

    def optimizers(strategy, steps):
        return {
            "optimizer": weights() if strategy.retrains else optimizer(rate)(steps),
            "warmup_optimizer": keras.optimizers.Adam(rate),
            "policy_optimizer": keras.optimizers.Adam(0.03),
        }

    return optimizers


def experiment(budget, seed, folder, quick, data, *, rate, weights, **parts):
    """The `protocol.Experiment` of arrays with a budget.

    Args:
        budget: dict with `epochs`, `search_epochs`, `samples` and `batch`; results are kept for it.
        seed, folder, quick: as a suite gets them.
        data: train, validation and test part.
        rate: float. The learning rate of every training.
        weights: see `search_optimizers`.
        **parts: `backbone`, `tasks` and `strategies`.
    """
    train, validation, test = data
    return protocol.Experiment(
        train=train,
        search_data=functools.partial(
            keras_mtl.data.search_split, train, batch_size=budget["batch"], seed=seed
        ),
        validation=validation,
        test=test,
        epochs=budget["epochs"],
        search_epochs=budget["search_epochs"],
        optimizer=optimizer(rate),
        search_optimizers=search_optimizers(rate, weights),
        samples=budget["samples"],
        seed=seed,
        folder=folder,
        batch_size=budget["batch"],
        settings={**budget, "quick": quick, "seed": seed},
        **parts,
    )
