"""Runs every layer under Keras' JAX backend; `test_jax.py` starts it."""

import json

import jax
import keras
import numpy as np
from keras import layers, ops

import keras_mtl
from keras_mtl.layers import (
    ChannelMask,
    CrossStitch,
    GumbelGate,
    MaskedConv,
    NDDRFusion,
    Projection,
    SelectOrSkip,
    Sluice,
    SluiceMixture,
    StepSeed,
    TaskAttention,
)


def map_of(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def masked_conv(**options):
    masks = {"a": "1100", "b": "0111"}
    return MaskedConv(layers.Conv2D(4, 3), masks, {"a": "1000", "b": "0011"}, **options)


IMAGE, SMALL, VECTOR = map_of(2, 6, 6, 4), map_of(2, 3, 3, 5), map_of(2, 4)
REFUSED = (
    "Training needs Keras' TensorFlow backend. Received: keras.backend.backend()='jax'. "
    "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
)
TEMPERATURE = {"temperature": 0.7, "training": True}
# A layer, the positional arguments of its call, and the named ones.
ROWS = [
    (ChannelMask("0110"), [VECTOR], {}),
    (CrossStitch(2), [[IMAGE, IMAGE]], {}),
    (CrossStitch(2, per_channel=False), [[VECTOR, VECTOR]], {}),
    (GumbelGate((2, 3)), [], {"seed": 3, **TEMPERATURE}),
    (GumbelGate((2, 3)), [], {"seed": StepSeed(2**40, 7), **TEMPERATURE}),
    (
        GumbelGate((1,), 3, pinned=False, available=[[True, False, True]]),
        [],
        {"seed": StepSeed(1, keras.Variable(5, dtype="int32", trainable=False)), **TEMPERATURE},
    ),
    (GumbelGate((2, 3)), [], {"temperature": 1.0}),
    (masked_conv(), [IMAGE], {"task": "b"}),
    (masked_conv(normalise=True, activation="relu"), [IMAGE], {"task": "b", "training": True}),
    (NDDRFusion(), [IMAGE, [SMALL, IMAGE]], {"gates": np.array([0.5, 1.0]), "training": True}),
    (NDDRFusion(), [IMAGE, [SMALL]], {"gates": (0.5,)}),
    (NDDRFusion(activation=None), [VECTOR, [VECTOR]], {}),
    (Projection(3, (3, 3)), [IMAGE], {"training": True}),
    (Projection(3, normalise=False), [VECTOR], {}),
    (SelectOrSkip(), [[VECTOR, VECTOR]], {"decision": np.array([0.25, 0.75])}),
    (Sluice(2), [[IMAGE, IMAGE]], {}),
    (Sluice(2, orthogonality=0.1, initial="biased"), [[VECTOR, VECTOR]], {}),
    (SluiceMixture(2), [[SMALL, IMAGE]], {}),
    (TaskAttention(), [IMAGE, IMAGE], {"training": True}),
    (TaskAttention(2), [SMALL, SMALL, IMAGE], {"training": True}),
]


def check_row(layer, args, options):
    """Eager, traced and rebuilt, a layer gives the same numbers; gradients are finite."""
    expected = numbers(layer(*args, **options))
    assert all(np.isfinite(each).all() for each in expected)

    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    again(*args, **options)
    again.set_weights(layer.get_weights())
    assert json.dumps(again.get_config()) == json.dumps(layer.get_config())

    def loss(trainable, frozen):
        outputs, *_ = again.stateless_call(trainable, frozen, *args, **options)
        flat = keras.tree.flatten(outputs)
        return sum(ops.sum(each * factors(each.shape[-1])) for each in flat), flat

    groups = again.trainable_variables, again.non_trainable_variables
    values = [[variable.value for variable in group] for group in groups]
    (_, found), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(*values)
    for a, b in zip(numbers(found), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    hard = isinstance(layer, GumbelGate) and "training" not in options
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    moved = any(np.any(np.asarray(gradient) != 0) for gradient in gradients)
    assert moved == (bool(gradients) and not hard)


def factors(channels):
    """Unlike for every channel: a plain sum of what is normalized has no gradient."""
    return 1 + np.arange(channels, dtype="float32")


def numbers(outputs):
    return [np.asarray(each) for each in keras.tree.flatten(outputs)]


def check_step_seed():
    """Draws follow from seed and step, and a step is not frozen in a traced function."""
    step = keras.Variable(0, dtype="int32", trainable=False)
    seed = StepSeed(3, step)

    @jax.jit
    def traced(value):
        with keras.StatelessScope(state_mapping=[(step, value)]):
            return keras.random.uniform((4,), seed=seed)

    drawn = []
    for number in range(3):
        step.assign(number)
        drawn.append(np.asarray(keras.random.uniform((4,), seed=seed)))
        np.testing.assert_array_equal(traced(step.value), drawn[-1])
        again = keras.random.uniform((4,), seed=StepSeed(3, number))
        np.testing.assert_array_equal(again, drawn[-1])
    assert len({tuple(each.tolist()) for each in drawn}) == 3


def check_model():
    """A network is built and called; training is refused in one sentence."""
    inputs = keras.Input((8,))
    stem = layers.Dense(8, activation="relu")(inputs)
    hidden = layers.Dropout(0.1)(layers.Dense(8)(layers.BatchNormalization()(stem)))
    backbone = keras.Model(inputs, layers.ReLU()(layers.Add()([hidden, stem])))
    tasks = [keras_mtl.Task(name, layers.Dense(1), "mse") for name in ("a", "b")]
    for strategy in ("shared", "independent", "adashare", "cross_stitch"):
        model = keras_mtl.build(backbone, tasks, strategy, seed=0)
        for training in (False, True):
            outputs = model(np.ones((2, 8), "float32"), training=training)
            assert {name: x.shape for name, x in outputs.items()} == {"a": (2, 1), "b": (2, 1)}
        try:
            model.compile()
        except RuntimeError as error:
            assert str(error) == REFUSED
        else:
            raise AssertionError("compile must refuse JAX")


if __name__ == "__main__":
    assert keras.backend.backend() == "jax"
    for layer, args, options in ROWS:
        print(layer.name, flush=True)
        check_row(layer, args, options)
    missing = set(keras_mtl.layers.__all__) - {type(layer).__name__ for layer, *_ in ROWS}
    assert missing == {"ArchitectureLayer", "StepSeed"}, missing  # abstract, and no layer
    check_step_seed()
    check_model()
    print("All layers run on JAX.")
