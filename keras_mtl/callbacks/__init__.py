"""Callbacks: they observe; training never depends on one being remembered."""

from keras_mtl.callbacks.backup_and_resume import BackupAndResume
from keras_mtl.callbacks.best_checkpoint import BestCheckpoint
from keras_mtl.callbacks.early_stopping import EarlyStopping
from keras_mtl.callbacks.relative_score import RelativeScore

__all__ = ["BackupAndResume", "BestCheckpoint", "EarlyStopping", "RelativeScore"]
