"""Every bad input gets one clear sentence, before the first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from keras import layers
from scipy import sparse as scipy_sparse

import keras_mtl
from keras_mtl import Architecture, ArchitectureError, DataError, NonFiniteError, Task
from keras_mtl.strategies import AdaShare

NAN = float("nan")


@pytest.fixture(scope="module")
def backbone():
    return toys.mlp(blocks=1)


@pytest.fixture(scope="module")
def model(backbone):
    """A fixed model for the tasks `classes` and `value`; no bad input may move it."""
    model = keras_mtl.build(backbone, toys.tasks(), "shared", seed=0)
    model.compile("sgd")
    return model


@pytest.fixture(scope="module")
def search(backbone):
    """A search for the tasks `classes` and `value`; no bad input may move it."""
    model = keras_mtl.build(backbone, toys.tasks(), seed=0)
    model.compile()
    return model


@pytest.fixture
def good(backbone):
    return toys.data(backbone, toys.tasks(), examples=8)


def value(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def batches(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


def refusal(model, *data, error=DataError, **options):
    """The message with which `fit` refuses data; the model must not have moved."""
    before = [value(v) for v in model.variables]
    with pytest.raises(error) as caught:
        model.fit(*data, verbose=0, **options)
    assert all(np.array_equal(b, value(v)) for b, v in zip(before, model.variables, strict=True))
    message = str(caught.value)
    assert "\n" not in message
    return message


# Labels -----------------------------------------------------------------------------------------


def without(y, name):
    return {task: labels for task, labels in y.items() if task != name}


LABELS = {
    "unknown": (
        lambda y: {"value": y["value"], "clases": y["classes"]},
        "Labels must be for the tasks ['classes', 'value']. Received: labels for the unknown task "
        "'clases'. Did you mean 'classes'?",
    ),
    "missing": (
        lambda y: without(y, "value"),
        "Labels must be given for every task of ['classes', 'value']. Received: none for "
        "['value']. Where labels are missing, give NaN, the task's `ignore` value or weight 0.",
    ),
    "no_dict": (
        lambda y: y["value"],
        "Labels must be a dict from task name to values, for the tasks ['classes', 'value']. "
        "Received: {kind} of shape {shape}.",
    ),
    "wrong_shape": (
        lambda y: {**y, "value": np.zeros((8, 2), "float32")},
        "Labels of task 'value' must have shape ('batch', 1) like its output, or ('batch',) for "
        "class numbers. Received: shape ('batch', 2). Check the labels or the head.",
    ),
}


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("kind", ["arrays", "dataset", "search"])
def test_bad_labels(model, search, good, case, kind):
    x, y = good
    change, message = LABELS[case]
    y = change(y)
    if kind == "arrays":
        found = refusal(model, x, y)
    elif kind == "dataset":
        found = refusal(model, batches(x, y))
    elif case == "no_dict":
        return  # `search_split` refuses it, see its own tests
    else:
        found = refusal(search, keras_mtl.data.search_split((x, y), batch_size=4))
    what = {"arrays": ("ndarray", (8, 1)), "dataset": ("TensorSpec", (None, 1))}
    name, shape = what.get(kind, (None, None))
    assert found.replace("(None, 2)", "('batch', 2)") == message.format(kind=name, shape=shape)


def test_labels_of_another_rank(model, good):
    x, y = good
    assert "Received: shape ('batch', 1, 1, 1)." in refusal(
        model, x, {**y, "value": y["value"][..., None, None]}
    )


def test_loss_of_the_user_that_does_not_fit(backbone, good):
    def difference(y_true, y_pred):
        return keras.ops.sum(keras.ops.abs(y_true - y_pred), axis=-1)

    task = Task("value", layers.Dense(3), difference)
    model = keras_mtl.build(backbone, task, "shared", seed=0)
    model.compile("sgd")
    found = refusal(model, good[0], {"value": np.zeros((8, 4), "float32")})
    assert found.startswith(
        "The loss of task 'value' must fit labels of shape ('batch', 4) and outputs of shape "
        "('batch', 3). Received: loss 'difference', which says: "
    )


def test_loss_of_the_user_that_takes_the_mean(backbone, good):
    def mean(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))

    model = keras_mtl.build(backbone, Task("value", layers.Dense(1), mean), "shared", seed=0)
    model.compile("sgd")
    assert refusal(model, good[0], {"value": good[1]["value"]}) == (
        "The loss of task 'value' must return one value per label. Received: shape () for labels "
        "of shape ('batch', 1). Let it not take the mean over the batch."
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"values": np.ones(8)},
            "Sample weights must be for the tasks ['classes', 'value']. Received: sample weights "
            "for the unknown task 'values'. Did you mean 'value'?",
        ),
        (
            np.ones(8),
            "Sample weights must be a dict from task name to values, for the tasks ['classes', "
            "'value']. Received: ndarray of shape (8,).",
        ),
        (
            {"value": np.ones((8, 3))},
            "Sample weights of task 'value' must be one number per example or per label. "
            "Received: shape (8, 3) for labels of shape (8, 1).",
        ),
    ],
    ids=["unknown", "no_dict", "wrong_shape"],
)
def test_bad_sample_weights(model, good, weights, message):
    assert refusal(model, *good, sample_weight=weights) == message


def test_labels_are_checked_before_evaluation_too(model, good):
    x, y = good
    with pytest.raises(DataError, match=r"none for \['value'\]"):
        model.evaluate(x, without(y, "value"), verbose=0)


def test_all_labels_missing_is_no_error(backbone, good):
    x, y = good
    tasks = [Task("a", layers.Dense(1), "mse"), Task("b", layers.Dense(1), "mae", ignore=0)]
    model = keras_mtl.build(backbone, tasks, AdaShare(warmup=0.0, sparsity=0.0, sharing=0.0))
    model.compile("sgd", "sgd")
    y = {"a": np.full((8, 1), NAN, "float32"), "b": np.zeros(8, "int32")}
    before = [value(v) for v in (*model.weight_variables(), *model.policy_variables())]
    data = keras_mtl.data.search_split((x, y), batch_size=4)
    history = model.fit(data, validation_data=(x, y), verbose=0).history
    losses = {key: values for key, values in history.items() if key.endswith("loss")}
    assert {"loss", "a_loss", "b_loss", "val_loss", "val_a_loss", "val_b_loss"} <= set(losses)
    assert set(np.concatenate(list(losses.values()))) == {0.0}
    assert all(np.isfinite(values).all() for values in history.values())
    after = [value(v) for v in (*model.weight_variables(), *model.policy_variables())]
    assert all(map(np.array_equal, before, after))


# Inputs -----------------------------------------------------------------------------------------


def test_wrong_input_shape(model, search, good):
    x, y = good
    message = "Input 'features' must have shape ('batch', 8). Received: shape {}."
    assert refusal(model, x[:, :5], y) == message.format((8, 5))
    assert refusal(model, batches(x[:, :5], y)) == message.format((None, 5))
    pairs = keras_mtl.data.search_split((x[:, :5], y))
    assert refusal(search, pairs) == message.format((None, 5))


def test_dataset_without_batches_of_examples(model, good):
    dataset = tf.data.Dataset.from_tensor_slices(good)
    assert "must have shape ('batch', 8). Received: shape (8,)." in refusal(model, dataset)


def test_wrong_number_of_inputs(model, good):
    x, y = good
    assert refusal(model, [x, x], y) == ("The inputs must be 1: ['features']. Received: 2 inputs.")


def test_inputs_and_labels_of_different_length(model, good):
    x, y = good
    assert refusal(model, x, {**y, "value": y["value"][:6]}) == (
        "Inputs and labels must have one length. Received: lengths [6, 8]."
    )


@pytest.mark.parametrize(("weight", "count"), [(np.ones(6), 6), (np.ones((40, 1)), 40), (2.0, 1)])
def test_weights_of_another_length(model, good, weight, count):
    message = "Sample weights of task 'value' must be as many as the examples, 8. Received: "
    found = refusal(model, *good, sample_weight={"value": weight})
    assert found == f"{message}{count}."


def test_inputs_of_unknown_shape(model, good):
    def generate():
        yield good

    specs = {name: tf.TensorSpec(y.shape, y.dtype) for name, y in good[1].items()}
    data = tf.data.Dataset.from_generator(generate, output_signature=(tf.TensorSpec(None), specs))
    assert refusal(model, data) == (
        "Input 'features' must have a known number of axes. Received: a dataset without shapes. "
        "Use `tf.ensure_shape(x, (None, 8))` in its `map`, or give it a full signature."
    )


class Batches(keras.utils.PyDataset):
    """One batch of anything."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


