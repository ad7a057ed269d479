"""Callbacks: they observe; training never depends on one being remembered."""

from keras_mtl.callbacks.backup_and_resume import BackupAndResume

__all__ = ["BackupAndResume"]
