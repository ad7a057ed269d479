import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from keras import ops

import keras_mtl
from keras_mtl.models import (
    DynamicWeightAverage,
    EqualWeighting,
    LossWeighting,
    UncertaintyWeighting,
)

LOSSES = {"classes": tf.constant(2.0), "value": tf.constant(3.0)}


def ready(weighting):
    weighting.setup(toys.tasks())
    return weighting


@pytest.fixture
def model():
    return keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)


# Uncertainty ------------------------------------------------------------------------------------


def test_uncertainty_begins_with_half_a_regression_and_a_whole_classification():
    weighting = ready(UncertaintyWeighting())
    assert float(weighting(LOSSES)) == 2.0 + 3.0 / 2
    assert weighting.factors() == {"classes": 1.0, "value": 0.5}


def test_uncertainty_value_and_gradient_by_hand():
    """With s = log σ²: Σ c·exp(−s)·L + s/2, so the gradient is 1/2 − c·exp(−s)·L."""
    weighting = ready(UncertaintyWeighting())
    weighting.log_variances.assign([np.log(4.0), np.log(9.0)])
    with tf.GradientTape() as tape:
        total = weighting(LOSSES)
    gradient = tape.gradient(total, weighting.log_variances.value)
    expected = 2.0 / 4 + 3.0 / (2 * 9) + np.log(2.0) + np.log(3.0)
    assert float(total) == pytest.approx(expected)
    np.testing.assert_allclose(gradient, [0.5 - 2.0 / 4, 0.5 - 3.0 / 18], rtol=1e-6)
    assert weighting.factors() == {
        "classes": pytest.approx(1 / 4),
        "value": pytest.approx(1 / 18),
    }


def test_uncertainty_with_regressions_named():
    weighting = ready(UncertaintyWeighting(regression=["classes"]))
    assert weighting.factors() == {"classes": 0.5, "value": 1.0}


def test_uncertainty_trains_with_the_weights(model):
    """One step of SGD on a batch moves s by the gradient above."""
    model.compile(keras.optimizers.SGD(0.1), loss_weighting="uncertainty")
    assert any(v is model.loss_weighting.log_variances for v in model.weight_variables())
    x, y = toys.data(toys.mlp(blocks=1), toys.tasks(), examples=4)
    history = model.fit(x, y, batch_size=4, verbose=0).history
    (first,), (second,) = history["classes_loss"], history["value_loss"]
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.loss_weighting.log_variances),
        [-0.1 * (0.5 - first), -0.1 * (0.5 - second / 2)],
        rtol=1e-5,
    )
    assert history["loss"] == [pytest.approx(first + second / 2)]


def test_uncertainty_in_a_search_belongs_to_the_weights():
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), seed=0)
    model.compile(loss_weighting="uncertainty")
    variable = model.loss_weighting.log_variances
    assert any(v is variable for v in model.weight_variables())
    assert not any(v is variable for v in model.policy_variables())


@pytest.mark.parametrize("kind", [UncertaintyWeighting, DynamicWeightAverage])
def test_saved_and_restored(model, kind, tmp_path):
    model.compile(loss_weighting=kind())
    for variable in model.loss_weighting.weights:
        variable.assign([0.25, 4.0])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.loss_weighting) is kind
    assert len(again.loss_weighting.weights) == len(model.loss_weighting.weights) > 0
    for variable in again.loss_weighting.weights:
        np.testing.assert_array_equal(variable, [0.25, 4.0])
    assert again.loss_weighting.factors() == model.loss_weighting.factors()


# Dynamic weight average -------------------------------------------------------------------------


def test_dynamic_weight_average_by_hand_over_three_epochs():
    weighting = ready(DynamicWeightAverage(temperature=0.5))
    assert float(weighting(LOSSES)) == 5.0
    weighting.epoch_ended({"classes": 2.0, "value": 4.0})
    assert weighting.factors() == {"classes": 1.0, "value": 1.0}
    weighting.epoch_ended({"classes": 1.0, "value": 4.0})
    first = 2 * np.exp([0.5 / 0.5, 1.0 / 0.5]) / np.exp([0.5 / 0.5, 1.0 / 0.5]).sum()
    np.testing.assert_allclose(list(weighting.factors().values()), first, rtol=1e-6)
    assert float(weighting(LOSSES)) == pytest.approx(2.0 * first[0] + 3.0 * first[1])
    weighting.epoch_ended({"classes": 1.5, "value": 1.0})
    second = 2 * np.exp([1.5 / 0.5, 0.25 / 0.5]) / np.exp([1.5 / 0.5, 0.25 / 0.5]).sum()
    np.testing.assert_allclose(list(weighting.factors().values()), second, rtol=1e-6)


