"""RelativeScore, EarlyStopping and BestCheckpoint, on a model that only counts."""

import types

import pytest

from keras_mtl.callbacks import BestCheckpoint, EarlyStopping, RelativeScore


@pytest.fixture
def model():
    saved = []
    return types.SimpleNamespace(
        search_is_open=True,
        stop_training=False,
        saved=saved,
        save=lambda path, **options: saved.append(path),
        get_weights=lambda: [],
    )


def run(callbacks, model, rows):
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, (is_open, logs) in enumerate(rows):
        model.search_is_open = is_open
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            return epoch
    return None


def test_score_is_the_papers_delta():
    score = RelativeScore({"a": {"accuracy": 0.5}, "b": {"mae": 2.0, "accuracy": 0.8}})
    logs = {"val_a_accuracy": 0.6, "val_b_mae": 1.5, "val_b_accuracy": 0.6}
    score.on_epoch_end(0, logs)
    # a: +20 %; b: mean of +25 % (an error that fell) and -25 %.
    assert logs["val_a_delta"] == pytest.approx(20.0)
    assert logs["val_b_delta"] == pytest.approx(0.0)
    assert logs["val_delta"] == pytest.approx(10.0)


def test_score_says_what_it_misses():
    score = RelativeScore({"a": {"accuracy": 0.5}})
    with pytest.raises(ValueError) as error:
        score.on_epoch_end(0, {"a_loss": 1.0})
    assert str(error.value) == (
        "`baseline` must have metrics that validation gives. Received: a baseline with "
        "'val_a_accuracy', which is not among ['a_loss']. Pass `validation_data` to `fit`, and the "
        "metric to its task."
    )


def test_score_of_a_metric_of_unknown_direction():
    """Said before the training begins."""
    baseline = {"a": {"wer": 0.2}}
    with pytest.raises(ValueError, match="Received: the metric 'wer'"):
        RelativeScore(baseline)
    logs = {"val_a_wer": 0.15}
    RelativeScore(baseline, lower_is_better={"wer": True}).on_epoch_end(0, logs)
    assert logs["val_delta"] == pytest.approx(25.0)


def test_early_stopping_counts_open_epochs_only(model):
    closed = [(False, {"val_delta": value}) for value in (9.0, 8.0, 7.0, 6.0)]
    opened = [(True, {"val_delta": value}) for value in (1.0, 2.0, 1.5, 1.4, 1.3)]
    # The closed epochs' better scores neither count as best nor wear the patience out.
    assert run([EarlyStopping(patience=2)], model, closed + opened) == 7


def test_best_checkpoint_keeps_open_epochs_only(model, tmp_path):
    rows = [(False, 9.0), (True, 1.0), (True, 0.5), (True, 2.0)]
    checkpoint = BestCheckpoint(tmp_path / "best-{epoch}.keras")
    run([checkpoint], model, [(is_open, {"val_delta": value}) for is_open, value in rows])
    assert [path.rsplit("/", 1)[1] for path in model.saved] == ["best-2.keras", "best-4.keras"]