@pytest.mark.parametrize("how", [Batches, lambda batch: (part for part in [batch])])
def test_lists_in_a_batch(model, good, how):
    x, y = good
    assert refusal(model, how((x, list(y.values())))) == (
        "Batches of a generator or a `PyDataset` must hold arrays, in dicts where they are "
        "several. Received: a list. Give `(x, {task: y})`, and `np.asarray(list)`."
    )


def test_labels_in_a_batch_that_do_not_fit(model, good):
    x, y = good
    assert refusal(model, Batches((x, {**y, "classes": np.ones((8, 4))}))) == (
        "The loss of task 'classes' must fit labels of shape ('batch', 4) and outputs of shape "
        "('batch', 3). Received: loss 'sparse_categorical_crossentropy', which says: Argument "
        "`output` must have rank (ndim) `target.ndim - 1`. Received: target.shape=(None, 4), "
        "output.shape=(None, 3)"
    )


def test_metric_that_does_not_fit(good):
    labels = good[1]["classes"]
    task = Task("classes", layers.Dense(3), "mse", [keras.metrics.F1Score()])
    with pytest.raises(DataError) as caught:
        task.update_metrics(task.new_metrics(), labels, np.zeros((8, 3)))
    assert str(caught.value).startswith(
        "The metric of task 'classes' must fit labels of shape ('batch',) and outputs of shape "
        "('batch', 3). Received: metric 'classes_f1_score', which says: FBetaScore expects 2D "
    )


