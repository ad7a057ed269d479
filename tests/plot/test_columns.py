"""The picture of columns: every computation once, an arrow for every edge, and where they stand."""

import dataclasses

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch

from keras_mtl import Architecture, Fusion, plot
from keras_mtl.plot import _canvas

TASKS = ("segmentation", "normals", "depth", "a_task_with_a_long_name", "edges")


def units(count):
    return tuple(f"block{index}" for index in range(count))


def own(num_tasks, num_units, fusions):
    tasks = TASKS[:num_tasks]
    choices = {task: ("own",) * num_units for task in tasks}
    return Architecture(tasks, units(num_units), choices, fusions=fusions)


def nddr(unit, task, sources):
    return Fusion(f"{unit}.nddr.{task}", "nddr", unit, [(task, unit), *sources], [task])


def random_edges(num_tasks, num_units, share, seed=0):
    """Every task reads of the others the unit at the same place and the one before, or a part."""
    generator = np.random.default_rng(seed)
    fusions = []
    for index, unit in enumerate(units(num_units)):
        for task in TASKS[:num_tasks]:
            near = units(num_units)[max(index - 1, 0) : index + 1]
            found = [(other, name) for other in TASKS[:num_tasks] for name in near if other != task]
            fusions.append(nddr(unit, task, [x for x in found if generator.random() < share]))
    return own(num_tasks, num_units, fusions)


def attention(tasks=TASKS[:3]):
    """A shared trunk of four blocks, from which each task selects after the second and the last."""
    fusions = []
    for task in tasks:
        first = [(task, "block1"), (task, "block0")]
        second = [(task, "block3"), (task, "block2"), (task, f"low.{task}")]
        kind = "task_attention"
        fusions.append(Fusion(f"low.{task}", kind, "block1", first, [task], aside=True))
        fusions.append(Fusion(f"top.{task}", kind, "block3", second, [task]))
    choices = {task: ("shared",) * 4 for task in tasks}
    return Architecture(tasks, units(4), choices, fusions=fusions)


def assert_nothing_is_cut_off(figure):
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height
    (axes,) = figure.axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for patch in axes.patches:
        extent = patch.get_path().get_extents(patch.get_patch_transform())
        assert left <= extent.x0 and extent.x1 <= right, patch.get_gid()
        assert top <= extent.y0 and extent.y1 <= bottom, patch.get_gid()


def drawn(figure):
    """What is in a picture, by kind: boxes, nodes, arrows (with their width), paths."""
    (axes,) = figure.axes
    found = {"boxes": {}, "nodes": {}, "arrows": {}, "paths": {}}
    for patch in axes.patches:
        name = patch.get_gid()
        if "->" in name:
            found["arrows"][name] = patch.get_linewidth()
        elif isinstance(patch, FancyBboxPatch):
            found["boxes"][name] = patch
        elif isinstance(patch, (PathPatch, FancyArrowPatch)):
            found["paths"][name] = patch
        else:
            found["nodes"][name] = patch.get_path().get_extents(patch.get_patch_transform())
    return found


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def middle(extent):
    return round((extent.x0 + extent.x1) / 2, 6), round((extent.y0 + extent.y1) / 2, 6)


@pytest.mark.parametrize(("num_tasks", "num_units"), [(2, 17), (3, 8), (5, 6), (2, 1), (1, 3)])
def test_every_edge_is_an_arrow(tmp_path, num_tasks, num_units):
    candidates = random_edges(num_tasks, num_units, 1.0)
    chosen = random_edges(num_tasks, num_units, 0.3, seed=1)
    path = tmp_path / "new" / "columns.png"
    figure = plot.columns(chosen, candidates, path=path, title="A decision with a heading")
    assert imread(path).shape[1] == pytest.approx(figure.get_size_inches()[0] * 150, abs=1)
    found = drawn(figure)
    assert set(found["boxes"]) == {f"{t}/{u}" for t in chosen.tasks for u in chosen.units}
    assert set(found["nodes"]) == {f"{f.name}/{f.targets[0]}" for f in chosen.fusions}

    def edges(architecture):
        return {
            f"{task}/{unit}->{fusion.name}/{fusion.targets[0]}"
            for fusion in architecture.fusions
            for task, unit in fusion.sources[1:]
        }

    assert set(found["arrows"]) == edges(candidates) > edges(chosen) or num_tasks == 1
    thick = {name for name, width in found["arrows"].items() if width > 1}
    assert thick == edges(chosen)
    assert [text for text in legend(figure) if "read" in text] == [
        *([f"reads ({len(thick)})"] if thick else []),
        *([f"might read ({len(edges(candidates) - thick)})"] if num_tasks > 1 else []),
    ]
    assert_nothing_is_cut_off(figure)
    assert_nothing_is_cut_off(plot.columns(chosen))


