"""One dataset per task: training, searching, costs, saving and serving with inputs of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.errors import DataError
from keras_mtl.strategies import AutoMTL
from tests import toys

LENGTHS = {"books": 20, "music": 13}


def task(name, inputs):
    return keras_mtl.Task(name, keras_mtl.heads.Regressor(1), "mse", inputs=inputs)


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return toys.mlp(blocks=2)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    found = {}
    for name, length in LENGTHS.items():
        x = generator.normal(size=(length, 8)).astype("float32")
        found[name] = x, x.mean(axis=1, keepdims=True)
    return found


@pytest.fixture(scope="module")
def tasks():
    return [task(name, name) for name in LENGTHS]


@pytest.fixture(scope="module")
def searched(backbone, tasks, data):
    model = keras_mtl.build(backbone, tasks, AutoMTL(pretrain=0.5), seed=0)
    model.compile("sgd", "adam", run_eagerly=True)
    pairs = keras_mtl.data.search_split(data, batch_size=5)
    validation = keras_mtl.data.join_tasks(data, 5, training=False)
    model.fit(pairs, validation_data=validation, epochs=2, verbose=0)
    return model


def test_nothing_is_computed_in_common_for_different_data(backbone, tasks):
    apart = keras_mtl.build(backbone, tasks, "shared", seed=0).architecture
    common = [task(name, "all") for name in LENGTHS]
    together = keras_mtl.build(backbone, common, "shared", seed=0).architecture
    assert apart.parameters() == together.parameters()
    assert apart.flops() == apart.flops("books") + apart.flops("music")
    trunk = 3 * 2 * 8 * 8
    assert together.flops() == apart.flops() - trunk


def test_training_sees_every_example_of_every_task(backbone, tasks, data):
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    found = model.evaluate(
        keras_mtl.data.join_tasks(data, 4, training=False), verbose=0, return_dict=True
    )
    outputs = model.network({name: x[:13] for name, (x, _) in data.items()})
    assert set(outputs) == set(LENGTHS)
    for name, (x, y) in data.items():
        predicted = model.task_network(name)(x)
        expected = np.mean((np.asarray(predicted) - y) ** 2)
        assert found[f"{name}_loss"] == pytest.approx(expected, rel=1e-4)
    history = model.fit(keras_mtl.data.join_tasks(data, 5), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and len(history["books_loss"]) == 2


def test_a_batch_of_one_task_does_not_touch_the_other(backbone, tasks, data):
    """Gradients of one task's loss reach the shared trunk and its own head, not the other's."""
    model = keras_mtl.build(backbone, tasks, "independent", seed=0)
    x = {name: arrays[0][:4] for name, arrays in data.items()}
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=True)["books"])
    gradients = tape.gradient(loss, [v.value for v in variables])
    reached = {v.path for v, g in zip(variables, gradients, strict=True) if g is not None}
    assert reached and all("music" not in path for path in reached)


def test_a_search_decides_and_derives(searched, backbone, tasks, data):
    plan = searched.decide()
    derived = keras_mtl.build(backbone, tasks, architecture=plan, initial_weights=searched)
    x = {name: arrays[0][:4] for name, arrays in data.items()}
    expected, found = searched(x), derived(x)
    for name in LENGTHS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert plan.flops() <= plan.flops("books") + plan.flops("music")


def test_saving_and_serving(searched, backbone, tasks, data, tmp_path):
    model = keras_mtl.build(
        backbone, tasks, architecture=searched.decide(), initial_weights=searched
    )
    x = {name: arrays[0][:4] for name, arrays in data.items()}
    expected = model(x)
    model.save(tmp_path / "model.keras")  # not compiled: that is no reason to refuse
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x)["music"], expected["music"])
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures
    both = served["serve"](**{name: tf.constant(array) for name, array in x.items()})
    for name in LENGTHS:
        # An endpoint of one task takes the inputs of that task only.
        alone = served[name](**{name: tf.constant(x[name])})
        np.testing.assert_allclose(alone[name], expected[name], atol=1e-6)
        np.testing.assert_allclose(both[name], expected[name], atol=1e-6)


def test_several_inputs_of_one_set(tmp_path):
    tasks = [task("books", "books"), task("music", "music")]
    model = keras_mtl.build(toys.masked(), tasks, "shared", seed=0)
    assert sorted(x.name for x in model.network.inputs) == [
        "books_mask",
        "books_sequence",
        "music_mask",
        "music_sequence",
    ]


def test_inputs_that_do_not_fit_are_refused(searched, backbone, tasks, data):
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile("sgd")
    x, y = data["books"]
    with pytest.raises(
        DataError,
        match=r"^The inputs must be a dict with one entry for each of \['books', 'music'\], since "
        r"every task has its own\. Received: .*shape \(20, 8\)\. "
        r"Use `keras_mtl\.data\.join_tasks`\.$",
    ):
        model.fit(x, {"books": y, "music": y})
    wrong = {"books": (x, y), "music": (x[:, :5], y)}
    with pytest.raises(DataError, match=r"^Input 'features' of set 'music' must have shape"):
        model.fit(keras_mtl.data.join_tasks(wrong, 5))
    with pytest.raises(DataError, match="search_split"):
        searched.fit(keras_mtl.data.join_tasks(data, 5))


def test_inputs_are_taken_by_the_names_of_the_backbone():
    """The search and what is derived from it read one structure alike."""
    z, a = keras.Input((4,), name="z_first"), keras.Input((4,), name="a_second")
    x = keras.layers.Subtract(name="difference")([z, a])
    backbone = keras.Model([z, a], keras.layers.Dense(4, name="dense")(x))
    tasks = [task("books", "books"), task("music", "music")]
    generator = np.random.default_rng(0)
    named = {"z_first": generator.normal(size=(3, 4)), "a_second": generator.normal(size=(3, 4))}
    by_name = dict.fromkeys(LENGTHS, named)
    by_place = {name: [named["z_first"], named["a_second"]] for name in LENGTHS}
    search = keras_mtl.build(backbone, tasks, "auto_mtl", seed=0)
    final = keras_mtl.build(backbone, tasks, architecture=search.decide(), initial_weights=search)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(final))
    again.set_weights(final.get_weights())
    expected = search(by_place)["books"]
    for model in (search, final, again):
        np.testing.assert_allclose(model(by_name)["books"], expected, atol=1e-5)
        np.testing.assert_allclose(model(by_place)["books"], expected, atol=1e-5)


def test_names_of_inputs_are_checked_before_the_search(backbone):
    tasks = [task("a", "block1"), task("b", "music")]
    for strategy in ("auto_mtl", "shared"):
        with pytest.raises(
            ValueError, match=r"^`inputs` of a task must not name a layer .*inputs='block1'"
        ):
            keras_mtl.build(backbone, tasks, strategy, seed=0)


def test_labels_in_the_set_of_another_task_are_refused(backbone, data):
    model = keras_mtl.build(backbone, [task("mood", "books"), task("pace", "music")], "shared")
    model.compile("sgd")
    (books, y), (music, z) = data["books"], data["music"]
    crossed = {"books": (books, {"pace": y}), "music": (music, {"mood": z})}
    with pytest.raises(
        DataError,
        match=r"^The labels of task 'mood' must come with its inputs 'books'\. Received: labels of "
        r"'mood' in the set 'music'\. Check `Task\(inputs=\.\.\.\)` and the data\.$",
    ):
        model.fit(keras_mtl.data.join_tasks(crossed, 5))


# Dicts ------------------------------------------------------------------------------------------


def said(call):
    with pytest.raises((DataError, TypeError, ValueError)) as caught:
        call()
    return str(caught.value)


@pytest.fixture(scope="module")
def trained(backbone, tasks, data):
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile("sgd", run_eagerly=True)
    model.fit(data, batch_size=5, epochs=2, validation_data=data, verbose=0)
    return model


def test_a_dict_trains_as_what_it_is_joined_to(trained, backbone, tasks, data):
    other = keras_mtl.build(backbone, tasks, "shared", seed=0)
    other.compile("sgd", run_eagerly=True)
    other.fit(keras_mtl.data.join_tasks(data, 5), epochs=2, verbose=0)
    assert int(trained.optimizer.iterations) == 2 * 4  # 20 books in batches of 5
    for one, two in zip(trained.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_dict_is_evaluated_once(trained, searched, data):
    for model in (trained, searched):
        joined = keras_mtl.data.join_tasks(data, 4, training=False)
        expected = model.evaluate(joined, return_dict=True, verbose=0)
        found = model.evaluate(data, batch_size=4, return_dict=True, verbose=0)
        assert found == expected
        lists = {name: tuple(part.tolist() for part in parts) for name, parts in data.items()}
        assert model.evaluate(lists, batch_size=4, return_dict=True, verbose=0) == expected


def test_every_task_gets_as_many_predictions_as_its_set_has_examples(trained, searched, data):
    inputs = {name: x for name, (x, _) in data.items()}
    streams = {
        name: tf.data.Dataset.from_tensor_slices(part).batch(3) for name, part in data.items()
    }
    for model in (trained, searched):
        expected = {
            name: np.concatenate([model({name: row[None]})[name] for row in x])
            for name, x in inputs.items()
        }
        joined = keras_mtl.data.join_tasks(data, 4, training=False)
        for given in (inputs, data, joined, streams):
            found = model.predict(given, verbose=0)
            assert {name: len(rows) for name, rows in found.items()} == LENGTHS
            for name, rows in found.items():
                np.testing.assert_allclose(rows, expected[name], atol=1e-6)
        found = model.predict({"music": inputs["music"]}, batch_size=4, verbose=0)
        assert list(found) == ["music"]
        np.testing.assert_allclose(found["music"], expected["music"], atol=1e-6)


def test_several_inputs_of_a_set_are_predicted(data):
    backbone = toys.masked()
    model = keras_mtl.build(backbone, [task("books", "books")], "shared", seed=0)
    by_name = toys.inputs(backbone, 5)
    listed = [by_name["sequence"], by_name["mask"]]
    expected = model({"books": by_name})["books"]
    for given in (by_name, listed, tuple(listed), (listed, np.zeros(5)), (by_name, np.zeros(5))):
        found = model.predict({"books": given}, batch_size=2, verbose=0)["books"]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_dicts_that_do_not_fit(trained, searched, backbone, data):
    (x, y), music = data["books"], data["music"]
    wanted = (
        "The inputs must be a dict with one entry for each of ['books', 'music'], since every task "
        "has its own. Received: a dict with keys "
    )
    for call in (trained.fit, trained.evaluate):
        assert said(lambda call=call: call({"books": (x, y)})) == (
            f"{wanted}['books']. Use `keras_mtl.data.join_tasks`."
        )
        assert said(lambda call=call: call({"books": (x, y), "musik": music})) == (
            f"{wanted}['books', 'musik']. Did you mean 'music'? Use `keras_mtl.data.join_tasks`."
        )
        assert said(lambda call=call: call({"books": x, "music": music})).startswith(
            "`data['books']` must be a tuple `(x, y)` or `(x, y, sample_weight)`"
        )
        assert said(lambda call=call: call({"books": (x[1:], y), "music": music})).startswith(
            "`data['books']` must hold arrays of equal length."
        )
        assert said(lambda call=call: call({"books": (x[:, 1:], y), "music": music})) == (
            "Input 'features' of set 'books' must have shape ('batch', 8). Received: shape "
            "(None, 7)."
        )
        assert said(lambda call=call: call(data, sample_weight=np.ones(20))) == (
            "`sample_weight` must not be given with a dict from input set to data. Received: data "
            "of ['books', 'music']. Give it as the third part of each set's data."
        )
    assert said(lambda: trained.fit(data, validation_split=0.5)) == (
        "`validation_split` must not be given with a dict from input set to data. Received: data "
        "of ['books', 'music']. Give `validation_data`, a dict like the data."
    )
    assert said(lambda: trained.predict({"books": x[:, 1:]})) == (
        "Input 'features' of set 'books' must have shape ('batch', 8). Received: shape (None, 7)."
    )
    assert said(lambda: searched.fit(data)) == (
        "`fit` of a search needs pairs of batches, one for the weights and one for the policy. "
        "Received: plain data. Use `fit(keras_mtl.data.search_split(data), ...)`."
    )
    common = keras_mtl.build(backbone, [task("books", None)], "shared", seed=0)
    common.compile("sgd")
    assert said(lambda: common.fit({"books": (x, y)})) == (
        "Tasks must have inputs of their own where data are a dict from input set to `(x, y)`. "
        "Received: such a dict, and tasks that all read the same. Name the sets: `Task('books', "
        "..., inputs='books')`."
    )
    for given in (x, (x, y), {"features": x}):
        assert said(lambda given=given: common.fit(given)).startswith("`fit` needs labels:")
    assert said(lambda: trained.predict(x)).startswith("The inputs must be a dict with one entry")
    assert said(lambda: trained.fit(data, batch_size=0)) == (
        "`batch_size` must be an integer of at least 1. Received: batch_size=0."
    )


@pytest.mark.parametrize("door", ["evaluate", "predict", "validation_data"])
def test_training_batches_are_not_evaluated(trained, data, door):
    def call(given):
        if door == "validation_data":
            return trained.fit(data, validation_data=given)
        return getattr(trained, door)(given)

    given = keras_mtl.data.join_tasks(data, 5)
    assert said(lambda: call(given)) == (
        "Evaluation and prediction need every example once. Received: a JoinedDataset, whose "
        "batches are for training. Give the data that it was made of: arrays, a "
        "`tf.data.Dataset`, or the dict from input set to data."
    )


def test_epochs_of_other_lengths_go_on_in_the_data(backbone, data):
    """Two epochs of three steps read what one of six does."""
    ends = []
    for epochs, steps in ((2, 3), (1, 6)):
        model = keras_mtl.build(backbone, [task(n, n) for n in LENGTHS], "shared", seed=0)
        model.compile("sgd", run_eagerly=True)
        for epoch in range(epochs):
            options = {"initial_epoch": epoch, "epochs": epoch + 1, "steps_per_epoch": steps}
            model.fit(data, batch_size=5, verbose=0, **options)
        assert int(model.optimizer.iterations) == 6
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_set_that_one_task_reads_needs_no_names_of_tasks(backbone, data):
    readers = {"books": "mood", "music": "pace"}
    tasks = [task(name, inputs) for inputs, name in readers.items()]
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile("sgd", run_eagerly=True)
    weights = {name: np.ones(len(x), "float32") for name, (x, _) in data.items()}
    named = {n: (x, {readers[n]: y}, weights[n]) for n, (x, y) in data.items()}
    streams = {
        name: tf.data.Dataset.from_tensor_slices(part).batch(4) for name, part in data.items()
    }
    expected = model.evaluate(named, verbose=0)
    plain = {name: (x, y, weights[name]) for name, (x, y) in data.items()}
    for given in (data, plain, streams):
        np.testing.assert_allclose(model.evaluate(given, verbose=0), expected, rtol=1e-6)
    history = model.fit(data, validation_data=data, verbose=0).history
    assert set(history) >= {"mood_loss", "val_pace_loss"}


def test_labels_under_the_name_of_a_set(backbone, data):
    tasks = [task("mood", "books"), task("pace", "music")]
    model = keras_mtl.build(backbone, tasks, "shared", seed=0)
    model.compile("sgd")
    with pytest.raises(DataError) as caught:
        model.fit(keras_mtl.data.join_tasks(data, 4), verbose=0)
    assert str(caught.value) == (
        "Labels of the set 'books' must be a dict by task name: `{'books': (x, {'mood': y})}`. "
        "Received: labels without a name, for the tasks ['mood']."
    )
