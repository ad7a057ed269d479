import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.data import sample_tasks

SIZES = {"a": 11, "b": 3, "c": 8}


def numbered(size):
    numbers = np.arange(size, dtype="float32")
    return numbers[:, None], -numbers


def sets():
    return {name: numbered(size) for name, size in SIZES.items()}


def as_dataset(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(4)


def numbers_of(data, task, batches, first=0):
    """The numbers of the examples in a task's batches, after a look at their layout."""
    found = []
    for x, y in data.stream(task, first).take(batches):
        assert list(x) == list(y) == [task]
        assert x[task].shape == (data.batch_size, 1)
        np.testing.assert_array_equal(x[task][:, 0], -y[task])
        found += x[task][:, 0].numpy().astype(int).tolist()
    return found


# Examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [lambda data: data, as_dataset], ids=["arrays", "dataset"])
def test_every_example_of_a_task_once_in_a_round(kind):
    data = sample_tasks({name: kind(part) for name, part in sets().items()}, 4, seed=1)
    for task, size in SIZES.items():
        numbers = numbers_of(data, task, 12)
        assert len(numbers) == 48
        rounds = [numbers[i : i + size] for i in range(0, 48 - size + 1, size)]
        assert all(sorted(one) == list(range(size)) for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1


@pytest.mark.parametrize("kind", [lambda data: data, as_dataset], ids=["arrays", "dataset"])
def test_the_position_of_a_task_is_the_number_of_its_batches(kind):
    data = sample_tasks({name: kind(part) for name, part in sets().items()}, 4, seed=1)
    for task in SIZES:
        whole = numbers_of(data, task, 9)
        for first in (1, 3, 8):
            assert numbers_of(data, task, 9 - first, first) == whole[4 * first :]


def test_order_follows_from_seed_and_task_alone():
    data, again = (sample_tasks(sets(), 4, seed=1) for _ in range(2))
    alone = sample_tasks({"c": numbered(SIZES["c"])}, 4, sampling="proportional", seed=1)
    other = sample_tasks(sets(), 4, seed=2)
    assert numbers_of(data, "c", 6) == numbers_of(again, "c", 6) == numbers_of(alone, "c", 6)
    assert numbers_of(data, "c", 6) != numbers_of(other, "c", 6)
    plain = sample_tasks(sets(), 4, shuffle=False)
    assert numbers_of(plain, "b", 2) == [0, 1, 2, 0, 1, 2, 0, 1]


def test_tasks_of_one_set_take_turns_too():
    x, y = numbered(6)
    weight = np.arange(6.0)
    data = sample_tasks(
        {"one": (x, {"a": y, "b": 2 * y}, {"b": weight}), "two": (x, {"c": y})}, 6, shuffle=False
    )
    assert data.task_sets == {"a": "one", "b": "one", "c": "two"}
    assert len(next(iter(data.stream("a")))) == 2
    inputs, labels, weights = next(iter(data.stream("b")))
    assert list(inputs) == ["one"] and list(labels) == list(weights) == ["b"]
    np.testing.assert_array_equal(labels["b"], 2 * y)
    np.testing.assert_array_equal(weights["b"], weight)
    x_spec, y_spec, w_spec = data.element_spec
    assert list(x_spec) == ["one", "two"] and list(y_spec) == ["a", "b", "c"]
    assert list(w_spec) == ["b"]


def test_steps_of_an_epoch():
    data = sample_tasks(sets(), 4)
    assert len(data) == data.cardinality() == 3 + 1 + 2
    assert len(sample_tasks(sets(), 4, steps_per_epoch=50)) == 50
    assert repr(data) == (
        "<SampledDataset: 6 batches of 4 in an epoch, each of one task, sampling='uniform', "
        "{'a': 11, 'b': 3, 'c': 8} examples, shuffle=True, seed=0>"
    )


# Turns ------------------------------------------------------------------------------------------


def test_probabilities_by_hand():
    assert sample_tasks(sets()).probabilities() == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    proportional = sample_tasks(sets(), sampling="proportional").probabilities()
    assert proportional == {"a": 11 / 22, "b": 3 / 22, "c": 8 / 22}
    # 1 - a + b is 0.5, 0.25 and 1; to the power 1 / 0.5 that is 0.25, 0.0625 and 1.
    lagging = sample_tasks(sets(), sampling="lagging", temperature=0.5, bias=0.2)
    found = lagging.probabilities({"a": 0.7, "b": 0.95, "c": 0.2})
    assert found == pytest.approx({"a": 4 / 21, "b": 1 / 21, "c": 16 / 21})
    # The paper's constants: log(0.65) / 0.3 = -1.43594, log(0.15) / 0.3 = -6.32373, 0.46587.
    found = sample_tasks(sets(), sampling="lagging").probabilities({"a": 0.5, "b": 1.0, "c": 0.0})
    weights = {"a": 0.237891, "b": 0.001793, "c": 1.593398}
    total = sum(weights.values())
    assert found == pytest.approx({k: v / total for k, v in weights.items()}, rel=1e-3)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("uniform", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ("proportional", {"a": 0.5, "b": 3 / 22, "c": 4 / 11}),
    ],
)
def test_tasks_come_as_often_as_they_should(sampling, expected):
    data = sample_tasks(sets(), sampling=sampling, seed=0)
    turns = [data.task_at(step) for step in range(4000)]
    for task, share in expected.items():
        # Three standard deviations of a binomial share of 4000 are at most 0.024.
        assert turns.count(task) / 4000 == pytest.approx(share, abs=0.024)
    halves = [turns[:2000].count("b"), turns[2000:].count("b")]
    assert min(halves) > 0.8 * max(halves)
    assert turns == [data.task_at(step) for step in range(4000)]


def test_lagging_tasks_come_as_often_as_they_should():
    data = sample_tasks(sets(), sampling="lagging", temperature=0.5, bias=0.2)
    accuracies = {"a": 0.7, "b": 0.95, "c": 0.2}
    turns = [data.task_at(step, accuracies) for step in range(3000)]
    found = [turns.count(task) / 3000 for task in "abc"]
    assert found == pytest.approx([4 / 21, 1 / 21, 16 / 21], abs=0.024)
    equal = dict.fromkeys("abc", 0.5)
    uniform = sample_tasks(sets())
    assert [data.task_at(i, equal) for i in range(50)] == [uniform.task_at(i) for i in range(50)]


def test_turns_do_not_depend_on_the_order_of_the_data():
    back = dict(reversed(sets().items()))
    one, two = (sample_tasks(part, sampling="proportional") for part in (sets(), back))
    assert [one.task_at(i) for i in range(50)] == [two.task_at(i) for i in range(50)]
    other = sample_tasks(sets(), sampling="proportional", seed=1)
    assert [one.task_at(i) for i in range(50)] != [other.task_at(i) for i in range(50)]


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"sampling": "round_robin"},
            "`sampling` must be one of ('uniform', 'proportional', 'lagging'). "
            "Received: sampling='round_robin'.",
        ),
        (
            {"batch_size": 0},
            "`batch_size` must be an integer of at least 1. Received: batch_size=0.",
        ),
        (
            {"steps_per_epoch": 0},
            "`steps_per_epoch` must be an integer of at least 1 or None. "
            "Received: steps_per_epoch=0.",
        ),
        (
            {"temperature": 0.0},
            "`temperature` must be positive and finite. Received: temperature=0.0.",
        ),
        ({"bias": 0}, "`bias` must be positive and finite. Received: bias=0."),
        ({"decay": 1.0}, "`decay` must be below 1. Received: decay=1.0."),
        ({"decay": -0.1}, "`decay` must be finite and at least 0. Received: decay=-0.1."),
        (
            {"seed": -1},
            "`seed` must be an integer of at least 0 or None. Received: seed=-1.",
        ),
    ],
)
def test_arguments_out_of_range(options, expected):
    with pytest.raises(ValueError) as caught:
        sample_tasks(sets(), **options)
    assert str(caught.value) == expected


def test_data_that_cannot_be_sampled():
    x, y = numbered(4)
    with pytest.raises(TypeError) as caught:
        sample_tasks((x, y))
    assert str(caught.value) == (
        "`data` must be a dict from the name of an input set to `(x, y)`. "
        "Received: data of type tuple."
    )
    with pytest.raises(ValueError, match=r"^`data\['b'\]` must not be empty\. Received: "):
        sample_tasks({"a": (x, y), "b": (x[:0], y[:0])})
    with pytest.raises(ValueError, match="must have one or more input sets under their names"):
        sample_tasks({})
    shuffled = tf.data.Dataset.from_tensor_slices(numbered(100)).shuffle(100).batch(9)
    with pytest.raises(ValueError, match=r"let `sample_tasks\(\.\.\., shuffle=True\)` shuffle"):
        sample_tasks({"a": shuffled})