def test_dynamic_weight_average_hears_of_the_epochs_of_fit(model):
    model.compile(keras.optimizers.SGD(0.05), loss_weighting="dwa")
    x, y = toys.data(toys.mlp(blocks=1), toys.tasks(), examples=8)
    history = model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0).history
    losses = np.array([history["classes_loss"], history["value_loss"]])
    np.testing.assert_allclose(history["loss"][:2], losses.sum(axis=0)[:2], rtol=1e-6)
    powers = np.exp(losses[:, 1] / losses[:, 0] / 2.0)
    used = 2 * powers / powers.sum()
    assert abs(used[0] - 1.0) > 1e-3
    assert history["loss"][2] == pytest.approx(used @ losses[:, 2], rel=1e-5)


def test_dynamic_weight_average_is_not_a_trained_variable(model):
    model.compile(loss_weighting="dwa")
    assert model.loss_weighting.trainable_variables == []


def test_a_task_without_labels_in_an_epoch_leaves_finite_factors():
    weighting = ready(DynamicWeightAverage())
    for losses in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.5)):
        weighting.epoch_ended(dict(zip(LOSSES, losses, strict=True)))
        assert np.isfinite(list(weighting.factors().values())).all()


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError) as error:
        DynamicWeightAverage(temperature)
    assert str(error.value) == (
        f"`temperature` must be positive. Received: temperature={temperature}."
    )


# Names, objects ---------------------------------------------------------------------------------


def test_equal_is_the_default(model):
    model.compile()
    assert type(model.loss_weighting) is EqualWeighting
    assert model.loss_weighting.factors() == {"classes": 1.0, "value": 1.0}
    assert float(model.loss_weighting(LOSSES)) == 5.0


@pytest.mark.parametrize("name", ["uncertain", "", 3])
def test_wrong_name_is_refused(model, name):
    with pytest.raises(ValueError) as error:
        model.compile(loss_weighting=name)
    assert str(error.value) == (
        "`loss_weighting` must be a LossWeighting object or one of ['dwa', 'equal', "
        f"'uncertainty']. Received: loss_weighting={name!r}."
    )


def test_unknown_task_among_the_regressions_is_refused(model):
    with pytest.raises(ValueError) as error:
        model.compile(loss_weighting=UncertaintyWeighting(regression=["values"]))
    assert str(error.value) == (
        "`regression` must name tasks of ['classes', 'value']. Received: 'values'. "
        "Did you mean 'value'?"
    )


def test_two_models_with_one_object_have_variables_of_their_own(model):
    weighting = UncertaintyWeighting(regression=["value"])
    model.compile(loss_weighting=weighting)
    other = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    other.compile(loss_weighting=weighting)
    other.loss_weighting.log_variances.assign([5.0, 5.0])
    np.testing.assert_array_equal(model.loss_weighting.log_variances, [0.0, 0.0])
    assert other.loss_weighting.regression == ["value"]
    assert len(model.loss_weighting.weights) == 1


def test_compiled_again_keeps_the_learned_factors_until_another_is_given(model):
    model.compile(loss_weighting="uncertainty")
    model.loss_weighting.log_variances.assign([1.0, 2.0])
    model.compile("sgd")
    np.testing.assert_array_equal(model.loss_weighting.log_variances, [1.0, 2.0])
    model.compile("sgd", loss_weighting="uncertainty")
    np.testing.assert_array_equal(model.loss_weighting.log_variances, [0.0, 0.0])
    assert sum(v.path.endswith("log_variances") for v in model.trainable_variables) == 1


def test_a_weighting_of_the_user():
    class Product(LossWeighting):
        def call(self, losses):
            return ops.prod(ops.stack(list(losses.values())))

    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    model.compile("sgd", loss_weighting=Product())
    x, y = toys.data(toys.mlp(blocks=1), toys.tasks(), examples=4)
    logs = model.evaluate(x, y, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(logs["classes_loss"] * logs["value_loss"])
