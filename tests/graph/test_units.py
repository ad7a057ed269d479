"""Units: counts on known networks, what may be skipped, and that they hold every call once."""

import gc
import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.graph import INPUT, Value, context_calls, find_units, first_stages, read
from keras_mtl.graph.units import GRANULARITIES
from tests import toys

applications = keras.applications

# One small member of every family runs by default: model -> blocks of several calls that no cut
# divides (None: not counted by hand), units skippable by shortcut, by identity.
SMALL = {
    "ConvNeXtTiny": (18, 18, 0),
    "DenseNet121": (58, 0, 0),
    "EfficientNetB0": (16, 9, 10),
    "EfficientNetV2B0": (None, 15, 4),
    "InceptionV3": (11, 0, 6),
    "MobileNet": (0, 0, 17),
    "MobileNetV2": (10, 10, 3),
    "MobileNetV3Small": (None, 6, 6),
    "NASNetMobile": (1, 0, 0),
    "ResNet50": (16, 16, 0),
    "ResNet50V2": (16, 16, 0),
    "VGG16": (0, 0, 9),
    "Xception": (12, 12, 0),
}
QUICK = ("MobileNetV2", "ResNet50", "VGG16")
HEAVY = [
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtXLarge",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "MobileNetV3Large",
    "NASNetLarge",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "VGG19",
]
# Those whose units are assembled again: the output must be the original model's.
REBUILT = [
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "MobileNetV2",
    "MobileNetV3Small",
    "ResNet50V2",
    "VGG16",
    "Xception",
]


def application(name, size=128):
    make = getattr(applications, name)
    return make(include_top=False, weights=None, input_shape=(size, size, 3))


def blocks_of_several(graph):
    """The units that hold a stretch of several calls without an inner cut, by definition.

    Inside such a unit there are two calls such that no one value passes between them.
    """
    context = context_calls(graph)
    order = [call.index for call in graph.calls if call.index not in context]
    last_read = {graph.output.node: len(graph.calls)}
    for call in graph.calls:
        for value in call.inputs:
            last_read[value.node] = max(call.index, last_read.get(value.node, -1))
    cuts = {
        index
        for place, index in enumerate(order)
        if all(last_read.get(earlier, -1) <= index for earlier in order[:place])
    }
    return [unit for unit in find_units(graph) if not set(unit.calls) <= cuts]


def assert_units_hold_every_call_once(graph):
    searchable = {}
    for granularity in GRANULARITIES:
        units = find_units(graph, granularity)
        calls = [index for unit in units for index in unit.calls]
        if granularity != "operator":
            assert calls == sorted(calls)
        assert sorted([*calls, *context_calls(graph)]) == [c.index for c in graph.calls]
        assert units[-1].output == graph.output
        assert len({unit.name for unit in units}) == len(units)
        made = {v for unit in units for v in (unit.output, *unit.inputs)}
        for unit in units:
            inside = set(unit.calls)
            for index in unit.calls:
                for value in graph.calls[index].inputs:
                    outer = value.node not in inside and value.node not in context_calls(graph)
                    assert not outer or value.node == INPUT or value in unit.inputs
            if unit.skip is not None:
                assert graph.spec(unit.skip).shape == graph.spec(unit.output).shape
        assert graph.output in made
        searchable[granularity] = sum(unit.searchable for unit in units)
    return searchable


# Every model of keras.applications ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL],
)
def test_one_application_per_family(name):
    backbone = application(name)
    graph = read(backbone)
    several, shortcuts, identities = SMALL[name]
    if several is not None:
        assert len(blocks_of_several(graph)) == several
    by = [unit.skip_by for unit in find_units(graph)]
    assert (by.count("shortcut"), by.count("identity")) == (shortcuts, identities)
    assert_units_hold_every_call_once(graph)
    if name == "VGG16":
        convolutions = [u for u in find_units(graph) if u.searchable]
        assert len(convolutions) == 13
        assert all(len(unit.calls) == 1 for unit in convolutions)
    if name in REBUILT:
        assert_rebuilt(backbone)


@pytest.mark.heavy
@pytest.mark.parametrize("name", HEAVY)
def test_heavy_applications(name):
    backbone = application(name)
    graph = read(backbone)
    searchable = assert_units_hold_every_call_once(graph)
    if not name.startswith("NASNet"):
        assert searchable["block"] > 12
    assert searchable["operator"] > 12
    keras.backend.clear_session()
    gc.collect()


