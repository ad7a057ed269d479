"""Masks: near their target, inside each other, the same for the same seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.partition import (
    _fit,
    _relax,
    _round,
    achieved_matrix,
    backward_matrix,
    find_backward_masks,
    find_masks,
    mask_error,
    partition_matrix,
)


def random_matrices(tasks, draws, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.random((tasks, tasks)) for _ in range(draws)]


def absolute(errors):
    """Upper triangles of error matrices `(draws, tasks, tasks)`, without their signs."""
    errors = np.asarray(errors)
    return np.abs(errors[:, *np.triu_indices(errors.shape[1])])


def forward_errors(matrices, channels=256, **options):
    return absolute(
        [
            mask_error(find_masks(P, channels, i, **options), partition_matrix(P))
            for i, P in enumerate(matrices)
        ]
    )


# Forward masks ----------------------------------------------------------------------------------


def test_by_hand():
    # 6 and 4 of 8 channels, 3 in common: 0.5 of the way from 2 to 4.
    P = [[0.75, 0.5], [0.5, 0.5]]
    masks = find_masks(P, 8, seed=3)
    assert masks.sum(axis=1).tolist() == [6, 4] and (masks[0] & masks[1]).sum() == 3
    np.testing.assert_array_equal(mask_error(masks, partition_matrix(P)), np.zeros((2, 2)))
    assert find_masks([[0.3]], 10, seed=0).sum() == 3


def test_as_good_as_trying_everything():
    patterns = list(itertools.product([0, 1], repeat=3))
    ways = list(itertools.combinations_with_replacement(range(8), 6))
    every = np.array([np.array([patterns[k] for k in way]).T for way in ways], float)
    every = every @ every.transpose(0, 2, 1) / 6
    matrices = random_matrices(3, 30)
    found = forward_errors(matrices, 6).mean(axis=1)
    best = [absolute(every - partition_matrix(P)).mean(axis=1).min() for P in matrices]
    assert np.all(found >= np.array(best) - 1e-12)
    assert found.mean() <= 1.05 * np.mean(best)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 70), st.integers(0, 10**6), st.booleans())
def test_shapes_and_determinism(tasks, channels, seed, ends):
    P = np.random.default_rng(seed).random((tasks, tasks))
    P = np.clip(3 * P - 1, 0, 1) if ends else P
    masks = find_masks(P, channels, seed)
    assert masks.shape == (tasks, channels) and masks.dtype == bool
    np.testing.assert_array_equal(masks, find_masks(P, channels, seed))
    assert np.abs(mask_error(masks, partition_matrix(P))).max() < 0.3 + 1 / channels


@pytest.mark.parametrize("tasks", [1, 2, 5, 9, 14])
def test_extremes(tasks):
    ones = np.ones((tasks, tasks))
    assert not find_masks(0 * ones, 32, seed=0).any()
    assert find_masks(ones, 32, seed=0).all()
    assert find_masks(np.eye(tasks), 32, seed=0).all()  # the identity means: share all
    apart = np.eye(tasks) / tasks
    counts = find_masks(apart, 8 * tasks, seed=0).sum(axis=0)
    np.testing.assert_array_equal(counts, np.ones(8 * tasks))


def test_one_channel_and_many():
    P = random_matrices(3, 1)[0]
    assert find_masks(P, 1, seed=0).shape == (3, 1)
    wide = find_masks(P, 100_000, seed=0)
    narrow = find_masks(P, 64, seed=0)
    assert np.abs(achieved_matrix(wide) - achieved_matrix(narrow)).max() <= 1.5 / 64


@pytest.mark.parametrize("tasks", [4, 9])
def test_order_of_tasks_does_not_matter(tasks):
    matrices = [P + np.triu(P, 1).T - np.tril(P, -1) for P in random_matrices(tasks, 25)]
    order = np.random.default_rng(1).permutation(tasks)
    one = forward_errors(matrices)
    other = forward_errors([P[np.ix_(order, order)] for P in matrices])
    assert one.mean() == pytest.approx(other.mean(), rel=0.03)
    assert np.quantile(one, 0.95) == pytest.approx(np.quantile(other, 0.95), rel=0.1)


def test_the_seed_orders_the_channels_only():
    P = random_matrices(5, 1)[0]
    one, other = find_masks(P, 64, seed=0), find_masks(P, 64, seed=1)
    assert (one != other).any()
    np.testing.assert_array_equal(achieved_matrix(one), achieved_matrix(other))


def test_near_partitions_have_near_masks():
    generator, changed = np.random.default_rng(0), []
    for P in random_matrices(4, 10):
        near = np.clip(P + 0.01 * generator.standard_normal(P.shape), 0, 1)
        changed.append((find_masks(P, 256, seed=0) != find_masks(near, 256, seed=0)).mean())
    assert np.mean(changed) < 0.1  # by chance it would be a half


def test_rounding_adds_little():
    for tasks, channels, factor in ((5, 512, 1.3), (9, 512, 1.05)):
        matrices = random_matrices(tasks, 12)
        fine = forward_errors(matrices, 20_000).mean()
        assert forward_errors(matrices, channels).mean() < factor * fine


def test_diagonal_weight():
    matrices = random_matrices(9, 12)
    diagonal = np.equal(*np.triu_indices(9))
    free, exact = (forward_errors(matrices, diagonal_weight=w) for w in (1.0, 1000.0))
    assert exact[:, diagonal].max() <= 0.5 / 256 + 1e-9
    assert exact[:, diagonal].mean() < free[:, diagonal].mean() / 5
    assert exact.mean() < 1.2 * free.mean()


def test_search_for_patterns_finds_what_all_patterns_have(monkeypatch):
    matrices = random_matrices(8, 8)
    exact = forward_errors(matrices, 128)
    for module in (_relax, _round):
        monkeypatch.setattr(module, "FEW_TASKS", 4)
    searched = forward_errors(matrices, 128)
    assert searched.mean() == pytest.approx(exact.mean(), rel=0.05)


def test_many_tasks():
    P = random_matrices(14, 1)[0]
    masks = find_masks(P, 128, seed=2)
    np.testing.assert_array_equal(masks, find_masks(P, 128, seed=2))
    assert np.abs(mask_error(masks, partition_matrix(P))).mean() < 0.03
    backward = find_backward_masks(P, masks, seed=2)
    assert not (backward & ~masks).any()
    assert np.abs(mask_error(backward, backward_matrix(P, masks))).mean() < 0.02


@pytest.mark.parametrize(
    ("tasks", "worse"), [(5, ((), True)), (5, ((0.002,), False)), (7, ((), False))]
)
def test_nearly_absolute_errors_of_few_tasks_lower_the_mean(tasks, worse, monkeypatch):
    matrices = random_matrices(tasks, 60)
    mean = forward_errors(matrices).mean()
    monkeypatch.setattr(_fit, "WAYS", ((tasks, *worse),))
    assert mean < forward_errors(matrices).mean()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 10**6))
def test_no_move_of_one_channel_lowers_the_error_of_few_tasks(tasks, channels, seed):
    P, Q = np.random.default_rng(seed).random((2, tasks, tasks))
    masks = find_masks(P, channels, seed)
    everywhere = np.ones_like(masks)
    assert_no_better_move(masks, everywhere, partition_matrix(P))
    assert_no_better_move(find_backward_masks(Q, masks, seed), masks, backward_matrix(Q, masks))


def assert_no_better_move(masks, outer, target):
    least = np.abs(mask_error(masks, target)[np.triu_indices(len(masks))]).sum()
    for channel in range(masks.shape[1]):
        for pattern in itertools.product([False, True], repeat=len(masks)):
            moved = masks.copy()
            moved[:, channel] = pattern & outer[:, channel]
            error = mask_error(moved, target)[np.triu_indices(len(masks))]
            assert np.abs(error).sum() > least - 1e-9


# Backward masks ---------------------------------------------------------------------------------


def test_backward_by_hand():
    masks = np.zeros((2, 8), bool)
    masks[0, :6] = masks[1, 4:] = True
    # Task 0 changes 3 of its 6, task 1 all of its 4: overlap between 0 and 2, half of it is 1.
    P = [[0.5, 0.5], [0.5, 1.0]]
    backward = find_backward_masks(P, masks, seed=0)
    assert backward.sum(axis=1).tolist() == [3, 4] and (backward[0] & backward[1]).sum() == 1
    assert not (backward & ~masks).any()
    np.testing.assert_array_equal(mask_error(backward, backward_matrix(P, masks)), np.zeros((2, 2)))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 50), st.integers(0, 10**6), st.booleans())
def test_backward_inside_forward(tasks, channels, seed, random_masks):
    generator = np.random.default_rng(seed)
    P, Q = generator.random((2, tasks, tasks))
    forward = find_masks(P, channels, seed)
    if random_masks:
        forward = generator.random((tasks, channels)) < 0.5
    backward = find_backward_masks(Q, forward, seed)
    assert backward.shape == forward.shape and backward.dtype == bool
    assert not (backward & ~forward).any()
    np.testing.assert_array_equal(backward, find_backward_masks(Q, forward, seed))


def test_backward_of_all_and_of_nothing():
    forward = find_masks(random_matrices(6, 1)[0], 64, seed=0)
    all_of_them = find_backward_masks(np.eye(6), forward, seed=0)
    np.testing.assert_array_equal(all_of_them, forward)
    assert not find_backward_masks(np.zeros((6, 6)), forward, seed=0).any()


def test_backward_errors_are_as_small_as_forward_ones():
    matrices, others = random_matrices(6, 12), random_matrices(6, 12, seed=1)
    forward = [find_masks(P, 256, seed=0) for P in matrices]
    errors = absolute(
        [
            mask_error(find_backward_masks(Q, masks, seed=0), backward_matrix(Q, masks))
            for Q, masks in zip(others, forward, strict=True)
        ]
    )
    assert errors.mean() < 1.1 * forward_errors(matrices).mean()


def test_masks_with_very_many_patterns():
    generator = np.random.default_rng(0)
    forward, P = generator.random((10, 260)) < 0.5, generator.random((10, 10))
    assert len(np.unique(forward.T, axis=0)) > _fit.MANY_GROUPS
    backward = find_backward_masks(P, forward, seed=0)
    assert not (backward & ~forward).any()
    assert np.abs(mask_error(backward, backward_matrix(P, forward))).mean() < 0.02
    np.testing.assert_array_equal(backward, find_backward_masks(P, forward, seed=0))


def test_sweeps_come_nearly_as_near_as_the_relaxation(monkeypatch):
    matrices = random_matrices(6, 8)
    relaxed = forward_errors(matrices, 64).mean()
    monkeypatch.setattr(_fit, "MANY_GROUPS", 0)
    assert forward_errors(matrices, 64).mean() < 1.4 * relaxed


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"channels": 0},
            "`channels` must be an integer of at least 1. Received: channels=0.",
        ),
        (
            {"channels": 2.5},
            "`channels` must be an integer of at least 1. Received: channels=2.5.",
        ),
        (
            {"channels": True},
            "`channels` must be an integer of at least 1. Received: channels=True.",
        ),
        ({"seed": -1}, "`seed` must be an integer of at least 0 or None. Received: seed=-1."),
        (
            {"diagonal_weight": 0},
            "`diagonal_weight` must be positive and finite. Received: diagonal_weight=0.",
        ),
        (
            {"diagonal_weight": float("nan")},
            "`diagonal_weight` must be positive and finite. Received: diagonal_weight=nan.",
        ),
        (
            {"P": [[0.5, 0.5]]},
            "`P` must be a square matrix, with a row and a column for each task. Received: shape "
            "(1, 2).",
        ),
        (
            {"P": [[0.5, 2.0], [0.0, 0.5]]},
            "`P` must hold values from 0 to 1. Received: P[0, 1]=2.0.",
        ),
    ],
)
def test_bad_input(arguments, message):
    good = {"P": np.eye(2), "channels": 8, "seed": 0}
    with pytest.raises(ValueError) as error:
        find_masks(**{**good, **arguments})
    assert str(error.value) == message
    if "channels" not in arguments:
        good = {"P": np.eye(2), "masks": np.ones((2, 8), bool), "seed": 0}
        with pytest.raises(ValueError) as error:
            find_backward_masks(**{**good, **arguments})
        assert str(error.value) == message


def test_masks_of_other_tasks():
    with pytest.raises(ValueError) as error:
        find_backward_masks(np.eye(3), np.ones((2, 8), bool), seed=0)
    assert str(error.value) == (
        "`masks` must be a boolean array of shape (3, channels). Received: bool of shape (2, 8)."
    )
    with pytest.raises(ValueError, match="`target` must be a square matrix"):
        mask_error(np.ones((2, 8), bool), np.ones(2))


def test_numpy_integers_are_integers():
    P = np.eye(2)
    masks = find_masks(P, np.int64(8), np.uint32(3))
    np.testing.assert_array_equal(masks, find_masks(P, 8, 3))
