"""What training on one task may change of a network with channel masks."""

import numpy as np

from keras_mtl.architecture import OWN
from keras_mtl.graph import channels_of, is_normalisation, place_of, read
from keras_mtl.graph.channel_selection import bits
from keras_mtl.graph.channels import spread
from keras_mtl.models.layer_names import layer_name


def update_scales(network, architecture, task):
    """Factors of the final update: of masked operators and of what hangs on their channels.

    A channel outside of the backward mask keeps the operator's kernel and bias, the depthwise
    kernel behind it, the shared normalisation, and the kernels that read it. A task's own
    normalisation is changed fully. Layers that are not trainable have the factor 0.

    Args:
        network: functional model with one output, of `MultiTaskModel.task_network`.
        architecture: `Architecture`, or `None`.
        task: string.

    Returns:
        A dict from `id(variable)` to 0.0 or an array that broadcasts to the variable.
    """
    frozen = [v for layer in network.layers if not layer.trainable for v in layer.weights]
    scales = {id(variable): np.float32(0.0) for variable in frozen}
    if architecture is None or not architecture.masks:
        return scales
    graph, changed = read(network), {}
    for unit, use in architecture.masks.items():
        choice = architecture.choice(task, unit)
        changed[layer_name(unit, task if choice == OWN else choice)] = bits(use.backward[task])
    own = architecture.normalisation == "task"
    found = scales_of(graph, changed, lambda index: graph.calls[index].operation, own)
    return scales | {key: factor for key, factor in found.items() if not factor.all()}


def scales_of(graph, changed, layer_of, own_normalisation):
    """Factors of the final update of all layers that hang on some channels.

    Args:
        graph: `BackboneGraph`.
        changed: mapping from an operator's key to a boolean array: the channels that may change.
        layer_of: function of the index of a call that returns the layer that is run.
        own_normalisation: bool. Whether normalisation layers are the task's own, and change fully.

    Returns:
        A dict from `id(variable)` to an array of 0 and 1 that broadcasts to the variable.
    """
    scales = {}

    def limit(index, inputs, outputs):
        layer = layer_of(index)
        axes = channels_of(layer).axes
        for variable in layer.trainable_weights:
            factor = spread(variable.shape, axes[variable.name], inputs, outputs)
            scales[id(variable)] = scales.get(id(variable), np.float32(1.0)) * factor

    for key, channels in changed.items():
        place = place_of(graph, key)
        limit(place.operator, None, channels)
        for index in place.members:
            if not (own_normalisation and is_normalisation(layer_of(index))):
                limit(index, None, channels)
        for index, repeats in place.readers:
            limit(index, np.tile(channels, repeats), None)
    return scales
