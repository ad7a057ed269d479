"""Heads: the layers between the shared features and the output of one task."""

from keras_mtl.heads.aspp import ASPP
from keras_mtl.heads.classifier import Classifier
from keras_mtl.heads.regressor import Regressor

__all__ = ["ASPP", "Classifier", "Regressor"]
