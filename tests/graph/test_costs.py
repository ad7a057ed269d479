"""The FLOPs table: by hand for every entry, against the profiler for whole backbones."""

import inspect
import warnings

import keras
import pytest
from keras import layers

from keras_mtl.graph import costs
from keras_mtl.graph.costs import UnknownCostWarning, flops, parameters, register_flops
from tests.profiler import profiled_flops


def call_flops(operation, *shapes):
    """Prices the call of a layer on tensors of these shapes (batch axis left out)."""
    inputs = [keras.Input(shape) for shape in shapes]
    results = operation(*inputs)
    outputs = [tuple(each.shape) for each in keras.tree.flatten(results)]
    return flops(operation, [tuple(each.shape) for each in inputs], outputs)


LAYERS = {
    "conv1d": (layers.Conv1D(5, 3), [(10, 4)], 2 * 8 * 3 * 4 * 5),
    "conv2d": (layers.Conv2D(8, (3, 2)), [(6, 6, 3)], 2 * (4 * 5) * (3 * 2) * 3 * 8),
    "conv2d_same": (layers.Conv2D(8, 3, padding="same"), [(6, 6, 3)], 2 * 36 * 9 * 3 * 8),
    "conv2d_strides": (
        layers.Conv2D(8, 3, strides=2, padding="same"),
        [(6, 6, 3)],
        2 * 9 * 9 * 3 * 8,
    ),
    "conv2d_dilation": (layers.Conv2D(8, 3, dilation_rate=2), [(6, 6, 3)], 2 * 4 * 9 * 3 * 8),
    "conv2d_groups": (layers.Conv2D(8, 3, groups=4), [(6, 6, 12)], 2 * 16 * 9 * 3 * 8),
    "conv3d": (layers.Conv3D(2, 2), [(4, 4, 4, 3)], 2 * 27 * 8 * 3 * 2),
    "conv1d_transpose": (layers.Conv1DTranspose(5, 3), [(10, 4)], 2 * 10 * 3 * 4 * 5),
    "conv2d_transpose": (
        layers.Conv2DTranspose(5, 4, strides=2, padding="same"),
        [(6, 6, 3)],
        2 * 36 * 16 * 3 * 5,
    ),
    "conv3d_transpose": (layers.Conv3DTranspose(2, 2), [(3, 3, 3, 4)], 2 * 27 * 8 * 4 * 2),
    "depthwise1d": (layers.DepthwiseConv1D(3, depth_multiplier=2), [(10, 4)], 2 * 8 * 3 * 8),
    "depthwise2d": (layers.DepthwiseConv2D(3, depth_multiplier=2), [(6, 6, 4)], 2 * 16 * 9 * 8),
    "separable1d": (
        layers.SeparableConv1D(5, 3, depth_multiplier=2),
        [(10, 4)],
        2 * 8 * 3 * 8 + 2 * 8 * 8 * 5,
    ),
    "separable2d": (
        layers.SeparableConv2D(5, 3, strides=2),
        [(7, 7, 4)],
        2 * 9 * 9 * 4 + 2 * 9 * 4 * 5,
    ),
    "dense": (layers.Dense(5), [(4,)], 2 * 4 * 5),
    "dense_rank_4": (layers.Dense(5), [(3, 2, 4)], 2 * 6 * 4 * 5),
    "einsum_dense": (layers.EinsumDense("abc,cde->abde", (None, 3, 2)), [(7, 4)], 2 * 7 * 4 * 6),
    "einsum_dense_ellipsis": (
        layers.EinsumDense("...x,xy->...y", (5,)),
        [(7, 6, 4)],
        2 * 7 * 6 * 4 * 5,
    ),
    "einsum_dense_scale": (layers.EinsumDense("abc,c->abc", (None, 4)), [(7, 4)], 0),
    "embedding": (layers.Embedding(10, 4), [(7,)], 0),
    "simple_rnn": (layers.SimpleRNN(5), [(7, 4)], 2 * 7 * 5 * (4 + 5)),
    "gru": (layers.GRU(5, return_sequences=True), [(7, 4)], 2 * 7 * 3 * 5 * (4 + 5)),
    "lstm": (layers.LSTM(5, return_state=True), [(7, 4)], 2 * 7 * 4 * 5 * (4 + 5)),
    "stacked_cells": (
        layers.RNN([layers.LSTMCell(5), layers.GRUCell(3)]),
        [(7, 4)],
        7 * (2 * 4 * 5 * (4 + 5) + 2 * 3 * 3 * (5 + 3)),
    ),
    "conv_lstm1d": (
        layers.ConvLSTM1D(2, 3, padding="same", return_sequences=True),
        [(5, 8, 3)],
        2 * 5 * 8 * 4 * 2 * 3 * (3 + 2),
    ),
    "conv_lstm2d": (
        layers.ConvLSTM2D(2, 3),
        [(5, 8, 8, 3)],
        2 * 5 * 36 * 4 * 2 * 9 * (3 + 2),
    ),
    "conv_lstm3d": (
        layers.ConvLSTM3D(2, 1),
        [(5, 2, 2, 2, 3)],
        2 * 5 * 8 * 4 * 2 * (3 + 2),
    ),
    "bidirectional": (
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
        [(7, 4)],
        2 * 2 * 7 * 4 * 5 * (4 + 5),
    ),
    "time_distributed": (
        layers.TimeDistributed(layers.Conv2D(8, 3)),
        [(5, 6, 6, 3)],
        5 * 6912,
    ),
    "spectral": (layers.SpectralNormalization(layers.Dense(5)), [(4,)], 2 * 4 * 5),
    "multi_head_attention": (
        layers.MultiHeadAttention(2, 3, value_dim=5),
        [(7, 8), (6, 4)],
        2 * (7 * 8 * 6 + 6 * 4 * 6 + 6 * 4 * 10 + 7 * 6 * 2 * 3 + 7 * 6 * 2 * 5 + 7 * 10 * 8),
    ),
    "multi_head_attention_key": (
        layers.MultiHeadAttention(2, 3, output_shape=9),
        [(7, 8), (6, 4), (6, 5)],
        2 * (7 * 8 * 6 + 6 * 4 * 6 + 6 * 5 * 6 + 2 * 7 * 6 * 6 + 7 * 6 * 9),
    ),
    "multi_head_attention_axes": (
        layers.MultiHeadAttention(2, 3, attention_axes=2),
        [(5, 7, 8), (5, 7, 8)],
        2 * (4 * 35 * 8 * 6 + 2 * 5 * 7 * 7 * 6),
    ),
    "group_query_attention": (
        layers.GroupQueryAttention(3, 4, 2),
        [(7, 8), (6, 8)],
        2 * (7 * 8 * 12 + 2 * 6 * 8 * 6 + 2 * 7 * 6 * 12 + 7 * 12 * 8),
    ),
    "batch_normalization": (layers.BatchNormalization(), [(6, 6, 3)], 0),
    "prelu": (layers.PReLU(), [(6, 6, 3)], 0),
    "pooling": (layers.MaxPooling2D(), [(6, 6, 3)], 0),
    "any_size": (layers.LayerNormalization(), [(None, 3)], 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_by_hand(name):
    layer, shapes, expected = LAYERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownCostWarning)
        assert call_flops(layer, *shapes) == expected


def test_list_layers_by_hand():
    query, value, key = (None, 7, 4), (None, 6, 5), (None, 6, 4)
    result = [(None, 7, 5)]
    assert flops(layers.Attention(), [query, value, key], result) == 2 * 7 * 6 * (4 + 5)
    concat = layers.Attention(score_mode="concat")
    assert flops(concat, [query, value, key], result) == 2 * 7 * 6 * 5
    assert flops(layers.AdditiveAttention(), [query, value, key], result) == 2 * 7 * 6 * (4 + 5)
    unscaled = layers.AdditiveAttention(use_scale=False)
    assert flops(unscaled, [query, value, key], result) == 2 * 7 * 6 * 5
    assert flops(layers.Dot(axes=1), [(None, 7, 4), (None, 7, 5)], [(None, 4, 5)]) == 2 * 7 * 20
    assert flops(layers.Dot(axes=(2, 1)), [(None, 3, 7), (None, 7)], [(None, 3)]) == 2 * 7 * 3
    unbuilt = layers.EinsumDense("abc,cd->abd", (None, 5))
    assert flops(unbuilt, [(None, 7, 4)], [(None, 7, 5)]) == 2 * 7 * 4 * 5
    # A mask in the third place is not taken for the key.
    attention = layers.MultiHeadAttention(2, 3)
    shapes = [(None, 7, 8), (None, 6, 8)]
    with_mask = flops(attention, [*shapes, (None, 7, 6)], [(None, 7, 8)])
    assert with_mask == flops(attention, shapes, [(None, 7, 8)])


@pytest.mark.skipif(
    "use_gate" not in inspect.signature(layers.MultiHeadAttention).parameters,
    reason="Keras before 3.14",
)
def test_gated_attention():
    gated = layers.MultiHeadAttention(2, 3, use_gate=True)
    plain = layers.MultiHeadAttention(2, 3)
    assert call_flops(gated, (7, 8), (6, 4)) - call_flops(plain, (7, 8), (6, 4)) == 2 * 7 * 8 * 6


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="Keras before 3.12")
def test_reversible_embedding():
    layer = layers.ReversibleEmbedding(10, 4)
    assert call_flops(layer, (7,)) == 0
    assert flops(layer, [(None, 7, 4)], [(None, 7, 10)]) == 2 * 7 * 4 * 10


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (
            layers.Conv2D(8, 3, groups=2, data_format="channels_first"),
            layers.Conv2D(8, 3, groups=2),
        ),
        (
            layers.Conv2DTranspose(5, 4, strides=2, data_format="channels_first"),
            layers.Conv2DTranspose(5, 4, strides=2),
        ),
        (layers.DepthwiseConv2D(3, data_format="channels_first"), layers.DepthwiseConv2D(3)),
        (layers.SeparableConv2D(5, 3, data_format="channels_first"), layers.SeparableConv2D(5, 3)),
    ],
)
def test_channels_first_costs_the_same(first, last):
    output = last.compute_output_shape((None, 7, 9, 4))
    moved = (output[0], output[3], *output[1:3])
    expected = flops(last, [(None, 7, 9, 4)], [output])
    assert flops(first, [(None, 4, 7, 9)], [moved]) == expected > 0


