"""AutoMTL runs unchanged on backbones of every kind: CNNs, transformers, recurrent nets, tables."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_mtl
from keras_mtl.graph import is_normalisation
from keras_mtl.strategies import AutoMTL
from tests import toys
from tests.backbones import BACKBONES
from tests.contracts import assert_derived_equals_supernet

# `make test` runs the two cheapest, `make test-all` all but the heavy ones (`pytest -m heavy`).
QUICK = ("convolutions_1d", "table")
HEAVY = (
    "DenseNet121",
    "ConvNeXtTiny",
    "InceptionV3",
    "EfficientNetB0",
    "MobileNetV2",
    "MobileNetV3Small",
    "ResNet50",
    "Xception",
    "bert_12",
    "unet_transposed",
)


def marks(name):
    if name in QUICK:
        return ()
    return pytest.mark.heavy if name in HEAVY else pytest.mark.slow


NAMES = [pytest.param(name, marks=marks(name)) for name in BACKBONES]


def reached(model, x, y, phase, group):
    """The variables that the losses' gradient reaches in one kind of step."""
    variables = model.trainable_variables
    model._tracing = (phase, group)
    try:
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = sum(ops.mean(ops.square(outputs[task] - y[task])) for task in y)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
    finally:
        model._tracing = None
    assert np.isfinite(float(loss))
    return {v.path for v, g in zip(variables, gradients, strict=True) if g is not None}


def common_normalisations(model):
    """The variables of normalisation copies that no task owns."""
    keys = {c.key for c in model.graph.calls if is_normalisation(c.operation)}
    layers = model.named_layers()
    return {v.path for key in keys for v in layers[key].trainable_weights if key in layers}


class Moved(keras.callbacks.Callback):
    """Keeps the paths of the variables that each epoch moved."""

    def values(self):
        return {v.path: ops.convert_to_numpy(v) for v in self.model.trainable_variables}

    def on_train_begin(self, logs=None):
        self.moved, self.before = [], self.values()

    def on_epoch_end(self, epoch, logs=None):
        now = self.values()
        self.moved.append({p for p in now if not np.array_equal(now[p], self.before[p])})
        self.before = now


@pytest.mark.parametrize("name", NAMES)
def test_search_decide_derive_and_export(name, tmp_path):
    make, batch = BACKBONES[name]
    keras.utils.set_random_seed(0)
    backbone, x = make(), batch()
    tasks = [toys.regression("a"), toys.regression("b", units=2)]
    examples = len(keras.tree.flatten(x)[0])
    y = {"a": np.ones((examples, 1), "float32"), "b": np.zeros((examples, 2), "float32")}
    # Epochs of one step: pre-training, policy, weights.
    strategy = AutoMTL(pretrain=1 / 3, alternate=(1, 1))
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    model.compile("adam", "adam", run_eagerly=True)
    pairs = tf.data.Dataset.from_tensors(((x, y), (x, y)))

    policy = {v.path for v in model.policy_variables()}
    weights = {v.path for v in model.weight_variables()}
    pretraining, search = model.search.structures()
    assert reached(model, x, y, pretraining, "weights") == weights
    open_now = reached(model, x, y, search, "weights")
    assert open_now == (weights - common_normalisations(model)) | policy

    watch = Moved()
    history = model.fit(pairs, epochs=3, verbose=0, callbacks=[watch]).history
    assert np.isfinite([history["loss"], history["a_loss"], history["b_loss"]]).all()
    pretrained, policy_moved, weights_moved = watch.moved
    assert pretrained and pretrained <= weights
    assert policy_moved == policy
    assert weights_moved and weights_moved <= open_now - policy

    (plan,) = model.decide(samples=1, seed=1)
    choices = {choice for row in plan.choices.values() for choice in row}
    assert "own" in choices
    derived = assert_derived_equals_supernet(model, backbone, tasks, plan, x, tolerance=1e-4)
    assert "shared" in plan.summary()

    derived.export(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    inputs = x if isinstance(x, dict) else {derived.input_specs[None][0].name: x}
    expected = derived(x, training=False)
    for task in ("a", "b"):
        found = served.signatures[task](**{key: tf.constant(v) for key, v in inputs.items()})
        np.testing.assert_allclose(found[task], expected[task], rtol=1e-4, atol=1e-4)