def test_empty_arrays(model, good):
    x, y = good
    assert refusal(model, x[:0], {task: labels[:0] for task, labels in y.items()}) == (
        "The data must not be empty. Received: input of shape (0, 8)."
    )


EMPTY = "The dataset must not be empty. Received: a dataset without batches."


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("known", [True, False])
def test_empty_dataset(model, search, good, known):
    pairs = tf.data.Dataset.zip(batches(*good), batches(*good))
    for owner, dataset in ((model, batches(*good)), (search, pairs)):
        empty = dataset.take(0) if known else dataset.filter(lambda *batch: False)
        assert refusal(owner, empty) == EMPTY


def test_endless_dataset_needs_steps(search, good):
    pairs = tf.data.Dataset.zip(batches(*good), batches(*good)).repeat()
    assert refusal(search, pairs) == (
        "The dataset must end, or `steps_per_epoch` be given. Received: an endless dataset."
    )


@pytest.mark.parametrize("kind", ["arrays", "dataset", "generator"])
def test_plain_data_for_a_search(search, good, kind):
    x, y = good
    data = {"arrays": good, "dataset": [batches(x, y)], "generator": [iter([(x, y)])]}[kind]
    assert refusal(search, *data) == (
        "`fit` of a search needs pairs of batches, one for the weights and one for the policy. "
        "Received: plain data. Use `fit(keras_mtl.data.search_split((x, y)), ...)`."
    )


def test_inputs_without_labels(model, good):
    assert refusal(model, good[0]) == (
        "`fit` needs labels: `fit(x, y)` with a dict of labels by task, or a dataset of `(x, y)`. "
        "Received: inputs alone."
    )


