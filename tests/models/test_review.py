"""What a review found: each of these once went wrong without a word."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.models import UncertaintyWeighting
from keras_mtl.strategies import AdaShare


def task(name="a", **options):
    return keras_mtl.Task(name, keras.layers.Dense(1), "mse", **options)


def test_statistics_of_the_inputs_are_handed_on():
    normalise = keras.layers.Normalization()
    normalise.adapt(np.array([[1.0, 20.0], [3.0, 60.0]]))
    inputs = keras.Input((2,))
    backbone = keras.Model(inputs, keras.layers.Dense(3)(normalise(inputs)))
    x = np.array([[2.0, 10.0], [0.0, 50.0]])
    for weights in ("backbone", "fresh"):
        flat = keras_mtl.Task("a", keras.layers.Flatten(), "mse")
        model = keras_mtl.build(backbone, flat, "shared", initial_weights=weights, seed=0)
        (found,) = (x for x in model.network.layers if x.name == normalise.name)
        np.testing.assert_allclose(found(x), normalise(x), rtol=1e-6)
    expected = backbone.predict(x, verbose=0)
    model = keras_mtl.build(backbone, flat, "shared", seed=0)
    np.testing.assert_allclose(model.predict(x, verbose=0)["a"], expected, rtol=1e-5)


def test_an_equal_backbone_with_other_layer_names_takes_the_plan():
    def backbone(kernel=8):
        inputs = keras.Input((4,))
        x = keras.layers.Dense(kernel, activation="relu")(inputs)
        return keras.Model(inputs, keras.layers.Add()([x, keras.layers.Dense(8)(x)]))

    plan = keras_mtl.build(backbone(), task(), "shared", seed=0).architecture
    again = keras_mtl.build(backbone(), task(), architecture=plan, seed=0)
    assert again.architecture.units != plan.units  # Keras has numbered the layers on
    assert again.architecture.choices == plan.choices


def test_the_fingerprint_sees_settings():
    def fingerprint(activation):
        inputs = keras.Input((4,))
        outputs = keras.layers.Dense(8, activation=activation)(inputs)
        return keras_mtl.graph.read(keras.Model(inputs, outputs)).fingerprint

    assert fingerprint("relu") == fingerprint("relu") != fingerprint("tanh")


def test_all_outputs_of_a_call_can_be_read_at_operator_granularity():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8)(inputs)
    first, second = keras.ops.split(x, 2, axis=-1)
    backbone = keras.Model(inputs, keras.layers.Dense(2)(first * second))
    names = [
        unit.name
        for unit in keras_mtl.graph.find_units(keras_mtl.graph.read(backbone), "operator")
        if unit.searchable
    ]
    plan = keras_mtl.Architecture(
        ("a",), names, {"a": ["shared"] * len(names)}, granularity="operator"
    )
    flat = keras_mtl.Task("a", keras.layers.Flatten(), "mse")
    model = keras_mtl.build(backbone, flat, architecture=plan, seed=0)
    values = np.random.default_rng(0).random((3, 4))
    np.testing.assert_allclose(model.predict(values, verbose=0)["a"], backbone(values), rtol=1e-5)


def test_metrics_may_be_functions():
    def distance(y_true, y_pred):
        return keras.ops.max(keras.ops.abs(y_true - y_pred), axis=-1)

    inputs = keras.Input((2,))
    backbone = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model = keras_mtl.build(backbone, task(metrics=[distance]), "shared", seed=0)
    model.compile("sgd")
    x, y = np.ones((4, 2)), {"a": np.zeros((4, 1))}
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    expected = np.abs(model.predict(x, verbose=0)["a"]).mean()
    assert found["a_distance"] == pytest.approx(expected, rel=1e-5)


def test_a_curriculum_that_does_not_fit_is_refused():
    inputs = keras.Input((4,))
    x = inputs
    for _ in range(4):
        x = keras.layers.Add()([x, keras.layers.Dense(4)(x)])
    strategy = AdaShare(warmup=0, curriculum_epochs=6, max_stages=None)
    model = keras_mtl.build(keras.Model(inputs, x), task(), strategy, seed=0)
    with pytest.raises(ValueError, match="must leave 6 epochs after the warm-up"):
        model.search.plan(5, 10)
    # ceil(4 · 5/6) = 4 blocks are open from the fifth epoch.
    assert model.search.plan(6, 10).first_open_step == 40
    # The reference opens a block every 3 epochs.
    reference = keras_mtl.build(keras.Model(inputs, x), task(), AdaShare.reference(warmup=0))
    plan = reference.search.plan(12, 1)
    assert [plan.open_units(epoch) for epoch in range(12)] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3


def test_an_absent_task_does_not_move_its_uncertainty():
    weighting = UncertaintyWeighting()
    weighting.setup([task("a"), task("b")])
    weighting.log_variances.assign([0.5, 1.0])
    total = weighting.total({"a": 2.0, "b": 0.0}, {"a": 1.0, "b": 0.0})
    assert float(total) == pytest.approx(0.5 * np.exp(-0.5) * 2.0 + 0.25, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The dataset has ended early", "ignore:The search.s plan of 9")
def test_the_position_in_the_data_follows_from_the_step():
    inputs = keras.Input((1,))
    backbone = keras.Model(inputs, keras.layers.Add()([inputs, keras.layers.Dense(1)(inputs)]))
    x = np.arange(24.0)[:, None]
    data = keras_mtl.data.search_split((x, {"a": x}), batch_size=4, seed=3)
    assert len(data) == 3
    model = keras_mtl.build(backbone, task(), AdaShare(warmup=0, curriculum_epochs=0), seed=0)
    model.compile("sgd", "adam")
    seen = []
    original = keras_mtl.models.TaskModel._run

    def spy(self, stream, y, sample_weight, epochs, callbacks, options):
        (batch, _), _ = next(iter(stream))
        seen.append(batch.numpy().ravel().tolist())

    keras_mtl.models.TaskModel._run = spy
    try:
        for step in (0, 1, 2, 3, 4):
            model.step.assign(step)
            model.fit(data, epochs=9, steps_per_epoch=1, verbose=0)
    finally:
        keras_mtl.models.TaskModel._run = original
    expected = [batch.numpy().ravel().tolist() for (batch, _), _ in data.stream().take(5)]
    assert seen == expected
