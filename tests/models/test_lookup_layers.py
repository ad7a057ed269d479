"""Layers that know something beside their weights: it comes along wherever they are cloned."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl

WORDS = tf.constant([["a b"], ["b c c"], ["c"], ["a"]])
LETTERS = tf.constant([["a"], ["c"], ["z"], ["b"]])
NUMBERS = tf.constant([[5], [9], [1], [7]], "int64")
VALUES = tf.constant([[1.0, 2.0, 3.0], [5.0, 1.0, 0.0], [12.0, 3.0, 1.0], [19.0, 0.0, 2.0]])


@keras.saving.register_keras_serializable("tests")
class Table(layers.Layer):
    """Factors that are neither weights nor configuration."""

    def __init__(self, **options):
        super().__init__(**options)
        self.values = np.zeros(3, "float32")

    def call(self, inputs):
        return inputs * keras.ops.convert_to_tensor(self.values)

    def save_own_variables(self, store):
        store["values"] = self.values

    def load_own_variables(self, store):
        self.values = np.array(store["values"])

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("tests")
class Words(layers.Layer):
    """A lookup inside a layer with weights."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lookup = layers.StringLookup()
        self.embedding = layers.Embedding(10, 4)

    def build(self, input_shape):
        self.embedding.build(input_shape)
        self.built = True

    def call(self, inputs):
        return keras.ops.mean(self.embedding(self.lookup(inputs)), axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 4)


def adapted(layer, data):
    layer.adapt(np.asarray(data).ravel() if data.dtype != "float32" else np.asarray(data))
    return layer


def embedded(layer):
    """The layer with an embedding behind it."""
    return [layer, layers.Embedding(30, 4, name="emb"), layers.GlobalAveragePooling1D(name="gap")]


def table():
    layer = Table(name="known")
    layer.values = np.array([1.0, 2.0, 3.0], "float32")
    return [layer]


def words():
    layer = Words(name="known")
    layer.lookup.adapt(["a", "b", "c"])
    return [layer]


KNOWN = {
    "text": (
        lambda: embedded(
            adapted(layers.TextVectorization(output_sequence_length=4, name="known"), WORDS)
        ),
        WORDS,
    ),
    "tf_idf": (
        lambda: [adapted(layers.TextVectorization(output_mode="tf_idf", name="known"), WORDS)],
        WORDS,
    ),
    "strings": (lambda: embedded(adapted(layers.StringLookup(name="known"), LETTERS)), LETTERS),
    "multi_hot": (
        lambda: [adapted(layers.StringLookup(output_mode="multi_hot", name="known"), LETTERS)],
        LETTERS,
    ),
    "integers": (lambda: embedded(adapted(layers.IntegerLookup(name="known"), NUMBERS)), NUMBERS),
    "hashing": (lambda: embedded(layers.Hashing(10, name="known")), WORDS),
    "bins": (
        lambda: embedded(adapted(layers.Discretization(num_bins=4, name="known"), VALUES)),
        VALUES,
    ),
    "normalization": (lambda: [adapted(layers.Normalization(name="known"), VALUES)], VALUES),
    "table": (table, VALUES),
    "words": (words, LETTERS),
}


def backbone_and_inputs(kind):
    make, x = KNOWN[kind]
    y = inputs = keras.Input(x.shape[1:], dtype=x.dtype.name, name="inp")
    for layer in make():
        y = layer(y)
    y = layers.Dense(4, name="d1")(y)
    return keras.Model(inputs, layers.Add()([y, layers.Dense(4, name="d2")(y)])), x


def tasks(head=layers.Identity, **options):
    return [keras_mtl.Task(name, head(**options), "mse") for name in ("a", "b")]


