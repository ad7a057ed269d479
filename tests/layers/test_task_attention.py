"""TaskAttention: contract, hand-computed values, other sizes, gradients, costs, refusals."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.graph import costs
from keras_mtl.layers import TaskAttention
from keras_mtl.layers.task_attention import _fitted
from tests.contracts import assert_gradient_reaches, assert_serialises, run_layer_test
from tests.layers.columns import saved_and_loaded


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_weights(layer, seed=0):
    """Gives a built layer weights and statistics as if it had learned."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.uniform(0.2, 1.0, np.shape(w)) for w in layer.get_weights()])
    return layer


def logistic(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("features", "read", "previous"),
    [
        ((2, 4, 4, 6), (2, 4, 4, 3), (2, 8, 8, 5)),
        ((2, 4, 4, 6), (2, 8, 8, 3), None),
        ((2, 5, 4), (2, 5, 4), (2, 7, 2)),
        ((2, 2, 3, 2, 4), (2, 2, 3, 2, 4), (2, 4, 3, 2, 1)),
        ((2, 6), (2, 5), (2, 7)),
        ((2, 6), (2, 6), (2, 4, 4, 3)),
        ((2, 3, 3, 6), (2, 3, 3, 6), (2, 7)),
    ],
)
def test_contract(features, read, previous):
    arguments = [normal(*features), normal(*read, seed=1)]
    if previous is not None:
        arguments.append(normal(*previous, seed=2))
    layer = run_layer_test(
        TaskAttention,
        {"reduction": 2},
        *arguments,
        expected_shape=features,
        weights=25 if previous else 10,
        trainable=15 if previous else 6,
    )
    shapes = [np.shape(x) for x in arguments]
    assert layer.compute_output_shape(*shapes) == features
    parameters, flops = TaskAttention.costs(*shapes, reduction=2)
    assert layer.count_params() == parameters
    assert costs.flops(layer, shapes, [features]) == flops


def test_serialises():
    assert_serialises(TaskAttention, {"reduction": 2})


def test_the_mask_by_hand():
    layer = TaskAttention(reduction=2)
    layer.build((None, 2), (None, 2))
    layer.inner.kernel.assign([[1.0], [-2.0]])
    layer.outer.kernel.assign([[1.0, -0.5]])
    for normalisation in (layer.inner_normalisation, layer.outer_normalisation):
        normalisation.epsilon = 0.0
    layer.inner_normalisation.moving_mean.assign([1.0])
    layer.outer_normalisation.moving_variance.assign([4.0, 1.0])
    features, read = np.array([[10.0, 100.0]] * 2), np.array([[8.0, 2.0], [0.0, 5.0]])
    # 8 - 4 - 1 = 3; the second is negative, and ReLU makes it 0.
    expected = [[10 * logistic(1.5), 100 * logistic(-1.5)], [5.0, 50.0]]
    np.testing.assert_allclose(layer(features, read), expected, rtol=1e-6)


def test_previous_features_by_hand():
    """A convolution of size 3, normalised, ReLU, and the maximum of every second and third."""
    layer = TaskAttention(reduction=1)
    features = normal(1, 2, 1, 1)
    previous = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    layer(features, features, previous)
    random_weights(layer)
    (convolution,), (normalisation,) = layer.extraction, layer.extraction_normalisations
    normalisation.moving_mean.assign([45.0])
    found = layer(features, features, previous)
    (kernel,) = convolution.get_weights()
    gamma, beta, mean, variance = normalisation.get_weights()
    padded = np.pad(previous[0, :, :, 0], 1)
    extracted = np.array(
        [
            [np.sum(padded[i : i + 3, j : j + 3] * kernel[..., 0, 0]) for j in range(4)]
            for i in range(4)
        ]
    )
    extracted = np.maximum(gamma * (extracted - mean) / np.sqrt(variance + 1e-5) + beta, 0)
    pooled = extracted.reshape(2, 2, 4).max(axis=(1, 2)).reshape(1, 2, 1, 1)
    assert pooled.min() == 0 < pooled.max()  # ReLU cuts a whole part off
    x = np.concatenate([features, pooled], axis=-1)
    for name in ("inner", "outer"):
        (weights,) = getattr(layer, name).get_weights()
        gamma, beta, mean, variance = getattr(layer, f"{name}_normalisation").get_weights()
        x = gamma * (x @ weights - mean) / np.sqrt(variance + 1e-5) + beta
        x = np.maximum(x, 0) if name == "inner" else logistic(x)
    np.testing.assert_allclose(found, x * features, rtol=1e-4)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, 5.0, 2.0, 0.0], (2,), [5.0, 2.0]),
        ([1.0, 5.0, 2.0, 0.0, 7.0, 3.0], (2,), [5.0, 7.0]),
        ([0.0, 3.0, 6.0], (2,), [0.75, 5.25]),
        ([0.0, 4.0], (4,), [0.0, 1.0, 3.0, 4.0]),
        ([1.0, 5.0], (), 3.0),
    ],
)
def test_fitting_by_hand(before, after, expected):
    x = np.array(before, "float32")[None, :, None]
    found = _fitted(keras.ops.convert_to_tensor(x), np.zeros((1, *after, 1), "float32"))
    np.testing.assert_allclose(np.asarray(found)[0, ..., 0], expected, rtol=1e-6)


