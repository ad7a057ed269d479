"""`Partition` and `PartitionSpace`: data, masks, the partitions to compare with, random points."""

import pickle

import numpy as np
import pytest

from keras_mtl.partition import Partition, PartitionSpace, achieved_matrix

TASKS = ("a", "b", "c", "d")


def some_partition(seed=0):
    return Partition(TASKS, *np.random.default_rng(seed).random((2, 4, 4)))


def test_json_files_and_pickles(tmp_path):
    partition = some_partition()
    partition.save(tmp_path / "plan.json")
    for copy in (
        Partition.from_json(partition.to_json()),
        Partition.load(tmp_path / "plan.json"),
        pickle.loads(pickle.dumps(partition)),
    ):
        assert copy == partition and hash(copy) == hash(partition)
        np.testing.assert_array_equal(copy.backward, partition.backward)
    assert partition != some_partition(1)
    assert partition != Partition(TASKS, partition.forward)
    assert partition != Partition(tuple("wxyz"), partition.forward, partition.backward)
    assert partition != "a partition"
    assert repr(Partition.share_all(TASKS)) == (
        "<Partition tasks=['a', 'b', 'c', 'd'] feature_use=1.000>"
    )


def test_matrices_are_mirrored_read_only_copies():
    given = np.array([[0.5, 0.25], [0.75, 1.0]])
    partition = Partition(["a", "b"], given)
    np.testing.assert_array_equal(partition.forward, [[0.5, 0.25], [0.25, 1.0]])
    np.testing.assert_array_equal(partition.backward, np.ones((2, 2)))
    given[0, 0] = 0.0
    assert partition.feature_use == 0.75
    with pytest.raises(ValueError, match="read-only"):
        partition.forward[0, 0] = 0.0


def test_masks():
    forward, backward = some_partition().masks(channels=64, seed=1)
    assert forward.shape == backward.shape == (4, 64)
    assert not (backward & ~forward).any()
    again = some_partition().masks(channels=64, seed=1)
    np.testing.assert_array_equal(again, (forward, backward))
    weighted, _ = some_partition().masks(channels=64, seed=1, diagonal_weight=1000.0)
    error = weighted.mean(axis=1) - some_partition().forward.diagonal()
    assert np.abs(error).max() <= 0.5 / 64 + 1e-9


@pytest.mark.parametrize("number", [1, 2, 4])
def test_partitions_to_compare_with(number):
    tasks = TASKS[:number]
    even = np.full((number, number), 0.0)
    np.fill_diagonal(even, 1 / number)
    forward, backward = Partition.independent(tasks).masks(64, seed=0)
    np.testing.assert_allclose(achieved_matrix(forward), even)
    np.testing.assert_array_equal(backward, forward)

    forward, backward = Partition.share_half(tasks).masks(64, seed=0)
    expected = np.full((number, number), 0.5)
    np.fill_diagonal(expected, 0.5 + 0.5 / number)
    np.testing.assert_allclose(achieved_matrix(forward), expected)
    np.testing.assert_array_equal(backward, forward)
    assert Partition.share_half(tasks).feature_use == 0.5 + 0.5 / number

    forward, backward = Partition.share_all(tasks).masks(64, seed=0)
    assert forward.all() and backward.all()

    forward, backward = Partition.share_forward_only(tasks).masks(64, seed=0)
    assert forward.all()
    np.testing.assert_allclose(achieved_matrix(backward), even)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "a"), np.eye(2)), "`tasks` must name each thing once. Received: 'a' twice."),
        (((), np.eye(2)), "`tasks` must be a sequence of names. Received: tasks=()."),
        (
            (("a", "b"), np.eye(3)),
            "`forward` must have a row and a column for each of the 2 tasks. Received: shape "
            "(3, 3).",
        ),
        (
            (("a", "b"), np.eye(2), [[1.0, 2.0], [0.0, 1.0]]),
            "`backward` must hold values from 0 to 1. Received: backward[0, 1]=2.0.",
        ),
    ],
)
def test_bad_partitions(arguments, message):
    with pytest.raises(ValueError) as error:
        Partition(*arguments)
    assert str(error.value) == message


def test_bad_json():
    with pytest.raises(ValueError) as error:
        Partition.from_json('{"format_version": 1, "tasks": ["a"]}')
    assert str(error.value) == (
        "`text` must have the fields `tasks`, `forward` and `backward` of a partition. Received: "
        "the fields ['tasks']."
    )
    with pytest.raises(ValueError, match="`format_version` must be 1"):
        Partition.from_json('{"format_version": 2}')


# PartitionSpace ---------------------------------------------------------------------------------


def test_names_and_matrices():
    space = PartitionSpace(("a", "b"))
    assert space.names == (
        "forward.0.0", "forward.0.1", "forward.1.1", "backward.0.0", "backward.0.1", "backward.1.1",
    )  # fmt: skip
    assert space.shares.tolist() == [True, False, True, False, False, False]
    partition = space.partition([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert partition == Partition(("a", "b"), [[0.1, 0.2], [0, 0.3]], [[0.4, 0.5], [0, 0.6]])
    forward = PartitionSpace(("a", "b"), backward=False)
    assert forward.names == space.names[:3]
    assert forward.partition([0.1, 0.2, 0.3]) == Partition(("a", "b"), [[0.1, 0.2], [0, 0.3]])


def drawn(**options):
    space = PartitionSpace(TASKS, **options)
    generator = np.random.default_rng(0)
    points = np.array([space.draw(generator) for _ in range(2000)])
    assert points.min() >= 0 and points.max() <= 1
    return points[:, space.shares], points[:, ~space.shares]


def test_uniform_draws():
    for values in drawn():
        np.testing.assert_allclose(np.quantile(values, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)


def test_draws_around_a_share():
    shares, others = drawn(share=0.5)
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert np.std(shares[(shares > 0) & (shares < 1)]) == pytest.approx(0.2, abs=0.01)
    assert (shares == 0).any() and (shares == 1).any()  # 2.5 deviations away
    np.testing.assert_allclose(np.quantile(others, [0.1, 0.9]), [0.1, 0.9], atol=0.02)


def test_draws_of_overlaps_only():
    shares, others = drawn(share=(0.25, 0.5, 0.75, 1.0), deviation=0.0, backward=False)
    np.testing.assert_array_equal(shares, np.tile([0.25, 0.5, 0.75, 1.0], (2000, 1)))
    assert others.shape == (2000, 6) and np.std(others) > 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"share": (0.5, 0.5)},
            "`share` must be a number from 0 to 1, or one for each of the 4 tasks. Received: "
            "share=(0.5, 0.5).",
        ),
        (
            {"share": 1.5},
            "`share` must be a number from 0 to 1, or one for each of the 4 tasks. Received: "
            "share=1.5.",
        ),
        ({"deviation": -1}, "`deviation` must be finite and at least 0. Received: deviation=-1."),
        ({"tasks": ()}, "`tasks` must be a sequence of names. Received: tasks=()."),
    ],
)
def test_bad_spaces(options, message):
    with pytest.raises(ValueError) as error:
        PartitionSpace(**{"tasks": TASKS, **options})
    assert str(error.value) == message
