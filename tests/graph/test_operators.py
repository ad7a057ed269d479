"""The support table, the geometry of a skip, and both on whole backbones."""

import pathlib
import runpy

import keras
import pytest
from keras import layers

from keras_mtl.graph import (
    Support,
    find_units,
    is_normalisation,
    read,
    register_operator,
    skip_kind,
    support,
)
from keras_mtl.graph.operators import OPERATORS
from tests.backbones import BACKBONES

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(OPERATORS, "entries", dict(OPERATORS.entries))


def spec(*shape, dtype="float32"):
    return keras.KerasTensor((None, *shape), dtype)


class Own(layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.scale


class Halving(Own):
    def call(self, inputs):
        return inputs[:, ::2] * self.scale


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv1D(2, 3),
        layers.Conv2D(2, 3, activation="linear"),
        layers.Conv3D(2, 3, use_bias=False),
        layers.Conv1DTranspose(2, 3),
        layers.Conv2DTranspose(2, 3),
        layers.Conv3DTranspose(2, 3),
        layers.DepthwiseConv1D(3),
        layers.DepthwiseConv2D(3),
        layers.Dense(2),
        layers.EinsumDense("abc,cd->abd", (None, 2)),
    ],
)
def test_linear(layer):
    assert support(layer) == Support(linear=True)


def lora():
    layer = layers.Dense(2)
    layer.build((None, 4))
    layer.enable_lora(1)
    return layer


def quantised():
    layer = layers.Dense(2)
    layer.build((None, 4))
    layer.quantize("int8")
    return layer


class DenseOfMine(layers.Dense):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(2, activity_regularizer="l2"),
        layers.Dense(2, activation=layers.PReLU()),
        layers.SeparableConv1D(2, 3),
        layers.SeparableConv2D(2, 3),
        layers.TimeDistributed(layers.Dense(2)),
        layers.SpectralNormalization(layers.Dense(2)),
        layers.SimpleRNN(2),
        layers.LSTM(2, stateful=True),
        layers.GRU(2),
        layers.RNN(layers.LSTMCell(2)),
        layers.ConvLSTM1D(2, 3),
        layers.ConvLSTM2D(2, 3),
        layers.ConvLSTM3D(2, 3),
        layers.Bidirectional(layers.LSTM(2)),
        layers.MultiHeadAttention(2, 2),
        layers.GroupQueryAttention(2, 2, 1),
        layers.Attention(use_scale=True),
        layers.AdditiveAttention(),
        layers.PReLU(),
        lora(),
        quantised(),
        DenseOfMine(2),
    ],
)
def test_not_linear(layer):
    assert support(layer) == Support()


def test_linear_before_the_activation():
    assert support(layers.Conv2D(2, 3, activation="relu")) == Support(linear=True, activated=True)
    assert support(layers.Conv2D(2, 3, activation="linear")) == Support(linear=True)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (layers.Embedding(9, 2), "turns numbers into vectors"),
        (layers.TimeDistributed(layers.Embedding(9, 2)), "turns numbers into vectors"),
        (layers.BatchNormalization(), "is a normalisation"),
        (Own(), "Own is in no table (register_operator)"),
        (layers.TimeDistributed(Own()), "Own is in no table (register_operator)"),
    ],
)
def test_not_skipped(layer, why):
    assert support(layer) == Support(skip=False, why=why)
    assert skip_kind(layer, spec(3, 2), spec(3, 2)) == (None, why)


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="Keras before 3.12")
def test_reversible_embedding():
    why = "turns numbers into vectors"
    assert support(layers.ReversibleEmbedding(9, 2)) == Support(skip=False, why=why)


def test_without_weights():
    pool = layers.MaxPooling2D()
    pool.build((None, 4, 4, 2))
    addition = (keras.Input((2,)) + 1)._keras_history.operation
    for operation in (pool, addition):
        assert support(operation) == Support(own=False, skip=False, why="has no weights")


