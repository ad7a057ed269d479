"""The pictures: what is in them, where they are saved, and what is refused."""

import dataclasses

import keras
import numpy as np
import pytest
from matplotlib.image import imread

from keras_mtl import plot
from keras_mtl.plot import _canvas

TASKS = ("segmentation", "depth", "normal", *(f"a_task_with_a_long_name_{i}" for i in range(9)))


@dataclasses.dataclass
class Plan:
    tasks: tuple
    units: tuple
    choices: dict
    fusions: tuple = ()


def plan(num_tasks, num_units):
    cycle = ("shared", "own", "skip", "left", "right", "shared", "left")
    tasks, units = TASKS[:num_tasks], tuple(f"unit{index}" for index in range(num_units))
    choices = {
        task: tuple(cycle[(2 * lane + index) % len(cycle)] for index in range(num_units))
        for lane, task in enumerate(tasks)
    }
    return Plan(tasks, units, choices)


def assert_nothing_is_cut_off(figure):
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height


SIZES = [(1, 1), (2, 8), (3, 16), (12, 8), (2, 58)]


@pytest.mark.parametrize(("num_tasks", "num_units"), SIZES)
def test_policy(tmp_path, num_tasks, num_units):
    decision = plan(num_tasks, num_units)
    probabilities = np.random.default_rng(0).uniform(size=(num_units, num_tasks))
    path = tmp_path / "new" / "policy.png"
    figure = plot.policy(
        probabilities, decision.tasks, decision.units, architecture=decision, path=path
    )
    assert imread(path).shape[1] == int(figure.get_size_inches()[0] * 150)
    heat, marks, _ = figure.axes
    np.testing.assert_allclose(heat.collections[0].get_array(), probabilities.T)
    values = [text.get_text() for text in heat.texts]
    assert values == ([f"{p:.2f}" for p in probabilities.ravel()] if num_units <= 16 else [])
    kinds = [patch.get_gid() for patch in marks.patches]
    assert len(kinds) == num_tasks * num_units
    skips = sum(choices.count("skip") for choices in decision.choices.values())
    assert kinds.count("skips") == skips
    assert_nothing_is_cut_off(figure)
    assert_nothing_is_cut_off(plot.policy(probabilities, decision.tasks, decision.units))


@pytest.mark.parametrize(("num_tasks", "num_units"), SIZES)
def test_policy_of_three_options(tmp_path, num_tasks, num_units):
    decision = plan(num_tasks, num_units)
    probabilities = np.random.default_rng(0).dirichlet((1, 1, 1), size=(num_units, num_tasks))
    path = tmp_path / "policy.png"
    figure = plot.policy(
        probabilities, decision.tasks, decision.units, architecture=decision, path=path
    )
    assert imread(path).shape[1] == int(figure.get_size_inches()[0] * 150)
    panels, strips = figure.axes[::2], figure.axes[1::2]
    assert len(panels) == len(strips) == num_tasks
    for index, (panel, strip) in enumerate(zip(panels, strips, strict=True)):
        shared, own, skip, _ = panel.containers
        for option, bars in enumerate((shared, own, skip)):
            heights = [bar.get_height() for bar in bars]
            np.testing.assert_allclose(heights, probabilities[:, index, option])
        np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in skip], 1)
        chosen = tuple(patch.get_gid() for patch in strip.patches)
        assert chosen == decision.choices[decision.tasks[index]]
    assert_nothing_is_cut_off(figure)
    figure = plot.policy(probabilities, decision.tasks, decision.units)
    assert len(figure.axes) == num_tasks
    assert_nothing_is_cut_off(figure)


def test_policy_refuses():
    tasks, units = ("depth", "normal"), ("a", "b", "c")
    with pytest.raises(ValueError) as error:
        plot.policy(np.zeros((2, 3)), tasks, units)
    assert str(error.value) == (
        "`probabilities` must have shape (units, tasks) = (3, 2), both at least 1, or (3, 2, 3) "
        "for the options ('shared', 'own', 'skip'). Received: probabilities.shape=(2, 3)."
    )
    with pytest.raises(ValueError, match="at least 1"):
        plot.policy(np.zeros((0, 2)), tasks, ())
    with pytest.raises(ValueError) as error:
        plot.policy(np.full((3, 2), 1.5), tasks, units)
    assert str(error.value) == (
        "`probabilities` must lie between 0 and 1. Received: values from 1.5 to 1.5."
    )
    with pytest.raises(ValueError) as error:
        plot.policy(np.full((3, 2, 3), 0.5), tasks, units)
    assert str(error.value) == (
        "`probabilities` of the options must sum to 1. Received: sums from 1.5 to 1.5."
    )
    with pytest.raises(ValueError) as error:
        plot.policy(np.zeros((3, 2)), tasks, units, architecture=plan(1, 3))
    assert str(error.value) == (
        "`architecture` must have the same tasks and units. Received: "
        "architecture.tasks=('segmentation',) of ('depth', 'normal'), 3 units of 3."
    )


@pytest.mark.parametrize(("num_tasks", "num_units"), SIZES)
def test_architecture_draws_every_copy_once(tmp_path, num_tasks, num_units):
    decision = plan(num_tasks, num_units)
    path = tmp_path / "plan.png"
    figure = plot.architecture(decision, path=path, title="A plan with quite a long heading")
    assert path.exists()
    copies = {
        f"{unit}/own/{task}" if choice == "own" else f"{unit}/{choice}"
        for task in decision.tasks
        for unit, choice in zip(decision.units, decision.choices[task], strict=True)
        if choice != "skip"
    }
    drawn = [patch.get_gid() for patch in figure.axes[0].patches]
    assert sorted(drawn) == sorted(copies)
    assert_nothing_is_cut_off(figure)


