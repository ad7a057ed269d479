"""Matrices of a partition, by hand and by their bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.partition import achieved_matrix, backward_matrix, partition_matrix


def matrices(most=6):
    """Random P, with many values at the ends of the range."""

    def draw(size, seed, ends):
        P = np.random.default_rng(seed).random((size, size))
        return np.clip(3 * P - 1, 0, 1) if ends else P

    return st.builds(draw, st.integers(1, most), st.integers(0, 10**6), st.booleans())


def test_two_tasks_by_hand():
    # 0.8 and 0.7 overlap by 0.5 at least and 0.7 at most: 0.5 + 0.25 * 0.2.
    np.testing.assert_allclose(
        partition_matrix([[0.8, 0.25], [0.25, 0.7]]), [[0.8, 0.55], [0.55, 0.7]]
    )
    # 0.3 and 0.6 can do without each other: 0.5 * 0.3.
    np.testing.assert_allclose(
        partition_matrix([[0.3, 0.5], [0.5, 0.6]]), [[0.3, 0.15], [0.15, 0.6]]
    )


def test_three_tasks_by_hand():
    P = [[0.5, 0.0, 1.0], [0.0, 0.75, 0.5], [1.0, 0.5, 0.25]]
    # Between 0.25 and 0.5; between 0 and 0.25; between 0 and 0.25.
    expected = [[0.5, 0.25, 0.25], [0.25, 0.75, 0.125], [0.25, 0.125, 0.25]]
    np.testing.assert_array_equal(partition_matrix(P), expected)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_extremes(size):
    ones, zeros = np.ones((size, size)), np.zeros((size, size))
    np.testing.assert_array_equal(partition_matrix(zeros), zeros)
    np.testing.assert_array_equal(partition_matrix(ones), ones)
    np.testing.assert_array_equal(partition_matrix(np.eye(size)), ones)


def test_only_the_upper_triangle_is_read():
    P = np.array([[0.5, 0.25], [np.nan, 0.5]])
    np.testing.assert_array_equal(partition_matrix(P), [[0.5, 0.125], [0.125, 0.5]])
    np.testing.assert_array_equal(P[1, 0], np.nan)


@settings(max_examples=50, deadline=None)
@given(matrices())
def test_every_two_tasks_are_possible(P):
    matrix = partition_matrix(P)
    share = np.diag(P)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), share)
    assert (matrix <= np.minimum(share[:, None], share) + 1e-12).all()
    assert (matrix >= share[:, None] + share - 1 - 1e-12).all() and (matrix >= 0).all()


def test_backward_by_hand():
    # Shares 0.75 and 0.5, overlap 0.5: the second task's channels are all the first's.
    masks = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(achieved_matrix(masks), [[0.75, 0.5], [0.5, 0.5]])
    # All forward channels: overlap between 0.75 + 0.5 - 0.75 - 0.5 + 0.5 and 0.5.
    np.testing.assert_array_equal(backward_matrix(np.eye(2), masks), [[0.75, 0.5], [0.5, 0.5]])
    # Two thirds and a half: 0.5 and 0.25, overlap between 0 and 0.25.
    P = [[2 / 3, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(backward_matrix(P, masks), [[0.5, 0.125], [0.125, 0.25]])


def test_backward_bounds_come_from_the_achieved_masks():
    # Asked for or not, these two share no channel, so that no backward masks do.
    masks = np.array([[1, 1, 0, 0], [0, 0, 1, 0]], bool)
    np.testing.assert_array_equal(
        backward_matrix(np.ones((2, 2)), masks), [[0.5, 0.0], [0.0, 0.25]]
    )


@settings(max_examples=50, deadline=None)
@given(matrices(), st.integers(0, 10**6), st.integers(1, 20))
def test_backward_of_every_two_tasks_is_possible(P, seed, channels):
    masks = np.random.default_rng(seed).random((len(P), channels)) < 0.5
    forward, matrix = achieved_matrix(masks), backward_matrix(P, masks)
    share, used = np.diag(matrix), np.diag(forward)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(share, np.diag(P) * used)
    assert (matrix <= forward + 1e-12).all() and (matrix >= 0).all()
    assert (matrix <= np.minimum(share[:, None], share) + 1e-12).all()
    union = used[:, None] + used - forward
    assert (share[:, None] + share - matrix <= union + 1e-12).all()


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (
            np.ones((2, 3)),
            "`P` must be a square matrix, with a row and a column for each task. Received: shape "
            "(2, 3).",
        ),
        (
            [0.5],
            "`P` must be a square matrix, with a row and a column for each task. Received: shape "
            "(1,).",
        ),
        (
            np.ones((0, 0)),
            "`P` must be a square matrix, with a row and a column for each task. Received: shape "
            "(0, 0).",
        ),
        (
            [[0.5, 1.5], [0.0, 0.5]],
            "`P` must hold values from 0 to 1. Received: P[0, 1]=1.5.",
        ),
        (
            [[0.5, 0.5], [0.5, -0.1]],
            "`P` must hold values from 0 to 1. Received: P[1, 1]=-0.1.",
        ),
        (
            [[np.nan, 0.5], [0.5, 0.5]],
            "`P` must hold values from 0 to 1. Received: P[0, 0]=nan.",
        ),
    ],
)
def test_bad_matrices(P, message):
    masks = np.ones((2, 4), bool)
    for function in (partition_matrix, lambda P: backward_matrix(P, masks)):
        with pytest.raises(ValueError) as error:
            function(P)
        assert str(error.value) == message


def test_what_is_no_matrix():
    for P in ("half", [[0.5], [0.5, 0.5]], None, {"a": 1}):
        with pytest.raises((TypeError, ValueError), match="`P` must be a square matrix"):
            partition_matrix(P)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            np.ones((2, 4)),
            "`masks` must be a boolean array of shape (2, channels). Received: float64 of shape "
            "(2, 4).",
        ),
        (
            np.ones((3, 4), bool),
            "`masks` must be a boolean array of shape (2, channels). Received: bool of shape "
            "(3, 4).",
        ),
        (
            np.ones((2, 0), bool),
            "`masks` must be a boolean array of shape (2, channels). Received: bool of shape "
            "(2, 0).",
        ),
    ],
)
def test_bad_masks(masks, message):
    with pytest.raises(ValueError) as error:
        backward_matrix(np.eye(2), masks)
    assert str(error.value) == message
    if len(masks) == 2:
        with pytest.raises(ValueError, match="`masks` must be a boolean array of shape"):
            achieved_matrix(masks)
