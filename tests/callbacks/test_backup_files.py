"""`BackupAndResume` and its file: whom it belongs to, what may change, where it cannot be."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import traceback

import keras
import numpy as np
import pytest
import toys

import keras_mtl
from keras_mtl.callbacks import BackupAndResume
from keras_mtl.callbacks.backup_file import Lock, check_writable

DATA = toys.data(toys.mlp(blocks=1, width=4), [toys.regression("a"), toys.regression("b")], 4)


def new_model(optimizer=None, loss="mse", weight=1.0, seed=0, **options):
    tasks = [
        keras_mtl.Task("a", keras_mtl.heads.Regressor(1), loss, weight=weight),
        toys.regression("b"),
    ]
    model = keras_mtl.build(toys.mlp(blocks=1, width=4), tasks, "shared", seed=seed)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.5)
    model.compile(optimizer, run_eagerly=True, **options)
    return model


def fit(model, path, epochs, *callbacks, verbose=False):
    backup = BackupAndResume(path, verbose=verbose)
    return model.fit(*DATA, epochs=epochs, verbose=0, callbacks=[*callbacks, backup]).history


def said(record):
    return [str(w.message) for w in record if w.category is UserWarning]


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """The bytes of a backup after two epochs."""
    path = tmp_path_factory.mktemp("backup") / "backup.npz"
    fit(new_model(), path, 2)
    assert os.listdir(path.parent) == ["backup.npz"]
    return path.read_bytes()


@pytest.fixture
def path(two_epochs, tmp_path):
    path = tmp_path / "backup.npz"
    path.write_bytes(two_epochs)
    return path


# Another training -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (
            {"optimizer": keras.optimizers.Nadam(0.05)},
            "optimizers['optimizer']['class'] = 'SGD'; this one has "
            "optimizers['optimizer']['class'] = 'Nadam'",
        ),
        (
            {"optimizer": keras.optimizers.SGD(0.05, momentum=0.9)},
            "optimizers['optimizer']['settings']['momentum'] = 0.5; this one has "
            "optimizers['optimizer']['settings']['momentum'] = 0.9",
        ),
        (
            {
                "optimizer": keras.optimizers.SGD(
                    keras.optimizers.schedules.ExponentialDecay(0.05, 1, 0.5), momentum=0.5
                )
            },
            "learning_rates['optimizer'] = 'a number'; this one has learning_rates['optimizer'] = "
            "'a schedule'",
        ),
        (
            {"loss": "mae"},
            "task['a']['loss']['class'] = 'MeanSquaredError'; this one has "
            "task['a']['loss']['class'] = 'MeanAbsoluteError'",
        ),
        (
            {"weight": 2.0},
            "task['a']['weight'] = 1.0; this one has task['a']['weight'] = 2.0",
        ),
        (
            {"loss_weighting": "dwa"},
            "loss_weighting['class'] = 'EqualWeighting'; this one has loss_weighting['class'] = "
            "'DynamicWeightAverage'",
        ),
        ({"seed": 1}, "seed = 0; this one has seed = 1"),
    ],
    ids=["optimizer", "momentum", "schedule", "loss", "weight", "weighting", "seed"],
)
def test_backup_of_another_training_is_refused(options, where, path):
    model = new_model(**options)
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        fit(model, path, 3)
    assert str(error.value) == (
        f"`filepath` must hold a backup of the same training. Received: {str(path)!r} with {where}."
        " Delete the file to begin again."
    )
    assert all(map(np.array_equal, before, model.get_weights()))
    assert os.listdir(path.parent) == ["backup.npz"]  # the lock is gone


def test_backup_of_other_multipliers_is_refused(tmp_path):
    path = tmp_path / "backup.npz"
    fit(new_model(multipliers={"stem": 0.5}), path, 1)
    with pytest.raises(ValueError, match=r"multipliers\[0\] = 'stem: 0\.5'; this .*2\.0'\."):
        fit(new_model(multipliers={"stem": 2.0}), path, 2)
    with pytest.raises(ValueError, match=r"multipliers = \['stem: 0\.5'\]; this one has .* = \[\]"):
        fit(new_model(), path, 2)


def test_new_learning_rate_is_taken_and_said(path, capsys):
    model = new_model(keras.optimizers.SGD(0.01, momentum=0.5))
    fit(model, path, 3, verbose=True)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert capsys.readouterr().out == (
        f"Continuing after epoch 2 from {path}.\n"
        "`optimizer` goes on with its new learning rate, 0.01; before: 0.05.\n"
    )
    again = new_model(keras.optimizers.SGD(0.01, momentum=0.5))
    fit(again, path, 4, verbose=True)
    assert capsys.readouterr().out == f"Continuing after epoch 3 from {path}.\n"


def test_learning_rate_that_has_moved_goes_on(tmp_path, capsys):
    path = tmp_path / "backup.npz"
    model = new_model()

    def lower():
        return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)

    fit(model, path, 2, lower())
    fit(model, path, 3, lower())  # the same object, with the rate that it has reached
    other = new_model()
    fit(other, path, 4, lower(), verbose=True)
    assert float(other.optimizer.learning_rate) == pytest.approx(0.05 / 16)
    assert capsys.readouterr().out == f"Continuing after epoch 3 from {path}.\n"


def test_new_schedule_is_taken_and_said(tmp_path, capsys):
    def schedule(steps):
        rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
        return new_model(keras.optimizers.SGD(rate))

    path = tmp_path / "backup.npz"
    fit(schedule(2), path, 2)
    model = schedule(4)
    fit(model, path, 3, verbose=True)
    assert "with its new learning rate, schedule; before: schedule.\n" in capsys.readouterr().out
    assert float(model.optimizer.learning_rate) == pytest.approx(
        0.05 * (1 - 0.5**0.5) / 2, rel=0.01
    )


def test_file_of_the_first_version_goes_on(path):
    """It says less, and is compared by what it says."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    state = json.loads(str(arrays["state"]))
    choices = state["settings"]["choices"]
    state["settings"] = {"tasks": ["a", "b"], "choices": choices, "seed": 0}
    del state["kinds"]
    np.savez(path, **{**arrays, "state": json.dumps(state)})
    model = new_model()
    fit(model, path, 3)
    assert int(model.optimizer.iterations) == 3
    with pytest.raises(ValueError, match="with seed = 0; this one has seed = 1"):
        fit(new_model(seed=1), path, 4)


