"""RDMs: equal to plain NumPy from memory and from a file, whatever form model and images have."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import toys
from keras import layers, ops

import keras_mtl
from keras_mtl.affinity import _feature_store, representation_dissimilarity
from keras_mtl.errors import UnsupportedBackboneError

LOCATIONS = ("stem_relu", "block1_add", "block2_add")


def direct(features):
    """The definition, in float64."""
    flat = np.asarray(features, "float64").reshape(len(features), -1)
    rho = np.eye(len(flat))
    for i, one in enumerate(flat):
        for j, other in enumerate(flat):
            if i != j:
                both = np.ptp(one) > 0 and np.ptp(other) > 0
                rho[i, j] = np.corrcoef(one, other)[0, 1] if both else 0.0
    return 1 - rho


def outputs(model, images, names):
    tensors = [model.get_layer(name).output for name in names]
    return keras.Model(model.input, tensors)(images, training=False)


@pytest.fixture(scope="module")
def backbone():
    backbone = toys.residual(blocks=2, dropout=0.5)
    for layer in backbone.layers:  # else the normalisations do nothing in inference
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-0.5, 0.5, 4))
    return backbone


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(11, *toys.SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def expected(backbone, images):
    return np.stack([direct(x) for x in outputs(backbone, images, LOCATIONS)])


def rdms(model, images, locations=LOCATIONS, **options):
    return representation_dissimilarity(model, images, locations, verbose=0, **options)


@pytest.mark.parametrize("memory", [2**28, 30_000, 0])
@pytest.mark.parametrize("width", [7, 4096])
def test_equals_numpy_in_memory_and_in_a_file(
    backbone, images, expected, memory, width, monkeypatch
):
    monkeypatch.setattr(_feature_store, "WIDTH", width)
    found = rdms(backbone, images, batch_size=4, memory=memory)
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))
    assert not found[:, range(11), range(11)].any()
    assert found.min() >= 0 and found.max() <= 2


def test_a_file_is_used_beyond_the_memory_and_deleted(
    backbone, images, expected, tmp_path, monkeypatch
):
    monkeypatch.setattr(_feature_store.tempfile, "tempdir", str(tmp_path))
    rolled = []

    class Spooled(_feature_store.tempfile.SpooledTemporaryFile):
        def rollover(self):
            super().rollover()
            rolled.append(self.name)

    monkeypatch.setattr(_feature_store.tempfile, "SpooledTemporaryFile", Spooled)
    rdms(backbone, images, memory=10**6)
    assert not rolled
    rdms(backbone, images, memory=10**4)
    assert len(rolled) == 1 and not list(tmp_path.iterdir())


def test_constant_features_are_like_nothing():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Identity(name="same")(inputs))
    # The mean of equal float32 numbers need not be that number.
    images = np.array([[0.1] * 4, [1, 2, 3, 5], [0] * 4, [2, 4, 6, 10], [5, 3, 2, 1]], "float32")
    found = rdms(model, images, ["same"])[0]
    np.testing.assert_allclose(found, direct(images), atol=1e-6)
    assert found[0].tolist() == found[2][[2, 1, 0, 3, 4]].tolist() == [0, 1, 1, 1, 1]
    assert found[1, 3] == 0 and found[3, 1] == 0


def test_a_large_common_value_costs_no_digits():
    inputs = keras.Input((512,), dtype="float64")
    model = keras.Model(inputs, layers.Identity(name="same", dtype="float64")(inputs))
    images = 1e8 + np.random.default_rng(0).normal(size=(5, 512))
    np.testing.assert_allclose(rdms(model, images, ["same"])[0], direct(images), atol=1e-6)


def test_half_precision_features():
    inputs = keras.Input((6,))
    same = layers.Identity(name="same", dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, same)
    images = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    found = rdms(model, images, ["same"])[0]
    np.testing.assert_allclose(found, direct(images.astype("float16")), atol=1e-6)


def test_the_model_is_left_as_it_is(backbone, images):
    before = backbone.get_weights()
    nodes = [len(layer._inbound_nodes) for layer in backbone.layers]
    rdms(backbone, images)
    for after, value in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, value)
    assert [len(layer._inbound_nodes) for layer in backbone.layers] == nodes


@pytest.mark.heavy
def test_three_gibibytes_of_features_need_less_than_two():
    script = pathlib.Path(__file__).parents[2] / "benchmarks" / "rdm_memory.py"
    command = [sys.executable, str(script), "--child", "2000", "512", "28"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT ")]
    figures = json.loads(line.removeprefix("RESULT "))
    assert figures["features_gib"] > 2.9
    assert figures["peak_memory_gib"] < 2
    assert figures["largest_difference_to_numpy"] < 1e-6


# Images -----------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    @property
    def num_batches(self):
        return 3

    def __getitem__(self, i):
        return self.images[4 * i : 4 * i + 4], np.zeros(4)


def test_images_come_in_many_forms(backbone, images, expected):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(images).batch(4)
    forms = {
        "tensor": tf.constant(images),
        "list": [images],
        "dict": {"image": images, "other": images[:2]},
        "images and labels": (images, np.zeros(11)),
        "dataset": data,
        "dataset with labels": data.map(lambda x: ({"image": x}, {"a": tf.zeros(4)})),
        "filtered, of unknown length": data.filter(lambda x: True),
        "generator": (images[i : i + 5] for i in (0, 5, 10)),
        "tuples of one": [(images[i : i + 4],) for i in (0, 4, 8)].__iter__(),
        "PyDataset": Batches(images),
    }
    for form, each in forms.items():
        found = rdms(backbone, each, ["block2_add"])[0]
        np.testing.assert_allclose(found, expected[2], atol=1e-6, err_msg=form)


def test_progress_is_shown(backbone, images, capsys):
    representation_dissimilarity(backbone, images, ["stem"], batch_size=4)
    assert "3/3" in capsys.readouterr().out
    rdms(backbone, images, ["stem"])
    assert not capsys.readouterr().out


def test_two_inputs_by_name_and_by_position():
    model = toys.masked()
    generator = np.random.default_rng(0)
    sequence = generator.normal(size=(5, 6, 4)).astype("float32")
    mask = generator.integers(0, 2, (5, 6)).astype("float32")
    expected = direct(outputs(model, [sequence, mask], ["stem", "block2_add"])[1])
    for images in ([sequence, mask], {"mask": mask, "sequence": sequence}):
        np.testing.assert_allclose(rdms(model, images, ["block2_add"])[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((4, 9, 8, 3)),
            "`images` must have shape (batch, 8, 8, 3) for input 'image'. Received: shape "
            "(4, 9, 8, 3).",
        ),
        (np.zeros((1, 8, 8, 3)), "`images` must be at least 2, to be compared. Received: 1."),
        (np.zeros((0, 8, 8, 3)), "`images` must be at least 2, to be compared. Received: 0."),
        (
            [np.zeros((8, 8, 3))] * 3,
            "`images` must be an array, a dict or list of arrays by input, or a finite dataset of "
            "batches, for the model's inputs 'image' (None, 8, 8, 3). Received: list of 3 parts.",
        ),
        (
            np.full((2, 8, 8, 3), np.nan),
            "`model` must give finite features. Received: NaN or infinite features of image 0 at "
            "location 'stem'.",
        ),
    ],
)
def test_bad_images(backbone, images, message):
    with pytest.raises(ValueError) as error:
        rdms(backbone, images, ["stem"])
    assert str(error.value) == message


def test_endless_and_unknown_images(backbone, images):
    import tensorflow as tf

    with pytest.raises(ValueError) as error:
        rdms(backbone, tf.data.Dataset.from_tensors(images).repeat())
    assert str(error.value) == (
        "`images` must be finite: each of them is compared with each. Received: an endless "
        "dataset. Call `.take(n)` on it, or leave out its `.repeat()`."
    )
    with pytest.raises(TypeError, match="Received: images of type int"):
        rdms(backbone, 3)
    with pytest.raises(ValueError, match="must hold arrays of equal length"):
        rdms(toys.masked(), [np.zeros((3, 6, 4)), np.zeros((2, 6))], ["stem"])


def test_sizes_that_change():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.Identity(name="same")(inputs))
    batches = iter([np.zeros((2, 4, 3)), np.zeros((2, 5, 3))])
    with pytest.raises(ValueError) as error:
        rdms(model, batches, ["same"])
    assert str(error.value) == (
        "`images` must have one size. Received: 12 and then 15 features at location 'same'."
    )


def test_bad_options(backbone, images):
    with pytest.raises(ValueError) as error:
        rdms(backbone, images, batch_size=0)
    assert str(error.value) == "`batch_size` must be an integer of at least 1. Received: " + (
        "batch_size=0."
    )
    with pytest.raises(ValueError, match="`memory` must be an integer of at least 0"):
        rdms(backbone, images, memory=-1)


# Locations --------------------------------------------------------------------------------------


def test_own_copies_of_a_task_and_nested_models(backbone, images):
    tasks = [keras_mtl.Task("depth", keras_mtl.heads.Regressor(1), "mse")]
    built = keras_mtl.build(backbone, tasks, "independent", seed=0)
    names = [layer.name for layer in built.network.layers]
    own = next(name for name in names if name.startswith("block1") and name.endswith(".depth"))
    short = own.removesuffix(".depth")
    np.testing.assert_array_equal(
        rdms(built, images, [short, "block2_add"]), rdms(built, images, [own, "block2_add"])
    )
    inputs = keras.Input(toys.SHAPE)
    nested = keras.Model(inputs, layers.Flatten()(backbone(inputs)))
    by_full_name = rdms(nested, images, ["residual.block1_add"])
    np.testing.assert_array_equal(by_full_name, rdms(nested, images, ["block1_add"]))
    np.testing.assert_allclose(by_full_name, rdms(backbone, images, ["block1_add"]), atol=1e-6)


def test_a_copy_of_each_of_two_tasks():
    tasks = [keras_mtl.Task(name, layers.Dense(1), "mse") for name in ("depth", "normal")]
    model = keras_mtl.build(toys.mlp(blocks=1), tasks, "independent", seed=0)
    images = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    with pytest.raises(ValueError) as error:
        rdms(model, images, ["block1"])
    assert str(error.value) == (
        f"`locations` must name one layer each of model {model.network.name!r}. Received: "
        "'block1', which may be 'block1.depth', 'block1.normal'. Use the full name."
    )
    assert rdms(model, images, ["stem.normal", "block1.normal"]).shape == (2, 4, 4)
    with pytest.raises(ValueError) as error:
        rdms(model, images, ["block1.depth", "block1.normal"])
    assert str(error.value) == (
        f"`locations` must lie on the way to one output of model {model.network.name!r}. "
        "Received: locations=['block1.depth', 'block1.normal']. Ask for those of each output "
        "apart."
    )


def test_a_task_with_inputs_of_its_own():
    task = keras_mtl.Task("depth", layers.Dense(1), "mse", inputs="depth_data")
    model = keras_mtl.build(toys.mlp(blocks=1), [task], "shared", seed=0)
    images = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    found = rdms(model, images, ["stem"])
    np.testing.assert_array_equal(found, rdms(model, {"depth_data": images}, ["stem"]))


def test_bad_locations(backbone, images):
    with pytest.raises(ValueError) as error:
        rdms(backbone, images, ["block1_ad"])
    assert str(error.value) == (
        "`locations` must name layers of model 'residual'. Received: 'block1_ad', which it does "
        "not have. Did you mean 'block1_add'?"
    )
    with pytest.raises(ValueError, match="`locations` must be a sequence of names"):
        rdms(backbone, images, "block1_add")
    with pytest.raises(ValueError, match="`locations` must name each thing once"):
        rdms(backbone, images, ["stem", "stem"])
    with pytest.raises(ValueError, match="`locations` must be a sequence of names"):
        rdms(backbone, images, [])


def test_layers_called_twice_or_with_several_outputs():
    inputs = keras.Input((3, 4))
    twice = layers.Dense(4, name="twice")
    sequence, *_ = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(inputs)
    flat = ops.reshape(twice(twice(sequence)), (1, -1))
    model = keras.Model(inputs, layers.Identity(name="flat")(flat), name="net")
    images = np.zeros((3, 3, 4), "float32")
    with pytest.raises(ValueError) as error:
        rdms(model, images, ["twice"])
    assert str(error.value) == (
        "`locations` must name layers that are called once. Received: 'twice', which model 'net' "
        "calls 2 times. Name a layer behind the call that is meant."
    )
    with pytest.raises(ValueError) as error:
        rdms(model, images, ["lstm"])
    assert str(error.value) == (
        "`locations` must name layers with one output. Received: 'lstm', which has 3. Name a "
        "layer behind the output that is meant."
    )
    with pytest.raises(ValueError) as error:
        rdms(model, images, ["flat"])
    assert str(error.value) == (
        "`locations` must name layers that give features of each image. Received: 'flat', which "
        "gives shape (1, 36) for 3 images."
    )


def test_models_that_cannot_be_read(images):
    class Hidden(keras.Model):
        pass

    for model in (Hidden(), keras.Sequential([layers.Dense(2)]), layers.Dense(2), "resnet"):
        with pytest.raises(UnsupportedBackboneError, match="`model` must be a model made by"):
            rdms(model, images)


def test_sequential(images):
    model = keras.Sequential([keras.Input(toys.SHAPE), layers.Flatten(name="flat")])
    np.testing.assert_allclose(rdms(model, images, ["flat"])[0], direct(images), atol=1e-6)
