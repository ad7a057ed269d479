"""`BackupAndResume`: an interrupted training ends bit-identical to one that was left alone."""

import json
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
import toys

import keras_mtl
from keras_mtl.callbacks import BackupAndResume
from keras_mtl.callbacks.backup_file import write_atomically

ROOT = str(pathlib.Path(keras_mtl.__file__).parents[1])

# Six epochs of 3 steps: 2 of warm-up, 1 with half of the curriculum, 3 with everything open.
SCRIPT = textwrap.dedent(
    """
    import json
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
            if self.model.current_step() - 1 == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


    x = inputs = keras.Input((6,), name="x")
    x = layers.Dense(4, activation="tanh", name="stem")(x)
    for block in ("block1", "block2"):
        y = layers.Dense(4, activation="tanh", name=block)(x)
        y = layers.BatchNormalization()(y)
        y = layers.Dropout(0.4)(y)
        x = layers.Add()([x, y])
    tasks = [
        keras_mtl.Task(
            "a",
            keras_mtl.heads.Classifier(3, dropout=0.3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            ["accuracy"],
        ),
        keras_mtl.Task("b", layers.Dense(1), "mse"),
    ]
    strategy = keras_mtl.strategies.AdaShare(warmup=0.34, curriculum_epochs=2)
    model = keras_mtl.build(keras.Model(inputs, x), tasks, strategy, seed=3)
    model.compile(
        keras.optimizers.SGD(0.02, momentum=0.9),
        keras.optimizers.Adam(0.1),
        warmup_optimizer=keras.optimizers.Adam(0.01),
        loss_weighting="dwa",
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(24, 6)).astype("float32")
    y = {"a": generator.integers(0, 3, 24), "b": generator.normal(size=(24, 1)).astype("float32")}
    data = keras_mtl.data.search_split((x, y), batch_size=4, seed=7)
    callbacks = [
        keras_mtl.callbacks.BackupAndResume(backup),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.7, patience=2, min_delta=100),
        keras.callbacks.EarlyStopping("val_loss", patience=100),
        Kill(),
    ]
    history = model.fit(
        data, epochs=6, validation_data=(x, y), callbacks=callbacks, verbose=0
    )
    optimizers = (model.optimizer, model.policy_optimizer, model.warmup_optimizer)
    groups = {
        "policy": model.policy_variables(),
        "variables": model.variables,
        "optimizers": [v for optimizer in optimizers for v in optimizer.variables],
    }
    arrays = {
        f"{name}_{i}": keras.ops.convert_to_numpy(v)
        for name, variables in groups.items()
        for i, v in enumerate(variables)
        if not any(v is w for metric in model.metrics for w in metric.variables)
    }
    rows = json.dumps({"epoch": history.epoch, "history": history.history})
    np.savez(result, history=rows, **arrays)
    """
)