# Other callbacks --------------------------------------------------------------------------------


class Counter(keras.callbacks.Callback):
    """Remembers something, and monitors nothing."""

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


def stateless(folder):
    return [
        keras.callbacks.TensorBoard(str(folder / "logs")),
        keras.callbacks.CSVLogger(str(folder / "log.csv")),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        keras.callbacks.ProgbarLogger(),
        keras.callbacks.TerminateOnNaN(),
    ]


def test_callbacks_without_state_come_and_go(tmp_path, recwarn, capsys):
    path = tmp_path / "backup.npz"
    counter = Counter()
    fit(new_model(), path, 1, counter)
    fit(new_model(), path, 2, *stateless(tmp_path), counter := Counter(), verbose=True)
    assert counter.epochs == 2
    assert (
        "The training goes on with TensorBoard, CSVLogger, LambdaCallback, ProgbarLogger, "
        "TerminateOnNaN, beginning anew: other callbacks than before.\n"
    ) in capsys.readouterr().out
    fit(new_model(), path, 3, counter := Counter(), verbose=True)
    assert counter.epochs == 3
    assert "without TensorBoard, CSVLogger" in capsys.readouterr().out
    assert said(recwarn) == []


def test_callback_whose_state_would_be_lost_is_missed(tmp_path):
    path = tmp_path / "backup.npz"
    fit(new_model(), path, 1, Counter())
    for callbacks in ([], [Counter(), Counter()]):
        with pytest.raises(ValueError) as error:
            fit(new_model(), path, 2, *callbacks)
        assert str(error.value) == (
            "`callbacks` must have as many Counter as the interrupted training, 1, since their "
            f"state would be lost or mixed up. Received: {len(callbacks)}. Pass the same ones, or "
            f"delete {str(path)!r} to begin again."
        )


