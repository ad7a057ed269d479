"""What one call of a Keras operation costs: floating-point operations and parameters.

The library keeps its own table because TensorFlow's profiler only sees TensorFlow graphs and does
not price recurrent layers and attention products. One entry per layer class, looked up along the
class's method resolution order; `register_flops` adds an entry.
"""

import itertools
import math
import warnings

import keras

from keras_mtl.graph.backbone_graph import is_functional

__all__ = ["UnknownCostWarning", "flops", "parameters", "register_flops"]


class UnknownCostWarning(UserWarning):
    """A weighted layer has no entry in the FLOPs table, so that its calls count as zero.

    Register the class with `keras_mtl.graph.costs.register_flops` to price it. The warning comes
    once per class.

    Example:

    >>> issubclass(UnknownCostWarning, UserWarning)
    True
    """


_TABLE = {}
_WARNED = set()


def register_flops(layer_class):
    """Decorates the function that prices one layer class.

    The function is called as `function(layer, inputs, outputs)`, where `inputs` and `outputs` are
    lists of shapes with batch 1 and no unknown entry, and returns the FLOPs of one call. It also
    prices subclasses that have no entry of their own. A second entry for a class replaces the
    first.

    Args:
        layer_class: class. A subclass of `keras.layers.Layer`.

    Returns:
        A decorator that stores a function and returns it unchanged.

    Raises:
        TypeError: when `layer_class` is not a layer class.

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
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise TypeError(
            "`layer_class` must be a subclass of `keras.layers.Layer`. "
            f"Received: layer_class={layer_class!r}."
        )

    def store(function):
        _TABLE[layer_class] = function
        return function

    return store


def flops(operation, inputs, outputs):
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
        function = _OPERATIONS.get(type(operation).__name__, _free)
    if function is _free:
        return 0
    if function is _einsum_dense and operation.built:
        # Keras leaves its result unknown where `output_shape` has a None; the kernel is enough.
        outputs = []
    inputs, outputs = _known_shapes(operation, inputs, outputs)
    return int(function(operation, inputs, outputs))


def parameters(operation):
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
    for cls in type(layer).__mro__:
        if cls is keras.Model and not is_functional(layer):
            break
        if cls in _TABLE:
            return _TABLE[cls]
        if cls in _FREE:
            return _free
    if type(layer).__name__ in _FREE_NAMES or not layer.weights:
        return _free
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
    return _free


def _free(operation, inputs, outputs):
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


def _positions(shape, data_format):
    return math.prod(shape[2:] if data_format == "channels_first" else shape[1:-1])


def _channels(shape, data_format):
    return shape[1] if data_format == "channels_first" else shape[-1]


@register_flops(keras.layers.Conv1D)
@register_flops(keras.layers.Conv2D)
@register_flops(keras.layers.Conv3D)
def _convolution(layer, inputs, outputs):
    channels = _channels(inputs[0], layer.data_format) // layer.groups
    positions = _positions(outputs[0], layer.data_format)
    return 2 * positions * math.prod(layer.kernel_size) * channels * layer.filters


@register_flops(keras.layers.Conv1DTranspose)
@register_flops(keras.layers.Conv2DTranspose)
@register_flops(keras.layers.Conv3DTranspose)
def _transposed_convolution(layer, inputs, outputs):
    # Every input position is multiplied with the whole kernel; strides only spread the results.
    channels = _channels(inputs[0], layer.data_format)
    positions = _positions(inputs[0], layer.data_format)
    return 2 * positions * math.prod(layer.kernel_size) * channels * layer.filters


@register_flops(keras.layers.DepthwiseConv1D)
@register_flops(keras.layers.DepthwiseConv2D)
def _depthwise_convolution(layer, inputs, outputs):
    channels = _channels(inputs[0], layer.data_format) * layer.depth_multiplier
    return 2 * _positions(outputs[0], layer.data_format) * math.prod(layer.kernel_size) * channels


@register_flops(keras.layers.SeparableConv1D)
@register_flops(keras.layers.SeparableConv2D)
def _separable_convolution(layer, inputs, outputs):
    channels = _channels(inputs[0], layer.data_format) * layer.depth_multiplier
    positions = _positions(outputs[0], layer.data_format)
    return 2 * positions * channels * (math.prod(layer.kernel_size) + layer.filters)


@register_flops(keras.layers.Dense)
def _dense(layer, inputs, outputs):
    return 2 * math.prod(inputs[0]) * layer.units


@register_flops(keras.layers.EinsumDense)
def _einsum_dense(layer, inputs, outputs):
    (data, kernel), result = _einsum_terms(layer.equation, len(inputs[0]), 0)
    if layer.built:
        sizes = _einsum_sizes([data, kernel], [inputs[0], tuple(layer.kernel.shape)])
    else:
        sizes = _einsum_sizes([data, result], [inputs[0], outputs[0]])
    return _contraction([data, kernel], result, sizes)


@register_flops(keras.layers.ReversibleEmbedding)
def _reversible_embedding(layer, inputs, outputs):
    # The forward look-up is free; reversed, the layer is a dense projection to the vocabulary.
    if len(outputs[0]) > len(inputs[0]):
        return 0
    return 2 * math.prod(inputs[0]) * layer.input_dim


def _width(cell):
    size = cell.state_size
    return size if isinstance(size, int) else size[0]


@register_flops(keras.layers.SimpleRNNCell)
def _simple_cell(layer, inputs, outputs):
    return 2 * layer.units * (inputs[0][-1] + layer.units)


@register_flops(keras.layers.GRUCell)
def _gru_cell(layer, inputs, outputs):
    return 2 * 3 * layer.units * (inputs[0][-1] + layer.units)


@register_flops(keras.layers.LSTMCell)
def _lstm_cell(layer, inputs, outputs):
    return 2 * 4 * layer.units * (inputs[0][-1] + layer.units)


@register_flops(keras.layers.StackedRNNCells)
def _stacked_cells(layer, inputs, outputs):
    total, shape = 0, inputs[0]
    for cell in layer.cells:
        result = (1, _width(cell))
        total += flops(cell, [shape], [result])
        shape = result
    return total


@register_flops(keras.layers.RNN)
def _recurrent(layer, inputs, outputs):
    # LSTM, GRU and SimpleRNN are RNN layers around their cells.
    _, steps, *features = inputs[0]
    return steps * flops(layer.cell, [(1, *features)], [(1, outputs[0][-1])])


@register_flops(keras.layers.ConvLSTM1D)
@register_flops(keras.layers.ConvLSTM2D)
@register_flops(keras.layers.ConvLSTM3D)
def _convolutional_recurrent(layer, inputs, outputs):
    frame = (1, *inputs[0][2:])
    result = outputs[0][-len(frame) + 1 :]
    positions = _positions((1, *result), layer.data_format)
    kernel = 4 * layer.filters * math.prod(layer.kernel_size)
    # Input kernel and recurrent kernel both end at the size of the state.
    channels = _channels(frame, layer.data_format) + layer.filters
    return 2 * inputs[0][1] * positions * kernel * channels


@register_flops(keras.layers.Bidirectional)
def _bidirectional(layer, inputs, outputs):
    both = (layer.forward_layer, layer.backward_layer)
    return sum(flops(each, inputs[:1], outputs[:1]) for each in both)


@register_flops(keras.layers.TimeDistributed)
def _time_distributed(layer, inputs, outputs):
    (_, steps, *frame), (_, _, *result) = inputs[0], outputs[0]
    return steps * flops(layer.layer, [(1, *frame)], [(1, *result)])


@register_flops(keras.layers.SpectralNormalization)
def _spectral_normalization(layer, inputs, outputs):
    return flops(layer.layer, inputs, outputs)


@register_flops(keras.layers.MultiHeadAttention)
def _multi_head_attention(layer, inputs, outputs):
    config = layer.get_config()
    query, value, key = _query_value_key(inputs)
    heads, key_dim = config["num_heads"], config["key_dim"]
    value_dim = config["value_dim"] or key_dim
    output_dim = math.prod(keras.tree.flatten(config["output_shape"] or query[-1]))
    num_queries, num_values = math.prod(query[1:-1]), math.prod(value[1:-1])
    projections = num_queries * query[-1] * heads * key_dim
    projections += num_values * heads * (key[-1] * key_dim + value[-1] * value_dim)
    projections += num_queries * heads * value_dim * output_dim
    if config["use_gate"]:
        projections += num_queries * query[-1] * heads * value_dim
    axes = config["attention_axes"] or range(1, len(query) - 1)
    axes = (axes,) if isinstance(axes, int) else axes
    attended = math.prod(value[axis] for axis in axes)
    return 2 * (projections + num_queries * attended * heads * (key_dim + value_dim))


@register_flops(keras.layers.GroupQueryAttention)
def _group_query_attention(layer, inputs, outputs):
    query, value, key = _query_value_key(inputs)
    num_queries, num_values = query[1], value[1]
    head_dim, heads = layer.head_dim, layer.num_query_heads
    # Query, output and, where asked for, gate projections all have the query's heads.
    of_query = 3 if layer.get_config()["use_gate"] else 2
    projections = of_query * num_queries * query[-1] * heads * head_dim
    projections += num_values * (key[-1] + value[-1]) * layer.num_key_value_heads * head_dim
    return 2 * (projections + 2 * num_queries * num_values * heads * head_dim)


@register_flops(keras.layers.Attention)
def _dot_product_attention(layer, inputs, outputs):
    query, value, key = _query_value_key(inputs)
    pairs = math.prod(query[:-1]) * value[-2]
    # Concatenation scores are a sum of tanh: additions only.
    score = key[-1] if layer.score_mode == "dot" else 0
    return 2 * pairs * (score + value[-1])


@register_flops(keras.layers.AdditiveAttention)
def _additive_attention(layer, inputs, outputs):
    query, value, key = _query_value_key(inputs)
    pairs = math.prod(query[:-1]) * value[-2]
    # With a scale the score is a product with a weight vector, without it a sum of tanh.
    score = key[-1] if layer.use_scale else 0
    return 2 * pairs * (score + value[-1])


@register_flops(keras.layers.Dot)
def _dot_layer(layer, inputs, outputs):
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return 2 * math.prod(outputs[0]) * inputs[0][axis]


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


def _query_value_key(shapes):
    query, value, *rest = shapes
    # A third shape with other positions than the value's is a mask, not the key.
    key = rest[0] if rest and rest[0][1:-1] == value[1:-1] else value
    return query, value, key


def _einsum_terms(equation, rank, position):
    """Operands and result as strings of labels; `rank` is that of the term at `position`."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        once = [letter for letter in sorted(set(left) - set(",.")) if left.count(letter) == 1]
        right = "..." * ("..." in left) + "".join(once)
    terms = [*left.split(","), right]
    # Labels are letters, so that digits are free to name the axes of an ellipsis.
    axes = "0123456789"[: max(rank - len(terms[position].replace("...", "")), 0)]
    *terms, right = [term.replace("...", axes) for term in terms]
    return terms, right


