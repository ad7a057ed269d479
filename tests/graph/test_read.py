"""Reading a backbone: its calls, names and values, and what is refused."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl
from keras_mtl.graph import INPUT, Value, is_functional, read
from tests import toys


def replayed(graph, arrays):
    """Computes a graph call by call with the backbone's own operations."""
    values = {Value(INPUT, i): ops.convert_to_tensor(x) for i, x in enumerate(arrays)}
    for call in graph.calls:
        outputs = keras.tree.flatten(call.replay(call.operation, lambda value: values[value]))
        values.update({Value(call.index, i): x for i, x in enumerate(outputs)})
    return values[graph.output]


def flat_inputs(backbone):
    x = toys.inputs(backbone, examples=2)
    return [x[spec.name] for spec in backbone.inputs] if isinstance(x, dict) else [x]


@pytest.mark.parametrize("name", toys.BACKBONES)
def test_replaying_the_calls_gives_the_backbones_output(name):
    backbone = toys.randomised(toys.BACKBONES[name]())
    arrays = flat_inputs(backbone)
    expected = backbone(arrays if len(arrays) > 1 else arrays[0], training=False)
    np.testing.assert_allclose(replayed(read(backbone), arrays), expected, atol=1e-6)


@pytest.mark.parametrize("name", toys.BACKBONES)
def test_reading_leaves_the_backbone_unchanged(name):
    backbone = toys.BACKBONES[name]()
    everything = [*backbone.layers, *(x for m in backbone.layers for x in getattr(m, "layers", []))]
    before = [len(layer._inbound_nodes) for layer in everything]
    weights = [variable.path for variable in backbone.weights]
    names = [layer.name for layer in everything]
    read(backbone)
    read(backbone)
    assert [len(layer._inbound_nodes) for layer in everything] == before
    assert [variable.path for variable in backbone.weights] == weights
    assert [layer.name for layer in everything] == names


def test_calls_of_a_residual_block():
    graph = read(toys.residual(blocks=1))
    assert [call.key for call in graph.calls] == [
        "stem",
        "stem_bn",
        "stem_relu",
        "block1",
        "block1_bn",
        "block1_add",
        "block1_relu",
    ]
    assert [call.index for call in graph.calls] == list(range(7))
    assert graph.calls[0].inputs == (Value(INPUT, 0),)
    assert graph.calls[5].inputs == (Value(2, 0), Value(4, 0))
    assert graph.output == Value(6, 0)
    assert tuple(graph.features.shape) == (None, 8, 8, 4)
    assert tuple(graph.spec(Value(INPUT, 0)).shape) == (None, 8, 8, 3)


def test_a_nested_functional_model_is_opened():
    graph = read(toys.nested())
    assert [call.key for call in graph.calls] == ["stem", "inner.conv", "inner.add", "last"]
    assert graph.calls[2].inputs == (Value(0, 0), Value(1, 0))


def test_a_nested_model_that_is_called_twice_keeps_its_keys():
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, layers.Dense(4, name="dense")(inner_inputs), name="inner")
    inputs = keras.Input((4,))
    graph = read(keras.Model(inputs, inner(inner(inputs))))
    assert [call.key for call in graph.calls] == ["inner.dense", "inner.dense"]
    assert graph.calls[1].inputs == (Value(0, 0),)


def test_a_nested_model_with_a_dict_of_inputs():
    parts = {name: keras.Input((4,), name=name) for name in ("b", "a")}
    inner = keras.Model(parts, layers.Subtract(name="minus")([parts["a"], parts["b"]]))
    x = inputs = keras.Input((4,))
    x = inner({"a": layers.Dense(4, name="first")(x), "b": layers.Dense(4, name="second")(x)})
    backbone = keras.Model(inputs, x)
    graph = read(backbone)
    keys = [call.key for call in graph.calls]
    minus = graph.calls[-1]
    assert [keys[value.node] for value in minus.inputs] == ["first", "second"]
    arrays = flat_inputs(backbone)
    np.testing.assert_allclose(replayed(graph, arrays), backbone(arrays[0]), atol=1e-6)


def test_equal_names_in_nested_models_get_different_keys():
    def inner():
        inputs = keras.Input((4,))
        return keras.Model(inputs, layers.Dense(4, name="dense")(inputs), name="inner")

    inputs = keras.Input((4,))
    outer = keras.Model(inputs, layers.Dense(2, name="inner.dense")(inner()(inputs)))
    keys = [call.key for call in read(outer).calls]
    assert keys == ["inner.dense", "inner.dense_"]


def test_several_inputs_keep_names_and_order():
    graph = read(toys.masked())
    assert [spec.name for spec in graph.inputs] == ["sequence", "mask"]
    keep = next(call for call in graph.calls if call.key == "keep")
    assert keep.inputs == (Value(INPUT, 1),)


def test_a_shared_layer_has_one_key():
    graph = read(toys.siamese())
    assert [call.key for call in graph.calls[:2]] == ["encoder", "encoder"]
    assert graph.calls[0].operation is graph.calls[1].operation
    assert {call.inputs for call in graph.calls[:2]} == {(Value(INPUT, 0),), (Value(INPUT, 1),)}


