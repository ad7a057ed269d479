"""From a network with channel masks to a smaller one without: what one task alone needs."""

import keras
from keras import ops

from keras_mtl.architecture import SHARED
from keras_mtl.count import Needs
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
    whole = [(call.key, SHARED) for call in weighted if not selection.touches(call.index)]
    copies = Copies(graph, (), [Needs(whole, [], [], [], [], None)], seed)
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in graph.inputs]
    tensors = {Value(-1, i): tensor for i, tensor in enumerate(inputs)}
    for call in graph.calls:
        if call.index in gone:
            tensors[Value(call.index, 0)] = tensors[call.inputs[0]]
            continue
        copy = SHARED if is_weighted(call.operation) else None
        if copy and selection.touches(call.index):
            copies.layers[call.key, copy] = _thinner(call, selection)
        results = copies.run(call, copy, tensors.__getitem__)
        for i, tensor in enumerate(results):
            tensors[Value(call.index, i)] = tensor
        if copy and selection.touches(call.index):
            _fill(copies.layers[call.key, copy], call, selection)
    return functional(graph.pack_inputs(inputs), tensors[graph.output], name)


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
