"""Whether a head gives logits or probabilities, and whether its loss and metrics take them so."""

import warnings

import keras

PROBABILITIES = "probabilities"
LOGITS = "logits"

# Layers that change where numbers stand, or scale them evenly, but not what they mean.
_TRANSPARENT = (
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Dropout,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    keras.layers.Resizing,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)
# Losses and metrics of probabilities that have no `from_logits`.
_OF_PROBABILITIES = ("KLDivergence", "CategoricalGeneralizedCrossEntropy")
_ACTIVATIONS = {
    "linear": LOGITS,
    "softmax": PROBABILITIES,
    "sigmoid": PROBABILITIES,
    "hard_sigmoid": PROBABILITIES,
    "log_softmax": LOGITS,
    "log_sigmoid": LOGITS,
}


def check_logits(task, head, loss, metrics, *, chosen):
    """Compares what a head gives with what its crossentropies take.

    Args:
        task: string. Name of the task, for messages.
        head: layer or functional model.
        loss: `keras.losses.Loss`.
        metrics: list of `keras.metrics.Metric`.
        chosen: bool. Whether the user made the loss object, and so chose its `from_logits`.

    Raises:
        ValueError: when a loss that was only named would take logits for probabilities. One that
            was chosen, and a metric, give a warning.
    """
    of_loss = _mismatch(task, head, "loss", "keras.losses", loss)
    if of_loss and not chosen and not loss.get_config().get("from_logits"):
        raise ValueError(of_loss)
    of_metrics = [_mismatch(task, head, "metrics", "keras.metrics", metric) for metric in metrics]
    for message in filter(None, [of_loss, *of_metrics]):
        warnings.warn(message, stacklevel=3)


def _mismatch(task, head, argument, module, found):
    """What to say about a loss or metric that takes the head's outputs for something else."""
    if not type(found).__module__.startswith("keras."):
        return None
    only = type(found).__name__ in _OF_PROBABILITIES
    takes_logits = False if only else found.get_config().get("from_logits")
    gives = None if takes_logits is None else output_of(head)
    if gives == LOGITS and only:
        return (
            f"`{argument}` of task {task!r} must get probabilities, since {found.name!r} takes "
            f"nothing else. Received: the head {head.name!r}, which ends without softmax or "
            "sigmoid. Give it an activation."
        )
    kind = f"{module}.{type(found).__name__}"
    received = f"Received: {argument}={found.name!r} with from_logits={takes_logits}."
    if gives == LOGITS and not takes_logits:
        return (
            f"`{argument}` of task {task!r} must take logits, since its head {head.name!r} ends "
            f"without softmax or sigmoid. {received} Use `{kind}(from_logits=True)`, or give the "
            "head an activation."
        )
    if gives == PROBABILITIES and takes_logits:
        return (
            f"`{argument}` of task {task!r} must take probabilities, since its head {head.name!r} "
            f"ends with softmax or sigmoid. {received} Use `{kind}(from_logits=False)`, or a head "
            "without activation."
        )
    return None


def output_of(head):
    """`"logits"`, `"probabilities"`, or `None` where that cannot be known for certain."""
    if isinstance(head, keras.Sequential):
        return _first_known(reversed(head.layers))
    if isinstance(head, keras.Model):
        return _first_known(_back_from_the_output(head))
    return _of_layer(head)


def _first_known(layers):
    for layer in layers:
        if not isinstance(layer, _TRANSPARENT) and not _does_nothing(layer):
            return output_of(layer)
    return None


def _back_from_the_output(model):
    """The layers from the output of a functional model on backwards, while there is one way."""
    if not isinstance(getattr(model, "output", None), keras.KerasTensor):
        return
    tensor = model.output
    made_by = {}
    for layer in model.layers:
        try:
            made_by[id(layer.output)] = layer
        except (AttributeError, ValueError):  # called more than once
            return
    while id(tensor) in made_by:
        layer = made_by[id(tensor)]
        yield layer
        tensor = layer.input


def _does_nothing(layer):
    """Whether it is `Activation("linear")`; a float policy or a name is all that it adds."""
    return isinstance(layer, keras.layers.Activation) and _name(layer.activation) == "linear"


def _of_layer(layer):
    if isinstance(layer, keras.layers.TimeDistributed):
        return output_of(layer.layer)
    if isinstance(layer, keras.layers.Softmax):
        return PROBABILITIES
    module = type(layer).__module__
    if module.startswith("keras_mtl.heads."):
        return _ACTIVATIONS.get(
            _name(getattr(layer, "activation", None) or keras.activations.linear)
        )
    known = module.startswith("keras.") and not isinstance(layer, keras.layers.RNN)
    return _ACTIVATIONS.get(_name(getattr(layer, "activation", None))) if known else None


def _name(activation):
    return getattr(activation, "__name__", None)
