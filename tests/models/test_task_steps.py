"""Tasks take turns: a step is one task's, and leaves alone what is another's."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_mtl
from keras_mtl.callbacks import BackupAndResume
from keras_mtl.data import join_tasks, sample_tasks
from keras_mtl.errors import DataError
from keras_mtl.models import MultiTaskModel

ROOT = str(pathlib.Path(keras_mtl.__file__).parents[1])
SIZES = {"a": 9, "b": 14}


def classification(name, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head = keras_mtl.heads.Classifier(3)
    return keras_mtl.Task(name, head, loss, ["accuracy"], inputs=name, **options)


def classes(sizes, width=6, seed=0):
    generator = np.random.default_rng(seed)
    found = {}
    for name, size in sizes.items():
        x = generator.normal(size=(size, width)).astype("float32")
        found[name] = x, (np.argsort(np.argsort(x[:, 0])) * 3 // size).astype("int32")
    return found


@pytest.fixture(scope="module")
def tasks():
    return [classification(name) for name in SIZES]


@pytest.fixture(scope="module")
def partly_shared(normalised_mlp, tasks):
    """A function: stem and first block shared, the second block own, normalisation per task.

    Eager unless a test is about tracing, which takes seconds.
    """

    def make(optimizer="sgd", *, run_eagerly=True, **options):
        keras.utils.set_random_seed(0)
        backbone = normalised_mlp()
        plan = keras_mtl.build(backbone, tasks, "shared", seed=0).architecture
        choices = {task: [*row[:-1], "own"] for task, row in plan.choices.items()}
        plan = plan.replace(choices=choices, normalisation="task")
        model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
        model.compile(optimizer, run_eagerly=run_eagerly, **options)
        return model

    return make


def state(model):
    """Name -> value of everything that training moves; rows of `history` apart."""
    found = {
        f"{name} {v.name}": v for name, layer in model.named_layers().items() for v in layer.weights
    }
    for task in SIZES:
        slots = model.task_optimizers[task].variables if model.task_optimizers else []
        found |= {f"slot of {task} {v.path}": v for v in slots}
    found |= {v.name: v for v in model.loss_weighting.variables}
    found |= {"counts": model.turn_counts, "accuracies": model.turn_accuracies}
    return {name: np.array(ops.convert_to_numpy(v)) for name, v in found.items()}


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def is_of(task, name):
    return f".{task} " in name or name.startswith((f"{task}.head", f"slot of {task}"))


# What a step moves ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1, global_clipnorm=1.0),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    ],
    ids=["sgd", "adamw"],
)
def test_a_step_moves_nothing_of_another_task(partly_shared, optimizer):
    model = partly_shared(optimizer(), loss_weighting="uncertainty")
    model.fit(sample_tasks(classes(SIZES), 4, steps_per_epoch=4), verbose=0)
    assert min(model._task_steps.counts().values()) > 0  # so that all slots are in motion
    slots = {task: [n for n in state(model) if n.startswith(f"slot of {task}")] for task in SIZES}
    assert [name for name in slots["a"] if "block2.a" in name and "block2_bn.a" not in name]
    assert not [name for name in slots["a"] if "block2.b" in name or "block2_bn.b" in name]
    one = sample_tasks(classes(SIZES), 4, steps_per_epoch=1)
    seen = set()
    for step in range(4, 9):
        before = state(model)
        model.fit(one, verbose=0)
        after, task = state(model), one.task_at(step)
        (other,) = set(SIZES) - {task}
        moved, place = changed(before, after), list(SIZES).index(other)
        assert not [name for name in moved if is_of(other, name)]
        assert {
            "stem kernel",
            "block1 bias",
            f"block1_bn.{task} gamma",
            f"block2.{task} kernel",
            f"block2_bn.{task} moving_mean",
            "log_variances",
        } <= moved
        assert [name for name in moved if name.startswith(f"slot of {task}") and "stem" in name]
        assert before["log_variances"][place] == after["log_variances"][place]
        seen.add(task)
    assert seen == set(SIZES)


def test_regularisers_of_another_task_do_not_count(affine, one_weight):
    """Each task's own weight is regularised; a step of one must not shrink the other's."""
    backbone = affine(kernel_regularizer=keras.regularizers.L2(0.5))
    tasks = [one_weight(name, inputs=name) for name in SIZES]
    model = keras_mtl.build(backbone, tasks, "independent", seed=0)
    model.compile(keras.optimizers.SGD(0.1))
    x = np.zeros((4, 1), "float32")  # so that the regulariser is all there is
    data = sample_tasks({name: (x, x) for name in SIZES}, 4, steps_per_epoch=1)
    history = model.fit(data, verbose=0).history
    weights = {n: float(model.named_layers()[f"stem.{n}"].kernel[0, 0]) for n in SIZES}
    task = data.task_at(0)
    # d(0.5 w²)/dw = w = 1, times 0.1; the loss is 0.5.
    assert weights == {task: pytest.approx(0.9), "ab".replace(task, ""): 1.0}
    assert history["loss"] == [pytest.approx(0.5)]


def test_momentum_and_schedule_by_hand(affine, one_weight):
    """Own momentum for each task, decoupled weight decay, and a rate that falls by all steps."""
    tasks = [one_weight(name, inputs=name) for name in SIZES]
    model = keras_mtl.build(affine(), tasks, "shared", seed=0)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.02, 0.002])
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=0.05))
    generator = np.random.default_rng(0)
    raw = {n: generator.normal(size=(2, k, 1)).astype("float32") for n, k in SIZES.items()}
    data = sample_tasks({n: (x, y) for n, (x, y) in raw.items()}, 4, steps_per_epoch=9)
    model.fit(data, verbose=0)
    turns = [data.task_at(step) for step in range(9)]
    assert len(set(turns[:4])) == 2 and len(set(turns[5:])) == 2

    weights = {"stem": 1.0, "a": 1.0, "b": 1.0}
    slots = {task: dict.fromkeys(weights, 0.0) for task in SIZES}
    streams = {task: iter(data.stream(task)) for task in SIZES}
    for step, task in enumerate(turns):
        x, y = (np.asarray(part[task]) for part in next(streams[task]))
        rate = 0.02 if step <= 3 else 0.002
        error = 2 * np.mean((weights["stem"] * weights[task] * x - y) * x)
        gradients = {"stem": error * weights[task], task: error * weights["stem"]}
        for name, gradient in gradients.items():
            slots[task][name] = 0.9 * slots[task][name] - rate * gradient
            weights[name] += slots[task][name] - 0.05 * rate * weights[name]
    layers = model.named_layers()
    found = {
        "stem": layers["stem"].kernel,
        **{task: layers[f"{task}.head"].kernel for task in SIZES},
    }
    assert {name: float(k[0, 0]) for name, k in found.items()} == pytest.approx(weights, abs=1e-5)
    assert int(model.optimizer.iterations) == 9
    assert model._task_steps.counts() == {task: turns.count(task) for task in SIZES}


def test_the_rate_of_the_model_is_every_task_s(partly_shared):
    model = partly_shared(keras.optimizers.SGD(0.1))
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=2)
    model.fit(data, verbose=0)
    model.optimizer.learning_rate = 0.0
    before = state(model)
    model.fit(data, verbose=0)
    moved = changed(before, state(model))
    assert moved and not [
        name
        for name in moved
        if name.endswith(("kernel", "bias", "gamma", "beta")) and "slot" not in name
    ]


def test_exclusions_from_weight_decay_are_every_task_s(partly_shared):
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["gamma"])
    model = partly_shared(optimizer, multipliers={"stem": 1.0})
    x = np.zeros((4, 6), "float32")
    y = np.full(4, 1, "int32")
    weight = np.zeros(4, "float32")  # without present labels every gradient is 0
    data = sample_tasks({n: (x, y, weight) for n in SIZES}, 4, steps_per_epoch=1)
    before = state(model)
    model.fit(data, verbose=0)
    moved = changed(before, state(model))
    assert "stem kernel" in moved
    assert not [name for name in moved if name.endswith("gamma")]


# Masks of the update ------------------------------------------------------------------------------


def test_update_scales_are_the_last_word(partly_shared):
    """After momentum and weight decay; 0 keeps values bit for bit, in steps of that task only."""
    model = partly_shared(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1))
    free = partly_shared(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1))
    stem, other = (m.named_layers()["stem"].kernel for m in (model, free))
    mask = np.array([0.0, 1.0, 0.5, 0.0], "float32")
    bias = model.named_layers()["stem"].bias
    model.update_scales = lambda task: {id(stem): mask, id(bias): 0.0} if task == "a" else {}
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=1)
    first = next(step for step in range(9) if data.task_at(step) == "a")
    assert first > 0
    for _ in range(first + 1):
        assert np.array_equal(stem, other)  # steps of "b" are not masked
        old, old_bias = (np.array(ops.convert_to_numpy(v)) for v in (stem, bias))
        model.fit(data, verbose=0)
        free.fit(data, verbose=0)
    new, full = map(ops.convert_to_numpy, (stem, other))
    assert np.array_equal(new[:, [0, 3]], old[:, [0, 3]])
    assert np.array_equal(new[:, 1], full[:, 1])
    assert not np.array_equal(new[:, 1], old[:, 1])
    np.testing.assert_allclose(new[:, 2], (old[:, 2] + full[:, 2]) / 2, atol=1e-7)
    assert np.array_equal(bias, old_bias)


def test_scales_may_be_variables_that_change(partly_shared, traced):
    model = partly_shared(keras.optimizers.AdamW(0.1), run_eagerly=False, multipliers={"stem": 0.5})
    kernel = model.named_layers()["stem"].kernel
    mask = keras.Variable(np.ones(4, "float32"))
    model.update_scales = lambda task: {id(kernel): mask}
    data = sample_tasks(classes({"a": 9, "b": 9}), 4, steps_per_epoch=4)
    for values in ([1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1]):
        mask.assign(values)
        before = np.array(ops.convert_to_numpy(kernel))
        model.fit(data, verbose=0)
        moved = (before != ops.convert_to_numpy(kernel)).any(axis=0)
        assert moved.tolist() == [bool(value) for value in values]
    assert sorted(traced) == ["a", "b"]


def test_masked_channels_of_another_task_stay(tasks):
    """Two halves of the channels, one for each task, under an optimizer that decays everything."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6,), name="x")
    for number in (1, 2):
        x = keras.layers.Dense(8, activation="tanh", name=f"dense{number}")(x)
    halves = keras_mtl.strategies.FeaturePartition(
        [[0.5, 0.0], [0.0, 0.5]], layers=["dense1"], frozen=0
    )
    model = keras_mtl.build(keras.Model(inputs, x), tasks, halves, seed=0)
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), run_eagerly=True)
    kernels = [model.named_layers()[name].kernel for name in ("dense1", "dense2")]
    one = sample_tasks(classes(SIZES), 4, steps_per_epoch=1)
    moved = {}
    for step in range(5):
        before = [np.array(ops.convert_to_numpy(kernel)) for kernel in kernels]
        model.fit(one, verbose=0)
        first, second = (b != ops.convert_to_numpy(k) for b, k in zip(before, kernels, strict=True))
        columns, rows = first.any(axis=0), second.any(axis=1)
        assert columns.sum() == rows.sum() == 4
        assert first[:, columns].all() and second[rows].all()
        moved.setdefault(one.task_at(step), columns)
        assert np.array_equal(moved[one.task_at(step)], columns)
        assert np.array_equal(rows, columns)
    assert np.array_equal(moved["a"], ~moved["b"])


