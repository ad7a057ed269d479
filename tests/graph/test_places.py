"""Where channel masks can go, by hand for every kind of block, and why elsewhere they cannot."""

import keras
import pytest
from keras import layers

from keras_mtl.graph import alternate_places, find_places, no_places, place_of, read
from keras_mtl.graph.places import NoPlaceError
from tests import partitioned, toys

# Backbone -> all places, in order; those after every other operator.
PLACES = {
    "basic": (["block1_conv1", "block2_conv1"], ["block1_conv1", "block2_conv1"]),
    "bottleneck": (["conv1", "conv2"], ["conv1"]),
    "inverted": (
        ["stem", "block1_expand", "block2_expand"],
        ["block1_expand", "block2_expand"],
    ),
    "vgg": (
        ["conv1", "conv2", "conv3", "conv4", "dense1"],
        ["conv1", "conv3", "dense1"],
    ),
    "dense": (["dense1", "dense2", "dense3"], ["dense1", "dense3"]),
    "rarer": (["conv1", "separable", "transposed"], ["conv1", "transposed"]),
}


def keys(graph, calls):
    return [graph.calls[i].key for i in calls]


@pytest.mark.parametrize("name", PLACES)
def test_places(name):
    graph = read(partitioned.BACKBONES[name]())
    found = find_places(graph), alternate_places(graph)
    assert tuple([place.name for place in places] for places in found) == PLACES[name]


def test_what_hangs_on_the_channels_of_an_inverted_residual():
    graph = read(partitioned.inverted())
    place = place_of(graph, "block1_expand")
    assert place.channels == 12
    assert keys(graph, place.members) == [
        "block1_expand_bn",
        "block1_expand_act",
        "block1_pad",
        "block1_depthwise",
        "block1_depthwise_bn",
        "block1_depthwise_relu",
    ]
    assert graph.calls[place.value.node].key == "block1_depthwise_relu"
    assert place.after == ()
    assert [(graph.calls[i].key, n) for i, n in place.readers] == [("block1_project", 1)]


def test_behind_a_flatten_every_channel_is_read_several_times():
    graph = read(partitioned.vgg())
    place = place_of(graph, "conv4")
    assert keys(graph, place.members) == ["pool4"] and keys(graph, place.after) == ["flat"]
    assert [(graph.calls[i].key, n) for i, n in place.readers] == [("dense1", 4)]
    last = place_of(graph, "dense1")
    assert keys(graph, last.members) == ["dropout"]


def test_two_readers():
    graph = read(partitioned.rarer())
    place = place_of(graph, "transposed")
    assert keys(graph, place.members) == ["pool"]
    assert [(graph.calls[i].key, n) for i, n in place.readers] == [("left", 1), ("right", 1)]


def test_a_stem_is_no_first_of_a_pair_that_a_block_has_begun():
    """It could be masked, since its block has a projection; but then conv1 would be a second."""
    backbone = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    graph = read(backbone)
    assert place_of(graph, "conv1_conv").channels == 64
    chosen = [place.name for place in alternate_places(graph)]
    assert len(chosen) == 16 and all(name.endswith("_1_conv") for name in chosen)


def odd():
    """Operators that cannot be masked, for a reason each."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="softmax", name="soft")(x)
    x = layers.Conv2D(4, 3, name="before_grouped")(x)
    x = layers.Conv2D(4, 1, groups=2, name="grouped")(x)
    x = layers.Conv2D(4, 1, name="before_layer_norm")(x)
    x = layers.LayerNormalization(name="layer_norm")(x)
    twice = layers.Conv2D(4, 1, name="twice")
    x = twice(twice(x))
    x = layers.Conv2D(4, 1, name="before_norm")(x)
    y = layers.Conv2D(4, 1, name="left")(layers.BatchNormalization(name="norm")(x))
    x = layers.Add(name="add")([y, layers.Conv2D(4, 1, name="right")(x)])
    return keras.Model(image, x, name="odd")


def test_why_not():
    graph = read(odd())
    assert [place.name for place in find_places(graph)] == []
    assert no_places(graph) == {
        "soft": "its activation does not keep channels apart",
        "before_grouped": "its channels reach 'grouped' (Conv2D)",
        "before_layer_norm": "its channels reach 'layer_norm' (LayerNormalization)",
        "twice": "layer 'twice' is called 2 times",
        # Behind the fork the normalisation would shift what was masked.
        "before_norm": "its channels reach 'norm' (BatchNormalization)",
        "left": "its channels reach 'add' (Add)",
        "right": "its channels reach 'add' (Add)",
    }
    with pytest.raises(NoPlaceError, match=r"^there is no layer of this name$"):
        place_of(graph, "nowhere")


def test_the_last_operator_is_read_by_the_heads():
    graph = read(toys.chain())
    assert no_places(graph) == {"conv3": "its channels reach the backbone's output"}


def test_a_function_that_mixes_channels_is_refused():
    x = inputs = keras.Input((4,))
    x = layers.Dense(4, name="first")(x)
    x = keras.ops.softmax(x)
    x = layers.Dense(4, name="second")(x)
    x = keras.ops.relu(x)
    x = layers.Dense(4, name="third")(x)
    assert [place.name for place in find_places(read(keras.Model(inputs, x)))] == ["second"]


def test_channels_that_stand_first_are_refused():
    x = image = keras.Input((3, 8, 8))
    for number in (1, 2):
        x = layers.Conv2D(4, 3, data_format="channels_first", name=f"conv{number}")(x)
    assert find_places(read(keras.Model(image, x))) == ()
