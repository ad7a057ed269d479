"""Executor: how the operations of a trace are carried out."""

import abc


class Executor(abc.ABC):
    """Carries out operations: with Keras layers on symbolic or real tensors, or to count only.

    A tensor is whatever the executor's own methods return; an assembly only hands it on.
    """

    @abc.abstractmethod
    def run(self, call, copy, tensors):
        """A list of the flat outputs of a call of the backbone on its flat inputs."""

    @abc.abstractmethod
    def blend(self, call, copies, weights, tensors):
        """The output of a call whose parameter copies are mixed, without its activation."""

    @abc.abstractmethod
    def mix(self, weights, tensors):
        """The weighted sum of tensors; where weights hold `None`, that tensor is weighted."""

    @abc.abstractmethod
    def switch(self, weights, groups, branches):
        """What the branch gives in whose group of positions the largest weight is."""

    @abc.abstractmethod
    def project(self, unit, copy, tensor):
        """The projection that stands in for a unit."""

    @abc.abstractmethod
    def normalize(self, unit, copy, tensor):
        """The normalization behind a unit's projection."""

    @abc.abstractmethod
    def activate(self, unit, tensor):
        """The activation that a unit's operator has in it."""

    @abc.abstractmethod
    def fuse(self, fusion, tensors, gates):
        """A list of what a fusion gives, one for each of its targets."""

    @abc.abstractmethod
    def mask(self, value, mask, tensor):
        """The tensor with the channels that the mask leaves out at 0."""