def _einsum_sizes(terms, shapes):
    sizes = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            return None
        for label, size in zip(term, shape, strict=True):
            if size != 1 and sizes.get(label, 1) not in (1, size):
                return None
            sizes[label] = max(size, sizes.get(label, 1))
    return sizes


def _contraction(terms, result, sizes):
    # Operands are joined two at a time, from the left; only a summed label makes multiply-adds.
    total, current = 0, set(terms[0])
    for index, term in enumerate(terms[1:], start=2):
        needed = set(result).union(*terms[index:])
        operand = set(term) & (current | needed)
        current = (current & (set(term) | needed)) | operand
        if current - needed:
            total += 2 * math.prod(sizes.get(label, 1) for label in current)
        current &= needed
    return total


def _einsum(operation, inputs, outputs):
    terms, result = _einsum_terms(operation.subscripts, len(outputs[0]), -1)
    # A constant operand is no tensor of the graph: the shapes tell which operands are given.
    for given in itertools.combinations(terms, len(inputs)):
        sizes = _einsum_sizes([*given, result], [*inputs, outputs[0]])
        if sizes is not None:
            return _contraction(terms, result, sizes)
    raise ValueError(
        f"`inputs` must fit the equation {operation.subscripts!r} of operation "
        f"'{operation.name}'. Received: inputs={inputs}, outputs={outputs}."
    )


