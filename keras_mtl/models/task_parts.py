"""TaskParts: what single tasks of a network need, and the networks of some of them."""

import warnings

import keras

from keras_mtl.graph import needed_inputs


class TaskParts:
    """Which input sets the tasks of a network read, and networks of a few tasks alone.

    A task has its own input set, and depends on others where columns exchange features. Which ones
    is read off the network. What was read and made is kept; Keras does not see it.

    Args:
        network: functional model with a dict of outputs by task name. Its input is a dict from
            input set to tensors where tasks have inputs of their own.
        input_sets: dict from task to the name of its own inputs, or to `None`.
    """

    def __init__(self, network, input_sets):
        self._network = network
        self._input_sets = input_sets
        self._needed = None
        self._networks = {}

    def structure(self, input_set):
        """The symbolic inputs of a set, in the structure that the network takes."""
        return self._network.input if input_set is None else self._network.input[input_set]

    def input_sets(self, task):
        """Tuple of the input sets that a task depends on, in the network's order."""
        if self._input_sets[task] is None:
            return (None,)
        if self._needed is None:
            self._needed = self._read()
        return self._needed[task]

    def _read(self):
        outputs = zip(self._network.outputs, needed_inputs(self._network), strict=True)
        found = {id(output): numbers for output, numbers in outputs}
        sets = {
            name: {id(x) for x in keras.tree.flatten(self.structure(name))}
            for name in dict.fromkeys(self._input_sets.values())
        }
        needed = {}
        for task, own in self._input_sets.items():
            read = {id(self._network.inputs[i]) for i in found[id(self._network.output[task])]}
            needed[task] = tuple(name for name in sets if name == own or sets[name] & read)
        return needed

    def network_of(self, task, name):
        """A new functional model of one task, from what `input_sets` says."""
        sets = self.input_sets(task)
        inputs = {name: self.structure(name) for name in sets}
        inputs = inputs if len(sets) > 1 else inputs[sets[0]]
        return _model(inputs, self._network.output[task], name)

    def from_sets(self, given):
        """The functional model of all tasks that depend on the given input sets alone, or `None`.

        Args:
            given: collection of names of input sets.
        """
        tasks = tuple(t for t in self._input_sets if set(self.input_sets(t)) <= set(given))
        if tasks and tasks not in self._networks:
            sets = dict.fromkeys(name for task in tasks for name in self.input_sets(task))
            inputs = {name: self.structure(name) for name in sets}
            outputs = {task: self._network.output[task] for task in tasks}
            self._networks[tasks] = _model(inputs, outputs, self._network.name)
        return self._networks.get(tasks)


def _model(inputs, outputs, name):
    with warnings.catch_warnings():
        # A set's tensors are named by the set too, as one network cannot have a name twice.
        warnings.filterwarnings("ignore", "When providing `inputs` as a dict", UserWarning)
        return keras.Model(inputs, outputs, name=name)
