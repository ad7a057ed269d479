"""Reviews of sixteen domains, each with texts of its own. See `examples/reviews.py`."""

import keras
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
    return suites.experiment(
        budget,
        seed,
        folder,
        quick,
        (train, validation, test),
        backbone=reviews.transformer(
            budget["vocabulary"], budget["length"], width=budget["width"], blocks=budget["blocks"]
        ),
        tasks=[reviews.task(domain) for domain in train],
        strategies={"adashare": AdaShare(max_stages=2), "auto_mtl": AutoMTL(regularisation=0.03)},
        rate=2e-3,
        weights=lambda: keras.optimizers.Adam(1e-3),
    )
