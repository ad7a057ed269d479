"""From a trained model to files: SavedModels that need TensorFlow alone, and `.keras` files."""

import json
import os
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import data
from keras_mtl.graph import find_units, read
from keras_mtl.strategies import AdaShare
from tests import toys

# Run in a fresh process, in an empty folder, for every SavedModel of the folder given. TensorFlow
# imports Keras by itself where it can, so that it is made impossible: `import keras` fails.
SERVE = """
import json, os, sys
sys.modules["keras"] = sys.modules["keras_mtl"] = None
import numpy as np
import tensorflow as tf

def operations(function):
    library = {f.signature.name: f for f in function.graph.as_graph_def().library.function}
    found, stack = [], [list(function.graph.as_graph_def().node)]
    while stack:
        for node in stack.pop():
            found.append(node.op)
            for value in node.attr.values():
                if value.func.name in library:
                    stack.append(library[value.func.name].node_def)
    return found

report, folder = {}, sys.argv[1]
for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    if not os.path.isdir(path):
        continue
    loaded = tf.saved_model.load(path)
    inputs = dict(np.load(path + ".npz"))
    report[name] = {}
    for endpoint, function in loaded.signatures.items():
        outputs = function(**{key: tf.constant(value) for key, value in inputs.items()})
        ops = operations(function)
        report[name][endpoint] = {
            "inputs": {k: [list(s.shape), s.dtype.name]
                       for k, s in function.structured_input_signature[1].items()},
            "outputs": {k: v.numpy().tolist() for k, v in outputs.items()},
            "convolutions": ops.count("Conv2D"),
            "products": ops.count("MatMul"),
            "dropouts": sum("Random" in op for op in ops),
        }
report["modules"] = sorted(
    name for name, module in sys.modules.items()
    if name.split(".")[0] in ("keras", "keras_mtl") and module is not None
)
print("REPORT" + json.dumps(report))
"""


def architecture_for(backbone, choices):
    names = tuple(unit.name for unit in find_units(read(backbone)) if unit.searchable)
    rows = {task: tuple(row.split()) for task, row in choices.items()}
    return keras_mtl.Architecture(tuple(choices), names, rows)


def dict_inputs():
    """A backbone whose inputs are a dict, in an order that is not the alphabet's."""
    parts = {name: keras.Input((4,), name=name) for name in ("query", "key")}
    x = keras.layers.Subtract(name="minus")([parts["query"], parts["key"]])
    x = keras.layers.Dense(4, activation="tanh", name="stem")(x)
    x = keras.layers.Add()([x, keras.layers.Dense(4, name="block1")(x)])
    return keras.Model(parts, x, name="dict_inputs")


def derived(make, choices):
    backbone = toys.randomised(make())
    tasks = toys.tasks(len(choices))
    plan = architecture_for(backbone, choices)
    return keras_mtl.build(backbone, tasks, architecture=plan, seed=0)


MODELS = {
    "tree": (
        lambda: toys.residual(downsample=(3,), dropout=0.3),
        {
            "classes": "shared shared shared shared shared",
            "value": "shared skip own skip shared",
            "value2": "shared branch skip skip skip",
        },
    ),
    "masked": (toys.masked, {"classes": "shared shared skip", "value": "shared own shared"}),
    "siamese": (toys.siamese, {"classes": "shared shared skip", "value": "shared shared own"}),
    "dict_inputs": (dict_inputs, {"classes": "shared skip", "value": "shared shared"}),
}


@pytest.fixture(scope="module")
def models():
    return {name: derived(*parts) for name, parts in MODELS.items()}


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    """What a process with TensorFlow alone finds in the exported files."""
    folder = tmp_path_factory.mktemp("saved")
    for name, model in models.items():
        model.export(str(folder / name), verbose=False)
        arrays = toys.inputs(model.network, examples=3)
        arrays = arrays if isinstance(arrays, dict) else {model.input_specs[None][0].name: arrays}
        np.savez(folder / f"{name}.npz", **arrays)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(folder)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("REPORT")]
    return json.loads(line.removeprefix("REPORT"))


def test_it_loads_without_keras_and_without_this_library(served):
    assert served["modules"] == []