def test_sequential_reads_like_functional():
    parts = [layers.Dense(8, name="one"), layers.Dense(4, name="two")]
    graph = read(keras.Sequential([keras.Input((8,)), *parts]))
    assert [call.key for call in graph.calls] == ["one", "two"]
    assert graph.output == Value(1, 0)


def test_an_operation_with_several_outputs():
    inputs = keras.Input((6,))
    left, right = ops.split(layers.Dense(4, name="dense")(inputs), 2, axis=-1)
    backbone = keras.Model(inputs, left - right)
    graph = read(backbone)
    assert graph.calls[-1].inputs == (Value(1, 0), Value(1, 1))
    arrays = flat_inputs(backbone)
    np.testing.assert_allclose(replayed(graph, arrays), backbone(arrays[0]), atol=1e-6)


def test_call_options_are_replayed():
    inputs = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 2, name="attention")
    backbone = keras.Model(inputs, attention(inputs, inputs, use_causal_mask=True))
    graph = read(backbone)
    assert graph.calls[-1].kwargs["use_causal_mask"] is True
    arrays = flat_inputs(backbone)
    np.testing.assert_allclose(replayed(graph, arrays), backbone(arrays[0]), atol=1e-6)


def test_the_training_argument_is_not_recorded():
    """Keras notes its default, False; a layer must ask the model that calls it."""
    graph = read(toys.with_dropout())
    assert not any("training" in call.kwargs for call in graph.calls)


def test_masks_of_an_embedding_are_replayed():
    inputs = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(9, 4, mask_zero=True, name="embed")(inputs)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(layers.Dense(4, name="dense")(x))
    backbone = keras.Model(inputs, x)
    graph = read(backbone)
    keys = [call.key for call in graph.calls]
    mask = Value(keys.index("not_equal"), 0)
    assert graph.calls[keys.index("lstm")].kwargs["mask"] == mask
    tokens = np.array([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0]]) % 9 * [[1] * 5, [1, 1, 0, 0, 0]]
    tokens[1, 0] = 7
    found = replayed(graph, [tokens])
    np.testing.assert_allclose(found, backbone(tokens), atol=1e-6)
    unmasked = tokens.copy()
    unmasked[1, 4] = 1
    assert not np.allclose(replayed(graph, [unmasked])[1], found[1])


def test_fingerprint_knows_structure_but_neither_weights_nor_names():
    first = read(toys.residual()).fingerprint
    assert read(toys.randomised(toys.residual())).fingerprint == first
    renamed = keras.models.clone_model(
        toys.residual(),
        clone_function=lambda x: type(x).from_config({**x.get_config(), "name": f"my_{x.name}"}),
    )
    assert read(renamed).fingerprint == first
    others = [
        toys.residual(blocks=3),
        toys.residual(width=5),
        toys.residual(shape=(9, 8, 3)),
        toys.residual(dropout=0.1),
    ]
    prints = {first, *(read(other).fingerprint for other in others)}
    assert len(prints) == 5


def test_repeated_reading_gives_one_fingerprint():
    backbone = toys.siamese()
    assert read(backbone).fingerprint == read(backbone).fingerprint


# What is refused ---------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def refused(backbone, message):
    with pytest.raises(keras_mtl.UnsupportedBackboneError, match=f"^{re.escape(message)}$"):
        read(backbone)


def test_a_subclassed_model_is_refused():
    refused(
        Subclassed(),
        "`backbone` must be a functional `keras.Model`, whose layers can be read. Received: the "
        "subclassed model Subclassed, which hides its layers in `call`. Use "
        "`keras.Model(inputs, outputs)` with the same layers called one by one.",
    )


def test_an_unbuilt_sequential_is_refused():
    refused(
        keras.Sequential([layers.Dense(2)], name="mine"),
        "`backbone` must be built. Received: an unbuilt Sequential model 'mine'. "
        "Begin it with a `keras.Input`.",
    )


def test_several_outputs_are_refused():
    inputs = keras.Input((2,))
    first, second = layers.Dense(2)(inputs), layers.Dense(2)(inputs)
    refused(
        keras.Model(inputs, [first, second]),
        "`backbone` must have one output, the features that the heads read. Received: 2 outputs "
        f"['{first.name}', '{second.name}']. Use `keras.Model(backbone.input, "
        "backbone.outputs[i])`, or concatenate the outputs.",
    )


def test_what_is_no_model_is_refused():
    refused(
        "resnet",
        "`backbone` must be a functional `keras.Model`. Received: backbone='resnet' of type str.",
    )
    layer = layers.Dense(2, name="dense")
    refused(
        layer,
        "`backbone` must be a functional `keras.Model`. "
        f"Received: backbone={layer!r} of type Dense.",
    )


def test_is_functional():
    inputs = keras.Input((2,))
    assert is_functional(keras.Model(inputs, layers.Dense(2)(inputs)))
    assert is_functional(keras.Sequential([keras.Input((2,)), layers.Dense(2)]))
    assert not is_functional(keras.Sequential([layers.Dense(2)]))
    assert not is_functional(Subclassed())
    assert not is_functional(layers.Dense(2))
