import gc
import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import toys
from keras import ops

import keras_mtl
from keras_mtl.strategies import AdaShare


def split(backbone, tasks, examples=16, batch_size=4, **options):
    data = toys.data(backbone, tasks, examples)
    return keras_mtl.data.search_split(data, batch_size=batch_size, **options)


class Recorder(keras.callbacks.Callback):
    """Copies of groups of variables, before training and after every epoch."""

    def __init__(self, groups, values_of):
        super().__init__()
        self.groups, self.values_of, self.seen = groups, values_of, []

    def look(self):
        self.seen.append({name: self.values_of(vs) for name, vs in self.groups.items()})

    def on_train_begin(self, logs=None):
        self.look()

    def on_epoch_end(self, epoch, logs=None):
        self.look()


class StopAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            self.model.stop_training = True


# Who moves what ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy_moves_statistics", [False, True])
def test_each_step_moves_its_own_group_only(
    normalised_mlp, values_of, same, policy_moves_statistics
):
    """Epochs in turn: the warm-up and the first move the weights, the second the policy."""
    backbone, tasks = normalised_mlp(), toys.tasks()
    strategy = AdaShare(
        alternate="epoch",
        warmup=0.34,
        curriculum_epochs=0,
        policy_moves_statistics=policy_moves_statistics,
    )
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    model.compile(keras.optimizers.Adam(0.1), keras.optimizers.Adam(0.1))
    groups = {
        "weights": model.weight_variables(),
        "policy": model.policy_variables(),
        "statistics": model.statistics(),
        "weights_optimizer": model.optimizer.variables,
        "policy_optimizer": model.policy_optimizer.variables,
    }
    assert [v.path.split("/")[-1] for v in groups["statistics"]] == [
        "moving_mean",
        "moving_variance",
    ] * 2
    recorder = Recorder(groups, values_of)
    model.fit(split(backbone, tasks), epochs=3, callbacks=[recorder], verbose=0)
    start, warm, weights, policy = recorder.seen
    for before, after in ((start, warm), (warm, weights)):
        assert same(after["policy"], before["policy"])
        assert same(after["policy_optimizer"], before["policy_optimizer"])
        assert not any(map(np.array_equal, after["weights"], before["weights"]))
        assert not any(map(np.array_equal, after["statistics"], before["statistics"]))
    assert same(policy["weights"], weights["weights"])
    assert same(policy["weights_optimizer"], weights["weights_optimizer"])
    assert not any(map(np.array_equal, policy["policy"], weights["policy"]))
    moved = [
        not np.array_equal(*pair)
        for pair in zip(policy["statistics"], weights["statistics"], strict=True)
    ]
    assert moved == [policy_moves_statistics] * 4


def test_warmup_optimizer_moves_the_weights_in_the_warm_up_only(values_of, same):
    backbone, tasks = toys.mlp(blocks=1), toys.tasks()
    model = keras_mtl.build(backbone, tasks, AdaShare(warmup=0.5), seed=0)
    model.compile("sgd", warmup_optimizer=keras.optimizers.SGD(0.0))
    recorder = Recorder({"weights": model.weight_variables()}, values_of)
    model.fit(split(backbone, tasks), epochs=2, callbacks=[recorder], verbose=0)
    start, warm, end = (seen["weights"] for seen in recorder.seen)
    assert same(warm, start)
    assert not any(map(np.array_equal, end, warm))
    assert int(model.warmup_optimizer.iterations) == 2
    assert int(model.optimizer.iterations) == 2


# History, temperature, tracing ------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(values_of):
    """A search of 6 epochs that stops after 3, then goes on in a second `fit`."""
    backbone, tasks = toys.mlp(blocks=2), toys.tasks()
    strategy = AdaShare(warmup=0.17, curriculum_epochs=2, temperature=(8.0, 0.5))
    model = keras_mtl.build(backbone, tasks, strategy, seed=0)
    model.compile(keras.optimizers.SGD(0.05), keras.optimizers.Adam(0.05))
    drawn, draw = [], model.search.draw

    def counting(*args):
        drawn.append(model.current_step())
        return draw(*args)

    model.search.draw = counting
    data, validation = split(backbone, tasks), toys.data(backbone, tasks)
    options = {"epochs": 6, "validation_data": validation, "verbose": 0}
    first = model.fit(data, callbacks=[StopAfter(3)], **options).history
    traced = list(drawn)
    second = model.fit(data, initial_epoch=3, **options).history
    return model, first, second, traced, drawn


def test_history_has_a_row_for_every_term(interrupted):
    _, first, _, _, _ = interrupted
    scores = {"loss", "classes_loss", "value_loss", "classes_accuracy"}
    terms = {"sparsity_loss", "sharing_loss", "expected_parameters", "expected_flops"}
    assert set(first) == scores | terms | {"temperature"} | {f"val_{name}" for name in scores}
    assert all(np.isfinite(values).all() and len(values) == 3 for values in first.values())
    assert first["sparsity_loss"][0] == 0.0  # nothing is open in the warm-up
    assert first["sparsity_loss"][1] < 0.0


