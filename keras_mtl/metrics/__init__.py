"""Metrics of dense prediction, and the comparison with single-task models."""

from keras_mtl.metrics.depth_absolute_error import DepthAbsoluteError
from keras_mtl.metrics.depth_relative_error import DepthRelativeError
from keras_mtl.metrics.depth_threshold_accuracy import DepthThresholdAccuracy
from keras_mtl.metrics.directions import lower_is_better
from keras_mtl.metrics.mean_iou import MeanIoU
from keras_mtl.metrics.normal_angle import NormalAngle
from keras_mtl.metrics.pixel_accuracy import PixelAccuracy
from keras_mtl.metrics.relative_performance import RelativePerformance, relative_performance

__all__ = [
    "DepthAbsoluteError",
    "DepthRelativeError",
    "DepthThresholdAccuracy",
    "MeanIoU",
    "NormalAngle",
    "PixelAccuracy",
    "RelativePerformance",
    "lower_is_better",
    "relative_performance",
]
