"""Reviews of sixteen domains, each with texts of its own. See `examples/reviews.py`."""

import functools

import keras
import protocol
import reviews

import keras_mtl
import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "sentiment of reviews in sixteen domains, each a task with texts of its own"
REASONS = {
    "auto_mtl": (
        "Three options of every operator for sixteen paths are a graph that takes longer to trace "
        "than the whole budget; see the rows of `examples/reviews.py` for four domains."
    ),
}
BUDGET = {
    "epochs": 5,
    "search_epochs": 8,
    "samples": 2,
    "width": 16,
    "length": 64,
    "vocabulary": 4000,
    "limit": None,
    "batch": 32,
    "blocks": 2,
}
QUICK = {
    "epochs": 1,
    "search_epochs": 3,
    "samples": 1,
    "width": 8,
    "length": 8,
    "vocabulary": 200,
    "limit": 16,
    "batch": 8,
    "blocks": 1,
}


def experiment(seed, folder, quick=False):
    suites.begin(seed)
    budget = QUICK if quick else BUDGET
    texts = [keras_mtl.data.load_reviews(split) for split in ("train", "val", "test")]
    texts = [
        {
            name: (x[: budget["limit"]], y[: budget["limit"]])
            for name, (x, y) in list(part.items())[: 3 if quick else None]
        }
        for part in texts
    ]
    train, validation, test = keras_mtl.data.tokenise(
        *texts, vocabulary=budget["vocabulary"], length=budget["length"]
    )
    return protocol.Experiment(
        backbone=reviews.transformer(
            budget["vocabulary"], budget["length"], width=budget["width"], blocks=budget["blocks"]
        ),
        tasks=[reviews.task(domain) for domain in train],
        train=train,
        search_data=functools.partial(
            keras_mtl.data.search_split, train, batch_size=budget["batch"], seed=seed
        ),
        validation=validation,
        test=test,
        epochs=budget["epochs"],
        search_epochs=budget["search_epochs"],
        strategies={"adashare": AdaShare(max_stages=2), "auto_mtl": AutoMTL(regularisation=0.03)},
        optimizer=suites.optimizer(2e-3),
        search_optimizers=suites.search_optimizers(2e-3, lambda: keras.optimizers.Adam(1e-3)),
        samples=budget["samples"],
        seed=seed,
        folder=folder,
        batch_size=budget["batch"],
        settings={**budget, "quick": quick, "seed": seed},
    )
