"""Data sets, the joining and sampling of tasks with own data, and the split that a search needs."""

from keras_mtl.data.adult import ADULT_CATEGORIES, ADULT_NUMBERS, load_adult
from keras_mtl.data.attributes import load_attributes
from keras_mtl.data.digits import load_multidigits
from keras_mtl.data.domains import DOMAINS, load_domains
from keras_mtl.data.join_tasks import join_tasks
from keras_mtl.data.joined_dataset import JoinedDataset
from keras_mtl.data.joined_pass import JoinedPass
from keras_mtl.data.nyuv2 import load_nyuv2
from keras_mtl.data.reviews import load_reviews, tokenise
from keras_mtl.data.sample_tasks import sample_tasks
from keras_mtl.data.sampled_dataset import SampledDataset
from keras_mtl.data.search_dataset import SearchDataset
from keras_mtl.data.search_split import search_split

__all__ = [
    "ADULT_CATEGORIES",
    "ADULT_NUMBERS",
    "DOMAINS",
    "JoinedDataset",
    "JoinedPass",
    "SampledDataset",
    "SearchDataset",
    "join_tasks",
    "load_adult",
    "load_attributes",
    "load_domains",
    "load_multidigits",
    "load_nyuv2",
    "load_reviews",
    "sample_tasks",
    "search_split",
    "tokenise",
]
