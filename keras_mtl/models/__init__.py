"""Models: `MultiTaskModel` trains a decided architecture, `MultiTaskSearchModel` an open one."""

from keras_mtl.models.derive import derive
from keras_mtl.models.distillation_proxy import DistillationProxy
from keras_mtl.models.loss_weighting import (
    DynamicWeightAverage,
    EqualWeighting,
    LossWeighting,
    UncertaintyWeighting,
)
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.models.multi_task_search_model import MultiTaskSearchModel
from keras_mtl.models.task_model import TaskModel

__all__ = [
    "DistillationProxy",
    "DynamicWeightAverage",
    "EqualWeighting",
    "LossWeighting",
    "MultiTaskModel",
    "MultiTaskSearchModel",
    "TaskModel",
    "UncertaintyWeighting",
    "derive",
]