def test_generators_work_for_a_fixed_model(backbone, good):
    x, y = good
    model = keras_mtl.build(backbone, toys.tasks(), "shared", seed=0)
    model.compile("sgd")

    def generator():
        while True:
            yield x, y

    history = model.fit(generator(), steps_per_epoch=2, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][1] < history["loss"][0]
    with pytest.raises(DataError, match=r"none for \['value'\]"):
        model.fit(((x, without(y, "value")) for _ in range(2)), verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of an unknown length
def test_dataset_of_unknown_length_works_for_a_fixed_model(backbone, good):
    model = keras_mtl.build(backbone, toys.tasks(), "shared", seed=0)
    model.compile("sgd")
    dataset = batches(*good).filter(lambda *batch: True)
    history = model.fit(dataset, epochs=2, verbose=0).history
    assert int(model.optimizer.iterations) == 4
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_validation_data_for_the_wrong_tasks(model, search, good, kind):
    x, y = good
    wrong = (x, {"classes": y["classes"], "depth": y["value"]})
    validation = wrong if kind == "arrays" else batches(*wrong)
    message = (
        "Labels must be for the tasks ['classes', 'value']. Received: labels for the unknown task "
        "'depth'."
    )
    assert refusal(model, x, y, validation_data=validation) == message
    pairs = keras_mtl.data.search_split(good, batch_size=4)
    assert refusal(search, pairs, validation_data=validation) == message


# NaN --------------------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """Keeps the values of every variable as they were before the last step that began."""

    def on_train_batch_begin(self, batch, logs=None):
        self.batch = batch
        self.before = [value(v) for v in everything(self.model)]


def everything(model):
    optimizers = [model.optimizer, getattr(model, "policy_optimizer", None)]
    slots = [v for optimizer in optimizers if optimizer for v in optimizer.variables]
    return [*model.weights, *slots]


def check_stopped(model, data, what, **options):
    watch = Watch()
    with pytest.raises(NonFiniteError) as error:
        model.fit(data, epochs=4, callbacks=[watch], verbose=0, **options)
    assert str(error.value) == (
        f"Training stopped: {what} has become NaN or infinite. The variables of model "
        f"{model.name!r} keep their last good values. Clean the data (labels may be NaN, inputs "
        "may not), or lower the learning rate."
    )
    for variable, before in zip(everything(model), watch.before, strict=True):
        assert np.isfinite(value(variable)).all(), variable.path
        np.testing.assert_array_equal(value(variable), before, err_msg=variable.path)
    return watch.batch


@pytest.mark.parametrize("half", ["weights", "policy"])
def test_nan_in_an_input_of_a_search(normalised_mlp, half):
    """The third step of the search meets it: nothing of that step is done, in either group."""
    net, tasks = normalised_mlp(), toys.tasks()
    x, y = toys.data(net, tasks, examples=16)
    bad = x.copy()
    bad[9, 2] = NAN
    plain, broken = batches(x, y), batches(bad, y)
    halves = (broken, plain) if half == "weights" else (plain, broken)
    model = keras_mtl.build(net, tasks, AdaShare(warmup=0.0), seed=0)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "adam")
    assert check_stopped(model, tf.data.Dataset.zip(*halves), "the input") == 2
    assert model.current_step() == 2


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_nan_in_an_input_of_a_fixed_model(normalised_mlp, run_eagerly):
    net, tasks = normalised_mlp(), toys.tasks()
    x, y = toys.data(net, tasks, examples=16)
    x[9, 2] = float("inf")
    model = keras_mtl.build(net, tasks, "shared", seed=0)
    model.compile("adam", run_eagerly=run_eagerly)
    assert check_stopped(model, batches(x, y), "the input") == 2


@pytest.mark.parametrize("kind", ["search", "fixed"])
def test_a_loss_that_diverges(normalised_mlp, kind):
    net, tasks = normalised_mlp(), toys.tasks()
    x, y = toys.data(net, tasks, examples=16)
    if kind == "search":
        model = keras_mtl.build(net, tasks, AdaShare(warmup=0.3), seed=0)
        data = keras_mtl.data.search_split((x, y), batch_size=4)
    else:
        model = keras_mtl.build(net, tasks, "shared", seed=0)
        data = batches(x, y)
    model.compile(keras.optimizers.SGD(1e30))
    check_stopped(model, data, "the loss")


def test_checks_are_not_compiled_away(monkeypatch, backbone):
    """XLA drops assertions, and Keras turns it on by itself where there is a GPU."""
    given, compile = {}, keras.Model.compile
    monkeypatch.setattr(
        keras.Model, "compile", lambda self, **kw: (given.update(kw), compile(self, **kw))[1]
    )
    keras_mtl.build(backbone, toys.tasks(), "shared", seed=0).compile("sgd")
    assert given["jit_compile"] is False


def test_a_gradient_that_is_not_finite():
    """The loss is 0, the slope of its root there is infinite."""

    def root(y_true, y_pred):
        return keras.ops.sqrt(keras.ops.sum(keras.ops.square(y_true - y_pred), axis=-1))

    inputs = keras.Input((1,))
    net = keras.Model(inputs, layers.Dense(1)(inputs))
    model = keras_mtl.build(net, Task("a", layers.Dense(1), root), "shared", seed=0)
    model.compile("sgd")
    zeros = np.zeros((4, 1), "float32")
    check_stopped(model, batches(zeros, {"a": zeros}), "a gradient")


# Backbones, tasks, strategies -------------------------------------------------------------------


def test_sequential_backbone_works(good):
    net = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(8)])
    model = keras_mtl.build(net, toys.tasks(), AdaShare(warmup=0.0), seed=0)
    assert len(model.search.units) == 1  # the first reads the inputs
    model.compile()
    pairs = keras_mtl.data.search_split(good, batch_size=4)
    assert np.isfinite(model.fit(pairs, verbose=0).history["loss"]).all()


