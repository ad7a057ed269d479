"""What a search may do with an operator: one table by layer class, and the geometry of a skip."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import keras
from keras import layers

from keras_mtl.graph.layer_table import LayerTable
from keras_mtl.graph.operation_costs import einsum_terms


@dataclasses.dataclass(frozen=True)
class Support:
    """What a search may do with the operators of one layer class.

    Args:
        own: bool. Whether tasks may have their own copy.
        skip: bool. Whether it may be skipped, where shapes allow an identity or a projection.
        linear: bool. Whether the output is linear in the weights, all of them together, so that
            copies can be mixed by mixing their weights; before the activation, if it has one.
        activated: bool. Whether a linear operator has an activation in it, which is not part of the
            choice: it runs on whatever was chosen.
        why: string. Why not, in a few words.
    """

    own: bool = True
    skip: bool = True
    linear: bool = False
    activated: bool = False
    why: str = ""


def register_operator(
    layer_class: type[keras.layers.Layer] | str | None = None,
    *,
    own: bool = True,
    skip: bool = True,
    why: str = "",
) -> Any:
    """Says what a search may do with the operators of a layer class.

    It also holds for subclasses without an entry of their own, and takes the place of an earlier
    entry. A skip begins with the layer's first input and needs no code: an identity where shapes
    agree, else a projection. Works as a decorator, with and without arguments.

    Args:
        layer_class: subclass of `keras.layers.Layer`, or the name of one where its library is not
            imported (`"keras_hub>FNetEncoder"`, as Keras has registered it, or `"FNetEncoder"`).
        own: bool. Whether tasks may have their own copy. The copy is cloned from `get_config`.
        skip: bool. Whether it may be left out. Say no where the output means something else than
            the first input, as in an embedding.
        why: string. Why not, in a few words, for `summary()`.

    Returns:
        `layer_class`; without one, a decorator.

    Raises:
        TypeError: when `layer_class` is neither a layer class nor a name.

    Example:

    >>> from keras_mtl.graph import register_operator, support
    >>> @register_operator
    ... class Gate(keras.layers.Dense):
    ...     def call(self, inputs):
    ...         return inputs * keras.ops.sigmoid(super().call(inputs))
    >>> support(Gate(4))
    Support(own=True, skip=True, linear=False, activated=False, why='')
    """
    if layer_class is None:
        return functools.partial(register_operator, own=own, skip=skip, why=why)
    OPERATORS.add(layer_class, Support(own=own, skip=skip, why=why))
    return layer_class


def support(layer: keras.Operation) -> Support:
    """What a search may do with a layer.

    Args:
        layer: `keras.Operation`. A wrapper around another layer is as that one.

    Returns:
        A `Support`. A weighted layer whose class is in no table may be copied, not skipped.

    Example:

    >>> from keras_mtl.graph import support
    >>> support(keras.layers.Conv2D(4, 3))
    Support(own=True, skip=True, linear=True, activated=False, why='')
    >>> support(keras.layers.Conv2D(4, 3, activation="relu")).activated
    True
    """
    found = OPERATORS.find(type(layer))
    if found is not None:
        linear = _is_linear(layer)
        activated = linear and layer.activation not in (None, keras.activations.linear)
        return dataclasses.replace(found, linear=linear, activated=activated)
    if isinstance(layer, layers.Wrapper):
        return dataclasses.replace(support(layer.layer), linear=False, activated=False)
    if isinstance(layer, layers.Layer) and (layer.weights or not layer.built):
        name = type(layer).__name__
        return Support(skip=False, why=f"{name} is in no table (register_operator)")
    return Support(own=False, skip=False, why="has no weights")


def skip_kind(
    layer: keras.Operation, source: Any, target: Any
) -> tuple[Literal["identity", "projection"] | None, str]:
    """How an operator can be skipped: what takes the place of its output.

    The skip begins with the operator's first input; of attention, that is the query.

    Args:
        layer: `keras.Operation`.
        source: `keras.KerasTensor`, or anything with shape and type. The layer's first input.
        target: the same of its output.

    Returns:
        A pair. `"identity"`, where source and target have one shape and type; `"projection"`, where
        a 1x1 projection of the source can have the target's shape; or `None`. With it the reason
        for `None`, in a few words.

    Example:

    >>> from keras_mtl.graph import skip_kind
    >>> source, target = keras.KerasTensor((None, 8, 8, 4)), keras.KerasTensor((None, 4, 4, 4))
    >>> skip_kind(keras.layers.Conv2D(4, 3, padding="same"), source, source)
    ('identity', '')
    >>> skip_kind(keras.layers.Conv2D(4, 3, padding="same", strides=2), source, target)
    ('projection', '')
    >>> skip_kind(keras.layers.Conv2DTranspose(4, 2, strides=2), target, source)
    (None, 'enlarges its input')
    """
    known = support(layer)
    if not known.skip:
        return None, known.why
    old, new = tuple(source.shape), tuple(target.shape)
    if len(old) != len(new):
        return None, "changes the rank"
    moved = _moves(layer, old)
    if moved:
        return None, moved
    unknown = [axis for axis in range(1, len(old)) if None in (old[axis], new[axis])]
    if unknown and not _keeps_lengths(layer, source, target, unknown):
        return None, "changes an unknown length"
    if old[1:] == new[1:] and _alike(_type(source), _type(target)):
        return "identity", ""
    return _projects(layer, source, target)


def _projects(layer, source, target):
    old, new = tuple(source.shape), tuple(target.shape)
    if not keras.backend.is_float_dtype(_type(source)):
        return None, "reads integers"
    if not keras.backend.is_float_dtype(_type(target)):
        return None, "gives integers"
    if len(old) < 2 or None in (old[-1], new[-1]):
        return None, "has no known channels"
    if getattr(_inner(layer), "data_format", None) == "channels_first" and len(old) > 2:
        return None, "channels_first"
    # Channels may grow; a size that is unknown is kept.
    if any(n is not None and m > n for n, m in zip(old[1:-1], new[1:-1], strict=True)):
        return None, "enlarges its input"
    return "projection", ""


def _alike(old, new):
    """Whether types agree; of mixed precision, that both are floating."""
    return old == new or (keras.backend.is_float_dtype(old) and keras.backend.is_float_dtype(new))


def _type(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def _inner(layer):
    """The layer that does the work in a wrapper."""
    if isinstance(layer, layers.Bidirectional):
        return _inner(layer.forward_layer)
    return _inner(layer.layer) if isinstance(layer, layers.Wrapper) else layer


def _moves(layer, shape):
    """Says so where equal shapes do not mean equal places."""
    inner = _inner(layer)
    if getattr(inner, "go_backwards", False) and getattr(inner, "return_sequences", False):
        return "reverses its sequence"
    if isinstance(layer, layers.EinsumDense):
        (data, _), result = einsum_terms(layer.equation, len(shape), 0)
        if any(label in result and result.index(label) != i for i, label in enumerate(data)):
            return "moves its axes"
    return ""


def _keeps_lengths(layer, source, target, axes):
    """Whether sizes that are unknown before the first call come out as they go in."""
    if any(tensor.shape[axis] is not None for axis in axes for tensor in (source, target)):
        return False
    if isinstance(layer, (*_ATTENTION, layers.EinsumDense)):
        return True  # a place for every place of the query; `_moves` has seen the equation
    tried = tuple(96 * i if i in axes else size for i, size in enumerate(source.shape))
    try:
        found = layer.compute_output_spec(keras.KerasTensor(tried, _type(source)))
        found = keras.tree.flatten(found)[0].shape
        return all(found[axis] == tried[axis] for axis in axes)
    except Exception:  # a user's layer may refuse one tensor in any way: then it is not known
        return False


def _is_linear(layer):
    return (
        type(layer) in _LINEAR
        and not isinstance(layer.activation, layers.Layer)
        and layer.activity_regularizer is None
        and layer.quantization_mode is None
        and not getattr(layer, "lora_enabled", False)
    )


# Subclasses are left out: they may override `call`.
_LINEAR = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.Dense,
    layers.EinsumDense,
)
_ATTENTION = (
    layers.MultiHeadAttention,
    layers.GroupQueryAttention,
    layers.Attention,
    layers.AdditiveAttention,
)
_RECURRENT = (
    layers.SimpleRNN,
    layers.LSTM,
    layers.GRU,
    layers.RNN,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.Bidirectional,
)
_NORMALISATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
)
_ENTRIES = (
    (
        (
            *_LINEAR,
            layers.SeparableConv1D,
            layers.SeparableConv2D,
            *_RECURRENT,
            *_ATTENTION,
            layers.PReLU,
            "LayerScale",  # of `keras.applications`
            "keras_hub>TransformerEncoder",
            "keras_hub>TransformerDecoder",
            "keras_hub>FNetEncoder",
        ),
        Support(),
    ),
    (
        (
            layers.Embedding,
            "ReversibleEmbedding",  # of Keras 3.12 and later
            "keras_hub>TokenAndPositionEmbedding",
        ),
        Support(skip=False, why="turns numbers into vectors"),
    ),
    (("keras_hub>PositionEmbedding",), Support(skip=False, why="gives places, not its input")),
    (_NORMALISATIONS, Support(skip=False, why="is a normalisation")),
)

OPERATORS = LayerTable()
for _classes, _support in _ENTRIES:
    for _class in _classes:
        OPERATORS.add(_class, _support)
