"""Data sets, and the split of training data that a search needs."""

from keras_mtl.data.digits import load_multidigits
from keras_mtl.data.nyuv2 import load_nyuv2
from keras_mtl.data.search_dataset import SearchDataset
from keras_mtl.data.search_split import search_split

__all__ = ["SearchDataset", "load_multidigits", "load_nyuv2", "search_split"]