def test_batch_size_does_not_count():
    layer = layers.Dense(5)
    assert flops(layer, [(32, 4)], [(32, 5)]) == flops(layer, [(None, 4)], [(None, 5)]) == 40


def operation_flops(make, *shapes):
    """Prices the operations that `make` adds to a functional graph."""
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, make(*inputs))
    return flops(model, [tuple(each.shape) for each in inputs], [model.output.shape])


CONSTANT = keras.ops.ones((6, 5))
OPERATIONS = {
    "matmul": (keras.ops.matmul, [(4, 6), (6, 5)], 2 * 4 * 6 * 5),
    "matmul_constant": (lambda x: x @ CONSTANT, [(4, 6)], 2 * 4 * 6 * 5),
    "matmul_constant_first": (lambda x: keras.ops.matmul(CONSTANT, x), [(5, 3)], 2 * 6 * 5 * 3),
    "dot": (lambda x: keras.ops.dot(x, CONSTANT), [(4, 6)], 2 * 4 * 6 * 5),
    "tensordot": (
        lambda x: keras.ops.tensordot(x, CONSTANT, axes=((2,), (0,))),
        [(4, 6)],
        2 * 4 * 6 * 5,
    ),
    "tensordot_int": (lambda x: keras.ops.tensordot(x, CONSTANT, 1), [(4, 6)], 2 * 4 * 6 * 5),
    "einsum": (
        lambda a, b: keras.ops.einsum("bqhd,bkhd->bhqk", a, b),
        [(7, 2, 3), (6, 2, 3)],
        2 * 7 * 6 * 2 * 3,
    ),
    "einsum_ellipsis": (
        lambda a, b: keras.ops.einsum("...ij,...jk->...ik", a, b),
        [(2, 4, 6), (2, 6, 5)],
        2 * 2 * 4 * 6 * 5,
    ),
    "einsum_constant": (
        lambda x: keras.ops.einsum("ji,bki->bkj", CONSTANT, x),
        [(4, 5)],
        2 * 4 * 6 * 5,
    ),
    "einsum_elementwise": (lambda a, b: keras.ops.einsum("bi,bi->bi", a, b), [(4,), (4,)], 0),
    "einsum_three": (
        lambda a, b, c: keras.ops.einsum("bi,bij,bjk->bk", a, b, c),
        [(4,), (4, 6), (6, 5)],
        2 * 4 * 6 + 2 * 6 * 5,
    ),
    "conv": (
        lambda x: keras.ops.conv(x, keras.ops.reshape(x[0, :3, :3], (3, 3, 4, 1))),
        [(6, 6, 4)],
        2 * 16 * 9 * 4,
    ),
    "add": (lambda a, b: a + b, [(4,), (4,)], 0),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_by_hand(name):
    make, shapes, expected = OPERATIONS[name]
    assert operation_flops(make, *shapes) == expected


def test_models_are_opened():
    sequential = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(8, 3), layers.ReLU()])
    assert flops(sequential, [(None, 6, 6, 3)], [(None, 4, 4, 8)]) == 6912
    inputs = {name: keras.Input((4,), name=name) for name in ("a", "b")}
    shared = layers.Dense(5)
    model = keras.Model(inputs, shared(inputs["a"]) + shared(inputs["b"]))
    assert flops(model, [(None, 4), (None, 4)], [(None, 5)]) == 2 * 2 * 4 * 5
    assert parameters(model) == 4 * 5 + 5


