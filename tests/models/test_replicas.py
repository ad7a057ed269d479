"""A last batch with fewer examples than a distributed step has replicas."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import keras_mtl

pytestmark = pytest.mark.slow

SCRIPT = textwrap.dedent(
    """
    import json, sys
    import keras, numpy as np, tensorflow as tf
    from keras import layers
    import keras_mtl

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    SGD = keras.optimizers.SGD
    # One object for each: TensorFlow takes the reductions of a second one for those of the first.
    STRATEGIES = {
        n: tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(n)]) for n in (1, 2)
    }

    def backbone(normalised):
        x = inputs = keras.Input((4,))
        x = layers.Dense(4, name="dense", kernel_regularizer="l2",
                         kernel_initializer=keras.initializers.GlorotUniform(0))(x)
        if normalised:
            x = layers.BatchNormalization(momentum=0.5, name="norm")(x)
        return keras.Model(inputs, layers.Add(name="add")([x, inputs]))

    def data(rows):
        x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
        y = {"a": x[:, :1] + 1, "b": x[:, :2].copy()}
        y["b"][0] = np.nan
        return x, y

    def train(devices, rows, batch_size, normalised, searching=False, known=True):
        with STRATEGIES[devices].scope():
            tasks = [keras_mtl.Task("a", layers.Dense(1), "mse", ["mae"]),
                     keras_mtl.Task("b", layers.Dense(2), "mse")]
            strategy = "adashare" if searching else "shared"
            model = keras_mtl.build(backbone(normalised), tasks, strategy, seed=0)
            model.compile(SGD(0.1), *[SGD(0.1)] * searching)
        batches = tf.data.Dataset.from_tensor_slices(data(rows)).batch(batch_size)
        if searching:
            given = keras_mtl.data.search_split(data(rows), batch_size=batch_size)
        else:
            given = batches if known else batches.filter(lambda x, y: True)
        try:
            history = model.fit(given, verbose=0).history
            found = {}
            if not normalised:
                found = model.evaluate(batches, verbose=0, return_dict=True)
        except keras_mtl.errors.DataError as error:
            return str(error)
        return {
            "history": {name: values[0] for name, values in history.items()},
            "evaluation": found,
            "weights": [np.asarray(v.numpy()).ravel().tolist() for v in model.weight_variables()],
            "statistics": [
                [np.asarray(copy).tolist() for copy in v.value.values]
                for v in model.statistics()
            ] if devices > 1 else [],
        }

    results = {
        "one": train(1, 5, 4, False),
        "two": train(2, 5, 4, False),
        "normalised": train(2, 5, 4, True, known=False),
        "one_more_whole_batch": train(2, 4, 4, True),
        "search": train(2, 10, 4, True, searching=True),
        "batch_of_1": train(2, 3, 1, True),
        "batch_of_3": train(2, 7, 3, True),
    }
    json.dump(results, open(sys.argv[1], "w"))
    """
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    script, result = folder / "distributed.py", folder / "result.json"
    script.write_text(SCRIPT)
    root = os.path.dirname(os.path.dirname(keras_mtl.__file__))
    done = subprocess.run(
        [sys.executable, str(script), str(result)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(result.read_text())


@pytest.mark.parametrize("part", ["history", "evaluation"])
def test_a_replica_without_examples_adds_nothing(results, part):
    """Regularizers included: the step is that of one device."""
    one, two = results["one"][part], results["two"][part]
    assert set(one) == set(two)
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5), name


def test_weights_move_as_on_one_device(results):
    for one, two in zip(results["one"]["weights"], results["two"]["weights"], strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)


def test_its_statistics_do_not_move(results):
    """The fifth example is the first replica's: the second keeps what four examples gave it."""
    more, fewer = results["normalised"]["statistics"], results["one_more_whole_batch"]["statistics"]
    assert len(more) == 2
    for with_rest, without in zip(more, fewer, strict=True):
        np.testing.assert_allclose(with_rest[1], without[1], rtol=1e-6)
        assert not np.allclose(with_rest[0], without[0])


@pytest.mark.parametrize("case", ["normalised", "search"])
def test_everything_stays_finite(results, case):
    found = results[case]
    assert np.isfinite([*found["history"].values()]).all()
    assert all(np.isfinite(variable).all() for variable in found["weights"])
    assert all(np.isfinite(copies).all() for copies in found["statistics"])


@pytest.mark.parametrize("case", ["batch_of_1", "batch_of_3"])
def test_a_first_batch_that_does_not_divide_is_refused(results, case):
    assert results[case] == (
        "The first batch must divide evenly among the 2 replicas. Received: one that does not. Use "
        "a batch size that is a multiple of 2 and not larger than the data."
    )
