"""Files of weights and backups belong to one network: what differs is named, nothing is changed."""

import functools
import json

import h5py
import keras
import numpy as np
import pytest
import toys
from keras import layers

import keras_mtl
from keras_mtl import Architecture, Fusion
from keras_mtl.callbacks import BackupAndResume
from keras_mtl.models.identity import difference, of_tasks
from keras_mtl.strategies import MTLNAS, AdaShare


def plan(backbone=None, **parts):
    """Columns of two tasks on `toys.mlp(blocks=2)`, with what a case adds."""
    backbone = backbone or toys.mlp(blocks=2)
    columns = keras_mtl.plan(backbone, toys.tasks(), "independent")
    assert columns.units == ("stem", "block1", "block2")
    return columns.replace(costs={}, **parts)


def fusion(source="stem", kind="nddr", **settings):
    """The task `value` reads one unit of `classes` after its second block."""
    target = "block2"
    sources = [("value", target), ("classes", source)]
    return Fusion("mixed", kind, target, sources, ["value"], settings)


def network(architecture, backbone=None, tasks=None, seed=0):
    return keras_mtl.build(
        backbone or toys.mlp(blocks=2), tasks or toys.tasks(), architecture=architecture, seed=seed
    )


def refused(first, second, path, where):
    """Saves the first's weights; the second refuses them and keeps its own, in any way to load."""
    first.save_weights(path)
    before = second.get_weights()
    messages = set()
    for options in ({}, {"skip_mismatch": True}):
        with pytest.raises(ValueError) as error:
            second.load_weights(path, **options)
        messages.add(str(error.value))
    assert all(map(np.array_equal, before, second.get_weights()))
    (message,) = messages
    assert message == (
        "The file must hold the weights of the same architecture. Received: "
        f"{str(path)!r}, weights of one with {where}. Build the model like that one, or hand "
        "weights on by `keras_mtl.build(..., initial_weights=model)`."
    )
    return True


