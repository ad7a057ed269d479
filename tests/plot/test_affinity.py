"""The picture of an affinity: lines for few tasks, matrices for many."""

import numpy as np
import pytest
from matplotlib.image import imread

from keras_mtl import plot
from keras_mtl.affinity import Affinity


def affinity(num_tasks, num_locations):
    generator = np.random.default_rng(0)
    values = generator.uniform(0.2, 0.9, (num_locations, num_tasks, num_tasks))
    values = (values + values.transpose(0, 2, 1)) / 2
    values[:, range(num_tasks), range(num_tasks)] = 1
    tasks = [f"attribute_nr_{index:02d}" for index in range(num_tasks)]
    return Affinity(values, tasks, [f"conv{index}_block3_out" for index in range(num_locations)])


def assert_nothing_is_cut_off(figure):
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize(("num_tasks", "num_locations"), [(2, 1), (3, 4), (5, 9)])
def test_few_tasks_are_lines(tmp_path, num_tasks, num_locations):
    data = affinity(num_tasks, num_locations)
    path = tmp_path / "new" / "affinity.png"
    figure = plot.affinity(data, path=path)
    assert imread(path).shape[1] == int(figure.get_size_inches()[0] * 150)
    (axes,) = figure.axes
    assert len(axes.lines) == num_tasks * (num_tasks - 1) // 2
    for line in axes.lines:
        i, j = map(data.tasks.index, line.get_label().split(", "))
        np.testing.assert_array_equal(line.get_ydata(), data.values[:, i, j])
    last = [line.get_ydata()[-1] for line in axes.lines]
    assert last == sorted(last, reverse=True)
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == [line.get_label() for line in axes.lines]
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize(("num_tasks", "num_locations"), [(6, 1), (6, 4), (26, 5)])
def test_many_tasks_are_matrices(tmp_path, num_tasks, num_locations):
    data = affinity(num_tasks, num_locations)
    path = tmp_path / "affinity.png"
    figure = plot.affinity(data, path=path)
    assert path.exists()
    *panels, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == list(data.locations)
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert sorted(names) == list(data.tasks)
    order = [data.tasks.index(name) for name in names]
    for values, axes in zip(data.values, panels, strict=True):
        shown = axes.collections[0].get_array().filled(np.nan)
        expected = values[np.ix_(order, order)].copy()
        np.fill_diagonal(expected, np.nan)
        np.testing.assert_array_equal(shown, expected)
    assert_nothing_is_cut_off(figure)


def test_tasks_that_are_alike_stand_together():
    values = np.full((6, 6), 0.1)
    for group in ([0, 2, 4], [1, 3, 5]):
        values[np.ix_(group, group)] = 0.9
    np.fill_diagonal(values, 1)
    figure = plot.affinity(Affinity(values[None], list("abcdef"), ["x"]))
    names = "".join(label.get_text() for label in figure.axes[0].get_yticklabels())
    assert {frozenset(names[:3]), frozenset(names[3:])} == {frozenset("ace"), frozenset("bdf")}


def test_one_task_is_refused():
    with pytest.raises(ValueError) as error:
        plot.affinity(Affinity([[[1]]], ("depth",), ("x",)))
    assert str(error.value) == (
        "`affinity` must be of at least 2 tasks, to be drawn. Received: tasks=('depth',)."
    )