def test_parameters():
    layer = layers.BatchNormalization()
    assert parameters(layer) == 0
    layer.build((None, 3))
    assert parameters(layer) == 12
    inputs = keras.Input((4,))
    assert parameters((inputs + inputs)._keras_history.operation) == 0


class Projection(layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 5))

    def call(self, inputs):
        return inputs @ self.kernel


class Composite(layers.Layer):
    def __init__(self):
        super().__init__(name="pair")
        self.child = layers.Dense(5)

    def build(self, input_shape):
        self.child.build(input_shape)

    def call(self, inputs):
        return self.child(inputs)


class Cell(layers.Layer):
    state_size = 3

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 3))

    def call(self, inputs, states):
        return inputs @ self.kernel, states


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.child = layers.Dense(5)

    def call(self, inputs):
        return self.child(inputs)


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(costs._TABLE, "entries", dict(costs._TABLE.entries))
    monkeypatch.setattr(costs, "_WARNED", set())


def test_unknown_layer_warns_once_per_class():
    with pytest.warns(UnknownCostWarning) as caught:
        assert call_flops(Composite(), (4,)) == 0
        assert call_flops(Composite(), (4,)) == 0
    assert [str(each.message) for each in caught] == [
        "Layer 'pair' of class Composite has weights but no entry in the FLOPs table: its calls "
        "count as 0 FLOPs. Use `@keras_mtl.graph.costs.register_flops(Composite)` on a function "
        "`(layer, inputs, outputs) -> int` to price it."
    ]
    assert caught[0].filename == __file__
    with pytest.warns(UnknownCostWarning, match="Cell"):
        assert call_flops(layers.RNN([Cell(), layers.GRUCell(2)]), (7, 4)) == 7 * 2 * 3 * 2 * (
            3 + 2
        )
    with pytest.warns(UnknownCostWarning, match="Subclassed"):
        assert call_flops(Subclassed(), (4,)) == 0


