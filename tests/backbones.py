"""Small functional backbones of many kinds, on each of which a search must run.

`BACKBONES` maps a name to a function that builds the backbone (weights drawn, seconds at most) and
to one that makes a random batch of a few examples for it, in the structure that the backbone takes.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

VOCABULARY, LENGTH = 50, 12


def application(name, size, **options):
    """A model of `keras.applications` at the smallest size that it takes."""
    make = getattr(keras.applications, name)
    return make(weights=None, include_top=False, input_shape=(size, size, 3), **options)


def bert(length=None):
    """KerasHub's BERT; lengths are unknown, or all inputs have `length`."""
    import keras_hub  # seconds: not with the module

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=LENGTH,
    )
    encoder = keras.Model(backbone.input, backbone.output["sequence_output"], name="bert")
    if length is None:
        return encoder
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((length,), dtype="int32", name=name) for name in names}
    return keras.Model(inputs, encoder(inputs))


def transformer(blocks=2, width=16, heads=2):
    """A transformer encoder of plain Keras layers; id 0 is padding."""
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    mask = layers.Reshape((1, LENGTH), name="mask")(ops.not_equal(ids, 0))
    places = layers.Embedding(LENGTH, width, name="places")(ops.cumsum(ops.ones_like(ids), 1) - 1)
    x = layers.Embedding(VOCABULARY, width, name="words")(ids)
    x = layers.Add(name="embedded")([x, places])
    x = layers.LayerNormalization(name="embedded_norm")(x)
    for block in range(1, blocks + 1):
        name = f"block{block}"
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")
        y = attention(x, x, attention_mask=mask)
        x = layers.LayerNormalization(name=f"{name}_norm1")(layers.Add(name=f"{name}_add1")([x, y]))
        y = layers.Dense(2 * width, activation="gelu", name=f"{name}_wide")(x)
        y = layers.Dense(width, name=f"{name}_narrow")(y)
        x = layers.LayerNormalization(name=f"{name}_norm2")(layers.Add(name=f"{name}_add2")([x, y]))
    return keras.Model(ids, x, name="transformer")


def recurrent(width=8):
    """A bidirectional LSTM and two GRUs on words, with an implicit mask; id 0 is padding."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(VOCABULARY, 2 * width, mask_zero=True, name="words")(ids)
    lstm = layers.LSTM(width, return_sequences=True, name="lstm")
    x = layers.Bidirectional(lstm, name="both_ways")(x)
    x = layers.GRU(width, return_sequences=True, name="gru")(x)
    x = layers.GRU(width, name="last")(x)
    return keras.Model(ids, x, name="recurrent")


def convolutions_1d():
    """A 1-D CNN for a signal, with separable, dilated, causal and strided convolutions."""
    x = signal = keras.Input((32, 2), name="signal")
    x = layers.Conv1D(8, 5, strides=2, padding="same", name="conv1")(x)
    x = layers.BatchNormalization(name="conv1_bn")(x)
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.SeparableConv1D(8, 3, padding="same", name="separable")(x)
    x = layers.PReLU(shared_axes=[1], name="prelu")(x)
    x = layers.Conv1D(8, 3, dilation_rate=2, padding="causal", name="causal")(x)
    x = layers.Conv1D(8, 3, name="valid")(x)
    x = layers.MaxPooling1D(name="pool")(x)
    x = layers.DepthwiseConv1D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(signal, x, name="convolutions_1d")


def table():
    """An MLP for rows of a table: numbers, normalised, and a category."""
    numbers = keras.Input((5,), name="numbers")
    category = keras.Input((), dtype="int32", name="category")
    known = layers.Normalization(mean=0.5, variance=2.0, name="known")(numbers)
    x = layers.Concatenate(name="row")([known, layers.Embedding(4, 3, name="kind")(category)])
    for number in range(1, 4):
        x = layers.Dense(8, name=f"dense{number}")(x)
        x = layers.BatchNormalization(name=f"dense{number}_bn")(x)
        x = layers.Activation("relu", name=f"dense{number}_relu")(x)
        x = layers.Dropout(0.1, name=f"dense{number}_dropout")(x)
    return keras.Model({"numbers": numbers, "category": category}, x, name="table")


def unet(transposed=False, width=4):
    """A U-Net of two levels; goes up by `UpSampling2D` and a convolution, or transposed."""

    def block(x, filters, name):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = image = keras.Input((16, 16, 3), name="image")
    passed = []
    for level in (1, 2):
        x = block(x, level * width, f"down{level}")
        passed.append(x)
        x = layers.MaxPooling2D(name=f"down{level}_pool")(x)
    x = block(x, 3 * width, "bottom")
    for level in (2, 1):
        name = f"up{level}"
        if transposed:
            x = layers.Conv2DTranspose(level * width, 2, strides=2, name=f"{name}_transposed")(x)
        else:
            x = layers.UpSampling2D(name=f"{name}_sampling")(x)
        x = layers.Concatenate(name=f"{name}_joined")([x, passed[level - 1]])
        x = block(x, level * width, name)
    return keras.Model(image, x, name="unet")


def _image(size, examples=2):
    shape = (examples, size, size, 3)
    return lambda seed=0: _random(seed).uniform(0, 255, shape).astype("float32")


def _random(seed):
    return np.random.default_rng(seed)


def _ids(seed=0):
    """Two texts, the second one padded with zeros from the seventh word on."""
    ids = _random(seed).integers(1, VOCABULARY, (2, LENGTH)).astype("int32")
    ids[1, 7:] = 0
    return ids


def _bert_inputs(seed=0):
    ids = _ids(seed)
    return {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": (ids != 0).astype("int32"),
    }


def _signal(seed=0):
    return _random(seed).normal(size=(2, 32, 2)).astype("float32")


def _rows(seed=0):
    random = _random(seed)
    numbers = random.normal(size=(2, 5)).astype("float32")
    return {"numbers": numbers, "category": random.integers(0, 4, 2).astype("int32")}


def _application(name, size, examples=2, **options):
    return (lambda: application(name, size, **options)), _image(size, examples)


APPLICATIONS = {
    "ResNet50": _application("ResNet50", 32),
    "MobileNetV2": _application("MobileNetV2", 32, alpha=0.35),
    "MobileNetV3Small": _application("MobileNetV3Small", 32),
    # Of two 32 px images its normalisations see two numbers each: gradients of 1e7 even unsearched.
    "EfficientNetB0": _application("EfficientNetB0", 64, examples=8),
    "DenseNet121": _application("DenseNet121", 32),
    "ConvNeXtTiny": _application("ConvNeXtTiny", 32),
    "InceptionV3": _application("InceptionV3", 75),
    "Xception": _application("Xception", 71),
    "VGG16": _application("VGG16", 32),
}
OTHERS = {
    "bert": (bert, _bert_inputs),
    "bert_12": (lambda: bert(LENGTH), _bert_inputs),
    "transformer": (transformer, _ids),
    "recurrent": (recurrent, _ids),
    "convolutions_1d": (convolutions_1d, _signal),
    "table": (table, _rows),
    "unet": (unet, _image(16)),
    "unet_transposed": (lambda: unet(transposed=True), _image(16)),
}
BACKBONES = {**APPLICATIONS, **OTHERS}

# One of each kind, for tests that try a fixed strategy on all of them.
KINDS = [
    pytest.param("MobileNetV2", marks=pytest.mark.slow),
    "transformer",
    "recurrent",
    "convolutions_1d",
    "table",
    "unet",
]