def test_states_find_their_callbacks_in_another_order(tmp_path):
    path = tmp_path / "backup.npz"

    def stopping(*monitors):
        return [keras.callbacks.EarlyStopping(m, patience=9, mode="min") for m in monitors]

    first = stopping("loss", "a_loss")
    fit(new_model(), path, 2, *first)
    second = stopping("a_loss", "loss")
    fit(new_model(), path, 2, *second)  # nothing is left to do
    assert [c.best for c in second] == [c.best for c in first[::-1]]
    with pytest.raises(ValueError, match="as many EarlyStopping of 'a_loss, mode min' as the"):
        fit(new_model(), path, 3, *stopping("loss", "b_loss"))


def test_best_in_the_other_direction_is_no_state(tmp_path):
    path = tmp_path / "backup.npz"
    fit(new_model(), path, 1, keras.callbacks.EarlyStopping("loss", patience=9))
    with pytest.raises(ValueError, match="as many EarlyStopping of 'loss' as the interrupted"):
        fit(new_model(), path, 2, keras.callbacks.EarlyStopping("loss", patience=9, mode="max"))


class Collector(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen, self.best = [], {"at": {}}

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append([epoch, np.float32(0.5)])
        self.best["at"][f"epoch {epoch}"] = logs["loss"]


def test_lists_and_dicts_of_callbacks_come_back(tmp_path):
    path = tmp_path / "backup.npz"
    fit(new_model(), path, 2, first := Collector())
    fit(new_model(), path, 4, second := Collector())
    assert second.seen == [[epoch, 0.5] for epoch in range(4)]
    assert list(second.best["at"]) == [f"epoch {epoch}" for epoch in range(4)]
    assert second.best["at"]["epoch 0"] == first.best["at"]["epoch 0"]


def test_other_frozen_layers_are_another_training(tmp_path):
    path = tmp_path / "backup.npz"
    fit(new_model(keras.optimizers.SGD(0.05)), path, 1)
    model = new_model()
    model.named_layers()["block1"].trainable = False
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    with pytest.raises(ValueError, match=r"frozen_layers = \[\]; this one .* = \['block1'\]\. "):
        fit(model, path, 2)


def test_new_callback_that_monitors_is_warned_of(path):
    with pytest.warns(UserWarning) as record:
        fit(new_model(), path, 3, keras.callbacks.EarlyStopping("loss", patience=9))
    assert said(record) == [
        "The training goes on with EarlyStopping, beginning anew: other callbacks than before."
    ]
    assert {w.filename for w in record if w.category is UserWarning} == {__file__}


def test_one_callback_needs_no_list(tmp_path):
    path = tmp_path / "backup.npz"
    new_model().fit(*DATA, verbose=0, callbacks=BackupAndResume(path))
    assert path.exists()


def test_plain_keras_model_is_refused(tmp_path):
    model = toys.mlp(blocks=1, width=4)
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(TypeError) as error:
        model.fit(DATA[0], DATA[0], verbose=0, callbacks=[BackupAndResume(tmp_path / "a.npz")])
    assert str(error.value) == (
        "`BackupAndResume` needs a model of this library, whose `fit` it begins with. Received: "
        "Functional 'mlp'. Use `keras.callbacks.BackupAndRestore`."
    )


# Files that cannot be written -------------------------------------------------------------------


def unwritable(tmp_path):
    """A folder that is a file, a path that is a folder, and a name that is too long."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    return {
        "below_a_file": (tmp_path / "file" / "run" / "backup.npz", "Not a directory"),
        "a_folder": (tmp_path / "folder", "it is a folder"),
        "too_long": (tmp_path / ("x" * 300), "File name too long"),
    }


@pytest.mark.parametrize("path", ["", ".", "/", None, 3, b"backup.npz"])
def test_path_without_a_name_is_refused(path):
    with pytest.raises(TypeError) as error:
        BackupAndResume(path)
    assert str(error.value) == (
        "`filepath` must be the name of a file, such as 'run/backup.npz'. "
        f"Received: filepath={path!r}."
    )


def test_link_to_a_backup_stays_a_link(path):
    link = path.with_name("link.npz")
    link.symlink_to(path)
    before = path.read_bytes()
    fit(new_model(), link, 3)
    assert link.is_symlink() and path.read_bytes() != before
    lock = Lock(path)
    lock.acquire()
    with pytest.raises(ValueError, match="`filepath` must belong to one training at a time"):
        fit(new_model(), link, 4)
    lock.release()


class Never(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise AssertionError


@pytest.mark.parametrize("case", ["below_a_file", "a_folder", "too_long"])
def test_unwritable_path_is_found_before_the_first_epoch(case, tmp_path):
    path, why = unwritable(tmp_path)[case]
    with pytest.raises(ValueError) as error:
        fit(new_model(), path, 1, Never())
    assert str(error.value) == (
        f"`filepath` must be a file that can be written. Received: filepath={str(path)!r} ({why}). "
        "Give one in a folder of yours with enough room."
    )


def test_full_disk_is_found_before_the_first_epoch(tmp_path):
    with pytest.raises(ValueError, match=r"\(the disk has .* MB left of 1000000000000\.0 MB\)"):
        check_writable(tmp_path / "backup.npz", 10**18)
    assert os.listdir(tmp_path) == []


def test_disk_that_fills_up_keeps_the_last_backup(path, two_epochs, monkeypatch):
    def full(file, **arrays):
        file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError) as error:
        fit(new_model(), path, 3)
    assert str(error.value) == (
        "`filepath` must stay writable. Received: [Errno 28] No space left on device when epoch 3 "
        f"was to be saved to {str(path)!r}, which keeps what it had. Make room, and start the "
        "training again."
    )
    assert path.read_bytes() == two_epochs
    assert os.listdir(path.parent) == ["backup.npz"]


# Two trainings ----------------------------------------------------------------------------------


def test_two_callbacks_on_one_file_are_refused(path, two_epochs):
    backups = [BackupAndResume(path, verbose=False) for _ in range(2)]
    with pytest.raises(ValueError) as error:
        new_model().fit(*DATA, epochs=3, verbose=0, callbacks=backups)
    assert str(error.value) == (
        f"`filepath` must belong to one training at a time. Received: filepath={str(path)!r}, "
        f"which process {os.getpid()} on {os.uname().nodename} is writing. Wait for its end, or "
        "give each training a file of its own."
    )
    assert path.read_bytes() == two_epochs
    fit(new_model(), path, 3)  # nothing of it is left


def test_training_that_fails_lets_go_of_its_file(path):
    for error in (KeyboardInterrupt, ValueError):

        def fail(epoch, logs, error=error):
            raise error

        with pytest.raises(error):
            fit(new_model(), path, 3, keras.callbacks.LambdaCallback(on_epoch_begin=fail))
        assert os.listdir(path.parent) == ["backup.npz"]


HOLD = textwrap.dedent(
    """
    import importlib.util, os, pathlib, sys
    spec = importlib.util.spec_from_file_location("backup_file", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lock = module.Lock(pathlib.Path(sys.argv[2]))
    lock.acquire()
    if len(sys.argv) > 3 and os.fork() == 0:
        os.setpgid(0, 0)  # a child that outlives its parent
    os.write(1, f"{os.getpid()}\\n".encode())
    sys.stdin.read()
    """
)


def holder(path, *more):
    module = sys.modules[Lock.__module__].__file__
    arguments = [sys.executable, "-c", HOLD, module, str(path), *more]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_on_one_file_are_refused(path):
    process = holder(path)
    pid = process.stdout.readline().strip()
    with pytest.raises(ValueError, match=f"which process {pid} on .* is writing"):
        fit(new_model(), path, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert sorted(os.listdir(path.parent)) == [".backup.npz.lock", "backup.npz"]
    fit(new_model(), path, 3)  # its lock is taken over
    assert os.listdir(path.parent) == ["backup.npz"]


def test_lock_of_orphans_is_taken_over(path):
    """A child of a killed training still has its file open."""
    process = holder(path, "fork")
    pids = {int(process.stdout.readline()) for _ in range(2)}
    process.send_signal(signal.SIGKILL)
    process.wait()
    (child,) = pids - {process.pid}
    try:
        lock = Lock(path)
        lock.acquire()
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()
    assert os.listdir(path.parent) == ["backup.npz"]


# Damaged files ----------------------------------------------------------------------------------


def npz(**arrays):
    def make(path, whole):
        np.savez(path.with_suffix(".other.npz"), **arrays)
        return path.with_suffix(".other.npz").read_bytes()

    return make


def npy(path, whole):
    np.save(path.with_suffix(".npy"), np.ones(3))
    return path.with_suffix(".npy").read_bytes()


def without(key):
    """A backup of the right form that lacks one array, or one field of its state."""

    def make(path, whole):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        if key in arrays:
            del arrays[key]
        else:
            state = json.loads(str(arrays["state"]))
            del state[key]
            arrays["state"] = json.dumps(state)
        return npz(**arrays)(path, whole)

    return make


def changed(**fields):
    """A backup of the right form with other fields of its state."""

    def make(path, whole):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        arrays["state"] = json.dumps(json.loads(str(arrays["state"])) | fields)
        return npz(**arrays)(path, whole)

    return make


def flipped(path, whole):
    """One bit in the middle, where the numbers are."""
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


DAMAGES = {
    "empty": lambda path, whole: b"",
    "truncated": lambda path, whole: whole[: len(whole) // 2],
    "cut": lambda path, whole: whole[:-1],
    "random": lambda path, whole: np.random.default_rng(0).bytes(1000),
    "text": lambda path, whole: b"{}",
    "pickle": lambda path, whole: pickle.dumps({"state": 1}),
    "objects": npz(state=np.array([{}], dtype=object)),
    "npy": npy,
    "no_state": npz(x=np.ones(3)),
    "state_of_another": npz(state=json.dumps([1])),
    "state_without_version": npz(state=json.dumps({})),
    "no_array": without("variable_0"),
    "no_epoch": without("next_epoch"),
    "flipped": flipped,
    "epoch_below_0": changed(next_epoch=-5),
    "rows": changed(rows=[1, 2]),
    "row_of_no_dict": changed(rows=[[0, 1]]),
    "plain_states": changed(classes=["X"], kinds=[["X", None]], callbacks=[3], arrays=[{}]),
    "kinds": changed(kinds=[["X", None]]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named(damage, path, two_epochs):
    path.write_bytes(DAMAGES[damage](path, two_epochs))
    model = new_model()
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        fit(model, path, 3, Never())
    assert str(error.value) == (
        f"`filepath` must hold a whole backup. Received: filepath={str(path)!r}, which is empty, "
        "damaged or of another kind. Delete it to begin the training again, or restore it from a "
        "copy."
    )
    shown = "".join(traceback.format_exception(error.value))
    assert "During handling" not in shown and "pickle" not in shown.replace("[pickle]", "")
    assert all(map(np.array_equal, before, model.get_weights()))


def test_file_of_a_later_version_is_named(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, "state": json.dumps({"version": 2})})
    with pytest.raises(ValueError) as error:
        fit(new_model(), path, 3)
    assert str(error.value) == (
        f"`filepath` must hold a backup of version 1. Received: filepath={str(path)!r} of version "
        "2. Use the version of keras_mtl that wrote it, or delete it to begin the training again."
    )
