"""A task: its head, and what is made of the losses and metrics that users bring.

`task` is the class; `loss` and `metric` adapt Keras' objects and functions, `presence` says which
labels are there, `saved_parts` what becomes of losses that Keras cannot find on loading.
"""

from keras_mtl.task.task import Task, check_tasks, input_sets, task_configs

__all__ = ["Task", "check_tasks", "input_sets", "task_configs"]
