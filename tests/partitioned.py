"""Small backbones of every kind that channel masks meet, and random masks for them."""

import keras
import numpy as np
from keras import layers

import keras_mtl
from keras_mtl.graph import find_places, find_units, read
from tests import toys


def _conv(x, filters, size, name, activation="relu", stride=1):
    x = layers.Conv2D(filters, size, strides=stride, padding="same", name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_act")(x) if activation else x


def basic(width=6):
    """Two basic blocks of a ResNet, the second of which halves the size."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = _conv(x, width, 3, "stem")
    for number, stride in ((1, 1), (2, 2)):
        y = _conv(x, width * number, 3, f"block{number}_conv1", stride=stride)
        y = _conv(y, width * number, 3, f"block{number}_conv2", activation=None)
        if stride > 1:
            x = _conv(x, width * number, 1, f"block{number}_shortcut", None, stride)
        x = layers.ReLU(name=f"block{number}_relu")(layers.Add(name=f"block{number}_add")([x, y]))
    return keras.Model(image, x, name="basic")


def bottleneck(width=8):
    """A bottleneck block with an identity shortcut."""
    x = image = keras.Input((6, 6, 3), name="image")
    x = _conv(x, width, 3, "stem")
    y = _conv(x, 5, 1, "conv1")
    y = _conv(y, 5, 3, "conv2")
    y = _conv(y, width, 1, "conv3", activation=None)
    x = layers.ReLU(name="relu")(layers.Add(name="add")([x, y]))
    return keras.Model(image, x, name="bottleneck")


def inverted(width=4):
    """Two inverted residuals of a MobileNetV2, the first of which halves the size."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = _conv(x, width, 3, "stem", "relu6")
    for number, stride in ((1, 2), (2, 1)):
        name = f"block{number}"
        y = _conv(x, 3 * width, 1, f"{name}_expand", "relu6")
        y = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(y) if stride > 1 else y
        y = layers.DepthwiseConv2D(
            3, strides=stride, padding="valid" if stride > 1 else "same", name=f"{name}_depthwise"
        )(y)
        y = layers.BatchNormalization(name=f"{name}_depthwise_bn")(y)
        y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(y)
        y = _conv(y, width, 1, f"{name}_project", activation=None)
        x = y if stride > 1 else layers.Add(name=f"{name}_add")([x, y])
    return keras.Model(image, x, name="inverted")


def vgg(width=6):
    """Four convolutions, pooling, and two dense layers behind a `Flatten`."""
    x = image = keras.Input((8, 8, 3), name="image")
    for number in range(1, 5):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        if number % 2 == 0:
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(10, activation="relu", name="dense1")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(image, layers.Dense(7, name="dense2")(x), name="vgg")


def dense(width=6):
    """An MLP with normalisation and PReLU."""
    x = rows = keras.Input((5,), name="rows")
    for number in range(1, 5):
        x = layers.Dense(width, name=f"dense{number}")(x)
        x = layers.BatchNormalization(name=f"dense{number}_bn")(x)
        x = layers.PReLU(name=f"dense{number}_prelu")(x)
    return keras.Model(rows, x, name="dense")


def rarer():
    """One-dimensional, separable and transposed convolutions, and two readers of one mask."""
    x = signal = keras.Input((12, 2), name="signal")
    x = layers.Conv1D(4, 3, padding="same", activation="relu", name="conv1")(x)
    x = layers.SeparableConv1D(5, 3, padding="same", activation="relu", name="separable")(x)
    x = layers.Conv1DTranspose(4, 2, strides=2, activation="tanh", name="transposed")(x)
    x = layers.AveragePooling1D(2, name="pool")(x)
    left = layers.Conv1D(3, 1, name="left")(x)
    right = layers.SeparableConv1D(3, 3, padding="same", name="right")(x)
    return keras.Model(signal, layers.Concatenate(name="joined")([left, right]), name="rarer")


BACKBONES = {
    "basic": basic,
    "bottleneck": bottleneck,
    "inverted": inverted,
    "vgg": vgg,
    "dense": dense,
    "rarer": rarer,
}


def tasks(count=2):
    """Tasks `a`, `b`, ... with linear heads, which pass every difference on."""
    return [keras_mtl.Task(name, keras.layers.Dense(2), "mse") for name in "abcd"[:count]]


def architecture(backbone, tasks, masks, normalisation="task", **changes):
    """Tasks that share everything but what `masks`, name -> `ChannelUse`, say."""
    graph = read(backbone)
    units = tuple(unit.name for unit in find_units(graph, "operator") if unit.searchable)
    names = tuple(task.name for task in tasks)
    return keras_mtl.Architecture(
        names,
        units,
        dict.fromkeys(names, ("shared",) * len(units)),
        granularity="operator",
        normalisation=normalisation,
        masks=masks,
        **changes,
    )


def random_masks(backbone, tasks, seed=0, places=None, backward=True):
    """A `ChannelUse` for some or all places; some tasks use all channels of one, or none."""
    generator = np.random.default_rng(seed)
    masks = {}
    for place in places or find_places(read(backbone)):
        share = generator.choice(
            [0.4, 0.6, 0.9, 1.0, 0.0], (len(tasks), 1), p=[0.3, 0.3, 0.2, 0.15, 0.05]
        )
        forward = generator.random((len(tasks), place.channels)) < share
        changed = forward & (generator.random(forward.shape) < 0.6) if backward else forward
        names = [task.name for task in tasks]
        masks[place.name] = keras_mtl.ChannelUse(
            dict(zip(names, forward, strict=True)), dict(zip(names, changed, strict=True))
        )
    return masks


def model(name, seed=0, count=2, normalisation="task", backward=True, **options):
    """A model with random masks at all places of one of `BACKBONES`, and its backbone."""
    backbone, several = toys.randomised(BACKBONES[name](), seed), tasks(count)
    masks = random_masks(backbone, several, seed, backward=backward)
    plan = architecture(backbone, several, masks, normalisation)
    built = keras_mtl.build(backbone, several, architecture=plan, seed=0, **options)
    toys.randomised(built.network, seed + 1)
    return built, backbone