def test_places_and_colours():
    there = nddr("block1", "normals", [("segmentation", "block0")])
    back = nddr("block1", "segmentation", [("normals", "block0")])
    plan = own(2, 2, [there, back])
    figure = plot.columns(plan)
    found = drawn(figure)
    (axes,) = figure.axes
    headings = dict(zip(plan.tasks, axes.get_xticks(), strict=True))
    rows = dict(zip(plan.units, axes.get_yticks(), strict=True))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(plan.tasks)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(plan.units)
    for name, box in found["boxes"].items():
        task, unit = name.split("/")
        expected = headings[task], rows[unit]
        assert middle(box.get_path().get_extents()) == pytest.approx(expected)
        shade = _canvas.TASK_COLOURS[plan.tasks.index(task)]
        assert matplotlib.colors.to_hex(box.get_facecolor()) == shade
    node = found["nodes"]["block1.nddr.normals/normals"]
    assert middle(node)[0] == pytest.approx(headings["normals"])
    assert middle(node)[1] > rows["block1"] > rows["block0"]  # downwards
    # The arrow begins at the side of what is read, in its colour, and ends at the side of the node.
    arrow, other = (patch for patch in axes.patches if "->" in patch.get_gid())
    assert arrow.get_gid() == "segmentation/block0->block1.nddr.normals/normals"
    assert matplotlib.colors.to_hex(arrow.get_edgecolor()) == _canvas.TASK_COLOURS[0]
    source = found["boxes"]["segmentation/block0"].get_path().get_extents()
    way = arrow.get_path().vertices
    assert tuple(way[0]) == pytest.approx((source.x1, rows["block0"]))
    tip = way[way[:, 0].argmax()]
    assert tuple(tip) == pytest.approx((node.x0, middle(node)[1]), abs=0.02)
    source = found["boxes"]["normals/block0"].get_path().get_extents()
    assert other.get_path().vertices[0][0] == pytest.approx(source.x0)
    assert legend(figure) == ["own copy", "nddr", "reads (2)"]


def test_a_shared_trunk_is_drawn_once():
    figure = plot.columns(attention())
    found = drawn(figure)
    assert set(found["boxes"]) == {f"segmentation+normals+depth/block{i}" for i in range(4)}
    assert len(found["nodes"]) == 6
    headings = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert headings == ["all tasks", *TASKS[:3]]
    trunk = "segmentation+normals+depth"
    assert {name for name in found["arrows"] if "depth" in name.split("->")[1]} == {
        f"{trunk}/block1->low.depth/depth",
        f"{trunk}/block0->low.depth/depth",
        f"{trunk}/block3->top.depth/depth",
        f"{trunk}/block2->top.depth/depth",
        "low.depth/depth->top.depth/depth",
    }
    # The trunk goes on by itself, and every task ends in a column of its own.
    assert set(found["paths"]) == {
        *(f"path/{trunk}/block{i}" for i in range(4)),
        *(f"end/{task}" for task in TASKS[:3]),
    }
    # Nodes of one unit stand at different heights, so that no arrow runs through another's.
    heights = [middle(found["nodes"][f"low.{task}/{task}"])[1] for task in TASKS[:3]]
    assert heights == sorted(set(heights), reverse=True)
    assert_nothing_is_cut_off(figure)


def test_what_stands_aside_of_a_path_stands_beside_it():
    figure = plot.columns(attention(("depth",)))
    found = drawn(figure)
    x = {name: middle(extent)[0] for name, extent in found["nodes"].items()}
    (column,) = figure.axes[0].get_xticks()
    assert x["top.depth/depth"] == pytest.approx(column)
    assert x["low.depth/depth"] > column + 0.3
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("num_tasks", [2, 4])
@pytest.mark.parametrize("several", [True, False])
def test_where_each_reads_all_there_is_one_bar(num_tasks, several):
    tasks, fusions = TASKS[:num_tasks], []
    for unit in units(2):
        sources = [(task, unit) for task in tasks]
        if several:
            fusions.append(Fusion(f"{unit}.stitch", "cross_stitch", unit, sources, tasks))
        else:
            fusions += [nddr(unit, task, [s for s in sources if s[0] != task]) for task in tasks]
    figure = plot.columns(own(num_tasks, 2, fusions))
    found = drawn(figure)
    assert found["arrows"] == {} and len(found["nodes"]) == 2 * num_tasks
    bars = [line for line in figure.axes[0].lines if line.get_gid() == "exchange"]
    columns = figure.axes[0].get_xticks()
    assert [tuple(bar.get_xdata()) for bar in bars] == [(columns[0], columns[-1])] * 2
    assert legend(figure)[-1] == "each reads all others"
    # With one edge more, all of them are arrows.
    *others, last = fusions
    more = dataclasses.replace(last, sources=(*last.sources, (tasks[0], "block0")))
    found = drawn(plot.columns(own(num_tasks, 2, [*others, more])))
    assert f"{tasks[0]}/block0->{last.name}/{tasks[-1]}" in found["arrows"]
    assert f"{tasks[0]}/block0->{fusions[0].name}/{tasks[1]}" in found["arrows"] or not several