def test_temperature_falls_on_in_a_second_fit(interrupted):
    """One epoch of warm-up, then 5 of the search, from 8 to 0.5 by equal factors."""
    _, first, second, _, _ = interrupted
    expected = [8.0, *(8.0 * (0.5 / 8.0) ** (epoch / 4) for epoch in range(5))]
    np.testing.assert_allclose(first["temperature"] + second["temperature"], expected, rtol=1e-5)


def test_second_fit_traces_nothing_new(interrupted):
    """Traced: warm-up, curriculum, search, each at its first step, and the evaluations."""
    _, _, _, traced, drawn = interrupted
    assert {step for step in traced} >= {0, 2, 4}
    assert drawn == traced


def test_every_step_is_counted(interrupted):
    model, *_ = interrupted
    assert model.current_step() == 6 * 2
    assert model.search_is_open
    assert int(model.optimizer.iterations) == 12
    assert int(model.policy_optimizer.iterations) == 10


def test_other_steps_per_epoch_in_a_second_fit_are_refused(interrupted):
    model, *_ = interrupted
    with pytest.raises(keras_mtl.DataError) as error:
        model.fit(split(toys.mlp(), toys.tasks(), batch_size=8), verbose=0)
    assert str(error.value) == (
        "The search was planned with 2 steps an epoch and must go on with as many. Received: 1 "
        "steps an epoch. Use the same data and batch size, or begin again with `search.restart()`."
    )


def test_tracing_is_announced(capsys):
    backbone, tasks = toys.mlp(blocks=1), toys.tasks()
    model = keras_mtl.build(backbone, tasks, AdaShare(warmup=0.5), seed=0)
    model.compile()
    model.fit(split(backbone, tasks), epochs=2, verbose=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "Tracing" in line]
    assert lines == [
        "Tracing the warm-up: all 1 units shared by all tasks ...",
        "Tracing the search: 1 of 1 units open, moving weights and policy ...",
    ]


# Steps ------------------------------------------------------------------------------------------


def unknown(dataset):
    return dataset.filter(lambda *batch: True)


@pytest.mark.parametrize(
    ("make", "options", "steps"),
    [
        (lambda d: d, {"epochs": 2}, 6),
        (lambda d: d.epoch(0), {"epochs": 2}, 6),
        (lambda d: unknown(d.epoch(0)), {"epochs": 2}, 6),
        (lambda d: d.epoch(0).repeat(), {"epochs": 2, "steps_per_epoch": 2}, 4),
        (lambda d: d, {"epochs": 2, "steps_per_epoch": 2}, 4),
        # Keras calls its train function once more, without a batch.
        (lambda d: unknown(d.epoch(0)), {"epochs": 1, "steps_per_epoch": 10}, 3),
    ],
    ids=["split", "known", "unknown", "endless", "cut", "too_short"],
)
@pytest.mark.filterwarnings("ignore:.*ran out of data", "ignore:The dataset has ended early")
def test_steps_are_counted_whatever_is_known_of_the_length(make, options, steps):
    backbone, tasks = toys.mlp(blocks=1), toys.tasks()
    model = keras_mtl.build(backbone, tasks, AdaShare(warmup=0.0), seed=0)
    model.compile("sgd", "sgd")
    model.fit(make(split(backbone, tasks, 24)), verbose=0, **options)
    assert model.current_step() == steps
    assert int(model.optimizer.iterations) == steps
    assert int(model.policy_optimizer.iterations) == steps


def test_a_finished_training_leaves_no_graph():
    def fit():
        backbone, tasks = toys.mlp(blocks=1), toys.tasks(2)
        model = keras_mtl.build(backbone, tasks, "shared", seed=0)
        model.compile("adam")
        model.fit(*toys.data(backbone, tasks, 8), batch_size=4, verbose=0)

    def graphs():
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    before = graphs()
    fit()
    fit()
    assert graphs() <= before


def test_steps_per_execution_is_refused():
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), seed=0)
    with pytest.raises(ValueError) as error:
        model.compile(steps_per_execution=4)
    assert str(error.value) == (
        "`steps_per_execution` must be 1: the model looks at its step before each one. "
        "Received: steps_per_execution=4."
    )


def test_losses_are_not_given_to_compile():
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), seed=0)
    with pytest.raises(ValueError) as error:
        model.compile(loss="mse", metrics=["mae"])
    assert str(error.value) == (
        "`compile` takes losses, metrics and weights from the tasks. Received: ['loss', "
        "'metrics']. Set them on `keras_mtl.Task`."
    )