# Tracing, rows, validation ------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch):
    found = []
    step = MultiTaskModel.train_step

    def record(self, data):
        found.append(self.step_task)
        return step(self, data)

    monkeypatch.setattr(MultiTaskModel, "train_step", record)
    return found


def test_one_function_for_each_task_is_traced_once(partly_shared, traced, capsys):
    model = partly_shared(run_eagerly=False)
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=6)
    model.fit(data, epochs=2, verbose=2)
    assert sorted(traced) == ["a", "b"]
    assert capsys.readouterr().out.count("Tracing the step of task 'a' ...") == 1
    model.fit(data, verbose=0)
    model.fit(sample_tasks(classes(SIZES), 4, sampling="proportional"), verbose=0)
    assert sorted(traced) == ["a", "b"]
    model.fit(join_tasks(classes(SIZES), 4), verbose=0)
    assert traced[2:] == [None]
    model.fit(data, verbose=0)
    model.fit(join_tasks(classes(SIZES), 4), verbose=0)
    assert traced[2:] == [None]
    model.compile()  # another optimizer
    model.fit(data, verbose=0)
    assert sorted(traced[3:]) == ["a", "b"]


def test_rows_are_means_over_the_steps_of_the_task(partly_shared):
    model = partly_shared(keras.optimizers.SGD(0.0))
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=7)
    validation = classes({"a": 6, "b": 3}, seed=1)
    history = model.fit(data, validation_data=validation, verbose=0).history
    joined = join_tasks(validation, 4, training=False)
    for row, value in model.evaluate(joined, verbose=0, return_dict=True).items():
        assert history[f"val_{row}"] == [pytest.approx(value, rel=1e-5)]
    counts, total = model._task_steps.counts(), 0.0
    assert sum(counts.values()) == 7 and min(counts.values()) > 1
    for task in SIZES:
        losses, right = [], []
        for x, y in data.stream(task).take(counts[task]):
            logits = model.task_network(task)(x[task], training=True)
            losses.append(keras.losses.sparse_categorical_crossentropy(y[task], logits, True))
            right.append(np.argmax(logits, -1) == y[task])
        assert history[f"{task}_loss"] == [pytest.approx(np.mean(losses), rel=1e-5)]
        assert history[f"{task}_accuracy"] == [pytest.approx(np.mean(right))]
        total += np.mean(losses, axis=1).sum()
    assert history["loss"] == [pytest.approx(total / 7, rel=1e-5)]