@pytest.mark.parametrize("name", MODELS)
def test_endpoints_and_names(served, models, name):
    model, found = models[name], served[name]
    assert set(found) == {"serving_default", "serve", *model.task_names}
    expected = {
        spec.name: [[None, *spec.shape[1:]], str(spec.dtype)] for spec in model.input_specs[None]
    }
    for endpoint, part in found.items():
        assert part["inputs"] == expected, endpoint
        wanted = model.task_names if endpoint.startswith("serv") else [endpoint]
        assert set(part["outputs"]) == set(wanted)


@pytest.mark.parametrize("name", MODELS)
def test_values_equal_predict(served, models, name):
    model, found = models[name], served[name]
    x = toys.inputs(model.network, examples=3)
    expected = model.predict(x, verbose=0)
    for task in model.task_names:
        for endpoint in ("serve", "serving_default", task):
            value = np.array(found[endpoint]["outputs"][task])
            assert np.abs(value - expected[task]).max() <= 1e-5
    values = list(expected.values())
    assert all(np.ptp(value) > 1e-3 for value in values)  # not a constant


def test_an_endpoint_has_its_tasks_convolutions_only(served):
    """By hand: the stem, one per block, three in block 3 (one of which is its shortcut)."""
    convolutions = {task: part["convolutions"] for task, part in served["tree"].items()}
    classes = 1 + 1 + 1 + 3 + 1
    value = 1 + 0 + 1 + 1 + 1  # the projection shortcut stays
    value2 = 1 + 1 + 0 + 1 + 0
    assert {k: v for k, v in convolutions.items() if not k.startswith("serv")} == {
        "classes": classes,
        "value": value,
        "value2": value2,
    }
    # Together they share the stem.
    assert convolutions["serve"] == classes + (value - 1) + (value2 - 1)


def test_an_endpoint_has_its_tasks_dense_layers_only(served):
    products = {task: part["products"] for task, part in served["siamese"].items()}
    # The encoder twice, block 1 where it is not skipped, and the head.
    assert {k: products[k] for k in ("classes", "value")} == {"classes": 3, "value": 4}
    assert products["serve"] == 5


def test_nothing_random_is_served(served):
    assert {part["dropouts"] for name in MODELS for part in served[name].values()} == {0}


