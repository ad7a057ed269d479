import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.data import JoinedDataset, JoinedPass, join_tasks, sample_tasks, search_split

SIZES = {"a": 11, "b": 3, "c": 8}


def numbered(count, offset=0):
    """Examples that carry their number in the input and, negated, in the label."""
    x = offset + np.arange(count, dtype="float32")[:, None]
    return x, -x[:, 0]


def as_arrays(data):
    return data


def as_dataset(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(5)


two_sources = pytest.mark.parametrize("source", [as_arrays, as_dataset])


def three_sets(source=as_arrays):
    return {name: source(numbered(size, 100 * i)) for i, (name, size) in enumerate(SIZES.items())}


def drawn(dataset):
    """For each set, the numbers of the examples in the order in which they come."""
    batches = [x for x, *_ in dataset]
    return {
        name: [int(number) % 100 for x in batches for number in x[name].numpy().ravel()]
        for name in batches[0]
    }


def assert_same_batches(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, a, b)


# Training ---------------------------------------------------------------------------------------


@two_sources
def test_one_full_batch_of_every_set(source):
    data = join_tasks(three_sets(source), batch_size=4)
    assert isinstance(data, JoinedDataset)
    assert len(data) == data.cardinality() == int(data.epoch(3).cardinality()) == 3
    batches = list(data)
    assert len(batches) == 3
    for x, y in batches:
        assert list(x) == list(y) == ["a", "b", "c"]
        for name in x:
            assert x[name].shape == (4, 1)
            np.testing.assert_array_equal(x[name][:, 0], -y[name])


@two_sources
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_round_holds_every_example_once(source, shuffle):
    data = join_tasks(three_sets(source), batch_size=4, shuffle=shuffle, seed=1)
    for name, numbers in drawn(data.stream().take(4 * len(data))).items():
        size = SIZES[name]
        rounds = [numbers[i : i + size] for i in range(0, len(numbers) - size + 1, size)]
        assert len(rounds) == 48 // size
        assert all(sorted(one) == list(range(size)) for one in rounds)
        assert shuffle == any(one != rounds[0] for one in rounds)


def test_source_order_without_shuffling():
    found = drawn(join_tasks(three_sets(), batch_size=4, shuffle=False).epoch(1))
    assert found["a"] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1]
    assert found["b"] == [0, 1, 2] * 4
    assert found["c"] == [4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7]


@two_sources
@pytest.mark.parametrize("joined", [join_tasks, search_split])
def test_a_batch_is_a_function_of_seed_epoch_and_number(source, joined):
    data = joined(three_sets(source), batch_size=2, seed=3)
    first, second = (list(data.epoch(epoch)) for epoch in (1, 2))
    keras.utils.set_random_seed(99)
    again = joined(three_sets(source), batch_size=2, seed=3)
    assert_same_batches(again.epoch(2), second)
    assert_same_batches(again.stream(1).take(2 * len(data)), first + second)
    assert_same_batches(again.stream(2).skip(1).take(1), second[1:2])


