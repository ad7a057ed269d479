"""Heads that give logits with losses that take probabilities, and the other way round."""

import re
import warnings

import keras
import pytest
from keras import layers

from keras_mtl import Task, heads

SPARSE = keras.losses.SparseCategoricalCrossentropy


def functional(*rest):
    x = inputs = keras.Input((4,))
    for layer in rest:
        x = layer(x)
    return keras.Model(inputs, x, name="functional")


def two_branches():
    inputs = keras.Input((4,))
    outputs = layers.Add()([layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
    return keras.Model(inputs, outputs)


def an_operation():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.ops.softmax(layers.Dense(3)(inputs)))


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return keras.ops.softmax(self.dense(x))


class OwnDense(layers.Dense):
    def call(self, x):
        return keras.ops.softmax(super().call(x))


LOGITS = {
    "classifier": lambda: heads.Classifier(3),
    "aspp": lambda: heads.ASPP(3),
    "dense": lambda: layers.Dense(3),
    "convolution": lambda: layers.Conv2D(3, 1),
    "named linear": lambda: layers.Dense(3, activation="linear"),
    "sequential": lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)]),
    "reshaped": lambda: keras.Sequential([layers.Dense(6), layers.Reshape((2, 3))]),
    "functional": lambda: functional(layers.Dense(4, "relu"), layers.Dense(3), layers.Dropout(0.1)),
    "a float32 end": lambda: functional(layers.Dense(3), layers.Activation("linear")),
    "nested": lambda: functional(layers.Dense(4), keras.Sequential([layers.Dense(3)])),
    "every step": lambda: layers.TimeDistributed(layers.Dense(3)),
}
PROBABILITIES = {
    "classifier": lambda: heads.Classifier(3, activation="softmax"),
    "dense": lambda: layers.Dense(3, activation="softmax"),
    "binary": lambda: layers.Dense(1, activation="sigmoid"),
    "sequential": lambda: keras.Sequential([layers.Dense(3), layers.Softmax()]),
    "functional": lambda: functional(layers.Dense(3), layers.Activation("softmax")),
}
UNKNOWN = {
    "relu": lambda: layers.Dense(3, activation="relu"),
    "identity": lambda: layers.Identity(),
    "branches": two_branches,
    "operation": an_operation,
    "own model": Own,
    "own layer": lambda: OwnDense(3),
    "own activation": lambda: layers.Dense(3, activation=lambda x: keras.ops.softmax(x)),
    "normalised": lambda: keras.Sequential([layers.Dense(3), layers.BatchNormalization()]),
    "recurrent": lambda: layers.LSTM(3, activation="linear"),
}


def each(table):
    return pytest.mark.parametrize("head", table.values(), ids=table)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"),
        ("categorical_crossentropy", "CategoricalCrossentropy"),
        ("binary_crossentropy", "BinaryCrossentropy"),
        ("binary_focal_crossentropy", "BinaryFocalCrossentropy"),
        ("categorical_focal_crossentropy", "CategoricalFocalCrossentropy"),
        (keras.losses.sparse_categorical_crossentropy, "SparseCategoricalCrossentropy"),
    ],
)
def test_a_named_loss_takes_probabilities(loss, kind):
    head = heads.Classifier(3, name="scores")
    name = loss if isinstance(loss, str) else loss.__name__
    message = (
        "`loss` of task 'kind' must take logits, since its head 'scores' ends without softmax or "
        f"sigmoid. Received: loss='{name}' with from_logits=False. Use "
        f"`keras.losses.{kind}(from_logits=True)`, or give the head an activation."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Task("kind", head, loss)


def test_a_divergence_takes_nothing_but_probabilities():
    message = (
        "`loss` of task 'kind' must get probabilities, since 'kl_divergence' takes nothing else. "
        "Received: the head 'scores', which ends without softmax or sigmoid. Give it an activation."
    )
    match = f"^{re.escape(message)}$"
    head = heads.Classifier(3, name="scores")
    with pytest.raises(ValueError, match=match):
        Task("kind", head, "kl_divergence")
    with pytest.warns(UserWarning, match=match):
        Task("kind", head, keras.losses.KLDivergence())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task("kind", heads.Classifier(3, activation="softmax"), "kl_divergence")


@each(LOGITS)
def test_heads_that_give_logits(head):
    with pytest.raises(ValueError, match=r"ends without softmax or sigmoid"):
        Task("a", head(), "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match=r"^`loss` of task 'a' must take logits, "):
        Task("a", head(), SPARSE())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task("a", head(), SPARSE(from_logits=True))
        Task("a", head(), "mse")


@each(PROBABILITIES)
def test_heads_that_give_probabilities(head):
    message = r"^`loss` of task 'a' must take probabilities, since its head .* ends with softmax or"
    with pytest.warns(UserWarning, match=message):
        Task("a", head(), SPARSE(from_logits=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task("a", head(), "sparse_categorical_crossentropy")
        Task("a", head(), SPARSE())


@each(UNKNOWN)
def test_heads_of_which_nothing_is_certain(head):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in ("sparse_categorical_crossentropy", SPARSE(), SPARSE(from_logits=True)):
            Task("a", head(), loss)


def test_metrics_of_logits():
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    message = (
        "`metrics` of task 'a' must take logits, since its head 'scores' ends without softmax or "
        "sigmoid. Received: metrics='auc' with from_logits=False. Use "
        "`keras.metrics.AUC(from_logits=True)`, or give the head an activation."
    )
    metrics = [keras.metrics.AUC(name="auc")]
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        Task("a", heads.Classifier(1, name="scores"), loss, metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task("a", heads.Classifier(1), loss, ["accuracy", keras.metrics.AUC(from_logits=True)])
        Task("a", heads.Classifier(1, activation="sigmoid"), "binary_crossentropy", metrics)


def test_a_loss_of_the_user_is_not_looked_at():
    class Own(SPARSE):
        def call(self, y_true, y_pred):
            return super().call(y_true, keras.ops.softmax(y_pred))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task("a", layers.Dense(3), Own())