def test_architecture_lanes_and_colours():
    choices = {
        "a": ("shared", "left", "own"),
        "b": ("shared", "own", "skip"),
        "c": ("shared", "left", "own"),
    }
    figure = plot.architecture(Plan(("a", "b", "c"), ("x", "y", "z"), choices))
    (axes,) = figure.axes
    patches = {patch.get_gid(): patch for patch in axes.patches}
    assert set(patches) == {"x/shared", "y/left", "y/own/b", "z/own/a", "z/own/c"}
    # One box over three lanes; two boxes in one patch, joined by one bar; one dashed piece.
    low, high = patches["x/shared"].get_path().get_extents().intervaly
    assert (round(low, 2), round(high, 2)) == (0.14, 2.86)
    bars = [line for line in axes.lines if line.get_zorder() == 2]
    assert [tuple(line.get_ydata()) for line in bars] == [(0.5, 2.5)]
    assert bars[0].get_zorder() < patches["y/own/b"].get_zorder()
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [tuple(line.get_xdata()) for line in dashed] == [(2, 3.45)]
    colours = {gid: patch.get_facecolor() for gid, patch in patches.items()}
    assert len(set(colours.values())) == 5
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["shared copy", "own copy", "branch left", "skipped"]


def test_architecture_refuses():
    with pytest.raises(ValueError) as error:
        plot.architecture(Plan(("a",), ("x", "y"), {"a": ("own",)}))
    assert str(error.value) == (
        "`architecture` must have one choice per unit, 2 for every task. "
        "Received: 1 choices for task 'a'."
    )
    with pytest.raises(ValueError, match="Received: no choices for task 'a'"):
        plot.architecture(Plan(("a",), ("x", "y"), {}))
    with pytest.raises(ValueError) as error:
        plot.architecture(Plan((), ("x",), {}))
    assert str(error.value) == (
        "`architecture` must have tasks and units. Received: 0 tasks and 1 units."
    )


@pytest.mark.parametrize("num_tasks", [1, 2, 12])
def test_task_correlation(tmp_path, num_tasks):
    matrix = np.full((num_tasks, num_tasks), -0.25)
    np.fill_diagonal(matrix, 1.0)
    matrix[0, -1] = matrix[-1, 0] = np.nan
    path = tmp_path / "correlation.png"
    figure = plot.task_correlation(matrix, TASKS[:num_tasks], path=path)
    assert path.exists()
    values = [text.get_text() for text in figure.axes[0].texts]
    assert len(values) == num_tasks**2
    assert values.count("–") == (1 if num_tasks == 1 else 2)
    mesh = figure.axes[0].collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-1, 1)
    assert_nothing_is_cut_off(figure)


def test_task_correlation_refuses():
    with pytest.raises(ValueError) as error:
        plot.task_correlation(np.eye(3), ("a", "b"))
    assert str(error.value) == (
        "`matrix` must have shape (tasks, tasks) = (2, 2), at least 1. "
        "Received: matrix.shape=(3, 3)."
    )
    with pytest.raises(ValueError) as error:
        plot.task_correlation([[1.0, 0.5], [0.25, 1.0]], ("a", "b"))
    assert str(error.value) == (
        "`matrix` must be symmetric. Received: entries that differ by 0.25."
    )
    with pytest.raises(ValueError) as error:
        plot.task_correlation([[1.0, 2.0], [2.0, 1.0]], ("a", "b"))
    assert str(error.value) == ("`matrix` must lie between -1 and 1. Received: values from 1 to 2.")


def test_history(tmp_path):
    fit = keras.callbacks.History()
    fit.history = {
        "loss": [3.0, 2.0, 1.5, 1.0],
        "depth_loss": [3e-5, 2e-5, 1.5e-5, 1e-5],
        "val_loss": [2.5, 1.25],
        "val_accuracy": [0.5, 0.75],
    }
    path = tmp_path / "curves.png"
    figure = plot.history(fit, path=path)
    assert path.exists()
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["loss", "depth_loss", "accuracy"]
    training, validation = panels["loss"].lines
    assert (training.get_label(), validation.get_label()) == ("training", "validation")
    assert list(training.get_xdata()) == [1, 2, 3, 4]
    # Validated every second epoch.
    assert list(validation.get_xdata()) == [2, 4]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1, 1]
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 4), (5, 3), (8, 4), (12, 4)])
def test_history_grid(count, columns):
    figure = plot.history({f"name{index}": [1.0] for index in range(count)})
    assert len(figure.axes) == count
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == columns
    assert_nothing_is_cut_off(figure)


def test_history_draws_the_mean_of_an_array():
    figure = plot.history({"f1": [np.array([0.0, 1.0]), np.array([0.5, 1.0])]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.5, 0.75])


def test_history_refuses():
    with pytest.raises(ValueError) as error:
        plot.history({})
    assert str(error.value) == (
        "`history` must hold at least one curve. Received: history={}. Pass what `fit` returns."
    )
    with pytest.raises(ValueError) as error:
        plot.history({"loss": [[1.0], [2.0]]})
    assert str(error.value) == (
        "`history` must hold one number per epoch for every name. "
        "Received: shape (2, 1) for 'loss'."
    )


def test_short_names_stay_apart():
    assert _canvas.short(["depth"]) == ["depth"]
    assert _canvas.short(["a_very_long_task_name"], 11) == ["a_ver…_name"]
    names = [f"a_very_long_{index}_task_name" for index in range(3)]
    assert len(set(_canvas.short(names))) == 3
    units = [f"conv2_block{index}_0_concatenate" for index in (1, 2, 10)]
    assert _canvas.short_units(units) == ["block1", "block2", "block10"]
    assert _canvas.short_units(["conv1", "conv2"]) == ["conv1", "conv2"]