# Sizes and precisions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "batch_size"),
    [(["a"], 4), (list("abcdefghijkl"), 4), (["a", "b"], 1)],
    ids=["one_task", "twelve_tasks", "batch_of_one"],
)
def test_sizes_at_the_edge(normalised_mlp, names, batch_size):
    backbone, tasks = normalised_mlp(blocks=1), [toys.regression(name) for name in names]
    model = keras_mtl.build(backbone, tasks, AdaShare(warmup=0.0, curriculum_epochs=0), seed=0)
    # One step or four: quicker than tracing.
    model.compile(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.1), run_eagerly=True)
    history = model.fit(split(backbone, tasks, 8, batch_size), epochs=1, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert set(model.decide().choices) == set(names)
    assert model.search.probabilities().shape == (1, len(names))
    if len(names) == 1:
        assert history["sharing_loss"] == [0.0]
    outputs = model.predict(toys.inputs(backbone, 3), verbose=0)
    assert {name: value.shape for name, value in outputs.items()} == {n: (3, 1) for n in names}


def test_mixed_precision(normalised_mlp):
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        backbone, tasks = normalised_mlp(), toys.tasks()
        model = keras_mtl.build(backbone, tasks, AdaShare(warmup=0.5), seed=0)
        model.compile("sgd", "adam", warmup_optimizer="sgd")
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    for optimizer in (model.optimizer, model.policy_optimizer, model.warmup_optimizer):
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert {v.dtype for v in model.policy_variables()} == {"float32"}
    before = model.search.probabilities()
    # Scales that do not overflow: every step moves its group.
    for optimizer in (model.optimizer, model.policy_optimizer, model.warmup_optimizer):
        optimizer.dynamic_scale.assign(128.0)
    history = model.fit(split(backbone, tasks), epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.weights)
    assert not np.array_equal(model.search.probabilities(), before)
    assert int(model.optimizer.inner_optimizer.iterations) == 2
    assert int(model.policy_optimizer.inner_optimizer.iterations) == 2


# Several devices --------------------------------------------------------------------------------

DISTRIBUTED = textwrap.dedent(
    """
    import json
    import sys

    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    import keras_mtl

    def backbone():
        x = inputs = keras.Input((4,))
        options = {"activation": "tanh", "kernel_regularizer": keras.regularizers.L2(0.1)}
        x = layers.Dense(4, name="stem", **options)(x)
        y = layers.LayerNormalization()(layers.Dense(4, name="block", **options)(x))
        return keras.Model(inputs, layers.Add()([x, y]))

    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 4)).astype("float32")
    y = {"a": generator.integers(0, 3, 32), "b": generator.normal(size=(32, 1)).astype("float32")}
    y["b"][generator.random(32) < 0.6] = np.nan  # replicas have unequal numbers of labels
    data = keras_mtl.data.search_split((x, y), batch_size=8)
    results = []
    for devices in (["CPU:0"], ["CPU:0", "CPU:1"]):
        keras.utils.set_random_seed(0)
        strategy = tf.distribute.MirroredStrategy(devices)
        with strategy.scope():
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            tasks = [
                keras_mtl.Task("a", layers.Dense(3), loss, ["accuracy"]),
                keras_mtl.Task("b", layers.Dense(1), "mse"),
            ]
            model = keras_mtl.build(backbone(), tasks, keras_mtl.strategies.AdaShare(), seed=0)
            model.compile(
                keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.5), loss_weighting="uncertainty"
            )
        history = model.fit(data, epochs=5, verbose=0).history
        gates = [copy.numpy().tolist() for copy in model.policy_variables()[0].value.values]
        evaluated = model.evaluate(x, y, batch_size=10, verbose=0, return_dict=True)
        results.append(
            {
                "history": history,
                "gates": gates,
                "step": model.current_step(),
                "evaluated": evaluated,
            }
        )
    json.dump(results, open(sys.argv[1], "w"))
    """
)


@pytest.mark.slow  # in a process of its own
def test_two_devices_train_like_one(tmp_path):
    script, result = tmp_path / "distributed.py", tmp_path / "result.json"
    script.write_text(DISTRIBUTED)
    root = os.path.dirname(os.path.dirname(keras_mtl.__file__))
    done = subprocess.run(
        [sys.executable, str(script), str(result)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(result.read_text())
    assert set(one["history"]) == set(two["history"])
    for name, values in one["history"].items():
        np.testing.assert_allclose(two["history"][name], values, atol=1e-5, err_msg=name)
    # Rows count labels over the replicas, and the loss is their total.
    assert two["evaluated"] == pytest.approx(one["evaluated"], abs=1e-5)
    assert len(two["gates"]) == 2
    assert two["gates"][0] == two["gates"][1]
    np.testing.assert_allclose(two["gates"][0], one["gates"][0], atol=1e-5)
    assert np.abs(one["gates"][0]).max() > 1e-3  # the policy has moved
    assert one["step"] == two["step"] == 10
