"""What a task depends on: its own inputs, and those of others where columns exchange features."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.errors import DataError
from keras_mtl.strategies import MTLNAS, FeaturePartition
from tests import toys

SETS = ("books", "music")


def task(name):
    return keras_mtl.Task(name, keras_mtl.heads.Regressor(1), "mse", inputs=name)


def normalised():
    x = inputs = keras.Input((8,), name="features")
    for number in (1, 2):
        x = keras.layers.Dense(8, name=f"dense{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.Activation("relu", name=f"relu{number}")(x)
    return keras.Model(inputs, x, name="normalised")


def built(strategy, backbone):
    model = keras_mtl.build(backbone, [task(name) for name in SETS], strategy, seed=0)
    if isinstance(model, keras_mtl.models.MultiTaskSearchModel):
        (plan,) = model.decide(samples=1, seed=1)
        model = keras_mtl.build(backbone, list(model.tasks), architecture=plan, seed=0)
    for number, layer in enumerate(model.named_layers().values()):
        for variable in layer.weights:
            generator = np.random.default_rng(number)
            variable.assign(generator.uniform(0.1, 0.5, size=variable.shape))
    return model


def arrays(backbone, rows=5):
    parts = list(toys.inputs(backbone, rows).values()) if len(backbone.inputs) > 1 else None
    x = toys.inputs(backbone, rows) if parts is None else parts
    return {"books": x, "music": keras.tree.map_structure(lambda a: a[::-1] / 2, x)}


def given_to(network, x, own):
    return {name: x[name] for name in network.input} if isinstance(network.input, dict) else x[own]


CASES = {
    "shared": ("shared", toys.mlp, False),
    "cross_stitch": ("cross_stitch", toys.mlp, True),
    "sluice": ("sluice", toys.siamese, True),
    "nddr_cnn": ("nddr_cnn", toys.mlp, True),
    "mtan": ("mtan", toys.mlp, False),
    "mtl_nas": (MTLNAS(), toys.masked, True),
    "masks": (FeaturePartition([[0.5, 0.25], [0.25, 0.5]], frozen=0), normalised, False),
}


@pytest.mark.filterwarnings("ignore:.initial_weights. should be the search")
@pytest.mark.parametrize("case", CASES)
def test_a_task_alone_gives_what_all_tasks_give(case):
    strategy, backbone, exchanges = CASES[case]
    backbone = backbone()
    model = built(strategy, backbone)
    x = arrays(backbone)
    expected = model(x)
    for name in SETS:
        needed = SETS if exchanges else (name,)
        assert model.needed_sets(name) == needed
        for network in (model.task_network(name), model.extract(name)):
            assert len(network.inputs) == len(needed) * len(backbone.inputs)
            found = network(given_to(network, x, name))
            np.testing.assert_allclose(found, expected[name], atol=1e-5, rtol=1e-5)
    if exchanges:
        with pytest.raises(DataError, match=r"^The inputs must have all the sets that a task"):
            model.predict({"books": x["books"]}, verbose=0)
    else:
        alone = model({"books": x["books"]})
        assert list(alone) == ["books"]
        np.testing.assert_allclose(alone["books"], expected["books"], atol=1e-6)


def test_columns_of_own_inputs_are_saved_and_served(tmp_path):
    backbone = toys.mlp(blocks=1)
    model = built("cross_stitch", backbone)
    x = arrays(backbone)
    expected = model(x)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures
    for name in SETS:
        assert set(served[name].structured_input_signature[1]) == set(SETS)
        found = served[name](**{key: tf.constant(array) for key, array in x.items()})
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_an_edge_in_one_direction():
    """A network of two paths of which one reads the other."""
    inputs = {name: keras.Input((4,), name=name) for name in SETS}
    first = keras.layers.Dense(4, name="first")(inputs["books"])
    second = keras.layers.Add(name="add")([keras.layers.Dense(4)(inputs["music"]), first])
    network = keras.Model(inputs, {"books": first, "music": second})
    model = keras_mtl.models.MultiTaskModel(network, [task(name) for name in SETS])
    assert {name: model.needed_sets(name) for name in SETS} == {"books": ("books",), "music": SETS}
    x = {name: np.ones((2, 4)) for name in SETS}
    assert list(model({"books": x["books"]})) == ["books"]
    assert set(model(x)) == set(SETS)


def test_an_endpoint_asks_for_the_inputs_of_its_task_only(tmp_path):
    """`value` skips both blocks, which alone read the mask."""
    backbone = toys.masked()
    plan = keras_mtl.build(backbone, toys.tasks(2), "shared", seed=0).architecture
    rows = {
        t: tuple("skip" if t == "value" and u != "stem" else "shared" for u in plan.units)
        for t in plan.tasks
    }
    plan = keras_mtl.Architecture(plan.tasks, plan.units, rows)
    model = keras_mtl.build(backbone, toys.tasks(2), architecture=plan, seed=0)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures
    asked = {name: set(f.structured_input_signature[1]) for name, f in served.items()}
    assert asked["value"] == {"sequence"}
    assert asked["classes"] == asked["serve"] == {"sequence", "mask"}
    x = toys.inputs(backbone, 3)
    found = served["value"](sequence=tf.constant(x["sequence"]))["value"]
    np.testing.assert_allclose(found, model(x)["value"], atol=1e-6)


@pytest.mark.parametrize("strategy", ["cross_stitch", "mtan"])
def test_columns_do_not_take_turns(strategy):
    model = built(strategy, toys.mlp())
    model.compile("sgd")
    x = arrays(toys.mlp())
    data = {name: (x[name], np.zeros((5, 1))) for name in SETS}
    message = (
        "Tasks that take turns must not exchange features. Received: an architecture with "
        f"{len(model.fusions)} fusions. Use `keras_mtl.data.join_tasks`."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        model.fit(keras_mtl.data.sample_tasks(data, 2))


def test_a_set_that_no_task_reads_is_a_slip_of_the_pen_where_one_is_missing():
    model = built("shared", toys.mlp())
    x = arrays(toys.mlp())
    message = (
        "The inputs must be a dict with one entry for each of ['books', 'music'], since every task "
        "has its own. Received: a dict with keys ['books', 'musik']. Did you mean 'music'? Use "
        "`keras_mtl.data.join_tasks`."
    )
    given = {"books": x["books"], "musik": x["music"]}
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        model.predict(given)
    with pytest.raises(DataError, match=re.escape(message)):  # Keras adds its own lines
        model(given)