def test_every_application_is_tested():
    known = {
        name
        for name, make in vars(applications).items()
        if callable(make) and not isinstance(make, type)
    }
    assert known == {*SMALL, *HEAVY}


def assert_rebuilt(backbone):
    """Assembling every unit as it is gives the original model's output."""
    head = keras_mtl.Task("features", head=layers.Identity(), loss="mse")
    model = keras_mtl.build(backbone, [head], "shared", seed=0)
    x = np.random.default_rng(0).uniform(0, 255, (1, *backbone.inputs[0].shape[1:]))
    x = x.astype("float32")
    expected = np.asarray(backbone(x, training=False))
    found = np.asarray(model(x, training=False)["features"])
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    assert model.network.count_params() == backbone.count_params()


@pytest.mark.parametrize("name", toys.BACKBONES)
def test_toys_are_rebuilt(name):
    backbone = toys.randomised(toys.BACKBONES[name]())
    assert_units_hold_every_call_once(read(backbone))
    x = toys.inputs(backbone, examples=2)
    task = keras_mtl.Task("features", head=layers.Identity(), loss="mse")
    model = keras_mtl.build(backbone, [task], "shared", seed=0)
    np.testing.assert_allclose(model(x)["features"], backbone(x), atol=1e-6)


# Shortcuts ----------------------------------------------------------------------------------------


def units_by_name(backbone, granularity="block"):
    graph = read(backbone)
    return graph, {unit.name: unit for unit in find_units(graph, granularity)}


def test_identity_and_projection_shortcuts():
    graph, units = units_by_name(toys.residual(downsample=(3,)))
    keys = [call.key for call in graph.calls]
    assert list(units) == ["stem", "block1", "block2", "block3", "block4"]
    assert units["stem"].skip is None and units["stem"].skip_by is None
    for name in ("block1", "block2", "block4"):
        assert units[name].skip_by == "shortcut"
        assert units[name].skip == units[name].inputs[0]
    assert units["block3"].skip_by == "shortcut"
    assert keys[units["block3"].skip.node] == "block3_shortcut"


def test_the_shortcut_of_a_preactivated_block_is_before_the_activation():
    graph = read(application("ResNet50V2", 64))
    keys = [call.key for call in graph.calls]
    blocks = [unit for unit in find_units(graph) if unit.skip_by == "shortcut"]
    skips = [keys[unit.skip.node] for unit in blocks]
    # The first block of a stage projects; the last of the first three stages pools its shortcut.
    assert [x for x in skips if x.endswith("_0_conv")] == [
        f"conv{stage}_block1_0_conv" for stage in (2, 3, 4, 5)
    ]
    assert sum("max_pooling" in x for x in skips) == 3
    assert skips[1] == "conv2_block1_out"
    assert blocks[1].skip == blocks[1].inputs[0]


def test_a_sum_by_plus_is_a_shortcut():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="stem")(inputs)
    x = x + layers.Dense(4, name="block")(x)
    _, units = units_by_name(keras.Model(inputs, x))
    assert units["block"].skip_by == "shortcut"


def test_a_first_block_may_have_the_input_as_its_shortcut():
    x = inputs = keras.Input((4,))
    for name in ("one", "two"):
        x = layers.Add()([x, layers.Dense(4, name=name)(x)])
    _, units = units_by_name(keras.Model(inputs, x))
    assert [unit.skip_by for unit in units.values()] == ["shortcut", "shortcut"]
    assert units["one"].skip == Value(INPUT, 0)
    assert units["one"].inputs == ()


def test_a_stem_is_never_skipped_by_identity():
    _, units = units_by_name(toys.mlp())
    assert units["stem"].skip_by is None


def test_equally_heavy_branches_are_no_shortcut():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="stem")(inputs)
    x = layers.Add()([layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x)])
    _, units = units_by_name(keras.Model(inputs, x))
    assert units["a"].skip_by == "identity"
    assert units["a"].skip == units["a"].inputs[0]


def test_a_shortcut_of_another_shape_is_none():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="stem")(inputs)
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Add()([pooled, layers.Conv2D(2, 1, name="block")(x)])  # broadcasts
    _, units = units_by_name(keras.Model(inputs, x))
    assert units["block"].skip_by == "identity"