def test_a_task_without_a_turn_has_no_rows(partly_shared):
    model = partly_shared(loss_weighting="dwa")
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=1)
    history = model.fit(data, epochs=4, verbose=0).history
    assert {data.task_at(step) for step in range(4)} == set(SIZES)
    for epoch, task in enumerate(map(data.task_at, range(4))):
        other = "ab".replace(task, "")
        assert history[f"{task}_loss"][epoch] > 0
        assert np.isnan(history[f"{other}_loss"][epoch])
        assert np.isnan(history[f"{other}_accuracy"][epoch])
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(list(model.loss_weighting.factors().values())))


def test_running_accuracies_and_the_turns_that_follow(partly_shared):
    model = partly_shared(keras.optimizers.SGD(0.0))
    settings = {"sampling": "lagging", "temperature": 0.5, "decay": 0.8}
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=6, **settings)
    model.fit(data, verbose=0)
    accuracies, counts = dict.fromkeys(SIZES, 0.0), dict.fromkeys(SIZES, 0)
    streams = {task: iter(data.stream(task)) for task in SIZES}
    for step in range(6):
        task = data.task_at(step, accuracies)
        counts[task] += 1
        x, y = next(streams[task])
        logits = model.task_network(task)(x[task], training=True)
        accuracy = np.mean(np.argmax(logits, -1) == y[task])
        accuracies[task] = 0.8 * accuracies[task] + 0.2 * accuracy
    assert model._task_steps.counts() == counts
    assert model._task_steps.accuracies() == pytest.approx(accuracies, abs=1e-6)
    assert max(accuracies.values()) > 0