def test_registered_layer_and_its_subclasses_are_priced():
    class Special(Projection):
        pass

    @register_flops(Projection)
    def projection(layer, inputs, outputs):
        assert inputs[0][0] == outputs[0][0] == 1
        return 2 * inputs[0][-1] * 5

    assert call_flops(Projection(), (4,)) == call_flops(Special(), (4,)) == 40
    register_flops(Special)(lambda layer, inputs, outputs: 1)
    assert call_flops(Projection(), (4,)) == 40
    assert call_flops(Special(), (4,)) == 1


def test_a_layer_registered_by_name_is_priced():
    class Elsewhere(Projection):
        pass

    register_flops(Projection)(lambda layer, inputs, outputs: 1)
    register_flops("Elsewhere")(lambda layer, inputs, outputs: 2)
    assert call_flops(Elsewhere(), (4,)) == 2
    register_flops(Elsewhere)(lambda layer, inputs, outputs: 3)
    assert call_flops(Elsewhere(), (4,)) == 3
    assert call_flops(Projection(), (4,)) == 1


LENGTH, WIDTH, INNER = 7, 8, 12
ATTENTION = 4 * LENGTH * WIDTH * WIDTH + 2 * LENGTH * LENGTH * WIDTH
DENSE = 2 * LENGTH * WIDTH * INNER


