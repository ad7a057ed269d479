"""What training on one task may change of a network with channel masks."""

import numpy as np

from keras_mtl.architecture import OWN
from keras_mtl.graph import channels_of, is_normalisation, place_of, read
from keras_mtl.graph.channel_selection import bits
from keras_mtl.graph.channels import spread
from keras_mtl.models.copies import layer_name


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
    graph = read(network)

    def limit(index, inputs, outputs):
        layer = graph.calls[index].operation
        axes = channels_of(layer).axes
        for variable in layer.trainable_weights:
            factor = spread(variable.shape, axes[variable.name], inputs, outputs)
            if factor.all():
                continue
            scales[id(variable)] = scales.get(id(variable), np.float32(1.0)) * factor

    for unit, use in architecture.masks.items():
        changed = bits(use.backward[task])
        if changed.all():
            continue
        choice = architecture.choice(task, unit)
        place = place_of(graph, layer_name(unit, task if choice == OWN else choice))
        limit(place.operator, None, changed)
        for index in place.members:
            layer = graph.calls[index].operation
            if not (is_normalisation(layer) and architecture.normalisation == "task"):
                limit(index, None, changed)
        for index, repeats in place.readers:
            limit(index, np.tile(changed, repeats), None)
    return scales
