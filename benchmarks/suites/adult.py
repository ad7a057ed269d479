"""Adult: income, marriage and college of persons in a census; a residual MLP on a table."""

import keras
from keras import layers

import keras_mtl
import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "income, marriage and college degree of persons in a census"
REASONS = {}
BUDGET = {
    "epochs": 10,
    "search_epochs": 14,
    "samples": 3,
    "width": 32,
    "blocks": 6,
    "batch": 256,
    "limit": None,
}
QUICK = {
    "epochs": 1,
    "search_epochs": 3,
    "samples": 1,
    "width": 8,
    "blocks": 2,
    "batch": 256,
    "limit": 128,
}


def residual_mlp(width, blocks):
    """Numbers beside embedded categories, then residual blocks of two dense layers."""
    numbers = keras.Input((len(keras_mtl.data.ADULT_NUMBERS),), name="numbers")
    known = keras_mtl.data.ADULT_CATEGORIES
    categories = keras.Input((len(known),), dtype="int32", name="categories")
    parts = [numbers]
    for place, (name, size) in enumerate(known.items()):
        parts.append(layers.Embedding(size, 4, name=f"{name}_codes")(categories[:, place]))
    x = layers.Concatenate(name="row")(parts)
    x = layers.Dense(width, activation="relu", name="stem")(x)
    for block in range(1, blocks + 1):
        y = layers.BatchNormalization(momentum=0.9, name=f"block{block}_norm")(x)
        y = layers.Dense(width, activation="relu", name=f"block{block}_wide")(y)
        y = layers.Dense(width, name=f"block{block}_narrow")(y)
        x = layers.Add(name=f"block{block}")([x, y])
    return keras.Model([numbers, categories], x, name="residual_mlp")


def experiment(seed, folder, quick=False):
    suites.begin(seed)
    budget = QUICK if quick else BUDGET
    train, validation, test = (
        keras_mtl.data.load_adult(split, limit=budget["limit"])
        for split in ("train", "val", "test")
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return suites.experiment(
        budget,
        seed,
        folder,
        quick,
        (train, validation, test),
        backbone=residual_mlp(budget["width"], budget["blocks"]),
        tasks=[
            keras_mtl.Task(
                name,
                keras_mtl.heads.Classifier(1),
                loss,
                [
                    keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy"),
                    keras.metrics.AUC(from_logits=True, name="auc"),
                ],
            )
            for name in train[1]
        ],
        strategies={"adashare": AdaShare(max_stages=3), "auto_mtl": AutoMTL(regularisation=0.1)},
        rate=2e-3,
        weights=lambda: keras.optimizers.Adam(2e-3),
    )
