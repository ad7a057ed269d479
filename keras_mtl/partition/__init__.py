"""Partitions of a layer's channels among tasks: matrices, and the masks that come near them."""

from keras_mtl.partition.find_masks import find_backward_masks, find_masks, mask_error
from keras_mtl.partition.partition import Partition
from keras_mtl.partition.partition_matrix import (
    achieved_matrix,
    backward_matrix,
    partition_matrix,
)
from keras_mtl.partition.partition_space import PartitionSpace

__all__ = [
    "Partition",
    "PartitionSpace",
    "achieved_matrix",
    "backward_matrix",
    "find_backward_masks",
    "find_masks",
    "mask_error",
    "partition_matrix",
]
