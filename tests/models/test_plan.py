"""The plan of a search: when it is made, what a second `fit` does, and how to begin again."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

import keras_mtl
from keras_mtl.callbacks import BackupAndResume
from keras_mtl.strategies import AdaShare


def new_search(blocks=1, optimizer=None, **settings):
    """An eager search: no epoch of warm-up unless it is asked for."""
    settings = {"warmup": 0.0, "curriculum_epochs": 0, **settings}
    search = keras_mtl.build(toys.mlp(blocks=blocks), toys.tasks(), AdaShare(**settings), seed=0)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    search.compile(optimizer, keras.optimizers.Adam(0.1), run_eagerly=True)
    return search


def pairs(examples=8, batch_size=4):
    """Batches of pairs; one step an epoch."""
    data = toys.data(toys.mlp(blocks=1), toys.tasks(), examples)
    return keras_mtl.data.search_split(data, batch_size=batch_size)


class StopAfter(keras.callbacks.Callback):
    """Ends `fit` after an epoch or, with an error, in the middle of one."""

    def __init__(self, epoch, error=None):
        super().__init__()
        self._epoch, self._error = epoch, error

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._error and self._now == self._epoch:
            raise self._error

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self._epoch:
            self.model.stop_training = True


def temperatures(search, epochs, **options):
    return search.fit(pairs(), epochs=epochs, verbose=0, **options).history["temperature"]


def said(record):
    """What we have warned of; NumPy has its own words about Keras."""
    return [str(w.message) for w in record if w.category is UserWarning]


FALL = [5.0 * (0.1 / 5.0) ** (epoch / 9) for epoch in range(10)]


# When it is made ---------------------------------------------------------------------------------


class Refuse(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("failure", ["validation_split", "interrupt"])
def test_fit_that_fails_before_its_first_step_leaves_no_plan(failure):
    """The issue: `fit(epochs=1, validation_split=.1)` is refused, then `fit(epochs=10)`."""
    search = new_search()
    options = {"validation_split": 0.1} if failure == "validation_split" else {}
    with pytest.raises((ValueError, KeyboardInterrupt)):
        search.fit(pairs(), epochs=1, verbose=0, callbacks=[Refuse()], **options)
    assert search.current_step() == 0
    np.testing.assert_allclose(temperatures(search, 10), FALL, rtol=1e-5)


def test_plan_of_a_failed_fit_does_not_outlive_a_backup(tmp_path):
    """Both the plan and the step come from the file then."""
    backup = [BackupAndResume(tmp_path / "backup.npz", verbose=False)]
    first = new_search()
    before = temperatures(first, 10, callbacks=[StopAfter(3), *backup])
    again = new_search()
    with pytest.raises(KeyboardInterrupt):
        again.fit(pairs(), epochs=4, verbose=0, callbacks=[Refuse()])
    backup = [BackupAndResume(tmp_path / "backup.npz", verbose=False)]
    history = temperatures(again, 10, callbacks=[StopAfter(9), *backup])
    np.testing.assert_allclose(history, FALL, rtol=1e-5)
    assert history[:4] == before


def test_plan_of_loaded_weights_is_theirs(tmp_path):
    first, second = new_search(), new_search()
    temperatures(first, 10, callbacks=[StopAfter(3)])
    first.save_weights(tmp_path / "a.weights.h5")
    temperatures(second, 2)
    second.load_weights(tmp_path / "a.weights.h5")
    assert second.planned == (10, 1)
    np.testing.assert_allclose(temperatures(second, 10, initial_epoch=4), FALL[4:], rtol=1e-5)


# A second fit -----------------------------------------------------------------------------------


@pytest.fixture
def tried(recwarn):
    """A search after `fit(epochs=2)`, as a trial."""
    search = new_search()
    np.testing.assert_allclose(temperatures(search, 2), [5.0, 0.1], rtol=1e-5)
    assert not said(recwarn)
    return search


def test_finished_plan_is_said(tried):
    """The issue: `fit(epochs=2)` as a trial, then `fit(epochs=20)`."""
    with pytest.warns(UserWarning) as record:
        assert temperatures(tried, 20, callbacks=[StopAfter(1)]) == pytest.approx([0.1] * 2)
    assert said(record)[0] == (
        "The search's plan of 2 epochs is finished: 20 of the 20 epochs of this `fit` come after "
        "its end and keep its last temperature, 0.1. Call `search.restart()` before "
        "`fit(epochs=20)` to begin again with a plan of 20 epochs; where a `BackupAndResume` "
        "continues the training, delete its file."
    )
    assert {w.filename for w in record if w.category is UserWarning} == {__file__}


def test_plan_that_goes_on_is_said(capsys, recwarn):
    search = new_search()
    temperatures(search, 10, callbacks=[StopAfter(3)])
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose(temperatures(search, 2), FALL[4:6], rtol=1e-5)
    assert capsys.readouterr().out == (
        "The search's plan of 10 epochs is at epoch 4 and goes on, to epoch 6. Call "
        "`search.restart()` before `fit(epochs=2)` to begin again with a plan of 2 epochs; where a "
        "`BackupAndResume` continues the training, delete its file.\n"
    )
    assert not said(recwarn)
    # The rest of the schedule, as it was planned, needs no word.
    np.testing.assert_allclose(temperatures(search, 10, initial_epoch=6), FALL[6:], rtol=1e-5)
    assert capsys.readouterr().out == ""
    assert not said(recwarn)


def test_epochs_past_the_end_of_the_plan_are_said():
    search = new_search()
    temperatures(search, 10, callbacks=[StopAfter(7)])
    with pytest.warns(UserWarning, match="10 epochs is at epoch 8 and goes on: 8 of the 10 epochs"):
        found = temperatures(search, 10, callbacks=[StopAfter(2)])
    np.testing.assert_allclose(found, [*FALL[8:], 0.1], rtol=1e-5)


# Beginning again --------------------------------------------------------------------------------


def test_restart_begins_again_with_the_weights_that_are_there(tried, values_of, same):
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)
    for search in (tried, new_search(optimizer=keras.optimizers.Adam(rate))):
        if search is not tried:
            temperatures(search, 2)
        weights = values_of(search.weight_variables())
        search.policy_optimizer.learning_rate.assign(7.0)  # as a plateau might
        fresh = new_search()
        assert not same(values_of(search.policy_variables()), values_of(fresh.policy_variables()))
        search.restart()
        assert same(values_of(search.weight_variables()), weights)
        assert same(values_of(search.policy_variables()), values_of(fresh.policy_variables()))
        assert search.plan is None
        assert search.current_step() == 0
        policy = values_of(search.policy_optimizer.variables)
        assert same(policy, values_of(fresh.policy_optimizer.variables))
        assert not any(np.any(v) for v in values_of(search.optimizer.variables[2:]))
        assert int(search.optimizer.iterations) == 0
        np.testing.assert_allclose(temperatures(search, 10), FALL, rtol=1e-5)


def test_restart_makes_the_traced_functions_anew():
    """Temperatures are numbers in a traced graph."""
    search = keras_mtl.build(
        toys.mlp(blocks=1), toys.tasks(), AdaShare(warmup=0.0, curriculum_epochs=0), seed=0
    )
    search.compile("sgd", "sgd")
    temperatures(search, 2)
    search.restart()
    np.testing.assert_allclose(temperatures(search, 10), FALL, rtol=1e-5)


# What a failed step leaves ----------------------------------------------------------------------


def test_failed_policy_update_leaves_the_rows_open():
    search = new_search()
    regularisers = search.search.regularisers

    def fail(moment, drawn):
        raise KeyboardInterrupt

    search.search.regularisers = fail
    with pytest.raises(KeyboardInterrupt):
        temperatures(search, 2)
    search.search.regularisers = regularisers
    x, y = toys.data(toys.mlp(blocks=1), toys.tasks())
    assert search.evaluate(x, y, verbose=0, return_dict=True)["value_loss"] > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_fit_that_dies_in_an_epoch_goes_on_in_step(error):
    search = new_search()
    with pytest.raises(error):
        search.fit(pairs(), epochs=10, verbose=0, callbacks=[StopAfter(3, error)])
    assert search.current_step() == 4
    with pytest.warns(UserWarning, match="1 of the 7 epochs of this `fit` come after its end"):
        temperatures(search, 10, initial_epoch=3)
    assert search.current_step() == 4 + 7


# Deciding too early -----------------------------------------------------------------------------


def stopped_after(epochs, planned=10, **settings):
    search = new_search(blocks=2, **settings)
    temperatures(search, planned, callbacks=[StopAfter(epochs - 1)])
    return search


@pytest.mark.parametrize("samples", [None, 2])
def test_decision_of_a_warm_up_warns(samples):
    """The issue: early stopping after 2 of 10 epochs."""
    search = stopped_after(2, warmup=0.2, curriculum_epochs=4)
    with pytest.warns(UserWarning) as record:
        search.decide(samples)
    assert said(record) == [
        "`decide()` reads a policy that has hardly been trained: the search was stopped in its "
        "warm-up, after 2 epochs of the 10 that were planned, when none of 2 units had been open. "
        "Go on with `fit(..., epochs=10, initial_epoch=2)`; `keras_mtl.callbacks.EarlyStopping` "
        "waits until all are open."
    ]
    assert {w.filename for w in record if w.category is UserWarning} == {__file__}


def test_decision_of_a_curriculum_or_just_after_it_warns():
    search = stopped_after(3, warmup=0.1, curriculum_epochs=4)
    with pytest.warns(
        UserWarning,
        match="in its curriculum, .* when 1 of 2 units were open, the first of them for 2 epochs",
    ):
        search.decide()
    search = stopped_after(2, planned=40, warmup=0.025, curriculum_epochs=0)
    with pytest.warns(
        UserWarning,
        match="in its search, after 2 epochs of the 40 that were "
        "planned, when all 2 units had been open for 1 epoch. ",
    ):
        search.decide()


def test_decision_of_a_search_without_a_step_warns(recwarn):
    search = new_search()
    with pytest.warns(UserWarning) as record:
        search.decide()
    assert said(record)[0] == (
        "`decide()` reads a policy that has its first values: the search has made no step. Use "
        "`fit(keras_mtl.data.search_split((x, y)), epochs=...)` first."
    )
    recwarn.clear()
    search.policy_variables()[0].assign_add([[[1.0], [0.0]]])  # by hand
    search.decide()
    assert not said(recwarn)


def test_decision_of_a_finished_search_does_not_warn(tmp_path, recwarn):
    """Also after a last phase of any length, and from a file."""
    search = new_search(warmup=0.5)
    temperatures(search, 2)
    search.decide()
    search.save(tmp_path / "search.keras")
    keras.models.load_model(tmp_path / "search.keras").decide()
    stopped_after(4, warmup=0.1, curriculum_epochs=1).decide()  # two epochs of nine, all open
    assert not said(recwarn)


@pytest.mark.parametrize(
    ("callback", "ours"),
    [
        (keras.callbacks.EarlyStopping("loss", patience=9), "EarlyStopping"),
        (keras.callbacks.ModelCheckpoint("x.keras", "loss", save_best_only=True), "BestCheckpoint"),
    ],
)
def test_callbacks_that_do_not_wait_are_named(callback, ours, monkeypatch):
    monkeypatch.setattr(callback, "on_epoch_end", lambda epoch, logs=None: None)
    with pytest.warns(UserWarning) as record:
        temperatures(new_search(warmup=0.5), 2, callbacks=[callback])
    assert said(record)[0] == (
        f"`keras.callbacks.{type(callback).__name__}` also goes by the epochs before the search is "
        f"open, in which no decision is tried. Use `keras_mtl.callbacks.{ours}(monitor='loss', "
        "mode=...)`, which waits for it."
    )


def test_callbacks_that_wait_and_searches_that_are_open_need_no_word(recwarn):
    ours = keras_mtl.callbacks.EarlyStopping("loss", mode="min", patience=9)
    temperatures(new_search(warmup=0.5), 2, callbacks=[ours])
    temperatures(new_search(), 2, callbacks=[keras.callbacks.EarlyStopping("loss", patience=9)])
    assert not said(recwarn)


# Optimizers, steps by hand, data that ends ------------------------------------------------------


@pytest.mark.parametrize("name", ["policy_optimizer", "warmup_optimizer"])
def test_one_optimizer_for_two_groups_is_refused(name):
    search, optimizer = new_search(), keras.optimizers.Adam(0.1)
    before = search.optimizer
    with pytest.raises(ValueError) as error:
        search.compile(optimizer, **{name: optimizer})
    assert str(error.value) == (
        f"`{name}` must be an optimizer of its own. Received: the Adam that is `optimizer` too. "
        "Make two, such as `keras.optimizers.Adam(...)` twice."
    )
    assert search.optimizer is before


def test_optimizer_of_another_model_is_refused():
    search = new_search()
    fixed = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    for compile_again in (
        lambda: fixed.compile(search.optimizer),
        lambda: new_search(optimizer=search.optimizer),
    ):
        with pytest.raises(ValueError) as error:
            compile_again()
        assert str(error.value) == (
            "`optimizer` must be new, or have been built for the variables that it is to move. "
            "Received: SGD that is built for others, such as those of another model. Make a new "
            "one, such as `keras.optimizers.SGD(...)`."
        )
    search.compile(search.optimizer, search.policy_optimizer)  # its own


def test_train_on_batch_of_a_search_is_refused():
    batch = toys.data(toys.mlp(blocks=1), toys.tasks(), 4)
    for given in (batch, (batch, batch)):
        search = new_search()
        with pytest.raises(ValueError) as error:
            search.train_on_batch(*given)
        assert str(error.value) == (
            "`train_on_batch` needs a model without a plan: phases and temperatures of a search "
            f"follow from the epochs of `fit`. Received: the open search {search.name!r}. Use "
            "`fit(keras_mtl.data.search_split((x, y)), epochs=...)`, with a callback's "
            "`on_train_batch_end` for what is to happen between steps."
        )
    assert search.test_on_batch(*batch, return_dict=True)["value_loss"] > 0


def unknown(dataset):
    return dataset.filter(lambda *batch: True)


def test_data_that_is_known_to_end_early_is_refused():
    search = new_search()
    with pytest.raises(keras_mtl.DataError) as error:
        search.fit(pairs(24).epoch(0), epochs=3, steps_per_epoch=2, verbose=0)
    assert str(error.value) == (
        "The dataset must have a batch for each of the 6 steps (3 epochs of 2). Received: 3 "
        "batches. Use `.repeat()`, or leave `steps_per_epoch` out."
    )
    assert search.plan is None


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_data_that_ends_early_is_said():
    search = new_search()
    with pytest.warns(UserWarning) as record:
        search.fit(unknown(pairs(24).epoch(0)), epochs=3, steps_per_epoch=2, verbose=0)
    assert said(record)[-1] == (
        "The dataset has ended early: 5 of 6 steps were made, and the search's plan is not "
        "finished. Give it as many batches, such as by `.repeat()`, and begin again with "
        "`search.restart()`."
    )


def test_generator_that_is_read_up_is_refused(capsys):
    left = [1, 2, 3]
    batch = toys.data(toys.mlp(blocks=1), toys.tasks(), 4)

    def generate():
        while left:
            left.pop()
            yield batch, batch

    spec = tf.data.Dataset.from_tensors((batch, batch)).element_spec
    with pytest.raises(keras_mtl.DataError) as error:
        new_search().fit(
            tf.data.Dataset.from_generator(generate, output_signature=spec), epochs=2, verbose=0
        )
    assert str(error.value) == (
        "The dataset must have the 3 batches that it says it has, every time that it is read. "
        "Received: 0 batches. Give a generator that begins anew whenever it is called, or check "
        "`assert_cardinality`."
    )


def test_best_weights_bring_their_step_back_without_a_word(recwarn):
    search = new_search()
    best = keras_mtl.callbacks.EarlyStopping("temperature", patience=9, restore_best_weights=True)
    temperatures(search, 3, callbacks=[best])
    assert search.current_step() == 1  # of the first epoch, in which it was greatest
    assert not said(recwarn)


@pytest.mark.parametrize("eagerly", [True, False])
def test_batches_by_hand_are_checked(eagerly):
    model = keras_mtl.build(toys.mlp(blocks=1), toys.tasks(), "shared", seed=0)
    model.compile("sgd", run_eagerly=eagerly)
    x, y = toys.data(toys.mlp(blocks=1), toys.tasks(), 4)
    first = model.train_on_batch(x, y, return_dict=True)["loss"]
    model.reset_metrics()
    assert model.test_on_batch(x, y, {"value": np.ones(4)}, return_dict=True)["loss"] < first
    for function in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(keras_mtl.DataError, match="none for \\['classes'\\]"):
            function(x, {"value": y["value"]})
    with pytest.raises(keras_mtl.NonFiniteError, match="the input has become NaN"):
        model.train_on_batch(x * np.nan, y)


def test_restart_under_mixed_precision(values_of):
    with_scale = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        search = new_search()
    finally:
        keras.mixed_precision.set_dtype_policy(with_scale)
    temperatures(search, 2)
    assert any(np.any(v) for v in values_of(search.policy_optimizer.inner_optimizer.variables[2:]))
    search.restart()
    for optimizer in (search.optimizer, search.policy_optimizer):
        assert int(optimizer.inner_optimizer.iterations) == 0
        assert not any(np.any(v) for v in values_of(optimizer.inner_optimizer.variables[2:]))
        assert float(optimizer.dynamic_scale) == 2.0**15


def test_iterator_of_pairs_is_refused():
    with pytest.raises(keras_mtl.DataError, match="needs pairs of batches"):
        new_search().fit(iter(pairs().epoch(0)), epochs=2, verbose=0)
