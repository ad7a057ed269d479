"""Affinities from RDMs, against SciPy, and from errors, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_mtl.affinity import error_affinity, task_affinity


def rdm(entries):
    """A symmetric matrix with the given strict upper triangle."""
    entries = np.asarray(entries, "float64")
    size = int((1 + np.sqrt(1 + 8 * len(entries))) / 2)
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size, 1)] = entries
    return matrix + matrix.T


def test_spearman_by_hand():
    # Ranks 1 2 3 and 1 3 2: ρ = 1 - 6·(0 + 1 + 1)/(3·8) = 0.5; reversed ranks: -1.
    rdms = {
        "a": [rdm([0.1, 0.2, 0.9]), rdm([1, 2, 3])],
        "b": [rdm([5, 7, 6]), rdm([3, 2, 1])],
    }
    affinity = task_affinity(rdms, ["x", "y"])
    np.testing.assert_allclose(affinity.values[:, 0, 1], [0.5, -1], atol=1e-12)
    assert affinity.tasks == ("a", "b") and affinity.locations == ("x", "y")
    assert dict(affinity.origin) == {"method": "representation similarity", "images": 3}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 12), st.booleans())
def test_equals_scipy_with_and_without_ties(seed, images, ties):
    generator = np.random.default_rng(seed)
    count = images * (images - 1) // 2
    draw = (lambda: generator.integers(0, 3, count)) if ties else (lambda: generator.random(count))
    entries = {task: [draw(), draw()] for task in "abc"}
    rdms = {task: np.array([rdm(row) for row in rows]) for task, rows in entries.items()}
    found = task_affinity(rdms, ("x", "y")).values
    for d in range(2):
        for i, one in enumerate("abc"):
            for j, other in enumerate("abc"):
                pair = entries[one][d], entries[other][d]
                constant = any(np.ptp(row) == 0 for row in pair)
                expected = float(i == j) if constant else stats.spearmanr(*pair).statistic
                assert found[d, i, j] == pytest.approx(expected, abs=1e-9)


def test_the_diagonal_does_not_count():
    # With the common zeros of the diagonal, the correlation would not be -1.
    rdms = {"a": [rdm([1, 2, 3])], "b": [rdm([3, 2, 1])]}
    assert task_affinity(rdms, ["x"]).values[0, 0, 1] == pytest.approx(-1)
    flat = {task: np.ravel(rows[0]) for task, rows in rdms.items()}
    assert stats.spearmanr(flat["a"], flat["b"]).statistic > 0


def test_a_constant_rdm_is_like_none_but_itself():
    rdms = {"a": [rdm([1, 1, 1])], "b": [rdm([1, 1, 1])], "c": [rdm([1, 2, 3])]}
    np.testing.assert_array_equal(task_affinity(rdms, ["x"]).values[0], np.eye(3))


def test_mapped_files_will_do(tmp_path):
    rdms = {"a": np.array([rdm([1, 2, 3])]), "b": np.array([rdm([1, 3, 2])])}
    for task, each in rdms.items():
        np.save(tmp_path / f"{task}.npy", each)
    mapped = {task: np.load(tmp_path / f"{task}.npy", mmap_mode="r") for task in rdms}
    assert task_affinity(mapped, ["x"]) == task_affinity(rdms, ["x"])


@pytest.mark.parametrize(
    ("rdms", "message"),
    [
        (
            {"a": [rdm([1, 2, 3])]},
            "`rdms['a']` must have shape (locations, K, K) with 2 locations and K at least 3. "
            "Received: shape (1, 3, 3).",
        ),
        (
            {"a": np.zeros((2, 2, 2))},
            "`rdms['a']` must have shape (locations, K, K) with 2 locations and K at least 3. "
            "Received: shape (2, 2, 2).",
        ),
        (
            {"a": np.zeros((2, 3, 3)), "b": np.zeros((2, 4, 4))},
            "`rdms` must be of the same images for all tasks. Received: 4 images for 'b', 3 for "
            "'a'.",
        ),
        (
            {"a": np.full((2, 3, 3), np.nan)},
            "`rdms` must be finite. Received: NaN or infinite entries of task 'a' at location 'x'.",
        ),
        (
            {"a": np.tile(np.arange(3.0), (2, 3, 1))},
            "`rdms` must be symmetric. Received: entries that differ by 2 of task 'a' at location "
            "'x'.",
        ),
        (
            {},
            "`rdms` must be a dict from task to an array of shape (locations, K, K). Received: "
            "dict without entries.",
        ),
        (
            [1],
            "`rdms` must be a dict from task to an array of shape (locations, K, K). Received: "
            "list.",
        ),
    ],
)
def test_bad_rdms(rdms, message):
    with pytest.raises(ValueError) as error:
        task_affinity(rdms, ("x", "y"))
    assert str(error.value) == message


def test_a_single_location_without_a_list_is_refused():
    with pytest.raises(ValueError, match="`locations` must be a sequence of names"):
        task_affinity({"a": [rdm([1, 2, 3])]}, "x")


# Errors -----------------------------------------------------------------------------------------


def test_error_affinity_by_hand():
    errors = {
        "a": [1, 2, 3, 10],  # mean 4: hard is the last
        "b": [0, 0, 5, 5],  # mean 2.5: hard are the last two
        "c": [9, 1, 1, 1],  # mean 3: hard is the first
    }
    affinity = error_affinity(errors, ["x", "y"])
    expected = [[1, 3 / 4, 2 / 4], [3 / 4, 1, 1 / 4], [2 / 4, 1 / 4, 1]]
    np.testing.assert_allclose(affinity.values, [expected, expected])
    assert affinity.tasks == ("a", "b", "c") and affinity.locations == ("x", "y")
    assert dict(affinity.origin) == {"method": "errors", "examples": 4}


def test_examples_without_a_label_do_not_count():
    # Mean of `a` without its fourth example is 2, so only the third is hard.
    errors = {"a": [1, 2, 3, np.nan], "b": [0, 4, 4, 0]}
    assert error_affinity(errors, ["x"]).values[0, 0, 1] == pytest.approx(2 / 3)


def test_scale_and_shift_of_a_task_do_not_matter():
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 50))
    plain = error_affinity({"a": a, "b": b}, ["x"])
    assert error_affinity({"a": 1000 * a + 7, "b": b}, ["x"]) == plain


def test_equal_errors_are_all_easy():
    # The sum of ten times 0.1 is not 1 in floating-point numbers.
    errors = {"a": np.full(10, 0.1), "b": np.r_[np.zeros(7), np.ones(3)]}
    assert error_affinity(errors, ["x"]).values[0, 0, 1] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (
            {"a": [1, 2], "b": [1, 2, 3]},
            "`errors` must have one number for each of the same K examples. Received: shape (3,) "
            "for 'b', (2,) for 'a'.",
        ),
        (
            {"a": [1, np.inf]},
            "`errors['a']` must be finite numbers, or nan where an example has no label. "
            "Received: 1 infinite, 0 nan of 2.",
        ),
        (
            {"a": [np.nan, np.nan]},
            "`errors['a']` must be finite numbers, or nan where an example has no label. "
            "Received: 0 infinite, 2 nan of 2.",
        ),
        (
            {"a": [1, np.nan], "b": [np.nan, 1]},
            "`errors` must have examples with a label for both of any two tasks. Received: none "
            "for 'a' and 'b'.",
        ),
        (
            {},
            "`errors` must be a dict from task to an array of shape (K,). Received: dict without "
            "entries.",
        ),
    ],
)
def test_bad_errors(errors, message):
    with pytest.raises(ValueError) as error:
        error_affinity(errors, ["x"])
    assert str(error.value) == message
