"""What one call of a Keras operation costs: floating-point operations and parameters.

The library keeps its own table because TensorFlow's profiler only sees TensorFlow graphs and does
not price recurrent layers and attention products. One entry per layer class, looked up along the
class's method resolution order; `register_flops` adds an entry. Those of Keras' and KerasHub's
layers are in `layer_costs.py`.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_mtl.graph.backbone_graph import is_functional
from keras_mtl.graph.layer_table import LayerTable
from keras_mtl.graph.operation_costs import OPERATIONS, contraction, einsum_sizes, einsum_terms

__all__ = ["UnknownCostWarning", "flops", "parameters", "register_flops"]


class UnknownCostWarning(UserWarning):
    """A weighted layer has no entry in the FLOPs table, so that its calls count as zero.

    Register the class with `keras_mtl.graph.costs.register_flops` to price it. The warning comes
    once per class.

    Example:

    >>> issubclass(UnknownCostWarning, UserWarning)
    True
    """


_TABLE = LayerTable()
_WARNED: set = set()


def register_flops(layer_class: type[keras.layers.Layer] | str) -> Callable[..., Any]:
    """Decorates the function that prices one layer class.

    The function is called as `function(layer, inputs, outputs)`, where `inputs` and `outputs` are
    lists of shapes with batch 1 and no unknown entry, and returns the FLOPs of one call. It also
    prices subclasses that have no entry of their own. A second entry for a class replaces the
    first.

    Args:
        layer_class: subclass of `keras.layers.Layer`, or the name of one where its library is not
            imported (`"keras_hub>FNetEncoder"`, as Keras has registered it, or `"FNetEncoder"`).

    Returns:
        A decorator that stores a function and returns it unchanged.

    Raises:
        TypeError: when `layer_class` is neither a layer class nor a name.

    Example:

    >>> class Outer(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.table = self.add_weight(shape=(input_shape[-1], 10))
    ...
    ...     def call(self, inputs):
    ...         return keras.ops.matmul(inputs, self.table)
    >>> @register_flops(Outer)
    ... def outer_flops(layer, inputs, outputs):
    ...     return 2 * inputs[0][-1] * 10
    >>> flops(Outer(), [(None, 4)], [(None, 10)])
    80
    """
    LayerTable.check(layer_class)

    def store(function):
        _TABLE.add(layer_class, function)
        return function

    return store


def flops(
    operation: keras.Operation,
    inputs: Sequence[Sequence[int | None]],
    outputs: Sequence[Sequence[int | None]],
) -> int:
    """FLOPs of one call of a Keras operation at batch size 1.

    FLOPs = 2 x multiply-adds of weighted operators and of attention products; normalisation,
    activation, pooling, additions and biases count 0. A weighted layer that is in no table counts
    0 and warns once per class (`UnknownCostWarning`). An operation that costs nothing is 0 at any
    size, known or not.

    Args:
        operation: `keras.Operation`. A layer, or the operation object of a functional graph.
        inputs: list of tuples. Shapes of the tensors of the call, in the order of its arguments;
            batch first, `None` or an int. Attention layers: query, value and, where given, key.
        outputs: list of tuples. Shapes of the results.

    Returns:
        An int.

    Raises:
        TypeError: when `operation` is not a Keras operation.
        ValueError: when a size other than the batch is unknown.

    Example:

    >>> flops(keras.layers.Conv2D(8, 3), [(None, 6, 6, 3)], [(None, 4, 4, 8)])
    6912
    >>> flops(keras.layers.BatchNormalization(), [(None, 6, 6, 3)], [(None, 6, 6, 3)])
    0
    """
    if not isinstance(operation, keras.Operation):
        raise TypeError(
            "`operation` must be a Keras layer or operation. "
            f"Received: operation={operation!r} (of type {type(operation).__name__})."
        )
    if isinstance(operation, keras.layers.Layer):
        function = _layer_entry(operation)
    else:
        function = OPERATIONS.get(type(operation).__name__, free)
    if function is free:
        return 0
    if function is _einsum_dense and operation.built:
        # Keras leaves its result unknown where `output_shape` has a None; the kernel is enough.
        outputs = []
    inputs, outputs = _known_shapes(operation, inputs, outputs)
    return int(function(operation, inputs, outputs))


def parameters(operation: keras.Operation) -> int:
    """Number of scalars in the weights of a layer, trainable or not; 0 for a plain operation.

    A layer that is not built yet has no weights and counts 0.

    Args:
        operation: `keras.Operation`. A layer, or the operation object of a functional graph.

    Returns:
        An int.

    Example:

    >>> layer = keras.layers.Dense(3)
    >>> layer.build((None, 4))
    >>> parameters(layer)
    15
    """
    if not isinstance(operation, keras.layers.Layer):
        return 0
    return sum(math.prod(weight.shape) for weight in operation.weights)


def _layer_entry(layer):
    function = _TABLE.find(type(layer))
    hidden = function is _functional_model and not is_functional(layer)
    if function is not None and not hidden:
        return function
    if not layer.weights:
        return free
    if type(layer) not in _WARNED:
        _WARNED.add(type(layer))
        name = type(layer).__name__
        warnings.warn(
            f"Layer '{layer.name}' of class {name} has weights but no entry in the FLOPs table: "
            "its calls count as 0 FLOPs. Use "
            f"`@keras_mtl.graph.costs.register_flops({name})` on a function "
            "`(layer, inputs, outputs) -> int` to price it.",
            UnknownCostWarning,
            stacklevel=3,
        )
    return free


def free(operation, inputs, outputs):
    """The entry of layers that multiply element by element or look up a row."""
    return 0


def _known_shapes(operation, inputs, outputs):
    batch = outputs[0][0] if outputs and outputs[0] else None
    known = []
    for argument, shapes in (("inputs", inputs), ("outputs", outputs)):
        checked = []
        for shape in shapes:
            if any(size is None for size in shape[1:]):
                raise ValueError(
                    f"`{argument}` must have known sizes after the batch axis. "
                    f"Received: {argument}={[tuple(each) for each in shapes]} "
                    f"for operation '{operation.name}'. Use a backbone with a fixed input size, "
                    "for example `keras.Input((224, 224, 3))`."
                )
            # A plain operation may take a constant, whose first size is no batch.
            is_layer = isinstance(operation, keras.layers.Layer)
            if shape and (shape[0] is None or is_layer or shape[0] == batch):
                shape = (1, *shape[1:])
            checked.append(tuple(shape))
        known.append(checked)
    return known


@register_flops(keras.layers.EinsumDense)
def _einsum_dense(layer, inputs, outputs):
    (data, kernel), result = einsum_terms(layer.equation, len(inputs[0]), 0)
    if layer.built:
        sizes = einsum_sizes([data, kernel], [inputs[0], tuple(layer.kernel.shape)])
    else:
        sizes = einsum_sizes([data, result], [inputs[0], outputs[0]])
    return contraction([data, kernel], result, sizes)


@register_flops(keras.Model)
def _functional_model(model, inputs, outputs):
    tensors = [
        keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)
        for shape, tensor in zip(inputs, model.inputs, strict=True)
    ]
    total = 0

    def price(operation, *args, **kwargs):
        nonlocal total
        results = operation(*args, **kwargs)
        total += flops(operation, _shapes((args, kwargs)), _shapes(results))
        return results

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            tensors = price(layer, *keras.tree.flatten(tensors))
    else:
        keras.models.clone_model(
            model,
            input_tensors=keras.tree.pack_sequence_as(model.input, tensors),
            clone_function=lambda layer: layer,
            call_function=price,
        )
    return total


def _shapes(structure):
    leaves = keras.tree.flatten(structure)
    return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, keras.KerasTensor)]