def test_an_open_search_is_refused(tmp_path):
    model = keras_mtl.build(toys.mlp(), toys.tasks(), seed=0, name="mine")
    message = (
        "`export` needs a decided model. Received: the open search 'mine'. Use "
        "`keras_mtl.build(backbone, tasks, architecture=model.decide(), "
        "initial_weights=model).export(...)`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model.export(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_it_says_what_it_saved(tmp_path, models, capsys):
    path = tmp_path / "saved"
    models["masked"].export(path)
    assert capsys.readouterr().out.strip().splitlines()[-1] == (
        f"Saved {path} with endpoints serve (sequence (None, 6, 4), mask (None, 6)), "
        "classes, value."
    )


def test_other_formats_go_to_keras(models):
    with pytest.raises(ValueError, match="Unrecognized format=nonsense"):
        models["masked"].export("/nowhere", format="nonsense")


# `.keras` files -----------------------------------------------------------------------------------


def load(path):
    """Loads a model; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return keras.saving.load_model(path)


def state(model):
    """Every number of a model: variables, both optimizers, states of random numbers."""
    found = [("model", v) for v in model.variables]
    for name in ("optimizer", "policy_optimizer", "warmup_optimizer"):
        optimizer = getattr(model, name, None)
        found += [(name, v) for v in (optimizer.variables if optimizer else [])]
    return {f"{i} {name} {v.path}": np.array(v) for i, (name, v) in enumerate(found)}


def assert_same_state(first, second):
    first, second = state(first), state(second)
    assert [key.split()[:2] for key in first] == [key.split()[:2] for key in second]
    for (name, a), b in zip(first.items(), second.values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


class SaveAndStop(keras.callbacks.Callback):
    def __init__(self, path, epochs):
        super().__init__()
        self.path, self.epochs = path, epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            self.model.save(self.path)
            self.model.stop_training = True


def new_search(tasks):
    strategy = AdaShare(warmup=0.0, curriculum_epochs=0)
    model = keras_mtl.build(toys.mlp(blocks=2, dropout=0.3), tasks, strategy, seed=5)
    for layer in model.named_layers().values():  # one backbone for all builds
        for number, variable in enumerate(layer.trainable_variables):
            if len(variable.shape) == 2:
                generator = np.random.default_rng([number, variable.shape[-1]])
                variable.assign(generator.normal(size=variable.shape) / 3)
    model.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        policy_optimizer=keras.optimizers.Adam(0.05),
        warmup_optimizer=keras.optimizers.Adam(0.01),
    )
    return model


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """A search of four epochs, one stopped and saved after two, and what was loaded."""
    path = tmp_path_factory.mktemp("keras") / "search.keras"
    tasks = toys.tasks()
    split = data.search_split(toys.data(toys.mlp(), tasks, 32), batch_size=8)
    whole = new_search(tasks)
    whole.fit(split, epochs=4, verbose=0)
    stopped = new_search(tasks)
    stopped.fit(split, epochs=4, callbacks=[SaveAndStop(path, 2)], verbose=0)
    return whole, stopped, load(path), split, path


def test_a_search_is_saved_in_its_middle(searches):
    _, stopped, loaded, _, _ = searches
    assert isinstance(loaded, keras_mtl.models.MultiTaskSearchModel)
    assert_same_state(stopped, loaded)
    assert loaded.strategy == stopped.strategy and loaded.seed == stopped.seed == 5
    assert int(loaded.step) == 4
    assert loaded.plan == stopped.plan and loaded.plan.epochs == 4
    found = float(loaded.plan.temperature(loaded.step))
    assert found == float(stopped.plan.temperature(stopped.step)) < 5.0
    (policy,) = loaded.policy_variables()
    assert np.any(np.array(policy) != 0)
    slots = [v for v in loaded.policy_optimizer.variables if v.shape == policy.shape]
    assert len(slots) == 2 and all(np.any(np.array(v) != 0) for v in slots)
    assert any(np.any(np.array(v) != 0) for v in loaded.optimizer.variables if len(v.shape) == 2)


def test_random_states_are_saved(searches):
    _, stopped, loaded, _, _ = searches
    states = [np.array(s) for s in loaded.seed_states()]
    assert len(states) >= 2
    fresh = [np.array(s) for s in new_search(toys.tasks()).seed_states()]
    for mine, theirs in zip(states, stopped.seed_states(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert any(not np.array_equal(a, b) for a, b in zip(states, fresh, strict=True))


def test_decisions_of_a_loaded_search(searches):
    _, stopped, loaded, _, _ = searches
    assert loaded.decide() == stopped.decide()
    assert loaded.decide(samples=4, seed=1) == stopped.decide(samples=4, seed=1)
    assert loaded.decide().costs == stopped.decide().costs
    x = toys.inputs(toys.mlp(), examples=4)
    for task, value in stopped.predict(x, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(x, verbose=0)[task], value)


def test_a_loaded_search_goes_on_as_if_it_had_not_stopped(searches):
    whole, _, _, split, path = searches
    loaded = load(path)
    loaded.fit(split, epochs=4, initial_epoch=2, verbose=0)
    assert int(loaded.step) == 8
    assert_same_state(whole, loaded)


def test_a_loaded_search_can_be_saved_again(searches, tmp_path):
    _, _, loaded, _, _ = searches
    loaded.save(tmp_path / "again.keras")
    assert_same_state(loaded, load(tmp_path / "again.keras"))


@pytest.fixture(scope="module")
def trained():
    """A derived model with statistics, Dropout and momentum, after two steps."""
    model = derived(*MODELS["tree"])
    model.compile(optimizer="adam", loss_weighting="uncertainty", run_eagerly=True)
    x, y = toys.data(model.network, model.tasks, 8)
    model.fit(x, y, batch_size=4, verbose=0)
    return model, x, y


def test_a_derived_model_is_saved(trained, tmp_path):
    model, x, y = trained
    model.set_task_weight("value", 0.25)
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert isinstance(loaded, keras_mtl.models.MultiTaskModel)
    assert_same_state(model, loaded)
    assert loaded.architecture == model.architecture
    assert loaded.architecture.costs == model.architecture.costs
    assert loaded.task_names == model.task_names and loaded.task_weight("value") == 0.25
    before, after = (m.predict(x, verbose=0) for m in (model, loaded))
    for task in model.task_names:
        np.testing.assert_allclose(after[task], before[task], rtol=1e-6, atol=1e-5)
    first = model.evaluate(x, y, return_dict=True, verbose=0)
    second = loaded.evaluate(x, y, return_dict=True, verbose=0)
    assert first == pytest.approx(second, abs=1e-6)
    model.set_task_weight("value", 1.0)


def test_a_loaded_model_is_exported(trained, tmp_path):
    model, x, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    loaded.export(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    found = served.signatures["value"](image=tf.constant(x))
    assert list(found) == ["value"]
    np.testing.assert_allclose(found["value"], model.predict(x, verbose=0)["value"], atol=1e-5)


@pytest.mark.parametrize("strategy", ["shared", "adashare"])
def test_a_file_of_tasks_in_another_order_is_refused(tmp_path, strategy):
    backbone = toys.mlp(blocks=1)
    tasks = [toys.regression("a"), toys.regression("b")]
    path = tmp_path / "a.weights.h5"
    first = keras_mtl.build(backbone, tasks, strategy, seed=0)
    first.save_weights(path)
    message = (
        "The file must hold the weights of the tasks ['b', 'a'], in this order. Received: weights "
        "of ['a', 'b']. Build the model with the tasks in that order."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        keras_mtl.build(backbone, tasks[::-1], strategy, seed=1).load_weights(path)
    same = keras_mtl.build(backbone, tasks, strategy, seed=1)
    assert any(not np.array_equal(a, b) for a, b in zip(first.weights, same.weights, strict=True))
    same.load_weights(path)
    for a, b in zip(first.weights, same.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "a.weights.h5"
    backbone, tasks = toys.mlp(blocks=2), toys.tasks()
    names = tuple(task.name for task in tasks)
    units = keras_mtl.build(backbone, tasks, "shared").architecture.units
    # Both plans need layers of the same shapes, so that Keras alone would load them by position.
    plans = [
        keras_mtl.Architecture(
            names,
            units,
            {name: ["skip" if unit == skipped else "shared" for unit in units] for name in names},
        )
        for skipped in units[-2:]
    ]
    first, second = (keras_mtl.build(backbone, tasks, architecture=p, seed=0) for p in plans)
    assert [w.shape for w in first.weights] == [w.shape for w in second.weights]
    first.save_weights(path)
    with pytest.raises(ValueError, match="must hold the weights of the same architecture"):
        second.load_weights(path)


# Options and paths --------------------------------------------------------------------------------


def message_of(call):
    with pytest.raises((TypeError, ValueError, OSError)) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    "signature",
    [
        [tf.TensorSpec((2, 6, 4), "float32"), tf.TensorSpec((2, 6), "float32")],
        {"mask": keras.InputSpec(shape=(2, 6)), "sequence": keras.InputSpec(shape=(2, 6, 4))},
        [[keras.KerasTensor((2, 6, 4)), keras.KerasTensor((2, 6))]],
    ],
    ids=["list", "names", "argument"],
)
def test_input_signature_fixes_open_sizes(models, tmp_path, signature):
    models["masked"].export(tmp_path / "saved", input_signature=signature, verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures
    for endpoint in ("serve", "classes"):
        specs = served[endpoint].structured_input_signature[1]
        assert {name: spec.shape.as_list() for name, spec in specs.items()} == {
            "sequence": [2, 6, 4],
            "mask": [2, 6],
        }


def test_an_input_signature_that_does_not_fit(models, tmp_path):
    spec = tf.TensorSpec((2, 5, 4), "float32")
    assert message_of(
        lambda: models["masked"].export(tmp_path / "saved", input_signature=[spec, spec])
    ) == (
        "`input_signature` must have a spec for each of the inputs sequence (None, 6, 4), mask "
        "(None, 6), in this order or by name. Received: input_signature="
        f"{[spec, spec]!r}."
    )


def test_unknown_options_of_export(models, tmp_path):
    assert message_of(lambda: models["masked"].export(tmp_path / "saved", opset_version=18)) == (
        "`export` to a SavedModel must have no options but `input_signature` and `verbose`. "
        "Received: opset_version=18."
    )


def test_paths_that_cannot_be_written(models, tmp_path):
    (tmp_path / "file").write_text("taken")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert message_of(lambda path=path: models["masked"].export(path)).startswith(
            "`filepath` must be a folder that exists or can be made, and can be written. Received: "
            f"filepath={str(path)!r}, of which the system says: "
        )
    for path in (None, 3, ""):
        assert message_of(lambda path=path: models["masked"].export(path)) == (
            f"`filepath` must be a string or path, of a folder. Received: filepath={path!r}."
        )
    assert (tmp_path / "file").read_text() == "taken"