def test_register_operator():
    register_operator(Own, own=False, why="counts")
    assert support(Own()) == support(Halving()) == Support(own=False, why="counts")
    assert register_operator(Halving, skip=False) is Halving
    assert support(Halving()) == Support(skip=False)
    register_operator("Own")  # the later entry holds
    assert support(Own()) == Support()
    register_operator("Dense", skip=False, why="mine")
    assert support(layers.Dense(2)) == Support(skip=False, linear=True, why="mine")

    @register_operator(own=False)
    @keras.saving.register_keras_serializable("tests")
    class Decorated(Own):
        pass

    assert support(Decorated()) == Support(own=False)
    register_operator("tests>Decorated", skip=False)
    assert support(Decorated()) == Support(skip=False)
    with pytest.raises(TypeError) as error:
        register_operator(keras.layers.Dense(2))
    assert str(error.value).startswith(
        "`layer_class` must be a subclass of `keras.layers.Layer` or the name of one. Received: "
        "layer_class=<Dense name=dense"
    )


IDENTITY, PROJECTION = ("identity", ""), ("projection", "")
UNKNOWN = (None, "changes an unknown length")
GEOMETRY = {
    "same": (layers.Conv2D(4, 3, padding="same"), spec(8, 8, 4), spec(8, 8, 4), IDENTITY),
    "wider": (layers.Conv2D(6, 3, padding="same"), spec(8, 8, 4), spec(8, 8, 6), PROJECTION),
    "valid": (layers.Conv2D(4, 3), spec(8, 8, 4), spec(6, 6, 4), PROJECTION),
    "strided": (layers.Conv1D(4, 3, strides=2), spec(8, 4), spec(3, 4), PROJECTION),
    "vector": (layers.Dense(3), spec(4), spec(3), PROJECTION),
    "to_numbers": (layers.Dense(1), spec(4), spec(1), PROJECTION),
    "larger": (
        layers.Conv2DTranspose(4, 2, strides=2),
        spec(8, 8, 4),
        spec(16, 16, 4),
        (None, "enlarges its input"),
    ),
    "larger_in_one": (
        layers.Conv2D(4, (3, 1), padding="valid"),
        spec(8, 8, 4),
        spec(6, 9, 4),
        (None, "enlarges its input"),
    ),
    "last_state": (layers.LSTM(4), spec(8, 4), spec(4), (None, "changes the rank")),
    "video": (layers.ConvLSTM2D(4, 3), spec(5, 8, 8, 3), spec(6, 6, 4), (None, "changes the rank")),
    "integers": (
        layers.Dense(4),
        spec(8, 4, dtype="int32"),
        spec(8, 4),
        (None, "reads integers"),
    ),
    "to_integers": (
        layers.Dense(3),
        spec(4),
        spec(3, dtype="int8"),
        (None, "gives integers"),
    ),
    "half": (layers.Dense(4), spec(4), spec(4, dtype="float16"), IDENTITY),
    "channels_first": (
        layers.Conv2D(4, 3, data_format="channels_first"),
        spec(3, 8, 8),
        spec(4, 6, 6),
        (None, "channels_first"),
    ),
    "channels_first_inside": (
        layers.TimeDistributed(layers.Conv2D(4, 3, data_format="channels_first")),
        spec(5, 3, 8, 8),
        spec(5, 4, 6, 6),
        (None, "channels_first"),
    ),
    "channels_first_same": (
        layers.Conv2D(3, 3, padding="same", data_format="channels_first"),
        spec(3, 8, 8),
        spec(3, 8, 8),
        IDENTITY,
    ),
    "sequence": (layers.LSTM(4, return_sequences=True), spec(8, 4), spec(8, 4), IDENTITY),
    "backwards": (
        layers.GRU(4, return_sequences=True, go_backwards=True),
        spec(8, 4),
        spec(8, 4),
        (None, "reverses its sequence"),
    ),
    "both_ways": (
        layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
        spec(8, 4),
        spec(8, 8),
        PROJECTION,
    ),
    "tokens_mixed": (
        layers.EinsumDense("abc,bd->adc", (8, 4)),
        spec(8, 4),
        spec(8, 4),
        IDENTITY,
    ),
    "axes_changed": (
        layers.EinsumDense("abcd,de->acbe", (8, 8, 4)),
        spec(8, 8, 4),
        spec(8, 8, 4),
        (None, "moves its axes"),
    ),
    "heads": (
        layers.EinsumDense("abc,cde->abde", (None, 2, 2)),
        spec(8, 4),
        spec(8, 2, 2),
        (None, "changes the rank"),
    ),
    "query": (layers.MultiHeadAttention(2, 2), spec(8, 4), spec(8, 4), IDENTITY),
    "unknown_channels": (
        layers.Conv1D(4, 1),
        spec(8, None),
        spec(8, 4),
        UNKNOWN,
    ),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_skip_kind(name):
    layer, source, target, expected = GEOMETRY[name]
    assert skip_kind(layer, source, target) == expected


@pytest.mark.parametrize(
    ("layer", "source", "expected"),
    [
        (layers.Conv1D(4, 3, padding="same"), (None, 4), IDENTITY),
        (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (None, 4), IDENTITY),
        (layers.Conv1D(4, 1), (None, 4), IDENTITY),
        (layers.Conv1D(6, 3, padding="same"), (None, 4), PROJECTION),
        (layers.Conv1D(4, 3), (None, 4), UNKNOWN),
        (layers.Conv1D(4, 3, strides=2, padding="same"), (None, 4), UNKNOWN),
        (layers.Conv2D(4, (1, 3)), (None, 8, 4), PROJECTION),
        (layers.Conv2D(4, (3, 1)), (None, 8, 4), UNKNOWN),
        (layers.DepthwiseConv2D(3, padding="same"), (None, None, 4), IDENTITY),
        (layers.Conv1DTranspose(4, 3, padding="same"), (None, 4), IDENTITY),
        (layers.Conv1DTranspose(4, 3), (None, 4), UNKNOWN),
        (layers.Dense(4), (None, 4), IDENTITY),
        (layers.Dense(6), (None, 4), PROJECTION),
        (layers.EinsumDense("...c,cd->...d", (4,)), (None, 4), IDENTITY),
        (layers.GRU(4, return_sequences=True), (None, 4), IDENTITY),
        (layers.Bidirectional(layers.GRU(2, return_sequences=True)), (None, 4), IDENTITY),
        (layers.TimeDistributed(layers.Conv2D(4, 3)), (None, 8, 8, 4), PROJECTION),
        (layers.ConvLSTM1D(4, 3, padding="same", return_sequences=True), (None, 8, 4), IDENTITY),
    ],
)
def test_unknown_lengths(layer, source, expected):
    source = spec(*source)
    assert skip_kind(layer, source, layer(source)) == expected


def test_unknown_lengths_of_a_registered_class():
    register_operator(Own)
    for layer, expected in [(Own(), IDENTITY), (Halving(), UNKNOWN)]:
        source = spec(None, 4)
        assert skip_kind(layer, source, layer(source)) == expected


def test_unknown_lengths_of_attention():
    query, value = spec(None, 4), spec(None, 6)
    attention = layers.MultiHeadAttention(2, 2)
    assert skip_kind(attention, query, attention(query, value)) == IDENTITY


# Operators, those that are skipped by identity, by projection, and the reasons for the others.
COUNTS = {
    "bert": (5, 2, 0, {"turns numbers into vectors": 2, "gives places, not its input": 1}),
    "transformer": (8, 2, 4, {"turns numbers into vectors": 2}),
    "recurrent": (4, 1, 1, {"turns numbers into vectors": 1, "changes the rank": 1}),
    "convolutions_1d": (6, 4, 2, {}),
    "table": (4, 3, 0, {"turns numbers into vectors": 1}),
    "unet": (5, 0, 5, {}),
    "unet_transposed": (7, 0, 5, {"enlarges its input": 2}),
    "MobileNetV2": (52, 13, 39, {}),
    "ConvNeXtTiny": (76, 36, 40, {}),
}


@pytest.mark.parametrize("name", COUNTS)
def test_backbones(name):
    if name == "bert":
        pytest.importorskip("keras_hub")
    graph = read(BACKBONES[name][0]())
    found, reasons = [], {}
    for unit in find_units(graph, "operator"):
        call = graph.calls[unit.calls[0]]
        if unit.searchable and not is_normalisation(call.operation):
            assert support(call.operation).own
            source = graph.spec(call.inputs[0])
            kind, why = skip_kind(call.operation, source, call.outputs[0])
            found.append(kind)
            if kind is None:
                reasons[why] = reasons.get(why, 0) + 1
    counts = (len(found), found.count("identity"), found.count("projection"), reasons)
    assert counts == COUNTS[name]


def test_document():
    """The table is that of the code, and the example runs."""
    text = (ROOT / "docs/operators.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(ROOT / "docs/make_operators.py"))
    assert made["support_table"]() in text
    assert made["EXAMPLE"] in text
    exec(made["EXAMPLE"], {})