def test_maps_are_pooled_along_each_axis():
    x = normal(2, 4, 6, 3)
    found = _fitted(keras.ops.convert_to_tensor(x), np.zeros((2, 2, 2, 1), "float32"))
    expected = [
        [x[:, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].max(axis=(1, 2)) for j in (0, 1)]
        for i in (0, 1)
    ]
    np.testing.assert_array_equal(found, np.transpose(expected, (2, 0, 1, 3)))


def test_a_vector_is_read_at_every_position():
    found = _fitted(keras.ops.convert_to_tensor([[1.0, 2.0]]), np.zeros((1, 3, 2, 5), "float32"))
    np.testing.assert_array_equal(found, np.broadcast_to([1.0, 2.0], (1, 3, 2, 2)))


def test_sizes_that_are_not_known():
    features, previous = keras.Input((None, None, 4)), keras.Input((8, 8, 2))
    model = keras.Model([features, previous], TaskAttention()(features, features, previous))
    assert model.output_shape == (None, None, None, 4)
    assert model([normal(2, 3, 5, 4), normal(2, 8, 8, 2)]).shape == (2, 3, 5, 4)


def test_a_mask_lies_between_0_and_1():
    features = np.ones((4, 3, 3, 5), "float32")
    found = np.asarray(TaskAttention()(features, 10 * normal(4, 3, 3, 5), training=True))
    assert np.all((found > 0) & (found < 1)) and found.std() > 0.01


def test_training_moves_the_statistics_and_inference_does_not():
    arguments = normal(8, 4, 4, 3) + 2, normal(8, 4, 4, 3, seed=1), normal(8, 8, 8, 3, seed=2)
    layer = TaskAttention()
    inference = np.asarray(layer(*arguments))
    layer(*arguments, training=True)
    normalisations = [*layer.extraction_normalisations, layer.inner_normalisation]
    for normalisation in (*normalisations, layer.outer_normalisation):
        assert np.any(normalisation.moving_mean)
    assert not np.allclose(layer(*arguments), inference)


@pytest.mark.parametrize("previous", [(4, 8, 8, 3), (4, 5), None])
def test_gradient_reaches_every_variable(previous):
    arguments = [normal(4, 4, 4, 6), normal(4, 4, 4, 6, seed=1)]
    arguments += [] if previous is None else [normal(*previous, seed=2)]
    layer = TaskAttention(reduction=2)
    layer(*arguments)

    def loss():
        outputs = layer(*arguments, training=True)
        return keras.ops.sum(normal(4, 4, 4, 6, seed=3) * outputs)

    assert_gradient_reaches(layer, layer.trainable_variables, loss)