@pytest.mark.parametrize(
    ("name", "arguments", "shapes", "expected"),
    [
        ("TransformerEncoder", (INNER, 2), [(LENGTH, WIDTH)], 2 * (ATTENTION + DENSE)),
        # Three heads of two: the projections are 8 to 6.
        (
            "TransformerEncoder",
            (INNER, 3),
            [(LENGTH, WIDTH)],
            2 * (4 * LENGTH * 8 * 6 + 2 * LENGTH * LENGTH * 6 + DENSE),
        ),
        ("TransformerDecoder", (INNER, 2), [(LENGTH, WIDTH)], 2 * (ATTENTION + DENSE)),
        # Across: queries and outputs of 7 places, keys and values of 5 with 6 channels.
        (
            "TransformerDecoder",
            (INNER, 2),
            [(LENGTH, WIDTH), (5, 6)],
            2 * (ATTENTION + 2 * LENGTH * 8 * 8 + 2 * 5 * 6 * 8 + 2 * LENGTH * 5 * 8 + DENSE),
        ),
        ("FNetEncoder", (INNER,), [(LENGTH, WIDTH)], 2 * DENSE),
        ("PositionEmbedding", (9,), [(LENGTH, WIDTH)], 0),
        ("TokenAndPositionEmbedding", (20, 9, WIDTH), [(LENGTH,)], 0),
        ("ReversibleEmbedding", (20, WIDTH), [(LENGTH,)], 0),
    ],
)
def test_keras_hub_by_hand(name, arguments, shapes, expected):
    keras_hub = pytest.importorskip("keras_hub")
    layer = getattr(keras_hub.layers, name)(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownCostWarning)
        assert call_flops(layer, *shapes) == expected


def test_errors():
    with pytest.raises(ValueError) as error:
        flops(layers.Conv2D(8, 3, name="stem"), [(None, None, None, 3)], [(None, None, None, 8)])
    assert str(error.value) == (
        "`inputs` must have known sizes after the batch axis. Received: "
        "inputs=[(None, None, None, 3)] for operation 'stem'. Use a backbone with a fixed input "
        "size, for example `keras.Input((224, 224, 3))`."
    )
    with pytest.raises(TypeError) as error:
        flops("conv", [], [])
    assert str(error.value) == (
        "`operation` must be a Keras layer or operation. Received: operation='conv' (of type str)."
    )
    with pytest.raises(TypeError) as error:
        register_flops(3)
    assert str(error.value) == (
        "`layer_class` must be a subclass of `keras.layers.Layer` or the name of one. "
        "Received: layer_class=3."
    )


# Blind spots: the profiler counts grouped convolutions as 0, none of these backbones has one; and
# VGG16 is plain convolutions only, so that it says nothing about the other entries.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ResNet50", marks=pytest.mark.slow),
        "MobileNetV2",
        pytest.param("EfficientNetB0", marks=pytest.mark.slow),
        pytest.param("DenseNet121", marks=pytest.mark.slow),
        "VGG16",
    ],
)
def test_backbone_equals_profiler(name):
    make = getattr(keras.applications, name)
    backbone = make(weights=None, include_top=False, input_shape=(64, 64, 3))
    total = 0

    def record(operation, *args, **kwargs):
        nonlocal total
        results = operation(*args, **kwargs)
        inputs = [tuple(each.shape) for each in keras.tree.flatten((args, kwargs)) if shaped(each)]
        outputs = [tuple(each.shape) for each in keras.tree.flatten(results)]
        total += flops(operation, inputs, outputs)
        return results

    def shaped(value):
        return isinstance(value, keras.KerasTensor)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownCostWarning)
        keras.models.clone_model(backbone, clone_function=lambda layer: layer, call_function=record)
    assert total == pytest.approx(profiled_flops(backbone), rel=0.01)
    assert total > 1e7
    assert parameters(backbone) == backbone.count_params()


def test_convnext_layer_scale_is_known():
    backbone = keras.applications.ConvNeXtTiny(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownCostWarning)
        assert flops(backbone, [(None, 32, 32, 3)], [backbone.output.shape]) > 1e7
