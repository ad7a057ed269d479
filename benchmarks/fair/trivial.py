"""The predictor that has learned nothing but how often each answer is right."""

import keras
import numpy as np

from keras_mtl.graph import read


def trivial(setup):
    """The metrics of always giving one answer per task, fitted on the training part.

    The most frequent class, the median of a regression, the mean direction.

    Returns:
        A dict from task to a dict from metric to its value on the test part.
    """
    features, found = read(setup.backbone).features, {}
    for task in setup.tasks:
        width = task.head.compute_output_spec(features).shape[-1]
        answer = constant(task, np.concatenate(list(every(setup, "train", task))), width)
        metrics = [type(metric).from_config(metric.get_config()) for metric in task.metrics]
        for labels in every(setup, "test", task):
            positions = labels.shape if has_classes(task) else labels.shape[:-1]
            for metric in metrics:
                metric.update_state(labels, np.broadcast_to(answer, (*positions, width)))
        found[task.name] = {metric.name: float(metric.result()) for metric in metrics}
    return found


def every(setup, part, task):
    """The labels of one task in one part, batch by batch; the last axis is that of the answer."""
    data = getattr(setup, part)
    if isinstance(data, dict):
        data = data[task.inputs]
    batches = [data] if isinstance(data, tuple) else data
    for _, batch in batches:
        labels = np.asarray(batch[task.name] if isinstance(batch, dict) else batch)
        yield labels if has_classes(task) or labels.ndim > 1 else labels[:, None]


def has_classes(task):
    return isinstance(task.loss, keras.losses.SparseCategoricalCrossentropy)


def constant(task, labels, width):
    """The one answer, in the units of the head's output."""
    if has_classes(task):
        present = labels if task.ignore is None else labels[labels != task.ignore]
        return np.eye(width, dtype="float32")[np.bincount(present.ravel()).argmax()]
    rows = labels.reshape(-1, width)
    if isinstance(task.loss, keras.losses.BinaryCrossentropy):
        return np.where(rows.mean(0) >= 0.5, 1.0, -1.0).astype("float32")
    if isinstance(task.loss, keras.losses.CosineSimilarity):
        return rows.mean(0).astype("float32")
    return np.nanmedian(rows, axis=0).astype("float32")