def _inner(operation, inputs, outputs):
    if not all(inputs):
        return 0
    contracted = inputs[0][-1]
    # One shape alone: the other operand is a constant, on the left if the left sizes changed.
    if len(inputs) == 1 and len(inputs[0]) > 1 and inputs[0][:-1] != outputs[0][:-1]:
        contracted = inputs[0][-2]
    return 2 * math.prod(outputs[0]) * contracted


def _tensordot(operation, inputs, outputs):
    axes, first = operation.axes, inputs[0]
    if isinstance(axes, int):
        axes = range(len(first) - axes, len(first))
    else:
        axes = (axes[0],) if isinstance(axes[0], int) else axes[0]
    if not len(axes):
        return 0
    return 2 * math.prod(outputs[0]) * math.prod(first[axis] for axis in axes)


def _attention_product(operation, inputs, outputs):
    query, key = inputs[:2]
    value = inputs[2] if len(inputs) > 2 else key
    return 2 * math.prod(query[:-1]) * key[1] * (query[-1] + value[-1])


def _kernel_operation(operation, inputs, outputs):
    where = inputs[0] if type(operation).__name__ == "ConvTranspose" else outputs[0]
    kernels = sum(math.prod(shape) for shape in inputs[1:])
    return 2 * _positions(where, operation.data_format) * kernels


# Keras does not export the classes of its operations, so that they are told by their names.
_OPERATIONS = {
    "Matmul": _inner,
    "Dot": _inner,
    "Inner": _inner,
    "Vdot": _inner,
    "Einsum": _einsum,
    "Tensordot": _tensordot,
    "DotProductAttention": _attention_product,
    "Conv": _kernel_operation,
    "DepthwiseConv": _kernel_operation,
    "SeparableConv": _kernel_operation,
    "ConvTranspose": _kernel_operation,
}

# Weighted layers that multiply element by element or look up a row: nothing to count, no warning.
_FREE = {
    keras.layers.BatchNormalization,
    keras.layers.Discretization,
    keras.layers.Embedding,
    keras.layers.GroupNormalization,
    keras.layers.IntegerLookup,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.RMSNormalization,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
    keras.layers.UnitNormalization,
}

# The same for classes that Keras uses in its applications but does not export.
_FREE_NAMES = {"LayerScale"}
