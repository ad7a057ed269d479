"""The picture of a search for partitions."""

import numpy as np
import pytest
from matplotlib.image import imread

from keras_mtl import plot
from keras_mtl.plot import _canvas

DRAWN = [(0.2, 0.5, 0), (0.6, 0.7, 0), (0.4, 0.6, 0)]
EVOLVED = [*DRAWN, (0.5, 0.70, 1), (0.6, 0.72, 1), (0.4, 0.71, 2), (0.5, 0.75, 2)]
SERIES = {"random": DRAWN, "evolved": EVOLVED, "share half": [(0.75, 0.6)], "share all": [(1, 0.7)]}


def lines(figure, kind):
    return [line for line in figure.axes[0].lines if line.get_gid() == kind]


def test_partition_search(tmp_path):
    path = tmp_path / "new" / "search.png"
    figure = plot.partition_search(SERIES, path=path)
    assert imread(path).shape[1] == int(figure.get_size_inches()[0] * 150)
    for line in lines(figure, "random"):  # those that the search began with are among them
        np.testing.assert_array_equal(line.get_xydata(), [row[:2] for row in DRAWN])
        assert line.get_color() == _canvas.FAINT
    (way,) = lines(figure, "way")
    np.testing.assert_allclose(way.get_xydata(), [(0.55, 0.71), (0.45, 0.73)])
    for kind, place in (("first", (0.55, 0.71)), ("last", (0.45, 0.73))):
        (end,) = lines(figure, kind)
        np.testing.assert_allclose(end.get_xydata(), [place])
    (dots,) = figure.axes[0].collections
    np.testing.assert_array_equal(dots.get_offsets(), [row[:2] for row in EVOLVED[3:]])
    strength = dots.get_alpha()
    assert strength[0] == strength[1] < strength[2] == strength[3]
    marks = lines(figure, "mark")
    np.testing.assert_array_equal([mark.get_xydata()[0] for mark in marks], [(0.75, 0.6), (1, 0.7)])
    assert marks[0].get_marker() != marks[1].get_marker()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == list(SERIES)


def test_several_series_of_random_draws_have_colours():
    series = {f"share {share}": [(share, 0.5), (share, 0.6)] for share in (0.25, 0.5, 0.75)}
    colours = [line.get_color() for line in lines(plot.partition_search(series), "random")]
    assert colours == list(_canvas.TASK_COLOURS[:3])


@pytest.mark.parametrize("names", [1, 3, 14])
def test_nothing_is_cut_off(names):
    series = {
        f"a series with a long name {index}": [(0.1, 0.2, index), (0.9, 1000.0 * index, index + 1)]
        for index in range(names)
    }
    figure = plot.partition_search(series)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height


def test_partition_search_refuses():
    with pytest.raises(ValueError) as error:
        plot.partition_search({"random": []})
    assert str(error.value) == (
        "`series` must hold at least one row. Received: series={'random': []}. Pass a dict from "
        "the name of a series to its rows."
    )
    for row in ((0.5,), (0.5, float("nan")), (0.5, None), (0.5, 0.5, 1, 1)):
        with pytest.raises(ValueError) as error:
            plot.partition_search({"a": [row]})
        assert str(error.value) == (
            "`series` must hold rows `(feature_use, score)` or `(feature_use, score, generation)` "
            f"of finite numbers. Received: {row!r} in 'a'. Leave out what has failed, as "
            "`PartitionTuner.history()` does."
        )
