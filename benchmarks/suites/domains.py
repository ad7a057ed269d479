"""Nine small image domains, one dataset per task, in the manner of the Visual Decathlon."""

import keras
from backbones import resnet

import keras_mtl
import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "nine domains of 32×32 pictures, each a task with pictures of its own"
REASONS = {}
BUDGET = {
    "epochs": 6,
    "search_epochs": 9,
    "samples": 2,
    "width": 8,
    "blocks": [1, 2, 2, 1],
    "train": 2000,
    "batch": 32,
}
QUICK = {
    "epochs": 1,
    "search_epochs": 3,
    "samples": 1,
    "width": 2,
    "blocks": [1, 1, 1, 1],
    "train": 64,
    "batch": 16,
}
FEW = ["flowers", "natural", "expressions"]  # classes that are hit by chance


def experiment(seed, folder, quick=False):
    suites.begin(seed)
    budget = QUICK if quick else BUDGET
    names = FEW if quick else list(keras_mtl.data.DOMAINS)
    train, validation, test = (
        keras_mtl.data.load_domains(split, domains=names, limit=budget["train"])
        for split in ("train", "val", "test")
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return suites.experiment(
        budget,
        seed,
        folder,
        quick,
        (train, validation, test),
        backbone=resnet((32, 32, 3), width=budget["width"], blocks=budget["blocks"], stem_stride=2),
        tasks=[
            keras_mtl.Task(
                name,
                keras_mtl.heads.Classifier(keras_mtl.data.DOMAINS[name]),
                loss,
                ["accuracy"],
                inputs=name,
            )
            for name in names
        ],
        strategies={"adashare": AdaShare(max_stages=3), "auto_mtl": AutoMTL(regularisation=0.1)},
        rate=3e-3,
        weights=lambda: keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=5.0),
    )