def test_unbuilt_sequential_backbone():
    with pytest.raises(keras_mtl.UnsupportedBackboneError) as error:
        keras_mtl.build(keras.Sequential([layers.Dense(8)], name="net"), toys.tasks())
    assert str(error.value) == (
        "`backbone` must be built. Received: an unbuilt Sequential model 'net'. Begin it with a "
        "`keras.Input`."
    )


def test_subclassed_backbone():
    class Net(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(keras_mtl.UnsupportedBackboneError) as error:
        keras_mtl.build(Net(), toys.tasks())
    message = str(error.value)
    assert "Received: the subclassed model Net, which hides its layers in `call`." in message
    assert "Use `keras.Model(inputs, outputs)`" in message


def test_backbone_with_two_outputs():
    inputs = keras.Input((8,))
    net = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(2)(inputs)])
    with pytest.raises(keras_mtl.UnsupportedBackboneError) as error:
        keras_mtl.build(net, toys.tasks())
    assert "must have one output, the features that the heads read. Received: 2 outputs" in str(
        error.value
    )


@pytest.mark.parametrize("strategy", ["adashare", "shared"])
def test_head_that_does_not_fit(backbone, strategy):
    tasks = [Task("mask", layers.Conv2D(3, 1, name="conv"), "mse")]
    with pytest.raises(ValueError) as error:
        keras_mtl.build(backbone, tasks, strategy)
    assert str(error.value).startswith(
        "`head` of task 'mask' must fit the backbone's features of shape (None, 8). Received: "
        "Conv2D 'conv', which says: "
    )


def test_strategy_with_a_typing_error(backbone):
    with pytest.raises(ValueError) as error:
        keras_mtl.build(backbone, toys.tasks(), "adashar")
    message = str(error.value)
    assert "Received: strategy='adashar'." in message
    assert message.endswith(" Did you mean 'adashare'?")


def test_tasks_with_one_name(backbone):
    with pytest.raises(ValueError, match=r"different names. Received: names=\['a', 'a'\]"):
        keras_mtl.build(backbone, [toys.regression("a"), toys.regression("a")])


@pytest.mark.parametrize(
    ("first", "second", "row"),
    [
        (toys.regression("sparsity"), toys.regression("a"), "sparsity_loss"),
        (
            Task("a", layers.Dense(1), "mse", [keras.metrics.MeanSquaredError(name="b_loss")]),
            toys.regression("a_b"),
            "a_b_loss",
        ),
    ],
    ids=["term", "metric"],
)
def test_rows_of_history_with_one_name(backbone, first, second, row):
    model = keras_mtl.build(backbone, [first, second])
    with pytest.raises(ValueError) as error:
        model.compile()
    assert str(error.value) == (
        "`tasks` must give every row of `history` a name of its own. "
        f"Received: more than one row {row!r}. Rename the task or its metric."
    )


# Architectures and files ------------------------------------------------------------------------


def test_architecture_of_another_backbone(backbone):
    other = keras_mtl.build(toys.mlp(blocks=2), toys.tasks(), "shared", seed=0).architecture
    with pytest.raises(ArchitectureError, match="must belong to this backbone"):
        keras_mtl.build(backbone, toys.tasks(), architecture=other)


@pytest.mark.parametrize("names", [["value", "classes"], ["classes"], ["classes", "depth"]])
def test_architecture_of_other_tasks(backbone, model, names):
    tasks = [toys.regression(name) for name in names]
    with pytest.raises(ArchitectureError) as error:
        keras_mtl.build(backbone, tasks, architecture=model.architecture)
    assert str(error.value) == (
        f"`architecture` must be for the tasks {names}, in this order. "
        "Received: an architecture for ['classes', 'value']."
    )


def test_architecture_as_a_file_name(backbone):
    with pytest.raises(TypeError) as error:
        keras_mtl.build(backbone, toys.tasks(), architecture="plan.json")
    assert str(error.value) == (
        "`architecture` must be a `keras_mtl.Architecture`. Received: architecture='plan.json'. "
        "Use `Architecture.load(path)` for a file."
    )


