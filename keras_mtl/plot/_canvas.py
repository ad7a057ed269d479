"""What the pictures share: sizes in inches, colours, short names, saving."""

import itertools
import pathlib
import re

import numpy as np
from matplotlib.figure import Figure

INK = "#22313f"
FAINT = "#9aa5b1"
SHARED = "#7b8794"
TASK_COLOURS = (
    "#1f77b4", "#d95f02", "#2ca02c", "#c2185b", "#8c6d31", "#17a2b8",
    "#7e57c2", "#e6ab02", "#5d4037", "#66a61e", "#e57373", "#283593",
)  # fmt: skip
BRANCH_COLOURS = (
    "#8dd3c7", "#fdb462", "#bebada", "#fb8072", "#80b1d3", "#b3de69",
    "#fccde5", "#d4b483", "#bc80bd", "#ccebc5", "#ffed6f", "#a6cee3",
)  # fmt: skip

# Width of a character of the pictures' sans-serif font, as a part of its height.
_CHARACTER = 0.6


def canvas(width, height, left, right, bottom, top):
    """A figure with one pair of axes of `width` x `height` inches inside the given margins."""
    figure = Figure(figsize=(left + width + right, bottom + height + top))
    return figure, place(figure, left, bottom, width, height)


def place(figure, left, bottom, width, height):
    """Adds axes at a place of the figure given in inches."""
    total_width, total_height = figure.get_size_inches()
    return figure.add_axes(
        (left / total_width, bottom / total_height, width / total_width, height / total_height)
    )


def finite(values):
    """Whether all are finite numbers; `None` is what a row without a score has."""
    try:
        return bool(np.isfinite(np.asarray(values, dtype="float64")).all())
    except (TypeError, ValueError):
        return False


def text_inches(texts, size):
    """Width in inches of the longest of some texts in a font of `size` points."""
    return max((len(text) for text in texts), default=0) * size * _CHARACTER / 72


def short(names, length=18):
    """Names of at most `length` characters, or as few more as keep them apart."""
    names = [str(name) for name in names]
    while True:
        cut = [_cut(name, length) for name in names]
        if len(set(cut)) == len(set(names)):
            return cut
        length += 4


def short_units(units):
    """Like `short`, but what all long names begin or end with goes first."""
    names = [str(unit) for unit in units]
    if len(set(names)) > 1 and max(map(len, names)) > 18:
        parts = [re.findall(r"[^_/.-]+[_/.-]*", name) or [name] for name in names]
        ahead = _common(parts)
        behind = _common([part[ahead:][::-1] for part in parts])
        kept = ["".join(part[ahead : len(part) - behind]).strip("_/.-") for part in parts]
        if all(kept):
            names = kept
    return short(names)


def _common(lists):
    columns = zip(*lists, strict=False)
    return len(list(itertools.takewhile(lambda column: len(set(column)) == 1, columns)))


def _cut(name, length):
    if len(name) <= length:
        return name
    # The middle goes, as both ends tell names apart.
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def colour(palette, index):
    """The colour of an index; a palette that is used up begins again."""
    return palette[index % len(palette)]


def bare(axes):
    """Takes away frame and tick marks, keeping the labels."""
    axes.tick_params(length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def label_units(axes, units, width, size):
    """Names the columns of a picture; turned upright where they do not fit side by side."""
    names = short_units(units)
    upright = text_inches(names, size) > 0.9 * width
    axes.set_xticks([index + 0.5 for index in range(len(names))])
    axes.set_xticklabels(names, rotation=90 if upright else 0, fontsize=size)
    bare(axes)


def units_inches(units, width, size):
    """Height in inches that `label_units` needs below the axes."""
    longest = text_inches(short_units(units), size)
    return longest + 0.15 if longest > 0.9 * width else 0.3


def saved(figure, path):
    """Saves the figure as a PNG file where a path is given, and returns the figure."""
    if path is not None:
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, format="png", facecolor="white")
    return figure
