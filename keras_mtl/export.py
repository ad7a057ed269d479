"""From a trained model to a SavedModel that serves every task at its own cost."""

import keras
import tensorflow as tf

from keras_mtl.models.extract import has_masks
from keras_mtl.report import say


def export_saved_model(model, filepath, *, verbose=True):
    """Writes a SavedModel with endpoint `"serve"` (all tasks) and one endpoint per task.

    Every endpoint takes the inputs by name and returns a dict. Tensors keep the names of the
    backbone's inputs and of the tasks; an endpoint holds no operation that its tasks do not need,
    and of masked operators only the channels that its task uses (`"serve"` has all channels).
    Where tasks have their own inputs, these are named by the set, or `<set>_<name>` if it has
    several; a task's endpoint takes its own only.
    The file loads with `tf.saved_model.load`, in a process without Keras or this library.

    Args:
        model: `MultiTaskModel`.
        filepath: string or path. A folder.
        verbose: bool. Whether to print the endpoints.
    """
    archive = keras.export.ExportArchive()
    archive.track(model.network)
    signature = _signature(model.network)
    archive.add_endpoint("serve", _endpoint(model.network), signature)
    for task in model.task_names:
        network = model.task_network(task)
        if has_masks(network):
            network = model.extract(task)
            archive.track(network)
        archive.add_endpoint(task, _endpoint(network, task), _signature(network))
    archive.write_out(str(filepath), verbose=False)
    if verbose:
        inputs = ", ".join(f"{s.name} {tuple(s.shape)}" for s in signature)
        say(f"Saved {filepath} with endpoints serve ({inputs}), {', '.join(model.task_names)}.")


def _signature(network):
    return [tf.TensorSpec((None, *x.shape[1:]), x.dtype, name=x.name) for x in network.inputs]


def _endpoint(network, task=None):
    """A function of the flat inputs; outputs are always a dict by task."""

    def serve(*inputs):
        outputs = network(keras.tree.pack_sequence_as(network.input, inputs), training=False)
        outputs = outputs if task is None else {task: outputs}
        return {name: tf.identity(output, name) for name, output in outputs.items()}

    return serve
