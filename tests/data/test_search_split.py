import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.data import SearchDataset, search_split


def numbered(count):
    """Examples that carry their number in the input and, negated, in the label."""
    x = np.arange(count, dtype="float32")[:, None]
    return x, {"a": -x[:, 0]}


def as_arrays(data):
    return data


def as_dataset(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(5)


def as_unknown_cardinality(data):
    return as_dataset(data).filter(lambda *batch: True)


two_sources = pytest.mark.parametrize("source", [as_arrays, as_dataset])
sources = pytest.mark.parametrize("source", [as_arrays, as_dataset, as_unknown_cardinality])


def numbers(dataset):
    """For each half, the numbers of the examples of each batch."""
    pairs = [(w[0].numpy().ravel().tolist(), p[0].numpy().ravel().tolist()) for w, p in dataset]
    return [w for w, _ in pairs], [p for _, p in pairs]


def flat(batches):
    return [number for batch in batches for number in batch]


def assert_same_batches(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, a, b)


@sources
@pytest.mark.parametrize("fraction", [0.1, 0.5, 2 / 3])
def test_halves_are_disjoint_and_complete(source, fraction):
    count = 41
    data = search_split(source(numbered(count)), fraction, batch_size=4, seed=1)
    num_policy = int(count * fraction)
    assert data.num_policy_examples == num_policy
    assert data.num_weights_examples == count - num_policy
    assert len(data) == data.cardinality() == -(-(count - num_policy) // 4)

    weights, policy = set(), set()
    for epoch in range(2 if fraction <= 0.5 else 4):
        w, p = numbers(data.epoch(epoch))
        assert len(w) == len(data)
        assert [len(batch) for batch in w] == [len(batch) for batch in p]
        assert sorted(flat(w)) == sorted(set(flat(w)))
        weights |= set(flat(w))
        policy |= set(flat(p))
    assert not weights & policy
    assert sorted(weights | policy) == list(range(count))
    floors = np.floor(np.arange(count + 1) * fraction)
    assert sorted(policy) == np.flatnonzero(floors[1:] > floors[:-1]).tolist()


@sources
@pytest.mark.parametrize(("fraction", "epochs", "rounds"), [(0.25, 5, 4), (0.5, 4, 2)])
def test_mixed_halves_see_everything(source, fraction, epochs, rounds):
    """Each example equally often, in two orders; an epoch is as long as without."""
    data = search_split(source(numbered(40)), fraction, mixed=True, batch_size=4, seed=1)
    assert len(data) == len(search_split(source(numbered(40)), fraction, batch_size=4))
    assert data.num_weights_examples == data.num_policy_examples == 40
    weights, policy = [], []
    for epoch in range(epochs):
        w, p = numbers(data.epoch(epoch))
        weights += flat(w)
        policy += flat(p)
    for found in (weights, policy):
        assert np.bincount(np.array(found, int), minlength=40).tolist() == [rounds] * 40
    assert weights != policy


@sources
def test_policy_examples_are_used_equally_often(source):
    # 8 weights examples and 12 policy examples: three epochs are two rounds of the policy half.
    data = search_split(source(numbered(20)), 0.6, batch_size=4)
    drawn = flat(flat(numbers(data.epoch(epoch))[1] for epoch in range(3)))
    assert len(drawn) == 24
    assert sorted(drawn[:12]) == sorted(drawn[12:])
    assert len(set(drawn)) == 12
    assert drawn[:12] != drawn[12:]


@two_sources
def test_inputs_and_labels_stay_together(source):
    for half in flat(search_split(source(numbered(23)), batch_size=4).epoch(2)):
        np.testing.assert_array_equal(half[0][:, 0], -half[1]["a"])


@sources
def test_source_order_without_shuffling(source):
    data = search_split(source(numbered(10)), 0.3, batch_size=4, shuffle=False)
    assert numbers(data) == ([[0, 1, 2, 4], [5, 7, 8]], [[3, 6, 9, 3], [6, 9, 3]])
    assert numbers(data.epoch(1))[1] == [[6, 9, 3, 6], [9, 3, 6]]


@two_sources
@pytest.mark.parametrize("shuffle", [True, False])
def test_order_is_a_function_of_seed_and_epoch(source, shuffle):
    first = search_split(source(numbered(30)), 0.4, batch_size=4, shuffle=shuffle, seed=3)
    third_epoch = list(first.epoch(3))
    keras.utils.set_random_seed(99)
    second = search_split(source(numbered(30)), 0.4, batch_size=4, shuffle=shuffle, seed=3)
    list(second.epoch(7))
    assert_same_batches(second.epoch(3), third_epoch)
    assert_same_batches(first.epoch(3), third_epoch)
    assert_same_batches(first, first.epoch(0))


@two_sources
def test_order_changes_with_seed_and_epoch(source):
    orders = [
        numbers(search_split(source(numbered(30)), seed=seed).epoch(epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    for half in (0, 1):
        assert len({tuple(flat(order[half])) for order in orders}) == 4
    w, p = orders[0]
    assert [number + 1 for number in flat(w)] != flat(p)


@two_sources
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("first_epoch", [0, 3])
def test_stream_is_the_concatenation_of_epochs(source, shuffle, first_epoch):
    data = search_split(source(numbered(26)), 0.6, batch_size=4, shuffle=shuffle, seed=5)
    keras.utils.set_random_seed(7)
    stream = data.stream(first_epoch)
    assert stream.cardinality() == tf.data.INFINITE_CARDINALITY
    keras.utils.set_random_seed(8)
    epochs = [data.epoch(first_epoch + i) for i in range(3)]
    assert all(int(epoch.cardinality()) == len(data) for epoch in epochs)
    assert_same_batches(stream.take(3 * len(data)), [pair for epoch in epochs for pair in epoch])


def test_small_shuffle_buffer_keeps_the_halves():
    data = search_split(as_dataset(numbered(40)), 0.75, seed=2, shuffle_buffer=4)
    for epoch in range(3):
        w, p = numbers(data.epoch(epoch))
        assert sorted(flat(w)) == [i for i in range(40) if i % 4 == 0]
        assert len(flat(p)) == 10
        assert all(number % 4 for number in flat(p))


@sources
def test_missing_labels_pass_through(source):
    x, y = numbered(12)
    y["a"][::3] = np.nan
    (_, y_weights), (_, y_policy) = next(
        iter(search_split(source((x, y)), batch_size=6, shuffle=False))
    )
    np.testing.assert_array_equal(y_weights["a"], y["a"][::2])
    np.testing.assert_array_equal(y_policy["a"], y["a"][1::2])


@sources
def test_sample_weights_and_dict_inputs(source):
    x, y = numbered(12)
    inputs = {"image": x, "text": np.array([f"review {i}" for i in range(12)])}
    sample_weight = {"a": np.arange(12.0)}
    data = search_split(source((inputs, y, sample_weight)), batch_size=3, seed=4)
    for x, y, w in flat(data):
        np.testing.assert_array_equal(x["image"][:, 0], -y["a"])
        np.testing.assert_array_equal(x["image"][:, 0], w["a"])
        assert x["text"].numpy().tolist() == [b"review %d" % i for i in w["a"].numpy()]


def test_batch_size():
    assert search_split(numbered(100)).batch_size == 32
    assert search_split(as_dataset(numbered(100))).batch_size == 5
    assert search_split(as_dataset(numbered(100)), batch_size=7).batch_size == 7


def test_element_spec_and_repr():
    data = search_split(numbered(100), 0.2, seed=6)
    half = (tf.TensorSpec((None, 1), "float32"), {"a": tf.TensorSpec((None,), "float32")})
    assert isinstance(data, SearchDataset)
    assert data.element_spec == (half, half) == data.stream().element_spec
    assert repr(data) == (
        "<SearchDataset: 3 batches of 32, 80 examples for the weights, 20 for the policy, "
        "shuffle=True, seed=6>"
    )


def test_seed_none_is_drawn_once():
    data = search_split(numbered(30), seed=None)
    assert_same_batches(data.epoch(1), search_split(numbered(30), seed=data.seed).epoch(1))


def test_works_under_a_mirrored_strategy():
    data = search_split(numbered(24), batch_size=4)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = strategy.experimental_distribute_dataset(data.stream())
    iterator = iter(distributed)
    assert_same_batches([next(iterator) for _ in range(6)], data.stream().take(6))


def message(call, kind=ValueError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("fraction", [0, 0.0, 1.0, -0.5, float("nan"), "0.5"])
def test_policy_fraction_out_of_range(fraction):
    assert message(lambda: search_split(numbered(10), fraction)) == (
        "`policy_fraction` must lie strictly between 0 and 1. "
        f"Received: policy_fraction={fraction!r}."
    )


@sources
def test_empty_half(source):
    assert message(lambda: search_split(source(numbered(3)), 0.3)) == (
        "`policy_fraction` must leave at least one example for the weights and one for the "
        "policy. Received: policy_fraction=0.3 with 3 examples."
    )


def test_empty_data():
    assert message(lambda: search_split(numbered(0))) == (
        "`data` must not be empty. "
        "Received: data=(ndarray of shape (0, 1), {'a': ndarray of shape (0,)})."
    )
    assert message(lambda: search_split(as_dataset(numbered(0)))) == (
        "`data` must not be empty. Received: a `tf.data.Dataset` of no batches."
    )


def test_arrays_of_different_length():
    x, y = numbered(10)
    assert message(lambda: search_split((x[:7], y))) == (
        "`data` must hold arrays of equal length. "
        "Received: data=(ndarray of shape (7, 1), {'a': ndarray of shape (10,)})."
    )


def test_wrong_layout():
    x, _ = numbered(10)
    layout = (
        "`data` must be a tuple `(x, y)` or `(x, y, sample_weight)` with `y` a dict from task "
        "name to labels, or the labels of the only task, or a finite `tf.data.Dataset` of such "
        "batches. Received: data="
    )
    assert message(lambda: search_split(x), TypeError) == layout + "ndarray of shape (10, 1)."
    assert message(lambda: search_split((x, [x, x])), TypeError) == (
        layout + "(ndarray of shape (10, 1), list)."
    )
    assert message(lambda: search_split(as_dataset((x, (x, x)))), TypeError) == (
        layout + "(TensorSpec of shape (None, 1), (TensorSpec of shape (None, 1), "
        "TensorSpec of shape (None, 1)))."
    )
    assert message(lambda: search_split((x, {"a": [[1], [1, 2]]})), TypeError) == (
        "`data` must hold arrays whose first dimension counts the examples. "
        "Received: data=(ndarray of shape (10, 1), {'a': list})."
    )


def test_endless_dataset():
    assert message(lambda: search_split(as_dataset(numbered(10)).repeat())) == (
        "`data` must be a finite `tf.data.Dataset`. Received: an endless one. "
        "Call `.take(n)` on it, or leave out its `.repeat()`."
    )


def test_dataset_that_shuffles_itself():
    shuffled = tf.data.Dataset.from_tensor_slices(numbered(100)).shuffle(100).batch(10)
    assert message(lambda: search_split(shuffled)) == (
        "`data` must give its batches in the same order every time it is iterated. "
        "Received: a `tf.data.Dataset` whose first batch changes. "
        "Leave out its `.shuffle()` and let `search_split(..., shuffle=True)` shuffle."
    )
    labels_missing = as_dataset((numbered(10)[0], {"a": np.full(10, np.nan)}))
    assert len(search_split(labels_missing)) == 1


@pytest.mark.parametrize("name", ["batch_size", "shuffle_buffer"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_counts_must_be_positive(name, value):
    assert message(lambda: search_split(numbered(10), **{name: value})) == (
        f"`{name}` must be an integer of at least 1. Received: {name}={value!r}."
    )


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_seed_must_be_an_integer(seed):
    assert message(lambda: search_split(numbered(10), seed=seed)) == (
        f"`seed` must be an integer of at least 0 or None. Received: seed={seed!r}."
    )


def test_epoch_must_be_a_number_from_zero():
    data = search_split(numbered(10))
    assert message(lambda: data.epoch(-1)) == "`epoch` must not be negative. Received: epoch=-1."
    assert message(lambda: data.stream("1"), TypeError) == (
        "`first_epoch` must be an integer. Received: first_epoch='1'."
    )
