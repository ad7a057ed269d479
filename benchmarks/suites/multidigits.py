"""Two overlapping digits: left, right, sum; no download. See `examples/multidigits.py`."""

import argparse
import dataclasses

import keras
import multidigits
from backbones import resnet

import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "two overlapping digits: which is left, which is right, what is their sum"
REASONS = {}
BUDGET = {"epochs": 8, "search_epochs": 12, "samples": 2, "train": 2000}


def experiment(seed, folder, quick=False):
    suites.begin(seed)
    arguments = argparse.Namespace(**BUDGET, seed=seed, folder=folder, quick=quick, fresh=False)
    setup = multidigits.experiment(multidigits.prepared(arguments))
    suites.begin(seed)
    width, blocks = (4, (1, 1, 1)) if quick else (16, (2, 2, 2))
    return dataclasses.replace(
        setup,
        backbone=resnet((16, 16, 1), width=width, blocks=blocks, strides=(1, 2, 2), stem_stride=2),
        strategies={
            "adashare": AdaShare(sharing=0.01, max_stages=3),
            "auto_mtl": AutoMTL(regularisation=0.1),
        },
        search_optimizers=suites.search_optimizers(
            3e-3, lambda: keras.optimizers.SGD(0.05, momentum=0.9)
        ),
    )
