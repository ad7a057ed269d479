"""Columns of units, one for each task, and what they read of each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path

from keras_mtl.plot import _canvas
from keras_mtl.plot._flow import Box, Flow, Node

if TYPE_CHECKING:
    from keras_mtl.architecture import Architecture
    from keras_mtl.fusion import Fusion

_BOX, _HALF = (0.62, 0.24), 0.075  # width and height of a box, half of a node; inches
_NODE, _STEP, _STAGGER = 0.31, 0.24, 0.16  # from a box to its node, to the next, to the next task's
_GAP = 0.95  # between boxes of neighbouring columns
_MARGIN, _BESIDE = 0.12, 0.62  # beside the boxes of the outer columns; to nodes off the path
_THIN, _THICK = 0.7, 1.5
_SHAPES = ("circle", "diamond", "square", "triangle")


def columns(
    architecture: Architecture,
    candidates: Architecture | Sequence[Fusion] | None = None,
    *,
    path: os.PathLike[str] | str | None = None,
    title: str | None = None,
) -> Figure:
    """Draws an Architecture with fusions: a column of units per task, and arrows between columns.

    Units stand from top to bottom. A box is a unit's computation: grey with the shared copy, in
    the task's colour with its own, in a branch's colour with a branch's; dashed where the unit is
    skipped. What several tasks compute in common is drawn once, in a column of its own. A node
    below a box is what a fusion gives to a task; an arrow leads to it from everything that it reads
    beside the task's own path, in the colour of the column where it begins. Where at a unit each
    task reads all the others, one bar stands for these arrows.

    Args:
        architecture: `Architecture`. The decision to draw.
        candidates: `Architecture`, sequence of `Fusion` or `None`. The edges that might have been
            chosen: those that were not are thin lines.
        path: str, path or `None`. Where to save a PNG file; folders are created.
        title: str or `None`. A heading.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: when the architecture has no tasks or units, or the candidates are for others.

    Example:

    >>> fusion = keras_mtl.Fusion("f", "nddr", "v", [("a", "v"), ("b", "u")], ["a"])
    >>> choices = {"a": ("own", "own"), "b": ("own", "own")}
    >>> plan = keras_mtl.Architecture(("a", "b"), ("u", "v"), choices, fusions=[fusion])
    >>> figure = columns(plan)
    >>> [patch.get_gid() for patch in figure.axes[0].patches if "->" in patch.get_gid()]
    ['b/u->f/a']

    Reference: [MTL-NAS](https://arxiv.org/abs/2003.14058), Figures 1 and 4.
    """
    tasks, units = tuple(architecture.tasks), tuple(architecture.units)
    if not tasks or not units:
        raise ValueError(
            "`architecture` must have tasks and units. Received: "
            f"{len(tasks)} tasks and {len(units)} units."
        )
    flow = Flow(architecture, _candidates(architecture, candidates))
    return _canvas.saved(_Picture(flow, tasks, units, title).figure, path)


def _candidates(architecture, candidates):
    fusions = tuple(getattr(candidates, "fusions", candidates or ()))
    names = {*architecture.units, *(f.name for f in (*architecture.fusions, *fusions))}
    for fusion in fusions:
        read = {name for _, name in fusion.sources} | {fusion.unit}
        of_tasks = {task for task, _ in fusion.sources} | set(fusion.targets)
        if not read <= names or not of_tasks <= set(architecture.tasks):
            raise ValueError(
                "`candidates` must be between the tasks and units of the architecture. "
                f"Received: {fusion!r}."
            )
    return fusions


class _Picture:
    """The drawing of a `Flow`; coordinates are inches, y downwards."""

    def __init__(self, flow, tasks, units, title):
        self.flow, self.tasks, self.units = flow, tasks, units
        groups = dict.fromkeys(t for t in flow.tasks_of.values() if len(t) > 1)
        self.columns = [*groups, *((task,) for task in tasks)]
        self.exchanges = flow.exchanges()
        self.exchanged = {node for group in self.exchanges for node in group}
        self.branches = self._branches()
        # Arrows within the first column run left of it.
        within = [(flow.tasks_of[source], (node.task,)) for source, node in flow.edges]
        self.margin = 0.6 if (self.columns[0],) * 2 in within else _MARGIN
        self._places()
        self._canvas(title)
        for pair, of_tasks in flow.paths.items():
            self._path(*pair, of_tasks)
        for task, last in flow.ends.items():
            self._end(task, last)
        for group in self.exchanges:
            self._bar(group)
        for (source, node), chosen in sorted(flow.edges.items(), key=lambda edge: edge[1]):
            if node not in self.exchanged or not chosen:
                self._edge(source, node, chosen)
        for each in self.place:
            self._box(each) if isinstance(each, Box) else self._node(each)
        self._legend()

    # Places --------------------------------------------------------------------------------------

    def _x(self, column):
        return self.margin + column * (_BOX[0] + _GAP) + _BOX[0] / 2

    def _places(self):
        """Where everything stands: boxes row by row, the nodes of a row below it."""
        self.place, self.rows, y = {}, [], _BOX[1] / 2 + 0.1
        column = {tasks: index for index, tasks in enumerate(self.columns)}
        for unit in range(len(self.units)):
            self.rows.append(y)
            bottom = y
            nodes = [node for node, (index, _) in self.flow.ranks.items() if index == unit]
            staggered = len(self.columns) > 2 and not self.exchanged.intersection(nodes)
            for node in nodes:
                of_task = column[node.task,]
                below = _NODE + _STEP * self.flow.ranks[node][1]
                # The farther from the columns in common, the higher.
                below += _STAGGER * (len(self.columns) - 1 - of_task) * staggered
                aside = _BESIDE if node in self.flow.beside else 0
                self.place[node] = self._x(of_task) + aside, y + below
                bottom = max(bottom, y + below + _HALF)
            for box in self.flow.tasks_of:
                if isinstance(box, Box) and box.unit == unit:
                    self.place[box] = self._x(column[self.flow.tasks_of[box]]), y
            y = max(bottom, y + _BOX[1] / 2) + _BOX[1] / 2 + 0.14
        self.height = y + 0.1

    def _canvas(self, title):
        names = _canvas.short_units(self.units)
        width = max(x for x, _ in self.place.values()) + _BOX[0] / 2 + _MARGIN
        width = max(width, self._x(len(self.columns) - 1) + _BOX[0] / 2 + _MARGIN)
        left = _canvas.text_inches(names, 8) + 0.3
        right = _canvas.text_inches([label for _, label in self._entries()], 8) + 0.8
        top = 0.75 if title else 0.45
        figure, axes = _canvas.canvas(width, self.height, left, right, 0.1, top)
        axes.set_xlim(0, width)
        axes.set_ylim(self.height, 0)
        axes.set_yticks(self.rows)
        axes.set_yticklabels(names, fontsize=8)
        axes.tick_params(axis="y", pad=4)
        axes.set_xticks([self._x(index) for index in range(len(self.columns))])
        axes.set_xticklabels(self._headings(), fontsize=9)
        axes.xaxis.tick_top()
        _canvas.bare(axes)
        for tasks, label in zip(self.columns, axes.get_xticklabels(), strict=True):
            label.set_color(self._shade(tasks))
        if title:
            figure.text(
                0.1 / figure.get_size_inches()[0], 1 - 0.14 / figure.get_size_inches()[1], title,
                ha="left", va="top", fontsize=11, color=_canvas.INK,
            )  # fmt: skip
        self.figure, self.axes = figure, axes

    def _headings(self):
        short = dict(zip(self.tasks, _canvas.short(self.tasks, 14), strict=True))
        return [
            "all tasks" if len(tasks) == len(self.tasks) > 1 else "\n".join(short[t] for t in tasks)
            for tasks in self.columns
        ]

    def _branches(self):
        copies = dict.fromkeys(each.copy for each in self.flow.tasks_of if isinstance(each, Box))
        named = [copy for copy in copies if copy not in ("shared", "skip", *self.tasks)]
        return {name: _canvas.colour(_canvas.BRANCH_COLOURS, i) for i, name in enumerate(named)}

    def _shade(self, tasks):
        if len(tasks) > 1:
            return _canvas.SHARED
        return _canvas.colour(_canvas.TASK_COLOURS, self.tasks.index(tasks[0]))

    # What is drawn -------------------------------------------------------------------------------

    def _box(self, box):
        x, y = self.place[box]
        width, height = _BOX
        of_tasks = self.flow.tasks_of[box]
        style = {"facecolor": self._copy_shade(box.copy), "linewidth": 0}
        if box.copy == "skip":
            style = {"facecolor": "white", "linewidth": 0.9, "linestyle": (0, (2.5, 2.5))}
            style["edgecolor"] = self._shade(of_tasks)
        self.axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2), width, height, gid=self._name(box), zorder=4,
                boxstyle="round,pad=0,rounding_size=0.05", **style,
            )
        )  # fmt: skip

    def _copy_shade(self, copy):
        if copy in self.tasks:
            return self._shade((copy,))
        return self.branches.get(copy, _canvas.SHARED)

    def _node(self, node):
        kind = list(dict.fromkeys(self.flow.kinds.values())).index(self.flow.kinds[node])
        shade = self._shade((node.task,))
        self.axes.add_patch(
            _shape(kind, self.place[node], facecolor="white", edgecolor=shade, linewidth=1.6,
                   gid=self._name(node), zorder=5)
        )  # fmt: skip

    def _path(self, start, stop, of_tasks):
        shade = self._shade(tuple(of_tasks))
        x, y = self.place[stop]
        begin = self.place[start] if start is not None else (x, 0)
        self.axes.add_patch(
            PathPatch(_elbow(begin, (x, y)), fill=False, edgecolor=shade, linewidth=2.2, zorder=2,
                      capstyle="round", gid=f"path/{self._name(stop)}")
        )  # fmt: skip

    def _end(self, task, last):
        """The way of a task's features to its head."""
        shade = self._shade((task,))
        end = self._x(self.columns.index((task,))), self.height
        self.axes.add_patch(
            FancyArrowPatch(path=_elbow(self.place[last], end), arrowstyle="-|>", mutation_scale=9,
                            color=shade, fill=False, linewidth=2.2, zorder=2, gid=f"end/{task}",
                            capstyle="butt", joinstyle="miter")
        )  # fmt: skip

    def _bar(self, group):
        places = [self.place[node] for node in group]
        ends = [min(x for x, _ in places), max(x for x, _ in places)]
        self.axes.plot(
            ends, [places[0][1]] * 2, color=_canvas.INK, linewidth=2 * _THICK, zorder=3,
            solid_capstyle="butt", gid="exchange",
        )  # fmt: skip

    def _edge(self, source, node, chosen):
        shade = self._shade(self.flow.tasks_of[source])
        style = {"linewidth": _THIN, "color": shade, "alpha": 0.45, "zorder": 1}
        if chosen:
            style = {"linewidth": _THICK, "color": shade, "zorder": 3}
        self.axes.add_patch(
            FancyArrowPatch(
                path=self._way(source, node), arrowstyle="-|>" if chosen else "-",
                mutation_scale=7, fill=False, gid=f"{self._name(source)}->{self._name(node)}",
                **style,
            )
        )  # fmt: skip

    def _way(self, source, node):
        """The curve of an arrow: from the side of what is read to the side of the node."""
        (x0, y0), (x1, y1) = self.place[source], self.place[node]
        half = _BOX[0] / 2 if isinstance(source, Box) else _HALF
        if x0 != x1:
            side = 1 if x1 > x0 else -1
            start, stop = x0 + side * half, x1 - side * _HALF
            turn = min(abs(stop - start), _GAP) * 0.6 * side
            points = [(start, y0), (start + turn, y0), (stop - turn, y1), (stop, y1)]
        elif self._free(source, node):
            return Path([(x0, y0 + _HALF), (x1, y1 - _HALF)])
        else:
            far = _BOX[0] / 2 + min(0.12 + 0.08 * (y1 - y0), 0.8 * _GAP)
            points = [(x0 - half, y0), (x0 - far, y0), (x1 - far, y1), (x1 - _HALF, y1)]
        return Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])

    def _free(self, source, node):
        """Whether nothing stands between two places of a column."""
        (x, top), (_, bottom) = self.place[source], self.place[node]
        return not any(a == x and top < y < bottom for a, y in self.place.values())

    def _name(self, each):
        if isinstance(each, Node):
            return f"{each.fusion}/{each.task}"
        return f"{'+'.join(self.flow.tasks_of[each])}/{self.units[each.unit]}"

    # The legend ----------------------------------------------------------------------------------

    def _entries(self):
        boxes = {each.copy for each in self.flow.tasks_of if isinstance(each, Box)}
        owners = [task for task in self.tasks if task in boxes]
        entries = []
        if "shared" in boxes:
            entries.append((Patch(color=_canvas.SHARED), "shared copy"))
        if owners:
            colours = tuple(Patch(color=self._shade((task,))) for task in owners[:3])
            entries.append((colours, "own copy"))
        for name, shade in self.branches.items():
            entries.append((Patch(color=shade), f"branch {_canvas.short([name])[0]}"))
        if "skip" in boxes:
            dashed = {"facecolor": "white", "linestyle": (0, (2.5, 2.5))}
            entries.append((Patch(edgecolor=_canvas.INK, **dashed), "skipped"))
        return entries + self._fusion_entries()

    def _fusion_entries(self):
        entries = []
        markers = dict(zip(_SHAPES, "oDs^", strict=True))
        for index, kind in enumerate(dict.fromkeys(self.flow.kinds.values())):
            marker = markers[_SHAPES[index % len(_SHAPES)]]
            style = {"marker": marker, "markersize": 6, "markerfacecolor": "white"}
            line = Line2D([], [], linestyle="", color=_canvas.INK, markeredgewidth=1.4, **style)
            entries.append((line, kind))
        edges = [on for (_, node), on in self.flow.edges.items() if node not in self.exchanged]
        if any(edges):
            line = Line2D([], [], color=_canvas.INK, linewidth=_THICK, marker=">", markersize=4)
            entries.append((line, f"reads ({sum(edges)})"))
        if not all(edges):
            line = Line2D([], [], color=_canvas.INK, linewidth=_THIN, alpha=0.6)
            entries.append((line, f"might read ({len(edges) - sum(edges)})"))
        if self.exchanges:
            line = Line2D([], [], color=_canvas.INK, linewidth=2 * _THICK)
            entries.append((line, "each reads all others"))
        return entries

    def _legend(self):
        entries = self._entries()
        self.axes.legend(
            [handle for handle, _ in entries], [label for _, label in entries], loc="upper left",
            bbox_to_anchor=(1, 1), borderaxespad=0, frameon=False, fontsize=8,
            labelcolor=_canvas.INK, handlelength=1.6,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        )  # fmt: skip


def _shape(kind, place, **style):
    x, y = place
    shape = _SHAPES[kind % len(_SHAPES)]
    if shape == "circle":
        return Circle(place, _HALF, **style)
    wide, tall = (0.8 * _HALF, 0.8 * _HALF) if shape == "square" else (1.15 * _HALF,) * 2
    corners = {
        "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(-1, 0.8), (0, -1), (1, 0.8)],
    }[shape]
    return Polygon([(x + wide * a, y + tall * b) for a, b in corners], **style)


def _elbow(start, stop):
    """A line down, or first aside into another column."""
    (x0, y0), (x1, y1) = start, stop
    if x0 == x1:
        return Path([start, stop])
    bend = min(y1 - y0, _GAP / 2)
    before = x1 - bend if x1 > x0 else x1 + bend
    return Path(
        [start, (before, y0), (x1, y0), (x1, y0 + bend), stop],
        [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO],
    )