def test_a_batch_without_labels_says_nothing_about_the_accuracy(partly_shared):
    model = partly_shared(keras.optimizers.SGD(0.0))
    (x, y), weight = classes(SIZES)["a"], np.zeros(9, "float32")
    data = {name: (x, y) for name in SIZES}
    model.fit(sample_tasks(data, 9, sampling="lagging", decay=0.5), epochs=3, verbose=0)
    before = model._task_steps.accuracies()
    assert max(before.values()) > 0
    empty = {name: (x, y, weight) for name in SIZES}
    model.fit(sample_tasks(empty, 9, sampling="lagging", decay=0.5), epochs=3, verbose=0)
    assert model._task_steps.accuracies() == before


def test_eager_traced_and_distributed_steps_are_the_same(partly_shared):
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=5, sampling="lagging")
    usual, mirrored = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])
    found = []
    for scope, eagerly in ((usual, True), (usual, False), (mirrored, False)):
        with scope.scope():
            optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
            model = partly_shared(optimizer, run_eagerly=eagerly)
        stem = model.named_layers()["stem"].kernel
        model.update_scales = lambda task, stem=stem: {id(stem): np.float32(0.5)}
        model.fit(data, verbose=0)
        found.append(state(model))
    for other in found[1:]:
        for one, two in zip(found[0].values(), other.values(), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_mixed_precision(normalised_mlp, tasks):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = keras_mtl.build(normalised_mlp(), tasks, "shared", seed=0)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        data = sample_tasks(classes(SIZES), 4, steps_per_epoch=4)
        assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert int(model.optimizer.iterations) == 4
    for task, optimizer in model.task_optimizers.items():
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        # Loss scaling leaves out steps with infinite gradients until it has found its scale.
        assert int(optimizer.iterations) <= model._task_steps.counts()[task]


# Saving and resuming ----------------------------------------------------------------------------


def test_a_saved_model_goes_on_where_it_was(partly_shared, tmp_path):
    model = partly_shared(keras.optimizers.AdamW(0.01), multipliers={"stem": 0.5})
    data = sample_tasks(classes(SIZES), 4, steps_per_epoch=5, sampling="lagging")
    model.fit(data, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.run_eagerly = True
    histories = [m.fit(data, verbose=0).history for m in (model, again)]
    assert histories[0] == histories[1]
    # Keras numbers names on.
    for one, two in zip(state(model).values(), state(again).values(), strict=True):
        assert np.array_equal(one, two)
    assert state(model)["counts"].sum() == 10
    joint = partly_shared()
    joint.save(tmp_path / "joint.keras")
    assert keras.saving.load_model(tmp_path / "joint.keras").task_optimizers == {}


class Interruption(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self._at = at

    def on_train_batch_end(self, batch, logs=None):
        if sum(self.model.turns().values()) == self._at:
            raise Interruption


@pytest.mark.parametrize("sampling", ["uniform", "proportional", "lagging"])
def test_an_interrupted_training_ends_bit_identical(partly_shared, tmp_path, sampling):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([7], [0.1, 0.01])
    data = sample_tasks(
        classes(SIZES), 4, sampling=sampling, steps_per_epoch=4, decay=0.5, temperature=0.2
    )

    def train(path, at):
        keras.utils.set_random_seed(0)
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
        model = partly_shared(optimizer)
        callbacks = [BackupAndResume(path, verbose=False), Interrupt(at)]
        history = model.fit(data, epochs=3, callbacks=callbacks, verbose=0)
        return model, history.history

    whole, history = train(tmp_path / "whole.npz", None)
    with pytest.raises(Interruption):
        train(tmp_path / "cut.npz", 6)
    resumed, again = train(tmp_path / "cut.npz", None)
    assert {row: np.nan_to_num(values).tolist() for row, values in history.items()} == {
        row: np.nan_to_num(values).tolist() for row, values in again.items()
    }
    assert state(whole)["counts"].sum() == 12
    assert (state(whole)["accuracies"].max() > 0) == (sampling == "lagging")
    for one, two in zip(state(whole).values(), state(resumed).values(), strict=True):
        assert np.array_equal(one, two)


SCRIPT = textwrap.dedent(
    """
    import os
    import signal
    import sys

    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers

    import keras_mtl

    backup, result, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()


    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if sum(self.model.turns().values()) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


    inputs = keras.Input((6,), name="x")
    x = layers.Dense(4, activation="tanh", name="stem")(inputs)
    backbone = keras.Model(inputs, layers.Dropout(0.3)(layers.BatchNormalization()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tasks = [
        keras_mtl.Task(name, keras_mtl.heads.Classifier(3), loss, ["accuracy"], inputs=name)
        for name in ("fish", "birds")
    ]
    plan = keras_mtl.plan(backbone, tasks, "shared", seed=3).replace(normalisation="task")
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=3)
    model.compile(keras.optimizers.AdamW(0.02), loss_weighting="uncertainty")
    generator = np.random.default_rng(0)
    data = {
        task.name: (
            generator.normal(size=(size, 6)).astype("float32"),
            generator.integers(0, 3, size).astype("int32"),
        )
        for task, size in zip(tasks, (9, 14))
    }
    data = keras_mtl.data.sample_tasks(
        data, 4, sampling="lagging", decay=0.7, steps_per_epoch=5, seed=7
    )
    callbacks = [keras_mtl.callbacks.BackupAndResume(backup), Kill()]
    history = model.fit(data, epochs=4, callbacks=callbacks, verbose=0).history
    variables = [v for o in model.task_optimizers.values() for v in o.variables]
    variables += [*model.optimizer.variables, *model.weights, *model.seed_states()]
    arrays = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    arrays |= {f"row {name}": np.nan_to_num(values) for name, values in history.items()}
    np.savez(result, accuracies=model.turn_accuracies, **arrays)
    """
)


@pytest.mark.slow
def test_a_killed_training_ends_bit_identical(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)

    def start(name, kill_at=-1):
        paths = [tmp_path / "train.py", tmp_path / f"{name}_backup.npz", tmp_path / f"{name}.npz"]
        return subprocess.Popen(
            [sys.executable, *map(str, paths), str(kill_at)],
            env={**os.environ, "PYTHONPATH": ROOT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    alone, killed = start("alone"), start("killed", kill_at=13)
    output = killed.communicate()[0]
    assert killed.returncode == -signal.SIGKILL, output[-3000:]
    assert not (tmp_path / "killed.npz").exists()
    resumed = start("killed")
    for process in (alone, resumed):
        output = process.communicate()[0]
        assert process.returncode == 0, output[-3000:]
    assert "Continuing after epoch 2 from " in output
    with np.load(tmp_path / "alone.npz") as one, np.load(tmp_path / "killed.npz") as two:
        assert len(one.files) > 50
        assert [key for key in one.files if not np.array_equal(one[key], two[key])] == []
        assert len(one["row loss"]) == 4 and one["accuracies"].max() > 0.1


def test_a_finished_training_holds_no_data(partly_shared):
    model = partly_shared()
    model.fit(sample_tasks(classes(SIZES), 4, steps_per_epoch=2), verbose=0)
    assert model._task_steps.data is None and not model._task_steps._iterators
    assert model.turns() == {} and model.step_task is None


# Errors -----------------------------------------------------------------------------------------


def refused(model, data):
    with pytest.raises(DataError) as caught:
        model.fit(data, verbose=0)
    assert sum(model._task_steps.counts().values()) == 0
    return str(caught.value)


def test_data_that_does_not_fit_is_refused(partly_shared):
    model = partly_shared()
    a, b = classes(SIZES).values()
    assert refused(model, sample_tasks({"a": a})) == (
        "`sample_tasks` must have data of the tasks ['a', 'b']. Received: data of ['a']."
    )
    assert refused(model, sample_tasks({"a": a, "bb": b})) == (
        "`sample_tasks` must have data of the tasks ['a', 'b']. Received: data of "
        "['a', 'bb']. Did you mean 'b'?"
    )
    crossed = sample_tasks({"a": (a[0], {"b": a[1]}), "b": (b[0], {"a": b[1]})})
    assert refused(model, crossed).startswith("The labels of task 'a' must come with its inputs")
    wrong = sample_tasks({"a": a, "b": (b[0][:, :5], b[1])})
    assert refused(model, wrong).startswith("Input 'x' of set 'b' must have shape ('batch', 6).")


def test_tasks_that_cannot_take_turns_are_refused(normalised_mlp, one_weight):
    data = sample_tasks(classes(SIZES), 4, sampling="lagging")
    common = [keras_mtl.Task(name, keras_mtl.heads.Regressor(1), "mse") for name in SIZES]
    model = keras_mtl.build(normalised_mlp(), common, "shared", seed=0)
    model.compile()
    assert refused(model, data) == (
        "Tasks that take turns must have inputs of their own. Received: tasks that all read the "
        "same. Name them: `Task('a', ..., inputs='a')`."
    )
    tasks = [classification("a"), one_weight("b", inputs="b")]
    model = keras_mtl.build(normalised_mlp(), tasks, "shared", seed=0)
    model.compile()
    assert refused(model, data) == (
        '`sampling="lagging"` goes by the tasks\' training accuracy, so that every task must have '
        "the metric 'accuracy'. Received: none of 'b'."
    )


@pytest.mark.parametrize("option", [{"use_ema": True}, {"gradient_accumulation_steps": 2}])
def test_optimizers_that_go_on_between_steps_are_refused(partly_shared, option):
    model = partly_shared(keras.optimizers.SGD(0.1, **option))
    ((name, value),) = option.items()
    assert refused(model, sample_tasks(classes(SIZES), 4)) == (
        f"`optimizer` must not have `{name}` where tasks take turns: it would go on between the "
        f"steps of a task. Received: {name}={value}."
    )


def test_columns_that_exchange_features_are_refused(normalised_mlp, tasks):
    model = keras_mtl.build(normalised_mlp(), tasks, "shared", seed=0)
    columns = keras_mtl.build(normalised_mlp(), tasks, "cross_stitch", seed=0).architecture
    model.architecture = columns
    model.compile()
    assert refused(model, sample_tasks(classes(SIZES), 4)).startswith(
        "Tasks that take turns must not exchange features. Received: an architecture with "
    )


def test_a_search_does_not_take_turns(normalised_mlp, tasks):
    model = keras_mtl.build(normalised_mlp(), tasks, "auto_mtl", seed=0)
    model.compile()
    with pytest.raises(DataError, match="needs pairs of batches"):
        model.fit(sample_tasks(classes(SIZES), 4), verbose=0)