@pytest.mark.parametrize("strategy", ["shared", "independent", "adashare"])
@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.filterwarnings("ignore::keras_mtl.graph.costs.UnknownCostWarning")
def test_it_is_known_in_every_model(kind, strategy):
    backbone, x = backbone_and_inputs(kind)
    model = keras_mtl.build(backbone, tasks(), strategy, seed=0)
    found = model(x)
    for task in ("a", "b"):
        np.testing.assert_allclose(found[task], backbone(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["text", "normalization", "words", "table"])
def test_it_is_of_the_data_and_never_drawn_anew(kind):
    backbone, x = backbone_and_inputs(kind)
    model = keras_mtl.build(backbone, tasks(), "shared", seed=0, initial_weights="fresh")
    for layer, fresh in ((backbone.layers[1], model.named_layers()["known"]),):
        if kind != "words":
            np.testing.assert_allclose(fresh(x), layer(x))
        else:
            np.testing.assert_array_equal(fresh.lookup(x), layer.lookup(x))
            assert not np.array_equal(fresh.embedding.embeddings, layer.embedding.embeddings)


def test_two_vocabularies_are_not_one():
    """Equal configurations do not make two lookups interchangeable."""
    inputs = keras.Input((1,), dtype="string")
    found = [
        adapted(layers.StringLookup(output_mode="multi_hot", max_tokens=4, name=name), data)
        for name, data in (("first", LETTERS), ("second", tf.constant([["z"], ["y"]])))
    ]
    y = layers.Concatenate()([layer(inputs) for layer in found])
    backbone = keras.Model(inputs, layers.Dense(4, name="d1")(y))
    search = keras_mtl.build(backbone, tasks(), "auto_mtl", seed=0)
    names = {layer.name for layer in search.copies.named_layers()}
    assert {"first", "second"} <= names


@pytest.fixture(scope="module")
def trained():
    """A model on strings, trained from a dataset of strings."""
    backbone, x = backbone_and_inputs("text")
    model = keras_mtl.build(backbone, tasks(layers.Dense, units=1), "independent", seed=0)
    model.compile("sgd", run_eagerly=True)
    y = {task: np.ones((4, 1), "float32") for task in ("a", "b")}
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(2), verbose=0)
    return model, x


def test_it_is_saved_exported_extracted_and_handed_on(trained, tmp_path):
    model, x = trained
    wanted = np.asarray(model(x)["a"])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x)["a"], wanted)
    np.testing.assert_allclose(model.extract("a")(x), wanted)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.a(x)["a"], wanted, rtol=1e-5)
    backbone, _ = backbone_and_inputs("text")
    again = keras_mtl.build(
        backbone, tasks(layers.Dense, units=1), "independent", seed=1, initial_weights=model
    )
    np.testing.assert_allclose(again(x)["a"], wanted)


@pytest.mark.parametrize("kind", ["text", "multi_hot", "words"])
def test_a_search_is_saved(kind, tmp_path):
    backbone, x = backbone_and_inputs(kind)
    search = keras_mtl.build(backbone, tasks(), "adashare", seed=0)
    search.save(tmp_path / "search.keras")
    loaded = keras.models.load_model(tmp_path / "search.keras")
    np.testing.assert_allclose(loaded(x)["a"], search(x)["a"])


def test_own_inputs():
    backbone, x = backbone_and_inputs("strings")
    own = [keras_mtl.Task(name, layers.Identity(), "mse", inputs=name) for name in ("a", "b")]
    found = keras_mtl.build(backbone, own, "shared", seed=0)({"a": x, "b": x[::-1]})
    np.testing.assert_allclose(found["a"], backbone(x), atol=1e-6)
    np.testing.assert_allclose(found["b"], backbone(x)[::-1], atol=1e-6)


@pytest.mark.parametrize("built", [True, False])
def test_heads(built):
    inputs = keras.Input((3,))
    head = keras.Sequential([adapted(layers.Normalization(), VALUES), *table()])
    if built:
        head(VALUES)
    model = keras_mtl.build(
        keras.Model(inputs, layers.Dense(3, name="d1")(inputs)),
        [keras_mtl.Task("a", head, "mse")],
        "shared",
        seed=0,
    )
    features = model.named_layers()["d1"](VALUES)
    np.testing.assert_allclose(model(VALUES)["a"], head(features), rtol=1e-5)
