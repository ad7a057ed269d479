"""The entries of the FLOPs table for Keras' and KerasHub's layers."""

import math

import keras

from keras_mtl.graph.costs import flops, free, register_flops
from keras_mtl.graph.operation_costs import num_positions


def _channels(shape, data_format):
    return shape[1] if data_format == "channels_first" else shape[-1]


@register_flops(keras.layers.Conv1D)
@register_flops(keras.layers.Conv2D)
@register_flops(keras.layers.Conv3D)
def _convolution(layer, inputs, outputs):
    channels = _channels(inputs[0], layer.data_format) // layer.groups
    positions = num_positions(outputs[0], layer.data_format)
    return 2 * positions * math.prod(layer.kernel_size) * channels * layer.filters


@register_flops(keras.layers.Conv1DTranspose)
@register_flops(keras.layers.Conv2DTranspose)
@register_flops(keras.layers.Conv3DTranspose)
def _transposed_convolution(layer, inputs, outputs):
    # Every input position is multiplied with the whole kernel; strides only spread the results.
    channels = _channels(inputs[0], layer.data_format)
    positions = num_positions(inputs[0], layer.data_format)
    return 2 * positions * math.prod(layer.kernel_size) * channels * layer.filters


@register_flops(keras.layers.DepthwiseConv1D)
@register_flops(keras.layers.DepthwiseConv2D)
def _depthwise_convolution(layer, inputs, outputs):
    channels = _channels(inputs[0], layer.data_format) * layer.depth_multiplier
    return (
        2 * num_positions(outputs[0], layer.data_format) * math.prod(layer.kernel_size) * channels
    )


@register_flops(keras.layers.SeparableConv1D)
@register_flops(keras.layers.SeparableConv2D)
def _separable_convolution(layer, inputs, outputs):
    channels = _channels(inputs[0], layer.data_format) * layer.depth_multiplier
    positions = num_positions(outputs[0], layer.data_format)
    return 2 * positions * channels * (math.prod(layer.kernel_size) + layer.filters)


@register_flops(keras.layers.Dense)
def _dense(layer, inputs, outputs):
    return 2 * math.prod(inputs[0]) * layer.units


@register_flops("ReversibleEmbedding")  # of Keras 3.12 and later
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
    positions = num_positions((1, *result), layer.data_format)
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
    if config.get("use_gate"):  # unknown to older versions of Keras
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
    of_query = 3 if layer.get_config().get("use_gate") else 2
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


def _query_value_key(shapes):
    query, value, *rest = shapes
    # A third shape with other positions than the value's is a mask, not the key.
    key = rest[0] if rest and rest[0][1:-1] == value[1:-1] else value
    return query, value, key


def _self_attention(positions, width, heads):
    inner = width // heads * heads
    return 4 * positions * width * inner + 2 * positions**2 * inner


@register_flops("keras_hub>TransformerEncoder")
def _transformer_encoder(layer, inputs, outputs):
    _, length, width = inputs[0]
    dense = 2 * length * width * layer.intermediate_dim
    return 2 * (_self_attention(length, width, layer.num_heads) + dense)


@register_flops("keras_hub>TransformerDecoder")
def _transformer_decoder(layer, inputs, outputs):
    _, length, width = inputs[0]
    encoder = layer.get_config()["encoder_sequence_shape"]
    cross = 0
    if encoder:
        # Masks may stand before it: it is told by its width.
        (_, others, _), *_ = (x for x in inputs[1:] if len(x) == 3 and x[-1] == encoder[-1])
        inner = width // layer.num_heads * layer.num_heads
        cross = 2 * inner * (length * width + others * encoder[-1] + length * others)
    return _transformer_encoder(layer, inputs, outputs) + 2 * cross


@register_flops("keras_hub>FNetEncoder")
def _fnet_encoder(layer, inputs, outputs):
    # The Fourier transform has no weights.
    return 2 * 2 * math.prod(inputs[0]) * layer.intermediate_dim


# Weighted layers that multiply element by element or look up a row: nothing to count, no warning.
for _class in (
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
    "LayerScale",  # of `keras.applications`, not exported
    "keras_hub>PositionEmbedding",
    "keras_hub>TokenAndPositionEmbedding",
):
    register_flops(_class)(free)
