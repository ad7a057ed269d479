"""The picture of parameters against Δ_T."""

import numpy as np
import pytest
from matplotlib.image import imread

from keras_mtl import plot
from keras_mtl.plot.front import pareto_optimal

POINTS = {
    "AutoMTL, by λ": [(2.4e6, 11.2, "1e-2"), (2.6e6, 12.9, "1e-3"), (2.9e6, 13.2, "1e-4")],
    "random": [(2.8e6, 4.0), (2.7e6, 6.5)],
    "shared": [(2.1e6, 7.1)],
    "single-task": [(4.0e6, 0.0)],
}


def marks(figure, kind):
    lines = [line for line in figure.axes[0].lines if line.get_gid() == kind]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines]


def test_front(tmp_path):
    path = tmp_path / "new" / "front.png"
    figure = plot.front(POINTS, 4e6, path=path)
    assert imread(path).shape[1] == int(figure.get_size_inches()[0] * 150)
    optimal, others = marks(figure, "optimal"), marks(figure, "point")
    expected = [(-40.0, 11.2), (-35.0, 12.9), (-27.5, 13.2), (-47.5, 7.1)]
    np.testing.assert_allclose(optimal, expected)
    np.testing.assert_allclose(others, [(-30.0, 4.0), (-32.5, 6.5), (0.0, 0.0)])
    (front,) = [line for line in figure.axes[0].lines if line.get_gid() == "front"]
    np.testing.assert_allclose(front.get_xydata(), sorted(expected))
    # Only what has labels is joined, in the order given.
    (joined,) = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.2]
    np.testing.assert_allclose(joined.get_ydata(), [11.2, 12.9, 13.2])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [*POINTS, "Pareto-optimal"]


def test_front_without_a_baseline():
    figure = plot.front(POINTS)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "parameters (M)"
    assert (2.1, 7.1) in marks(figure, "optimal")


@pytest.mark.parametrize("baseline", [None, 4e6])
@pytest.mark.parametrize("names", [1, 3, 14])
def test_nothing_is_cut_off(names, baseline):
    points = {
        f"a series with a long name {index}": [(1e6 * (index + 1), index, f"label {index}")]
        for index in range(names)
    }
    figure = plot.front(points, baseline)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height


def test_labels_do_not_cover_each_other():
    sweep = [(1e6 + 1e3 * index, index / 10, f"λ = 1e-{index}") for index in range(5)]
    figure = plot.front({"sweep": sweep, "far": [(3e6, 9.0)]})
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 5
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_every_series_looks_its_own_way():
    figure = plot.front({f"network {i}": [(1e6 + i, float(i))] for i in range(30)})
    (legend,) = [axes.get_legend() for axes in figure.axes]
    looks = [(line.get_color(), line.get_marker()) for line in legend.get_lines()[:-1]]
    assert len(looks) == len(set(looks)) == 30


def test_pareto_optimal():
    points = [(2, 1), (1, 1), (1, 1), (3, 5), (4, 5), (0, -1)]
    assert pareto_optimal(points).tolist() == [False, True, True, True, False, True]


def test_front_refuses():
    with pytest.raises(ValueError) as error:
        plot.front({"empty": []})
    assert str(error.value) == (
        "`points` must hold at least one point. Received: points={'empty': []}. Pass a dict from "
        "the name of a series to its points."
    )
    for point in ((1e6,), (1e6, float("nan")), (1e6, None), (-1.0, 2.0), (1, 2, "a", 3)):
        with pytest.raises(ValueError) as error:
            plot.front({"a": [point]})
        assert str(error.value) == (
            "`points` must be `(parameters, delta)` or `(parameters, delta, label)`, with finite "
            f"numbers and no parameters below 0. Received: {point!r} in 'a'. "
            "Leave out what has failed."
        )
    with pytest.raises(ValueError) as error:
        plot.front(POINTS, 0)
    assert str(error.value) == (
        "`baseline` must be a positive number of parameters. Received: baseline=0."
    )
