"""From a network with channel masks to a smaller one without: what one task alone needs."""

import keras
from keras import ops

from keras_mtl.architecture import SHARED
from keras_mtl.assembly import operations
from keras_mtl.graph import ChannelSelection, Value, channels_of, find_places, is_weighted, read
from keras_mtl.graph.channels import cut, pruned
from keras_mtl.layers import ChannelMask
from keras_mtl.models.copies import Copies
from keras_mtl.models.functional import functional

TASK = "task"


def has_masks(network):
    """Whether channels of a network are masked."""
    return any(isinstance(layer, ChannelMask) for layer in network.layers)


def extract(network, seed, name):
    """A copy of a network of one task in which masked channels are cut off, and masks are gone.

    Kernels, biases, normalisations and depthwise kernels lose the channels, and the kernels that
    read them lose the matching inputs. Where no channel is used, one stays, which is read with 0.

    Args:
        network: functional model with one output, of `MultiTaskModel.task_network`.
        seed: int. Of layers that draw random numbers.
        name: string.

    Returns:
        A functional model with weights of its own and the same outputs.
    """
    graph = read(network)
    selection, gone = _selection(graph)
    weighted = [call for call in graph.calls if is_weighted(call.operation)]
    narrower = [call for call in weighted if selection.touches(call.index)]
    whole = [operations.Run((), call, SHARED) for call in weighted if call not in narrower]
    layers = Copies(graph, whole, seed).layers
    layers |= {(call.key, SHARED): _thinner(call, selection) for call in narrower}

    def layer_of(call):
        if call.index in gone:
            return lambda tensor: tensor
        return layers[call.key, SHARED if is_weighted(call.operation) else None]

    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in graph.inputs]
    tensors = {Value(-1, i): tensor for i, tensor in enumerate(inputs)}
    features = graph.run(tensors, layer_of)[graph.output]
    for call in narrower:
        _fill(layers[call.key, SHARED], call, selection)
    return functional(graph.pack_inputs(inputs), features, name)


def _selection(graph):
    """What the masks in a network leave of every call, and which calls are masks."""
    masks, gone = {}, set()
    for place in find_places(graph):
        for index in place.members:
            operation = graph.calls[index].operation
            if isinstance(operation, ChannelMask):
                before = masks.get(place.name, {TASK: operation.mask})[TASK]
                masks[place.name] = {TASK: "".join(map(min, before, operation.mask))}
                gone.add(index)
    return ChannelSelection(graph, masks), gone


def _thinner(call, selection):
    """The layer of a call with as many channels as remain, not built."""
    outputs = selection.outputs(TASK, call.index)
    if channels_of(call.operation).mixes:
        width = call.outputs[0].shape[-1] if outputs is None else int(outputs.sum())
        return pruned(call.operation, width, call.key)
    return pruned(call.operation, None, call.key)


def _fill(layer, call, selection):
    inputs, outputs = selection.inputs(TASK, call.index), selection.outputs(TASK, call.index)
    axes = channels_of(call.operation).axes
    nothing = selection.reads_nothing(TASK, call.index)
    for variable, given in zip(layer.weights, call.operation.weights, strict=True):
        value = ops.convert_to_numpy(given)
        if nothing and axes[given.name][0] is not None:
            value = value * 0
        variable.assign(cut(value, axes[given.name], inputs, outputs))
