"""Clothes: six classifications of one photograph at 28×28. See `examples/attributes.py`."""

import attributes
import keras
from backbones import resnet

import keras_mtl
import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "six properties of clothes: pattern, sleeve, length, neckline, fabric, fit"
REASONS = {}
BUDGET = {"epochs": 4, "search_epochs": 6, "samples": 2, "width": 8, "batch": 64, "limit": None}
QUICK = {"epochs": 1, "search_epochs": 3, "samples": 1, "width": 2, "batch": 64, "limit": 256}


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
    return suites.experiment(
        budget,
        seed,
        folder,
        quick,
        (train, validation, test),
        backbone=resnet((28, 28, 3), width=budget["width"], blocks=(1, 1, 1, 1), stem_stride=2),
        tasks=[
            keras_mtl.Task(name, keras_mtl.heads.Classifier(classes[name]), loss, ["accuracy"])
            for name in classes
        ],
        strategies={"adashare": AdaShare(max_stages=3), "auto_mtl": AutoMTL(regularisation=0.1)},
        rate=2e-3,
        weights=lambda: keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=5.0),
    )