def test_three_branches_are_no_shortcut():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="stem")(inputs)
    y, z = layers.Dense(4, name="y")(x), layers.Dense(4, name="z")(x)
    _, units = units_by_name(keras.Model(inputs, layers.Add()([x, y, z])))
    assert units["y"].skip_by == "identity"


def test_a_change_of_shape_after_the_sum_is_no_shortcut():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="stem")(inputs)
    x = layers.Concatenate()([layers.Add()([x, layers.Dense(4, name="y")(x)]), x])
    _, units = units_by_name(keras.Model(inputs, x))
    assert units["y"].skip_by is None


# Context, chains and the other granularities ------------------------------------------------------


def test_a_mask_is_context():
    graph, units = units_by_name(toys.masked())
    assert [graph.calls[i].key for i in context_calls(graph)] == ["keep"]
    assert list(units) == ["stem", "block1", "block2"]
    assert [unit.skip_by for unit in units.values()] == [None, "shortcut", "shortcut"]
    assert units["block1"].inputs == (units["stem"].output,)


def test_rescaling_is_context_and_normalisation_of_inputs_too():
    inputs = keras.Input((4,))
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = layers.Normalization(mean=1.0, variance=2.0, name="statistics")(x)
    graph, units = units_by_name(keras.Model(inputs, layers.Dense(2, name="dense")(x)))
    assert len(context_calls(graph)) == 2
    assert list(units) == ["dense"]


def test_a_backbone_without_weights_has_no_context():
    inputs = keras.Input((4, 4, 1))
    graph, units = units_by_name(keras.Model(inputs, layers.Flatten(name="flatten")(inputs)))
    assert context_calls(graph) == set()
    assert [unit.searchable for unit in units.values()] == [False]


def test_chains_are_cut_at_weighted_calls():
    graph, units = units_by_name(toys.chain())
    found = {name: [graph.calls[i].key for i in unit.calls] for name, unit in units.items()}
    assert found == {
        "conv1": ["conv1", "conv1_bn", "conv1_relu"],
        "pool": ["pool"],
        "conv2": ["conv2", "conv2_bn", "conv2_relu"],
        "conv3": ["conv3", "conv3_bn", "conv3_relu"],
    }
    skips = {name: unit.skip_by for name, unit in units.items()}
    assert skips == {"conv1": None, "pool": None, "conv2": "identity", "conv3": None}
    searchable = {name: unit.searchable for name, unit in units.items()}
    assert searchable == {"conv1": True, "pool": False, "conv2": True, "conv3": True}


def test_padding_belongs_to_the_convolution_after_it():
    x = inputs = keras.Input((8, 8, 2))
    for name in ("a", "b"):
        x = layers.ZeroPadding2D(name=f"{name}_pad")(x)
        x = layers.Conv2D(2, 3, name=name)(x)
    graph, units = units_by_name(keras.Model(inputs, x))
    found = [[graph.calls[i].key for i in unit.calls] for unit in units.values()]
    assert found == [["a"], ["b_pad", "b"]]  # the first padding is context
    assert units["b"].skip_by == "identity"


def test_operators_take_their_normalisation_along():
    graph, units = units_by_name(toys.residual(blocks=1), "operator")
    found = {name: [graph.calls[i].key for i in unit.calls] for name, unit in units.items()}
    assert found["stem"] == ["stem", "stem_bn"]
    assert found["block1"] == ["block1", "block1_bn"]
    assert {name for name, unit in units.items() if unit.searchable} == {"stem", "block1"}


def keys_of(graph, values):
    return [graph.calls[value.node].key for value in values]


def test_operators_and_their_skips():
    """Source, core, tail and skip of operators; a 1x1 projection stands in between shapes."""
    graph, units = units_by_name(toys.residual(blocks=2, downsample=(2,)), "operator")
    found = {n: (u.skip_by, u.linear) for n, u in units.items() if u.searchable}
    assert found == {
        "stem": ("projection", True),
        "block1": ("identity", True),
        "block2": ("projection", True),
        "block2_second": ("identity", True),
        "block2_shortcut": ("projection", True),
    }
    block = units["block1"]
    assert [graph.calls[i].key for i in block.tail] == ["block1_bn"]
    assert keys_of(graph, [block.source, block.core, block.output, block.skip]) == [
        "stem_relu",
        "block1",
        "block1_bn",
        "stem_relu",
    ]
    assert block.extra == () and not block.normalises
    assert units["stem"].source == Value(INPUT, 0) and units["stem"].skip is None
    assert units["block2_second"].tail == ()
    assert units["block2_second"].core == units["block2_second"].output
    assert units["block1_relu"].skip_by is None and not units["block1_relu"].searchable


