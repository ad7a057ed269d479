"""The policy of a search as a heat map."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_mtl.plot import _canvas


def policy(probabilities, tasks, units, *, architecture=None, path=None):
    """Draws how likely each task is to select each unit; the darker, the likelier.

    One row per task and one column per unit. Values are printed where cells have room. With an
    architecture, a second group of rows shows the decision: a filled cell is a unit that the task
    runs, an empty cell one that it skips.

    Args:
        probabilities: array of shape `(units, tasks)`. P(select), from 0 to 1.
        tasks: sequence of str. Names of the tasks.
        units: sequence of str. Names of the units.
        architecture: `Architecture` or `None`. A decision over the same tasks and units.
        path: str, path or `None`. Where to save a PNG file; folders are created.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when shapes, values or the architecture's names do not fit.

    Example:

    >>> figure = policy([[0.9, 0.2], [0.5, 1.0]], ["depth", "normal"], ["block1", "block2"])
    >>> figure.axes[0].get_title(loc="left")
    'P(select)'

    Reference: [AdaShare](https://arxiv.org/abs/1911.12423), Figure 3 (a).
    """
    tasks, units = tuple(tasks), tuple(units)
    probabilities = np.asarray(probabilities, dtype="float64")
    if probabilities.shape != (len(units), len(tasks)) or not probabilities.size:
        raise ValueError(
            "`probabilities` must have shape (units, tasks) = "
            f"{(len(units), len(tasks))}, both at least 1. "
            f"Received: probabilities.shape={probabilities.shape}."
        )
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError(
            "`probabilities` must lie between 0 and 1. Received: values from "
            f"{probabilities.min():.3g} to {probabilities.max():.3g}."
        )
    if architecture is not None and (architecture.tasks, architecture.units) != (tasks, units):
        raise ValueError(
            "`architecture` must have the same tasks and units. Received: "
            f"architecture.tasks={architecture.tasks} of {tasks}, "
            f"{len(architecture.units)} units of {len(units)}."
        )

    cell = 0.46 if len(units) <= 24 else 0.26
    row, size = 0.32, 8 if len(units) <= 24 else 7
    width, height = max(cell * len(units), 0.46), row * len(tasks)
    names = _canvas.short(tasks)
    gap = 0.4
    decided = gap + height if architecture is not None else 0.0
    left = _canvas.text_inches(names, 9) + 0.25
    tall = min(max(height, 0.8), 2.5)
    bottom = max(_canvas.units_inches(units, cell, size), tall - height - decided) + 0.1
    # The heading of the decision needs its own width, past which the colour bar stands.
    beside = max(width, 1.65) if architecture is not None else width
    right = beside - width + 0.75
    figure = Figure(figsize=(left + width + right, bottom + decided + height + 0.4))
    axes = _canvas.place(figure, left, bottom + decided, width, height)
    _canvas.label_units(axes, units, cell, size)
    if architecture is not None:
        axes.set_xticks([])
        marks = _canvas.place(figure, left, bottom, width, height)
        _decision(marks, architecture)
        _rows(marks, names)
        _canvas.label_units(marks, units, cell, size)
        marks.set_title("decision: ■ runs  □ skips", loc="left", fontsize=9, color=_canvas.INK)

    mesh = axes.pcolormesh(
        probabilities.T, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1.2
    )
    _rows(axes, names)
    axes.set_title("P(select)", loc="left", fontsize=9, color=_canvas.INK)
    if cell >= 0.4:
        for (unit, task), value in np.ndenumerate(probabilities):
            shade = "white" if value > 0.55 else _canvas.INK
            axes.text(
                unit + 0.5, task + 0.5, f"{value:.2f}",
                ha="center", va="center", fontsize=7.5, color=shade,
            )  # fmt: skip
    scale = _canvas.place(figure, left + beside + 0.15, bottom + decided + height - tall, 0.1, tall)
    bar = figure.colorbar(mesh, cax=scale, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    scale.tick_params(length=0, labelsize=7.5, colors=_canvas.INK)
    return _canvas.saved(figure, path)


def _rows(axes, names):
    axes.set_yticks([index + 0.5 for index in range(len(names))])
    axes.set_yticklabels(names, fontsize=9)
    axes.set_ylim(len(names), 0)


def _decision(axes, architecture):
    for row, task in enumerate(architecture.tasks):
        for column, choice in enumerate(architecture.choices[task]):
            runs = choice != "skip"
            axes.add_patch(
                Rectangle(
                    (column + 0.14, row + 0.14), 0.72, 0.72, linewidth=0.8,
                    facecolor="#08519c" if runs else "white",
                    edgecolor="#08519c" if runs else _canvas.FAINT,
                    gid="runs" if runs else "skips",
                )
            )  # fmt: skip
    axes.set_xlim(0, len(architecture.units))
