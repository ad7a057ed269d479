"""The layers nearest to the input, to be frozen or shared."""

from keras_mtl.graph.backbone_graph import INPUT, read
from keras_mtl.graph.units import is_normalisation, is_weighted


def first_layers(backbone, share=2 / 3):
    """Names the weighted layers of the first part of a backbone, without the normalisation.

    The depth of a layer is the number of weighted operators on the longest way from the input to
    it, itself included; normalisation layers do not count. A layer is in the first part when its
    depth is at most `share` of the largest one. Frozen, with a normalisation per task that is still
    trained, they are features that all tasks have in common.

    Args:
        backbone: functional `keras.Model`.
        share: float above 0 and at most 1.

    Returns:
        A list of names, in order of execution. Models of the library have these layers, or copies
        of them for tasks and branches, under these names.

    Raises:
        UnsupportedBackboneError: when the backbone cannot be read.
        ValueError: when `share` is out of range.

    Example:

    >>> x = inputs = keras.Input((8, 8, 3))
    >>> for name in ("conv1", "conv2", "conv3"):
    ...     x = keras.layers.Conv2D(4, 3, name=name)(x)
    ...     x = keras.layers.BatchNormalization()(x)
    >>> backbone = keras.Model(inputs, x)
    >>> first = keras_mtl.graph.first_layers(backbone)
    >>> first
    ['conv1', 'conv2']
    >>> task = keras_mtl.Task("class", keras_mtl.heads.Classifier(3), "mse")
    >>> model = keras_mtl.build(backbone, task, "shared", seed=0)
    >>> model.compile("sgd", multipliers=dict.fromkeys(first, 0.0))
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError(f"`share` must lie above 0 and be at most 1. Received: share={share!r}.")
    calls = read(backbone).calls
    counted = [is_weighted(c.operation) and not is_normalisation(c.operation) for c in calls]
    depths = []
    for call, counts in zip(calls, counted, strict=True):
        before = [depths[value.node] for value in call.inputs if value.node != INPUT]
        depths.append(max(before, default=0) + counts)
    # A little more than the share: 2 / 3 of 12 layers are 8, whatever rounding says.
    limit = share * max(depths, default=0) + 1e-6
    names = [
        call.key
        for call, counts, depth in zip(calls, counted, depths, strict=True)
        if counts and depth <= limit
    ]
    return list(dict.fromkeys(names))