def test_operators_with_an_activation_are_linear_before_it():
    x = inputs = keras.Input((5, 4))
    x = layers.Dense(4, activation="tanh", name="dense")(x)
    x = layers.Dense(4, name="plain")(x)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    _, units = units_by_name(keras.Model(inputs, x), "operator")
    found = {name: (u.skip_by, u.linear, u.activated) for name, u in units.items()}
    assert found == {
        "dense": ("identity", True, True),
        "plain": ("identity", True, False),
        "lstm": ("identity", False, False),
    }


def test_operators_with_several_normalisations():
    x = inputs = keras.Input((4,))
    x = layers.Dense(4, name="dense")(x)
    x = layers.BatchNormalization(name="first")(x)
    x = layers.LayerNormalization(name="second")(x)
    graph, units = units_by_name(keras.Model(inputs, x), "operator")
    assert list(units) == ["dense"]
    assert [graph.calls[i].key for i in units["dense"].tail] == ["first", "second"]
    assert keys_of(graph, [units["dense"].core, units["dense"].output]) == ["dense", "second"]


def test_other_outputs_of_an_operator():
    x = inputs = keras.Input((5, 4))
    read_all = layers.LSTM(4, return_sequences=True, return_state=True, name="all")
    x, h, c = read_all(x)
    x, *_ = layers.LSTM(4, return_sequences=True, return_state=True, name="one")(x)
    x = layers.LSTM(4, name="last")(x, initial_state=[h, c])
    _, units = units_by_name(keras.Model(inputs, x), "operator")
    assert [value.output for value in units["all"].extra] == [1, 2]
    assert units["all"].skip_by is None
    # Outputs that nobody reads do not matter.
    assert units["one"].extra == () and units["one"].skip_by == "identity"
    assert units["last"].skip_by is None  # changes the rank


def test_a_normalisation_alone_is_no_operator():
    x = inputs = keras.Input((4,))
    x = layers.BatchNormalization(name="norm")(layers.Activation("relu", name="relu")(x))
    _, units = units_by_name(keras.Model(inputs, layers.Dense(2, name="dense")(x)), "operator")
    assert units["norm"].normalises and units["norm"].searchable
    assert units["norm"].skip_by is None and not units["dense"].normalises


def test_a_normalisation_that_is_not_alone_stays_apart():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="dense")(inputs)
    y = layers.Add(name="add")([x, layers.LayerNormalization(name="norm")(x)])
    _, units = units_by_name(keras.Model(inputs, y), "operator")
    assert {name: unit.calls for name, unit in units.items()} == {
        "dense": (0,),
        "norm": (1,),
        "add": (2,),
    }


def test_stages_join_the_blocks_of_one_size():
    _, units = units_by_name(toys.residual(downsample=(3,)), "stage")
    assert list(units) == ["stem", "block3"]
    assert [len(unit.calls) for unit in units.values()] == [11, 10]
    # The last block's shortcut does not go around the stage.
    assert [unit.skip_by for unit in units.values()] == [None, None]
    resnet = find_units(read(application("ResNet50", 64)), "stage")
    assert [u.name for u in resnet if u.searchable][1:] == [
        "conv2_block1_1_conv",
        "conv3_block1_1_conv",
        "conv4_block1_1_conv",
        "conv5_block1_1_conv",
    ]


def test_another_granularity_is_refused():
    message = (
        "`granularity` must be one of ('block', 'operator', 'stage'). "
        "Received: granularity='layer'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_units(read(toys.mlp()), "layer")


def test_first_stages():
    graph = read(toys.residual(blocks=3, downsample=(2, 3)))
    stages = [set(unit.calls) for unit in find_units(graph, "stage") if unit.searchable]
    assert len(stages) == 3
    assert first_stages(graph, 0) == set() == first_stages(graph, 0.3)
    assert first_stages(graph, 2 / 3) == stages[0] | stages[1] == first_stages(graph, 2)
    assert first_stages(graph, 1) == stages[0]
