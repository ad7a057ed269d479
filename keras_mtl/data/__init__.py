"""Data sets, the joining of tasks with own data, and the split that a search needs."""

from keras_mtl.data.attributes import load_attributes
from keras_mtl.data.digits import load_multidigits
from keras_mtl.data.join_tasks import join_tasks
from keras_mtl.data.joined_dataset import JoinedDataset
from keras_mtl.data.nyuv2 import load_nyuv2
from keras_mtl.data.reviews import load_reviews, tokenise
from keras_mtl.data.search_dataset import SearchDataset
from keras_mtl.data.search_split import search_split

__all__ = [
    "JoinedDataset",
    "SearchDataset",
    "join_tasks",
    "load_attributes",
    "load_multidigits",
    "load_nyuv2",
    "load_reviews",
    "search_split",
    "tokenise",
]