class Run:
    """Starts of the script on one backup file."""

    def __init__(self, folder, name):
        self.script, self.folder = folder / "train.py", folder / name
        self.folder.mkdir()
        self.backup, self.result = self.folder / "backup.npz", self.folder / "result.npz"

    def start(self, kill_at=-1):
        arguments = [str(self.script), str(self.backup), str(self.result), str(kill_at)]
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": ROOT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def next_epoch(self):
        with np.load(self.backup) as file:
            return json.loads(str(file["state"]))["next_epoch"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run that is left alone, beside one that is killed in each phase."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "train.py").write_text(SCRIPT)
    alone, killed = Run(folder, "alone"), Run(folder, "killed")
    process = alone.start()
    reached, output = [], ""
    for kill_at in (4, 7, 13):  # in the warm-up, in the curriculum, in the search
        output = (start := killed.start(kill_at)).communicate()[0]
        assert start.returncode == -signal.SIGKILL, output[-3000:]
        assert not killed.result.exists()
        reached.append(killed.next_epoch())
    output = (start := killed.start()).communicate()[0]
    assert start.returncode == 0, output[-3000:]
    output_alone = process.communicate()[0]
    assert process.returncode == 0, output_alone[-3000:]
    return alone, killed, reached, output


@pytest.mark.slow
def test_killed_training_ends_bit_identical(runs):
    alone, killed, reached, output = runs
    assert reached == [1, 2, 4]
    assert f"Continuing after epoch 4 from {killed.backup}." in output
    with np.load(alone.result) as first, np.load(killed.result) as second:
        assert first.files == second.files
        assert len(first.files) > 40
        different = [key for key in first.files if not np.array_equal(first[key], second[key])]
        assert different == []
        history = json.loads(str(first["history"]))
    assert history["epoch"] == list(range(6))
    temperatures = history["history"]["temperature"]
    assert temperatures[:3] == [5.0] * 3
    assert temperatures[5] < temperatures[4] < temperatures[3] < 5.0
    rates = history["history"]["learning_rate"]
    assert rates[-1] < rates[0]  # so the plateau's state has mattered


@pytest.mark.slow
def test_finished_training_returns_at_once(runs):
    """Started again, it makes no step (its first one would kill it), and has its history."""
    _, killed, _, _ = runs
    before = killed.result.read_bytes()
    killed.result.unlink()
    again = Run(killed.folder, "again")
    again.script, again.backup = killed.script, killed.backup
    output = (start := again.start(kill_at=18)).communicate()[0]
    assert start.returncode == 0, output[-3000:]
    (killed.folder / "before.npz").write_bytes(before)
    with np.load(killed.folder / "before.npz") as first, np.load(again.result) as second:
        assert [k for k in first.files if not np.array_equal(first[k], second[k])] == []


# The file ---------------------------------------------------------------------------------------


def test_kill_while_writing_leaves_the_last_whole_file(tmp_path):
    path = tmp_path / "backup.npz"
    write_atomically(path, {"number": np.array(1)})
    child = os.fork()
    if child == 0:

        def die(descriptor):
            os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = die
        write_atomically(path, {"number": np.array(2)})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the unfinished one is beside it
    with np.load(path) as file:
        assert int(file["number"]) == 1
    write_atomically(path, {"number": np.array(3)})
    with np.load(path) as file:
        assert int(file["number"]) == 3


# A fixed model, in this process -----------------------------------------------------------------


class Interruption(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Ends `fit` by an exception in the middle of an epoch, as a kill would."""

    def __init__(self, epoch=None):
        super().__init__()
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._now == self._epoch:
            raise Interruption

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch


def fixed(path, *, epochs=6, interrupt=None, names=("a", "b")):
    """Trains a small model; returns it, its history and its callbacks."""
    keras.utils.set_random_seed(0)
    backbone = toys.mlp(blocks=1, width=4)
    tasks = [toys.regression(name) for name in names]
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile(keras.optimizers.SGD(0.05))
    x, y = toys.data(backbone, tasks, examples=8)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    callbacks = [
        BackupAndResume(path, verbose=False),
        keras.callbacks.EarlyStopping("loss", min_delta=0.5, patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, min_delta=0.5, patience=1),
        Interrupt(interrupt),
    ]
    history = model.fit(data, epochs=epochs, callbacks=callbacks, verbose=0)
    return model, history, callbacks


def state(callback):
    return {
        name: value
        for name, value in vars(callback).items()
        if isinstance(value, (int, float, str, list)) and not name.startswith("_")
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A training that early stopping ends, and the same with an interruption in epoch 11."""
    folder = tmp_path_factory.mktemp("stopped")
    whole = fixed(folder / "whole.npz", epochs=20)
    with pytest.raises(Interruption):
        fixed(folder / "cut.npz", epochs=20, interrupt=11)
    resumed = fixed(folder / "cut.npz", epochs=20)
    return folder, whole, resumed


def test_states_of_other_callbacks_come_back(stopped):
    _, (model, history, callbacks), (other, history2, callbacks2) = stopped
    early, plateau = callbacks[1:3]
    assert 11 < early.stopped_epoch < 19  # it has waited before the interruption and after
    assert history.history["learning_rate"][-1] < 0.05
    assert history2.history == history.history
    assert history2.epoch == history.epoch
    for first, second in ((early, callbacks2[1]), (plateau, callbacks2[2])):
        first, second = state(first), state(second)
        best = first.pop("best_weights", []), second.pop("best_weights", [])
        assert first == second
        assert all(map(np.array_equal, *best))
    assert all(map(np.array_equal, model.get_weights(), other.get_weights()))


def test_training_that_was_stopped_early_returns_at_once(stopped):
    folder, (model, history, callbacks), _ = stopped
    again, history2, callbacks2 = fixed(folder / "whole.npz", epochs=20, interrupt=None)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations)
    assert history2.history == history.history
    assert callbacks2[1].stopped_epoch == callbacks[1].stopped_epoch
    assert all(map(np.array_equal, model.get_weights(), again.get_weights()))


def test_more_epochs_go_on_where_fewer_ended(tmp_path):
    fixed(tmp_path / "backup.npz", epochs=1)
    _, history, _ = fixed(tmp_path / "backup.npz", epochs=3)
    _, whole, _ = fixed(tmp_path / "whole.npz", epochs=3)
    assert history.history == whole.history
    assert history.epoch == [0, 1, 2]


def test_backup_of_another_model_is_refused(stopped):
    folder, *_ = stopped
    path = folder / "whole.npz"
    with pytest.raises(ValueError) as error:
        fixed(path, names=("b", "a"))
    assert str(error.value) == (
        f"`filepath` must hold a backup of this model. Received: {str(path)!r} of the tasks "
        "['a', 'b']; the model has ['b', 'a']. Delete the file to begin again."
    )
    search = keras_mtl.build(toys.mlp(), [toys.regression("a"), toys.regression("b")], seed=0)
    search.compile()
    with pytest.raises(ValueError) as error:
        BackupAndResume(path).begin(search, [])
    assert str(error.value) == (
        f"`filepath` must hold a backup of the same training. Received: {str(path)!r} with kind = "
        "'network'; this one has kind = 'search'. Delete the file to begin again."
    )


def test_backup_whose_state_would_be_lost_is_refused(stopped):
    folder, (model, _, _), _ = stopped
    backup = BackupAndResume(folder / "whole.npz")
    with pytest.raises(ValueError) as error:
        backup.begin(model, [backup, keras.callbacks.TerminateOnNaN()])
    assert str(error.value) == (
        "`callbacks` must have as many EarlyStopping of 'loss' as the interrupted training, 1, "
        "since their state would be lost or mixed up. Received: 0. Pass the same ones, or delete "
        f"{str(folder / 'whole.npz')!r} to begin again."
    )


def test_without_a_file_training_begins_anew(tmp_path):
    backup = BackupAndResume(tmp_path / "folder" / "backup.npz")
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    model.compile()
    backup.begin(model, [backup])
    assert backup.next_epoch == 0
