"""Clothes: six classifications of one photograph at 28×28. See `examples/attributes.py`."""

import functools

import attributes
import keras
import protocol
from backbones import resnet

import keras_mtl
import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "six properties of clothes: pattern, sleeve, length, neckline, fabric, fit"
REASONS = {}
BUDGET = {"epochs": 8, "search_epochs": 12, "samples": 2, "width": 8, "limit": None}
QUICK = {"epochs": 1, "search_epochs": 3, "samples": 1, "width": 2, "limit": 256}


def experiment(seed, folder, quick=False):
    suites.begin(seed)
    budget = QUICK if quick else BUDGET
    train, validation, test = (
        (attributes.halved(images), labels)
        for images, labels in (
            keras_mtl.data.load_attributes(split, limit=budget["limit"])
            for split in ("train", "val", "test")
        )
    )
    classes = {name: int(labels.max()) + 1 for name, labels in train[1].items()}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return protocol.Experiment(
        backbone=resnet((28, 28, 3), width=budget["width"], blocks=(1, 1, 1, 1), stem_stride=2),
        tasks=[
            keras_mtl.Task(name, keras_mtl.heads.Classifier(classes[name]), loss, ["accuracy"])
            for name in classes
        ],
        train=train,
        search_data=functools.partial(keras_mtl.data.search_split, train, batch_size=64, seed=seed),
        validation=validation,
        test=test,
        epochs=budget["epochs"],
        search_epochs=budget["search_epochs"],
        strategies={"adashare": AdaShare(max_stages=3), "auto_mtl": AutoMTL(regularisation=0.1)},
        optimizer=suites.optimizer(2e-3),
        search_optimizers=suites.search_optimizers(
            2e-3, lambda: keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=5.0)
        ),
        samples=budget["samples"],
        seed=seed,
        folder=folder,
        settings={**budget, "quick": quick, "seed": seed},
    )