def test_broken_file_of_an_architecture(model, tmp_path):
    path = tmp_path / "plan.json"
    model.architecture.save(path)
    text = path.read_text()
    for broken in (text[: len(text) // 2], "", "[1, 2]", text.replace("format_version", "x")):
        path.write_text(broken)
        with pytest.raises(ArchitectureError, match="must be the JSON of an architecture"):
            Architecture.load(path)


@pytest.mark.parametrize("strategy", ["shared", "adashare"])
def test_weights_of_tasks_in_another_order(backbone, tmp_path, strategy):
    """Both tasks have heads of one shape: nothing but the names tells them apart."""
    tasks = [toys.regression("a"), toys.regression("b")]
    first = keras_mtl.build(backbone, tasks, strategy, seed=0)
    second = keras_mtl.build(backbone, tasks[::-1], strategy, seed=0)
    first.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError) as error:
        second.load_weights(tmp_path / "model.weights.h5")
    assert (
        "The file must hold the weights of the tasks ['b', 'a'], in this order. Received: weights "
        "of ['a', 'b']. Build the model with the tasks in that order."
    ) in str(error.value)
    third = keras_mtl.build(backbone, tasks, strategy, seed=1)
    third.load_weights(tmp_path / "model.weights.h5")
    assert all(map(np.array_equal, first.get_weights(), third.get_weights()))


def test_export_of_an_open_search(search, tmp_path):
    with pytest.raises(ValueError) as error:
        search.export(tmp_path / "saved")
    assert str(error.value) == (
        f"`export` needs a decided model. Received: the open search {search.name!r}. Use "
        "`keras_mtl.build(backbone, tasks, architecture=model.decide(), "
        "initial_weights=model).export(...)`."
    )


@pytest.mark.parametrize("weights", ["imagenet", None, 3])
def test_first_weights_of_the_wrong_kind(backbone, weights):
    with pytest.raises(ValueError) as error:
        keras_mtl.build(backbone, toys.tasks(), initial_weights=weights)
    assert str(error.value) == (
        "`initial_weights` must be 'backbone', 'fresh', a model of this library, or a dict from "
        f"task to model. Received: initial_weights={weights!r}."
    )


def sparse_forms(x):
    """The same inputs as no model of this library takes them, and what to do."""
    sparse = "SparseTensor", "`tf.sparse.to_dense(...)`, in a dataset by its `map`"
    ragged = "RaggedTensor", "`tf.RaggedTensor.to_tensor(...)`, in a dataset by its `map`"
    scipy = scipy_sparse.csr_array(x)
    return [
        (tf.sparse.from_dense(x), *sparse),
        (tf.RaggedTensor.from_tensor(x), *ragged),
        (scipy, "csr_array", "`.toarray()`"),
    ]


@pytest.mark.parametrize("form", range(3))
def test_sparse_data_are_refused(form, model, search, good):
    x, y = good
    given, kind, way = sparse_forms(x)[form]
    uses = [
        lambda: model.fit(given, y),
        lambda: model.evaluate(given, y),
        lambda: model.predict(given),
        lambda: model.train_on_batch(given, y),
        lambda: search.fit(keras_mtl.data.search_split((given, y))),
    ]
    if form < 2:
        data = tf.data.Dataset.from_tensor_slices((given, y)).batch(4)
        uses += [
            lambda: model.fit(data),
            lambda: model.evaluate(data),
            lambda: model.predict(data),
            lambda: model.fit(*good, validation_data=data),
            lambda: search.fit(keras_mtl.data.search_split(data)),
        ]
    for use in uses:
        with pytest.raises(DataError) as error:
            use()
        assert str(error.value) == (
            f"The data must be dense. Received: a {kind}. Make it dense first: {way}."
        )


def test_sparse_labels_are_refused(model, good):
    x, y = good
    with pytest.raises(DataError, match="Received: a SparseTensor"):
        model.fit(x, {**y, "value": tf.sparse.from_dense(y["value"])})


def test_callbacks_are_a_list_or_one(model, good):
    first = keras.callbacks.LambdaCallback()
    found = keras.callbacks.CallbackList([first], model=model)
    with pytest.raises(TypeError) as error:
        model.fit(*good, callbacks=found)
    assert str(error.value) == (
        "`callbacks` must be a list of Keras callbacks, or one. Received: a `CallbackList`, whose "
        "model is set already. Pass its `callbacks`."
    )
    for callbacks in ("backup", [first, 3]):
        with pytest.raises(TypeError, match=r"^`callbacks` must be a list of Keras callbacks, or"):
            model.fit(*good, callbacks=callbacks)
