"""NYU Depth V2 at half resolution: segmentation, depth, normals. See `examples/nyuv2.py`."""

import argparse
import dataclasses

import keras
import nyuv2
from backbones import resnet

import suites
from keras_mtl.strategies import AdaShare, AutoMTL

TITLE = "segmentation, depth and normals of indoor pictures"
REASONS = {
    "dwa": "The loss of the normals is a negative cosine, whose rate of descent means nothing.",
}
SIZE = (48, 64)
BUDGET = {"epochs": 12, "search_epochs": 16, "samples": 2, "width": 8, "batch": 16, "limit": None}
QUICK = {"epochs": 1, "search_epochs": 3, "samples": 1, "width": 4, "batch": 8, "limit": 16}


def experiment(seed, folder, quick=False):
    suites.begin(seed)
    budget = QUICK if quick else BUDGET
    arguments = argparse.Namespace(
        **budget,
        seed=seed,
        folder=folder,
        quick=quick,
        half=True,
        strategy=[],
        regularisation=None,
    )
    setup = nyuv2.experiment(arguments)
    suites.begin(seed)
    return dataclasses.replace(
        setup,
        backbone=resnet(
            (*SIZE, 3),
            width=budget["width"],
            blocks=(1,) * 4 if quick else (2, 2, 1, 1),
            strides=(1, 2, 2, 1),
            stem_stride=2,
        ),
        strategies={"adashare": AdaShare(max_stages=3), "auto_mtl": AutoMTL(regularisation=0.1)},
        search_optimizers=suites.search_optimizers(
            2e-3, lambda: keras.optimizers.SGD(1e-2, momentum=0.9, clipnorm=5.0)
        ),
        settings={**budget, "quick": quick, "seed": seed},
    )
