"""From a trained model to a SavedModel that serves every task at its own cost."""

import os

import keras
import tensorflow as tf

from keras_mtl.graph import needed_inputs
from keras_mtl.models.extract import has_masks
from keras_mtl.report import say


def export_saved_model(model, filepath, *, input_signature=None, verbose=True):
    """Writes a SavedModel with endpoint `"serve"` (all tasks) and one endpoint per task.

    Every endpoint takes the inputs by name and returns a dict. Tensors keep the names of the
    backbone's inputs and of the tasks; an endpoint holds no operation that its tasks do not need,
    and of masked operators only the channels that its task uses (`"serve"` has all channels).
    Where tasks have their own inputs, these are named by the set, or `<set>_<name>` if it has
    several. `"serve"` takes all inputs; a task's endpoint takes those that the task depends on: its
    own, and where columns exchange features those of other tasks too.
    The file loads with `tf.saved_model.load`, in a process without Keras or this library.

    Args:
        model: `MultiTaskModel`.
        filepath: string or path. A folder.
        input_signature: as in `keras.Model.export`: specs with a shape and a type, such as
            `tf.TensorSpec`, in the structure of the model's inputs or in a dict by their names.
            They fix sizes that the model leaves open, such as that of the batch.
        verbose: bool. Whether to print the endpoints.

    Raises:
        TypeError, ValueError: when an argument is of the wrong kind.
        OSError: when the folder cannot be written.
    """
    network = model.network
    specs = _specs(network, input_signature)
    path = _folder(filepath)
    archive = keras.export.ExportArchive()
    archive.track(network)
    signature = [specs[x.name] for x in network.inputs]
    archive.add_endpoint("serve", _endpoint(network), signature)
    for task in model.task_names:
        alone = model.task_network(task)
        if has_masks(alone):
            alone = model.extract(task)
            archive.track(alone)
        alone = _of_needed_inputs(alone)
        signature = [specs[x.name] for x in alone.inputs]
        archive.add_endpoint(task, _endpoint(alone, task), signature)
    try:
        archive.write_out(path, verbose=False)
    except (OSError, tf.errors.OpError) as error:
        raise _unwritable(filepath, error) from None
    if verbose:
        inputs = ", ".join(f"{x.name} {tuple(specs[x.name].shape)}" for x in network.inputs)
        say(f"Saved {filepath} with endpoints serve ({inputs}), {', '.join(model.task_names)}.")


def _folder(filepath):
    """The path as a string, where a folder now is; found out before the minutes of tracing."""
    if not isinstance(filepath, (str, os.PathLike)) or not str(filepath):
        raise TypeError(
            f"`filepath` must be a string or path, of a folder. Received: filepath={filepath!r}."
        )
    try:
        tf.io.gfile.makedirs(str(filepath))
    except (OSError, tf.errors.OpError) as error:
        raise _unwritable(filepath, error) from None
    return str(filepath)


def _unwritable(filepath, error):
    said = str(error).strip().splitlines()[0]
    return OSError(
        "`filepath` must be a folder that exists or can be made, and can be written. "
        f"Received: filepath={str(filepath)!r}, of which the system says: {said}"
    )


def _specs(network, given):
    """Name of an input -> its `tf.TensorSpec`."""
    if given is None:
        given = [keras.KerasTensor((None, *x.shape[1:]), x.dtype) for x in network.inputs]
    if isinstance(given, (list, tuple)) and len(given) == 1:
        (given,) = given  # as Keras has it: a list of the arguments, of which there is one
    if isinstance(given, dict) and all(x.name in given for x in network.inputs):
        given = [given[x.name] for x in network.inputs]
    flat = keras.tree.flatten(given)
    shapes = [getattr(spec, "shape", None) for spec in flat]
    fit = len(flat) == len(network.inputs) and all(
        shape is not None and tf.TensorShape(shape).is_compatible_with(x.shape)
        for shape, x in zip(shapes, network.inputs, strict=True)
    )
    if not fit:
        wanted = ", ".join(f"{x.name} {tuple(x.shape)}" for x in network.inputs)
        raise ValueError(
            f"`input_signature` must have a spec for each of the inputs {wanted}, in this order "
            f"or by name. Received: input_signature={given!r}."
        )
    return {
        x.name: tf.TensorSpec(spec.shape, getattr(spec, "dtype", None) or x.dtype, name=x.name)
        for x, spec in zip(network.inputs, flat, strict=True)
    }


def _of_needed_inputs(network):
    """The network of one output without the inputs that it does not depend on."""
    (needed,) = needed_inputs(network)
    inputs = [network.inputs[i] for i in needed] or network.inputs
    return keras.Model(inputs, network.outputs[0])


def _endpoint(network, task=None):
    """A function of the flat inputs; outputs are always a dict by task."""

    def serve(*inputs):
        outputs = network(keras.tree.pack_sequence_as(network.input, inputs), training=False)
        outputs = outputs if task is None else {task: outputs}
        return {name: tf.identity(output, name) for name, output in outputs.items()}

    return serve
