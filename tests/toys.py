"""Tiny backbones, tasks and data that every test may use.

Layers have fixed names, so that units do too. A backbone takes milliseconds to build; a train
function of the residual net traces in seconds, of the MLP faster. Share models between tests by
fixtures of module scope.
"""

import keras
import numpy as np
from keras import layers, ops

import keras_mtl

SHAPE = (8, 8, 3)


def residual(blocks=4, width=4, shape=SHAPE, downsample=(), dropout=0.0):
    """A small ResNet: one stem unit `stem`, then blocks `block1`, ... that end in an `Add`.

    A block is ReLU(x + BN(conv(x))); a block named in `downsample` has two convolutions, halves the
    size and has a projection shortcut.
    """
    inputs = keras.Input(shape, name="image")
    x = layers.Conv2D(width, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.Activation("relu", name="stem_relu")(x)
    for block in range(1, blocks + 1):
        name = f"block{block}"
        stride = 2 if block in downsample else 1
        y = layers.Conv2D(width, 3, strides=stride, padding="same", name=name)(x)
        y = layers.BatchNormalization(name=f"{name}_bn")(y)
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        if stride > 1:
            y = layers.Conv2D(width, 3, padding="same", name=f"{name}_second")(y)
            x = layers.Conv2D(width, 1, strides=2, name=f"{name}_shortcut")(x)
        x = layers.Add(name=f"{name}_add")([x, y])
        x = layers.Activation("relu", name=f"{name}_relu")(x)
    return keras.Model(inputs, x, name="residual")


def with_dropout():
    """The residual net with Dropout in its blocks: something that draws random numbers."""
    return residual(blocks=2, dropout=0.5)


def chain(widths=(4, 4, 6), shape=SHAPE):
    """Convolutions without shortcuts: `conv1`, ...; pooling after the first."""
    x = inputs = keras.Input(shape, name="image")
    for number, width in enumerate(widths, start=1):
        x = layers.Conv2D(width, 3, padding="same", name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"conv{number}_bn")(x)
        x = layers.Activation("relu", name=f"conv{number}_relu")(x)
        if number == 1:
            x = layers.MaxPooling2D(name="pool")(x)
    return keras.Model(inputs, x, name="chain")


def mlp(blocks=3, width=8, dropout=0.0):
    """A residual MLP, the cheapest backbone that can be searched: `stem`, `block1`, ..."""
    inputs = keras.Input((width,), name="features")
    x = layers.Dense(width, activation="tanh", name="stem")(inputs)
    for block in range(1, blocks + 1):
        y = layers.Dense(width, activation="tanh", name=f"block{block}")(x)
        if dropout:
            y = layers.Dropout(dropout, name=f"block{block}_dropout")(y)
        x = layers.Add(name=f"block{block}_add")([x, y])
    return keras.Model(inputs, x, name="mlp")


def masked(length=6, width=4, blocks=2):
    """Two inputs; the second is a mask that every block reads: a context value."""
    sequence = keras.Input((length, width), name="sequence")
    mask = keras.Input((length,), name="mask")
    keep = layers.Reshape((length, 1), name="keep")(mask)
    x = layers.Dense(width, name="stem")(sequence)
    for block in range(1, blocks + 1):
        y = layers.Dense(width, activation="relu", name=f"block{block}")(x)
        y = layers.Multiply(name=f"block{block}_mask")([y, keep])
        x = layers.Add(name=f"block{block}_add")([x, y])
    return keras.Model([sequence, mask], x, name="masked")


def nested(width=4, shape=SHAPE):
    """A functional model inside another: its layers are units like any."""
    inner_inputs = keras.Input((*shape[:-1], width), name="inner_image")
    y = layers.Conv2D(width, 3, padding="same", name="conv")(inner_inputs)
    y = layers.Add(name="add")([inner_inputs, y])
    inner = keras.Model(inner_inputs, y, name="inner")
    inputs = keras.Input(shape, name="image")
    x = layers.Conv2D(width, 3, padding="same", name="stem")(inputs)
    x = inner(x)
    x = layers.Conv2D(width, 3, padding="same", name="last")(x)
    return keras.Model(inputs, x, name="nested")


def siamese(width=4):
    """Two inputs through one shared layer, then a residual block."""
    left, right = keras.Input((width,), name="left"), keras.Input((width,), name="right")
    encoder = layers.Dense(width, activation="tanh", name="encoder")
    x = layers.Subtract(name="difference")([encoder(left), encoder(right)])
    y = layers.Dense(width, name="block1")(x)
    x = layers.Add(name="block1_add")([x, y])
    return keras.Model([left, right], x, name="siamese")


BACKBONES = {
    "residual": residual,
    "downsampling": lambda: residual(downsample=(3,)),
    "with_dropout": with_dropout,
    "chain": chain,
    "mlp": mlp,
    "masked": masked,
    "nested": nested,
    "siamese": siamese,
}


def classification(name="classes", num_classes=3, weight=1.0):
    """A task with one class per example."""
    return keras_mtl.Task(
        name,
        head=keras_mtl.heads.Classifier(num_classes),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        weight=weight,
    )


def regression(name="value", units=1, weight=1.0):
    """A task with `units` numbers per example."""
    return keras_mtl.Task(name, head=keras_mtl.heads.Regressor(units), loss="mse", weight=weight)


def tasks(count=2):
    """One classification, then regressions: `classes`, `value`, `value2`."""
    names = ["value", "value2", "value3"]
    return [classification(), *(regression(name) for name in names[: count - 1])]


def inputs(backbone, examples=16, seed=0):
    """Random inputs: one array, or a dict by input name where there are several."""
    generator = np.random.default_rng(seed)
    arrays = {
        spec.name: generator.normal(size=(examples, *spec.shape[1:])).astype("float32")
        for spec in backbone.inputs
    }
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def data(backbone, tasks, examples=16, seed=0):
    """`(x, y)` that can be learned: labels follow from the mean of the first input."""
    x = inputs(backbone, examples, seed)
    first = next(iter(x.values())) if isinstance(x, dict) else x
    score = first.reshape(examples, -1).mean(axis=1)
    y = {}
    for task in tasks:
        units = task.head.units
        if task.metrics:
            rank = np.argsort(np.argsort(score))
            y[task.name] = (rank * units // examples).astype("int32")
        else:
            y[task.name] = np.repeat(score[:, None] * 3 + 1, units, axis=1).astype("float32")
    return x, y


def randomised(backbone, seed=0):
    """Gives every weight of a model a value unlike its first one, statistics included."""
    generator = np.random.default_rng(seed)
    for variable in backbone.weights:
        value = ops.convert_to_numpy(variable)
        if not np.issubdtype(value.dtype, np.floating):
            continue
        noise = generator.uniform(0.5, 1.5, value.shape).astype(value.dtype)
        variable.assign(value * noise + 0.1 * (noise - 0.4))
    return backbone