def test_parts_in_common_branches_and_what_is_skipped():
    choices = {
        "a": ("shared", "left", "own", "shared"),
        "b": ("shared", "left", "skip", "shared"),
        "c": ("shared", "own", "shared", "shared"),
    }
    fusion = Fusion("f", "nddr", "block2", [("a", "block2"), ("b", "block1")], ["a"])
    plan = Architecture(("a", "b", "c"), units(4), choices, fusions=[fusion])
    figure = plot.columns(plan)
    found = drawn(figure)
    assert set(found["boxes"]) == {
        "a+b+c/block0", "a+b/block1", "c/block1", "a/block2", "b/block2", "c/block2",
        "a/block3", "b/block3", "c/block3",
    }  # fmt: skip
    headings = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert headings == ["all tasks", "a\nb", "a", "b", "c"]
    colours = {
        name: matplotlib.colors.to_hex(box.get_facecolor()) for name, box in found["boxes"].items()
    }
    assert colours["a+b/block1"] == _canvas.BRANCH_COLOURS[0]
    assert colours["c/block1"] == _canvas.TASK_COLOURS[2]
    # The shared copy of a later unit reads something else for every task: grey, in its column.
    assert colours["c/block2"] == colours["a/block3"] == _canvas.SHARED
    assert colours["b/block2"] == "#ffffff"
    assert list(found["arrows"]) == ["a+b/block1->f/a"]
    assert legend(figure) == [
        "shared copy", "own copy", "branch left", "skipped", "nddr", "reads (1)",
    ]  # fmt: skip
    assert_nothing_is_cut_off(figure)


def sluices(num_units):
    """A sluice network: a mixture at the last unit reads the sluices of all units."""
    tasks, places = TASKS[:2], units(num_units)
    fusions = [
        Fusion(f"{unit}.sluice", "sluice", unit, [(task, unit) for task in tasks], tasks)
        for unit in places
    ]
    for task in tasks:
        sources = [(task, f"{unit}.sluice") for unit in reversed(places)]
        fusions.append(Fusion(f"mixture.{task}", "sluice_mixture", places[-1], sources, [task]))
    return own(2, num_units, fusions)


def test_several_fusions_of_a_task_at_a_unit_stand_below_each_other():
    figure = plot.columns(sluices(2))
    found = drawn(figure)
    assert set(found["arrows"]) == {
        f"block0.sluice/{task}->mixture.{task}/{task}" for task in TASKS[:2]
    }
    names = (f"block1.sluice/{TASKS[0]}", f"mixture.{TASKS[0]}/{TASKS[0]}")
    first, second = (middle(found["nodes"][name]) for name in names)
    assert first[0] == second[0] and first[1] < second[1]
    assert "path/mixture.normals/normals" in found["paths"]
    assert legend(figure) == [
        "own copy", "sluice", "sluice_mixture", "reads (2)", "each reads all others",
    ]  # fmt: skip
    assert_nothing_is_cut_off(figure)


def test_arrows_of_one_column_run_beside_it():
    figure = plot.columns(sluices(9))
    assert len(drawn(figure)["arrows"]) == 2 * 8
    assert_nothing_is_cut_off(figure)


def test_candidates_may_be_fusions_that_are_not_there_at_all():
    plan = own(2, 2, [])
    candidate = nddr("block1", "normals", [("segmentation", "block0")])
    found = drawn(plot.columns(plan, [candidate]))
    assert list(found["nodes"]) == ["block1.nddr.normals/normals"]
    (width,) = found["arrows"].values()
    assert width < 1


def test_it_refuses():
    with pytest.raises(ValueError) as error:
        plot.columns(Architecture((), ("x",), {}))
    assert str(error.value) == (
        "`architecture` must have tasks and units. Received: 0 tasks and 1 units."
    )
    candidate = nddr("block9", "normals", [("segmentation", "block0")])
    with pytest.raises(ValueError) as error:
        plot.columns(own(2, 2, []), [candidate])
    assert str(error.value) == (
        "`candidates` must be between the tasks and units of the architecture. "
        f"Received: {candidate!r}."
    )
    with pytest.raises(ValueError, match=r"^`candidates` must be between"):
        plot.columns(own(2, 2, []), [nddr("block1", "depth", [])])