def test_order_changes_with_seed_and_epoch():
    orders = [
        drawn(join_tasks(three_sets(), batch_size=4, seed=seed).epoch(epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    for name in ("a", "c"):
        assert len({tuple(order[name]) for order in orders}) == 4


def test_order_of_a_set_is_its_own():
    def order(*names):
        sets = {name: numbered(40) for name in names}
        return drawn(join_tasks(sets, batch_size=4))

    found = order("a", "b")
    assert found["a"] != found["b"]
    assert found["b"] == order("b")["b"] == order("c", "b", "a")["b"]


def test_a_set_that_several_tasks_read():
    x, y = numbered(6)
    sets = {"text": ({"ids": x, "mask": x > 2}, {"mood": y, "topic": 2 * y}), "other": (x, y)}
    data = join_tasks(sets, batch_size=3)
    x, y = next(iter(data))
    assert sorted(x) == ["other", "text"]
    assert sorted(x["text"]) == ["ids", "mask"]
    assert sorted(y) == ["mood", "other", "topic"]
    np.testing.assert_array_equal(y["topic"], 2 * y["mood"])
    np.testing.assert_array_equal(y["mood"], -x["text"]["ids"][:, 0])


def test_a_list_of_inputs_becomes_a_tuple():
    x, y = numbered(6)
    (found, _) = next(iter(join_tasks({"a": ([x, x[:, 0]], y)}, batch_size=3)))
    assert [part.shape for part in found["a"]] == [(3, 1), (3,)]
    assert isinstance(found["a"], tuple)


@two_sources
def test_sample_weights_of_one_set_give_all_tasks_weights(source):
    x, y = numbered(6)
    sets = {
        "a": source((x, y, np.arange(6.0))),
        "b": source((x, {"c": y, "d": y}, {"d": 2 * np.arange(6.0)})),
        "e": source((x, {"e": y, "f": y}, np.arange(6.0))),
        "g": source((x, y)),
    }
    for x, y, w in join_tasks(sets, batch_size=4):
        assert list(y) == list(w) == ["a", "c", "d", "e", "f", "g"]
        assert all(weight.dtype == "float32" and weight.shape == (4,) for weight in w.values())
        np.testing.assert_array_equal(w["a"], x["a"][:, 0])
        np.testing.assert_array_equal(w["d"], 2 * x["b"][:, 0])
        np.testing.assert_array_equal(w["f"], x["e"][:, 0])
        for task in ("c", "g"):
            np.testing.assert_array_equal(w[task], np.ones(4))


def test_element_spec_and_repr():
    data = join_tasks({"a": numbered(11), "b": numbered(3)}, batch_size=4, seed=2)
    x, y = tf.TensorSpec((None, 1), "float32"), tf.TensorSpec((None,), "float32")
    assert data.element_spec == ({"a": x, "b": x}, {"a": y, "b": y}) == data.stream().element_spec
    assert data.num_examples == {"a": 11, "b": 3}
    assert repr(data) == (
        "<JoinedDataset: 3 batches of 4 from each set, {'a': 11, 'b': 3} examples, "
        "shuffle=True, seed=2>"
    )


def test_lists_are_arrays():
    x, y = numbered(4)
    lists = join_tasks({"a": (x.tolist(), y.tolist()), "b": ([x, x], {"b": y.tolist()})}, 2)
    arrays = join_tasks({"a": (x, y), "b": ([x, x], {"b": y})}, 2)
    assert_same_batches(lists, arrays)


def test_sets_that_are_left_out_were_never_there():
    data = {name: numbered(size) for name, size in SIZES.items()}
    fewer = {name: data[name] for name in ("b", "c")}
    assert_same_batches(join_tasks(data, 4).of_sets("bc"), join_tasks(fewer, 4))
    assert_same_batches(
        join_tasks(data, 4, training=False).of_sets("bc"), join_tasks(fewer, 4, training=False)
    )
    split = search_split(data, batch_size=4).of_sets("bc")
    assert_same_batches(split, search_split(fewer, batch_size=4))
    assert set(split.task_sets) == {"b", "c"}
    turns, expected = sample_tasks(data, 4).of_tasks("bc"), sample_tasks(fewer, 4)
    assert repr(turns) == repr(expected)
    assert [turns.task_at(i) for i in range(9)] == [expected.task_at(i) for i in range(9)]
    assert_same_batches(turns.stream("c").take(3), expected.stream("c").take(3))


def test_seed_none_is_drawn_once():
    data = join_tasks(three_sets(), seed=None)
    assert_same_batches(data, join_tasks(three_sets(), seed=data.seed))


# Validation and test ----------------------------------------------------------------------------


@two_sources
@pytest.mark.parametrize("batch_size", [1, 4, 11, 20])
def test_one_pass_has_every_example_once(source, batch_size):
    data = join_tasks(three_sets(source), batch_size=batch_size, training=False)
    assert isinstance(data, JoinedPass)
    assert len(data) == data.cardinality() == -(-11 // batch_size)
    assert int(data.batches().cardinality()) == len(data)
    assert data.element_spec == data.batches().element_spec
    assert data.num_examples == SIZES
    batches = list(data)
    for name, size in SIZES.items():
        x = np.concatenate([x[name][:, 0] for x, _, _ in batches]) % 100
        weight = np.concatenate([w[name] for _, _, w in batches])
        assert all(len(x[name]) == len(y[name]) == batch_size for x, y, _ in batches)
        np.testing.assert_array_equal(x[weight == 1], np.arange(size))
        np.testing.assert_array_equal(weight, np.arange(len(x)) < size)
    assert_same_batches(data, batches)


def test_padding_has_weight_zero_whatever_the_weights_are():
    x, y = numbered(2)
    by_pixel = np.full((2, 3), np.nan, "float32")
    by_pixel[:, 1] = 0.5
    sets = {"a": numbered(4), "b": (x, y, np.array([2.0, 3.0])), "c": (x, y, by_pixel)}
    ((_, y, w),) = join_tasks(sets, batch_size=4, training=False)
    np.testing.assert_array_equal(y["b"], [0, -1, 0, -1])
    np.testing.assert_array_equal(w["a"], [1, 1, 1, 1])
    np.testing.assert_array_equal(w["b"], [2, 3, 0, 0])
    np.testing.assert_array_equal(w["c"], np.concatenate([by_pixel, np.zeros((2, 3))]))


# Search -----------------------------------------------------------------------------------------


@two_sources
def test_search_split_divides_every_set_by_the_same_rule(source):
    sets = three_sets(source)
    data = search_split(sets, 0.4, batch_size=2, seed=1)
    assert len(data) == 4
    assert data.num_weights_examples == {"a": 7, "b": 2, "c": 5}
    assert data.num_policy_examples == {"a": 4, "b": 1, "c": 3}
    batches = list(data.stream().take(12))
    weights, policy = (drawn(batch[half] for batch in batches) for half in (0, 1))
    for name, size in SIZES.items():
        floors = np.floor(np.arange(size + 1) * 0.4)
        in_policy = np.flatnonzero(floors[1:] > floors[:-1]).tolist()
        in_weights = sorted({*range(size)} - {*in_policy})
        for numbers, half in ((weights[name], in_weights), (policy[name], in_policy)):
            rounds = [numbers[i : i + len(half)] for i in range(0, 24 - len(half) + 1, len(half))]
            assert all(sorted(one) == half for one in rounds)
    for half in (half for pair in batches for half in pair):
        for name in SIZES:
            assert half[0][name].shape == (2, 1)
            np.testing.assert_array_equal(half[0][name][:, 0], -half[1][name])


def test_search_split_joins_sample_weights():
    x, y = numbered(8)
    data = search_split({"a": (x, y, x[:, 0]), "b": (x, y)}, batch_size=2)
    for x, y, w in (half for pair in data for half in pair):
        assert list(x) == list(y) == list(w) == ["a", "b"]
        np.testing.assert_array_equal(w["a"], x["a"][:, 0])
        np.testing.assert_array_equal(w["b"], [1, 1])


def test_search_split_batch_size_and_repr():
    assert search_split({"a": as_dataset(numbered(100))}).batch_size == 32
    assert repr(search_split({"a": numbered(9), "b": numbered(4)}, batch_size=2)) == (
        "<SearchDataset: 3 batches of 2, {'a': 5, 'b': 2} examples for the weights, "
        "{'a': 4, 'b': 2} for the policy, shuffle=True, seed=0>"
    )


def test_works_under_a_mirrored_strategy():
    data = join_tasks(three_sets(), batch_size=4)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    iterator = iter(strategy.experimental_distribute_dataset(data.stream()))
    assert_same_batches([next(iterator) for _ in range(6)], data.stream().take(6))


# Errors -----------------------------------------------------------------------------------------


def message(call, kind=ValueError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


both = pytest.mark.parametrize("joined", [join_tasks, search_split])


def test_data_must_be_a_dict():
    assert message(lambda: join_tasks(numbered(4)), TypeError) == (
        "`data` must be a dict from the name of an input set to `(x, y)`. "
        "Received: data of type tuple. Data with one input for all tasks need no joining."
    )


@both
@pytest.mark.parametrize("names", [[], [3], ["a", None]])
def test_sets_need_names(joined, names):
    assert message(lambda: joined({name: numbered(4) for name in names})) == (
        f"`data` must have one or more input sets under their names. Received: names={names}."
    )


@both
def test_wrong_layout_of_a_set(joined):
    x, y = numbered(10)
    layout = (
        "`data['b']` must be a tuple `(x, y)` or `(x, y, sample_weight)` with `y` an array or a "
        "dict from task name to labels, or a finite `tf.data.Dataset` of such batches. "
        "Received: data['b']="
    )

    def found(part):
        return message(lambda: joined({"a": (x, y), "b": part}), TypeError)

    assert found(x) == layout + "ndarray of shape (10, 1)."
    assert found((x, [y, y])) == layout + "(ndarray of shape (10, 1), list)."
    assert found(tf.data.Dataset.from_tensor_slices(x)) == layout + "TensorSpec of shape (1,)."
    assert found((x, 3)) == (
        "`data['b']` must hold arrays whose first dimension counts the examples. "
        "Received: data['b']=(ndarray of shape (10, 1), int)."
    )


@both
def test_bad_arrays_of_a_set(joined):
    x, y = numbered(10)
    assert message(lambda: joined({"a": (x[:7], y)})) == (
        "`data['a']` must hold arrays of equal length. "
        "Received: data['a']=(ndarray of shape (7, 1), {'a': ndarray of shape (10,)})."
    )
    assert message(lambda: joined({"a": (x[:0], y[:0])})) == (
        "`data['a']` must not be empty. "
        "Received: data['a']=(ndarray of shape (0, 1), {'a': ndarray of shape (0,)})."
    )


def test_bad_dataset_of_a_set():
    def found(part):
        return message(lambda: join_tasks({"a": numbered(10), "b": part}))

    assert found(as_dataset(numbered(10)).repeat()) == (
        "`data['b']` must be a finite `tf.data.Dataset`. Received: an endless one. "
        "Call `.take(n)` on it, or leave out its `.repeat()`."
    )
    assert found(tf.data.Dataset.from_tensor_slices(numbered(100)).shuffle(100).batch(9)) == (
        "`data['b']` must give its batches in the same order every time it is iterated. "
        "Received: a `tf.data.Dataset` whose first batch changes. "
        "Leave out its `.shuffle()` and let `join_tasks(..., shuffle=True)` shuffle."
    )
    assert found(as_dataset(numbered(0))) == (
        "`data['b']` must not be empty. Received: a `tf.data.Dataset` of no batches."
    )


@both
def test_labels_of_a_task_in_two_sets(joined):
    x, y = numbered(10)
    assert message(lambda: joined({"a": (x, y), "b": (x, {"a": y})})) == (
        "`data` must have the labels of a task in one input set. "
        "Received: labels of 'a' in 'a' and 'b'."
    )


@both
def test_sample_weights_of_another_task(joined):
    x, y = numbered(10)
    assert message(lambda: joined({"a": (x, {"b": y}, {"c": y})})) == (
        "`data['a']` must have sample weights of its own tasks ['b'] only. "
        "Received: sample weights of ['c']."
    )


@pytest.mark.parametrize("name", ["batch_size", "shuffle_buffer"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, None])
def test_counts_must_be_positive(name, value):
    assert message(lambda: join_tasks(three_sets(), **{name: value})) == (
        f"`{name}` must be an integer of at least 1. Received: {name}={value!r}."
    )


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_seed_must_be_an_integer(seed):
    assert message(lambda: join_tasks(three_sets(), seed=seed)) == (
        f"`seed` must be an integer of at least 0 or None. Received: seed={seed!r}."
    )


def test_empty_half_of_a_set():
    assert message(lambda: search_split(three_sets(), 0.3)) == (
        "`policy_fraction` must leave at least one example for the weights and one for the "
        "policy. Received: policy_fraction=0.3 with 3 examples in `data['b']`."
    )