@pytest.mark.parametrize(
    ("policy", "compute"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")]
)
def test_policy(policy, compute):
    layer = TaskAttention(dtype=policy)
    found = layer(normal(2, 4, 4, 4), normal(2, 4, 4, 4), normal(2, 6, 6, 4))
    assert keras.backend.standardize_dtype(found.dtype) == compute
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_the_mask_of_a_sequence_is_handed_on():
    ids = np.array([[1, 2, 3, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, keras.layers.LSTM(3)(TaskAttention()(words, words)))
    np.testing.assert_allclose(model(ids), model(ids[:, :3]), rtol=1e-5)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("reduction", [1, 2])
def test_the_mask_of_previous_features_ends_with_them(reduction):
    """Keras warns of layers that lose a mask without saying that they may."""
    inputs = keras.Input((None,), dtype="int32")
    words, others = (keras.layers.Embedding(9, 4, mask_zero=True)(inputs) for _ in range(2))
    model = keras.Model(inputs, TaskAttention(reduction)(words, words, others))
    assert model(np.array([[1, 2, 0]])).shape == (1, 3, 4)


def test_in_a_model_that_is_saved(tmp_path):
    inputs = [keras.Input((4, 4, 3)), keras.Input((4, 4, 2)), keras.Input((8, 8, 2))]
    model = keras.Model(inputs, TaskAttention(2)(*inputs))
    x = [normal(2, *tensor.shape[1:]) for tensor in inputs]
    again = saved_and_loaded(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 4), max_size=3),
    st.lists(st.integers(1, 4), max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(1, 5),
)
def test_costs_are_those_of_its_layers(size, before, widths, reduction):
    own, read = (None, *size, widths[0]), (None, *size, widths[1])
    previous = (None, *before, widths[2])
    layer = TaskAttention(reduction)
    layer.build(own, read, previous)
    parameters, flops = TaskAttention.costs(own, read, previous, reduction=reduction)
    assert parameters == layer.count_params()
    inner = layer.inner.units
    shapes = [previous]
    for each in layer.extraction:
        shapes.append(each.compute_output_shape(shapes[-1]))
    calls = [
        *zip(layer.extraction, shapes, shapes[1:], strict=False),
        (layer.inner, (None, *size, widths[0] + widths[1]), (None, *size, inner)),
        (layer.outer, (None, *size, inner), own),
    ]
    assert flops == sum(costs.flops(each, [x], [y]) for each, x, y in calls)


def test_costs_by_hand():
    # Inside the mask is one channel: 8 rows to 1 and 1 to 4, at 9 positions.
    own, previous = (None, 3, 3, 4), (None, 6, 6, 2)
    assert TaskAttention.costs(own, own) == (4 + 4 + 4 * 5, 2 * 9 * 8)
    # f: 2 channels to 1, 3x3 of 1, 1 to 4; or 3x3 from 2 to 4.
    assert TaskAttention.costs(own, own, previous) == (
        (2 + 9 + 4) + 4 * (1 + 1 + 4) + (8 + 4) + 4 * 5,
        2 * 36 * (2 + 9 + 4) + 2 * 9 * 12,
    )
    assert TaskAttention.costs(own, own, previous, reduction=1) == (
        9 * 2 * 4 + 4 * 4 + (8 * 4 + 4 * 4) + 4 * 8,
        2 * 36 * 72 + 2 * 9 * 48,
    )


def test_errors():
    with pytest.raises(ValueError) as error:
        TaskAttention(0)
    assert (
        str(error.value) == "`reduction` must be an integer of at least 1. Received: reduction=0."
    )
    with pytest.raises(ValueError) as error:
        TaskAttention().build((None, 4, 4, 3), (None, 4, 3))
    assert str(error.value) == (
        "`read` must be maps of one rank, (batch, ..., channels), with known channels, and with "
        "known sizes where these differ. Received: shapes=[(None, 4, 3)] to fit (None, 4, 4, 3)."
    )
    for shape in ((None, 2, 2, 2, 2, 3), (None, 4, None), ()):
        with pytest.raises(ValueError) as error:
            TaskAttention().build((None, 3), (None, 3), shape)
        assert str(error.value) == (
            "`previous` must have one to three spatial axes, or none, and known channels. "
            f"Received: shape={shape}."
        )
    with pytest.raises(ValueError) as error:
        TaskAttention.costs((None, None, 3), (None, None, 3))
    assert str(error.value) == (
        "The shapes must be known, but for the batch. Received: features_shape=(None, None, 3), "
        "read_shape=(None, None, 3), previous_shape=None."
    )
