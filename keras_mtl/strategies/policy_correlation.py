"""How alike the tasks' policies are."""

from typing import Any

import numpy as np


def task_correlation(logits: Any) -> np.ndarray:
    """Cosine between the tasks' policies, on logits centred per task.

    Raw probabilities give about 0.75 for random policies; with its mean over the blocks taken off
    every task, unrelated policies come out near 0. A policy that is the same at every block has no
    direction: its correlation with another is 0, with itself 1.

    Args:
        logits: array of shape `(blocks, tasks)`, log-odds of selecting; or of shape
            `(units, tasks, options)`, where the mean over the options is taken off too.

    Returns:
        Array of shape `(tasks, tasks)` between -1 and 1.
    """
    logits = np.asarray(logits, "float64")
    if logits.ndim == 3:
        logits = logits - logits.mean(axis=2, keepdims=True)
    centred = logits - logits.mean(axis=0, keepdims=True)
    if logits.ndim == 3:
        centred = centred.transpose(0, 2, 1).reshape(-1, logits.shape[1])
    norms = np.maximum(np.linalg.norm(centred, axis=0), 1e-12)
    cosine = np.clip(centred.T @ centred / np.outer(norms, norms), -1.0, 1.0)
    np.fill_diagonal(cosine, 1.0)
    return cosine
