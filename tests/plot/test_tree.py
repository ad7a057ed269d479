"""The picture of a tree: a box for each copy, a line from each to the next."""

import dataclasses

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import FancyBboxPatch, PathPatch

from keras_mtl import plot
from keras_mtl.plot import _canvas

ABC = ((("a", "b", "c"),), (("a", "c"), ("b",)), (("a",), ("b",), ("c",)))


@dataclasses.dataclass
class Tree:
    levels: tuple
    tasks: tuple


def random_tree(num_tasks, num_locations):
    """At every location, each group falls apart in up to three."""
    generator = np.random.default_rng(num_tasks)
    tasks = tuple(f"attribute_nr_{index:02d}" for index in range(num_tasks))
    levels = [(tasks,)]
    for _ in range(num_locations - 1):
        groups = []
        for group in levels[-1]:
            parts = generator.integers(0, 3, len(group))
            split = [
                tuple(t for t, p in zip(group, parts, strict=True) if p == k) for k in range(3)
            ]
            groups += [part for part in split if part]
        levels.append(tuple(sorted(groups, key=lambda group: tasks.index(group[0]))))
    return Tree(tuple(levels), tasks)


def assert_nothing_is_cut_off(figure):
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height


def boxes_and_links(figure):
    (axes,) = figure.axes
    boxes = {p.get_gid(): p for p in axes.patches if isinstance(p, FancyBboxPatch)}
    return boxes, [p for p in axes.patches if isinstance(p, PathPatch)]


@pytest.mark.parametrize(("num_tasks", "num_locations"), [(1, 1), (3, 4), (26, 5), (40, 4)])
def test_every_copy_is_drawn_once(tmp_path, num_tasks, num_locations):
    tree = random_tree(num_tasks, num_locations)
    path = tmp_path / "new" / "tree.png"
    figure = plot.tree(tree, path=path)
    assert imread(path).shape[1] == int(figure.get_size_inches()[0] * 150)
    boxes, links = boxes_and_links(figure)
    assert set(boxes) == {
        f"{d}/{'+'.join(group)}" for d, groups in enumerate(tree.levels) for group in groups
    }
    # One from the parent of each box but the roots, and one to each task.
    assert len(links) == len(boxes) - 1 + num_tasks
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(names) == list(tree.tasks)
    for groups in tree.levels:
        for group in groups:
            places = sorted(names.index(task) for task in group)
            assert places == list(range(places[0], places[0] + len(group)))
    assert_nothing_is_cut_off(figure)


def test_places_links_and_colours():
    figure = plot.tree(Tree(ABC, ("a", "b", "c")), ["low", "middle", "high"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["low", "middle", "high"]
    boxes, links = boxes_and_links(figure)
    middles = {}
    for gid, box in boxes.items():
        x, y = box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2
        middles[gid] = (round(x, 6), round(y, 6))
    assert middles == {
        "0/a+b+c": (0.5, 1.5), "1/a+c": (1.5, 1), "1/b": (1.5, 2.5),
        "2/a": (2.5, 0.5), "2/c": (2.5, 1.5), "2/b": (2.5, 2.5),
    }  # fmt: skip
    ends = [tuple(np.round(link.get_path().vertices[[0, -1], 1], 6)) for link in links]
    to_boxes, to_tasks = ends[:5], ends[5:]
    assert to_boxes == [(1.5, 1), (1.5, 2.5), (1, 0.5), (2.5, 2.5), (1, 1.5)]
    assert sorted(to_tasks) == [(0.5, 0.5), (1.5, 1.5), (2.5, 2.5)]
    colours = {gid: matplotlib.colors.to_hex(box.get_facecolor()) for gid, box in boxes.items()}
    assert colours["0/a+b+c"] == _canvas.SHARED
    assert colours["1/b"] == colours["2/b"] == _canvas.TASK_COLOURS[1]
    assert colours["1/a+c"] == _canvas.BRANCH_COLOURS[0]
    counts = [text.get_text() for text in axes.texts]
    assert counts == ["3", "2", "1", "1", "1", "1"]


def test_roots_may_be_several():
    figure = plot.tree(Tree(((("a",), ("b",)),), ("a", "b")))
    boxes, links = boxes_and_links(figure)
    assert set(boxes) == {"0/a", "0/b"} and len(links) == 2


def test_locations_that_do_not_fit():
    with pytest.raises(ValueError) as error:
        plot.tree(Tree(ABC, ("a", "b", "c")), ["low", "high"])
    assert str(error.value) == (
        "`locations` must name each of the tree's 3 locations. Received: 2 names."
    )