CASES = {
    "choices": (
        {},
        {"choices": {"classes": ["own", "own", "own"], "value": ["own", "own", "shared"]}},
        "choices['value']['block2'] = 'own'; this model has choices['value']['block2'] = 'shared'",
    ),
    "edge": (
        {"fusions": [fusion("stem")]},
        {"fusions": [fusion("block1")]},
        "fusions[0]['sources'][1][1] = 0; this model has fusions[0]['sources'][1][1] = 1",
    ),
    "settings": (
        {"fusions": [fusion(w_own=0.9)]},
        {"fusions": [fusion(w_own=0.8)]},
        "fusions[0]['settings']['w_own'] = 0.9; this model has fusions[0]['settings']['w_own'] = "
        "0.8",
    ),
    "frozen": (
        {},
        {"frozen": ["block1"]},
        "frozen['block1'] = False; this model has frozen['block1'] = True",
    ),
    "normalisation": (
        {},
        {"normalisation": "task"},
        "normalisation = 'shared'; this model has normalisation = 'task'",
    ),
    "projections": (
        {},
        {"projections": "task"},
        "projections = 'shared'; this model has projections = 'task'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_of_another_architecture_are_refused(case, tmp_path):
    first, second, where = CASES[case]
    first, second = network(plan(**first)), network(plan(**second))
    assert refused(first, second, tmp_path / "a.weights.h5", where)


def test_two_decisions_that_differ_in_one_edge(tmp_path):
    """The issue: equal shapes, another network; also for the backup of a training."""
    models = [network(plan(fusions=[fusion(source)])) for source in ("stem", "block1")]
    assert [w.shape for w in models[0].weights] == [w.shape for w in models[1].weights]
    data = toys.data(toys.mlp(blocks=2), toys.tasks(), 4)
    for model in models:
        model.compile("sgd", run_eagerly=True)
    path = tmp_path / "backup.npz"
    models[0].fit(*data, verbose=0, callbacks=[BackupAndResume(path)])
    with pytest.raises(ValueError) as error:
        models[1].fit(*data, epochs=2, verbose=0, callbacks=[BackupAndResume(path)])
    assert str(error.value) == (
        f"`filepath` must hold a backup of the same training. Received: {str(path)!r} with "
        "fusions[0]['sources'][1][1] = 0; this one has fusions[0]['sources'][1][1] = 1. Delete the "
        "file to begin again."
    )


def test_weights_of_another_backbone_are_refused(tmp_path):
    """Of equal shapes: another function of a layer, other wiring, another head."""

    def backbone(activation="relu", crossed=False):
        x = inputs = keras.Input((8,))
        first = layers.Dense(8, activation=activation)(x)
        second = layers.Dense(8)(first)
        x = layers.Subtract()([second, first] if crossed else [first, second])
        return keras.Model(inputs, x)

    def tasks(activation=None):
        return [keras_mtl.Task("a", layers.Dense(1, activation=activation), "mse")]

    path = tmp_path / "a.weights.h5"

    def build(tasks, backbone):
        return keras_mtl.build(backbone, tasks, "shared", seed=0)

    first = build(tasks(), backbone())
    build(tasks(), backbone()).load_weights(first.save_weights(path) or path)  # numbered on
    same = "layers['{0}']['settings']['activation'] = {1}; this model has layers['{0}']['settings']"
    other = build(tasks(), backbone("tanh"))
    name = other.network.layers[1].name
    assert refused(first, other, path, same.format(name, "'relu'") + "['activation'] = 'tanh'")
    other = build(tasks("sigmoid"), backbone())
    name = other.network.layers[-1].name
    assert refused(first, other, path, same.format(name, "'linear'") + "['activation'] = 'sigmoid'")
    other = build(tasks(), backbone(crossed=True))
    prints = first.architecture.fingerprint, other.architecture.fingerprint
    where = "fingerprint = {!r}; this model has fingerprint = {!r}".format(*prints)
    assert refused(first, other, path, where)


def test_weights_of_another_search_are_refused(tmp_path):
    path = tmp_path / "a.weights.h5"

    def search(strategy):
        return keras_mtl.build(toys.mlp(blocks=2), toys.tasks(), strategy, seed=0)

    where = "search['settings']['{0}'] = {1}; this model has search['settings']['{0}'] = {2}"
    first = search(AdaShare())
    assert refused(first, search(AdaShare(warmup=0.4)), path, where.format("warmup", 0.2, 0.4))
    first, second = search(MTLNAS()), search(MTLNAS(evaluation="relaxed"))
    where = where.format("evaluation", "'decided'", "'relaxed'")
    assert refused(first, second, path, where)
    where = "kind = 'search'; this model has kind = 'network'"
    assert refused(first, network(plan()), path, where)
    search(MTLNAS()).load_weights(path)


def test_weights_in_a_keras_file_are_looked_at_too(tmp_path):
    path = tmp_path / "a.keras"
    model = network(plan(fusions=[fusion()]))
    model.save(path)
    other = network(plan(fusions=[fusion("block1")]))
    with pytest.raises(ValueError, match=r"architecture\. Received: .*a\.keras', weights of"):
        other.load_weights(path)
    again = network(plan(fusions=[fusion()]), seed=1)
    again.load_weights(path)
    for reloaded in (again, keras.models.load_model(path)):
        assert all(map(np.array_equal, reloaded.get_weights(), model.get_weights()))


def test_equal_networks_of_numbered_layers_share_files(tmp_path):
    """Keras numbers the layers of a second, equal backbone on; heads may be models."""

    def build(seed):
        x = inputs = keras.Input((8,))
        x = layers.Add()([x, layers.Dense(8)(x)])
        head = keras.Sequential([layers.Dense(2), layers.Dense(1)])
        names = ("a", "b")
        tasks = [keras_mtl.Task(n, keras.models.clone_model(head), "mse") for n in names]
        backbone = keras.Model(inputs, x)
        columns = keras_mtl.plan(backbone, tasks, "independent")
        unit = columns.units[0]
        mixed = Fusion(f"{unit}.mix", "nddr", unit, [("b", unit), ("a", unit)], ["b"])
        columns = columns.replace(fusions=[mixed])
        return keras_mtl.build(backbone, tasks, architecture=columns, seed=seed)

    first, second = build(0), build(1)
    assert first.architecture.units != second.architecture.units
    first.save_weights(tmp_path / "a.weights.h5")
    second.load_weights(tmp_path / "a.weights.h5")
    assert all(map(np.array_equal, first.get_weights(), second.get_weights()))


def test_files_of_the_first_version_are_compared_by_what_they_say(tmp_path):
    path = tmp_path / "a.weights.h5"
    model = network(plan())
    model.save_weights(path)
    rows = {"classes": ["own"] * 3, "value": ["own"] * 3}

    def write(identity):
        with h5py.File(path, "r+") as file:
            del file["vars/identity"]
            file["vars/identity"] = np.frombuffer(json.dumps(identity).encode(), "uint8")

    write({"tasks": ["classes", "value"], "choices": rows})
    model.load_weights(path)
    rows["value"][1] = "shared"
    write({"tasks": ["classes", "value"], "choices": rows})
    with pytest.raises(ValueError, match=r"choices\['value'\]\['block1'\] = 'shared'; this"):
        model.load_weights(path)
    write({"tasks": ["classes", "value"]})
    model.load_weights(path)


def test_masks_of_the_first_version():
    own = {"tasks": ["a"], "choices": {"a": ["own"]}, "units": ["u"], "masks": [{"f": "01"}]}
    old = {"tasks": ["a"], "choices": {"a": ["own"]}}
    assert difference({**old, "masks": {"u": {"f": "01"}}}, own) is None
    assert difference({**old, "masks": {"u": {"f": "11"}}}, own) == (
        "masks['u']['f']",
        "'11'",
        "'01'",
    )
    assert difference(old, own) == ("masks['u']", "None", "{'f': '01'}")


def test_long_values_show_where_they_differ():
    found, own = ({"masks": ["01" * 500 + end]} for end in "01")
    assert difference(found, {**own, "units": ["u"]}) == (
        "masks['u']",
        "..." + "01" * 15 + "0'",
        "..." + "01" * 15 + "1'",
    )


# Damaged files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("damage", ["empty", "half", "random", "pickle", "cut"])
def test_damaged_weights_are_refused(suffix, damage, tmp_path):
    path = tmp_path / f"best{suffix}"
    model = network(plan())
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    whole, before = path.read_bytes(), model.get_weights()
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "random": np.random.default_rng(0).bytes(1000),
            "pickle": b"\x80\x04K\x01.",
            "cut": whole[:-10],
        }[damage]
    )
    with pytest.raises(ValueError) as error:
        model.load_weights(path)
    message = str(error.value)
    assert message.startswith(
        f"`filepath` must be a whole file of weights. Received: {str(path)!r}, which is empty, "
        "damaged or of another kind ("
    )
    assert message.endswith("). Restore it from a copy, or train again.")
    assert "\n" not in message
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_a_plain_keras_model_are_refused(suffix, tmp_path):
    path = tmp_path / f"plain{suffix}"
    plain = toys.mlp(blocks=2)
    plain.save(path) if suffix == ".keras" else plain.save_weights(path)
    model = network(plan())
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        model.load_weights(path, skip_mismatch=True)
    assert str(error.value) == (
        "`filepath` must be a file of weights of a model of this library. Received: "
        f"{str(path)!r}, weights of another model. Load them into the backbone, and pass it to "
        "`keras_mtl.build`."
    )
    assert all(map(np.array_equal, before, model.get_weights()))


def test_files_that_are_not_there_are_keras_own_matter(tmp_path):
    with pytest.raises((FileNotFoundError, OSError)):
        network(plan()).load_weights(tmp_path / "no.weights.h5")


def test_plain_architecture_is_known(tmp_path):
    """A plan made by hand, which says no backbone, and the same one decided, are one network."""
    decided = plan()
    by_hand = Architecture(decided.tasks, decided.units, decided.choices)
    first, second = network(decided), network(by_hand)
    first.weights[-1].assign_add(keras.ops.ones_like(first.weights[-1]))
    first.save_weights(tmp_path / "a.weights.h5")
    second.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(second.weights[-1], first.weights[-1])


def scaled(factor):
    def error(y_true, y_pred):
        return factor * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    return error


@pytest.mark.parametrize(
    "made",
    [scaled, lambda delta: functools.partial(keras.losses.huber, delta=delta)],
    ids=["closure", "partial"],
)
def test_functions_that_hold_other_numbers_are_other_losses(made):
    def identity(number):
        return of_tasks([keras_mtl.Task("a", keras.layers.Dense(1), made(number))])

    assert identity(0.5) == identity(0.5)
    assert identity(0.5) != identity(0.9)
