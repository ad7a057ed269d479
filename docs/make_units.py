"""Writes `docs/units.md`: what the library reads in every model of `keras.applications`.

    python docs/make_units.py

Takes about four minutes on one core; builds every model without weights.
"""

import datetime
import gc
import inspect
import pathlib
import platform
import time

import keras

from keras_mtl.graph import context_calls, find_units, read

SIZE = 128
HEAD = """# The units of every model in `keras.applications`

Written by `docs/make_units.py` with Keras {keras} on {date}, on one {cores} core. Every model is
built with `include_top=False, weights=None` on {size}×{size}×3.

| column | meaning |
|---|---|
| calls | operations of the graph, nested models opened |
| units | stretches between cuts (`granularity="block"`), single calls joined to operators |
| of several | units of several calls that no cut divides, the blocks of the architecture |
| by shortcut | units that end in an `Add` and may be skipped by its lighter branch |
| by identity | units without such an `Add` whose output has their input's shape |
| always on | the other units; `AdaShare(skippable="projection")` can open many of them |
| operators | searchable units with `granularity="operator"` |
| seconds | to read the graph and find its units |

`AdaShare(skippable="auto")` searches the units by shortcut, and those by identity where there are
none of them. Weightless work on the input (rescaling) belongs to no unit; every other call to one.

"""
NOTES = """
## What the table says

- **NASNet: nothing to search at block granularity.** Each of its cells reads the outputs of the two
  cells before it, so that one value alone passes no position behind the stem. What follows the stem
  is one big unit ({nasnet}), and it is always on. `granularity="operator"` cuts it.
- **DenseNet: many blocks, none that may be skipped.** A block concatenates its result to its input;
  its output has more channels, and no `Add` gives a shortcut. AdaShare needs
  `skippable="projection"`; strategies that only choose copies (own, shared, branch) need nothing.
- **InceptionV3 and InceptionResNetV2: by identity.** The first concatenates branches; the second
  scales and adds in a layer of its own that is not an `Add`. What is skipped is what keeps its
  shape.
- **VGG and MobileNet: chains.** Every convolution is a unit; those that keep their input's shape
  may be skipped by identity, the others need `skippable="projection"`.
- **MobileNetV2, MobileNetV3, EfficientNet.** Blocks with an `Add` may be skipped by it. Blocks that
  change the size have none: they are read as chains, whose single convolutions may be skipped by
  identity where these are asked for (`skippable="identity"`).
- **ResNet.** The first block of a stage changes the size; its shortcut is the projection.
"""


def applications():
    """Name -> function of every model in `keras.applications`, family by family."""
    places = [keras.applications]
    places += [m for _, m in sorted(vars(keras.applications).items()) if inspect.ismodule(m)]
    found = {}
    for place in places[1:] + places[:1]:
        for name, make in vars(place).items():
            if inspect.isfunction(make) and "include_top" in inspect.signature(make).parameters:
                found.setdefault(make, name)
    return {name: make for make, name in found.items()}


def row(make):
    """The numbers of one line of the table, and the calls of the largest unit."""
    backbone = make(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    start = time.perf_counter()
    graph = read(backbone)
    units = find_units(graph)
    seconds = time.perf_counter() - start
    several = sum(len(stretch) > 1 for stretch in stretches(graph))
    by = [unit.skip_by for unit in units]
    operators = sum(unit.searchable for unit in find_units(graph, "operator"))
    counts = (by.count("shortcut"), by.count("identity"), by.count(None))
    cells = (len(graph.calls), len(units), several, *counts, operators, f"{seconds:.2f}")
    return cells, max(len(unit.calls) for unit in units)


def stretches(graph):
    """The calls between cuts, before single calls are joined to units: from the definition.

    A cut lies after a call if no value made before it is read after it, context left out.
    """
    context = context_calls(graph)
    order = [call.index for call in graph.calls if call.index not in context]
    last_read = {graph.output.node: len(graph.calls)}
    for call in graph.calls:
        for value in call.inputs:
            last_read[value.node] = max(call.index, last_read.get(value.node, 0))
    found, current, far = [], [], -1
    for index in order:
        current.append(index)
        if far <= index:  # nothing before this call is read after it
            found.append(current)
            current = []
        far = max(far, last_read.get(index, -1))
    return [*found, current] if current else found


def main():
    columns = "model calls units of_several by_shortcut by_identity always_on operators seconds"
    lines = ["| " + " | ".join(c.replace("_", " ") for c in columns.split()) + " |"]
    lines += ["|---|" + "--:|" * 8]
    nasnet = []
    for name, make in applications().items():
        cells, largest = row(make)
        print(name, *cells, flush=True)
        lines.append("| " + " | ".join(map(str, (name, *cells))) + " |")
        if name.startswith("NASNet"):
            nasnet.append(f"{largest} of {cells[0]} calls in {name}")
        keras.backend.clear_session()
        gc.collect()
    head = HEAD.format(
        keras=keras.__version__,
        date=datetime.date.today().isoformat(),
        cores=platform.machine(),
        size=SIZE,
    )
    text = head + "\n".join(lines) + "\n" + NOTES.format(nasnet=", ".join(nasnet))
    pathlib.Path(__file__).with_name("units.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
