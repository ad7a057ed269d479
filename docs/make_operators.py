"""Writes `docs/operators.md`: what a search may do with the operators of a backbone.

    PYTHONPATH=. python docs/make_operators.py

Takes less than a minute on one core; builds the backbones of `tests/backbones.py` without weights.
"""

import collections
import datetime
import pathlib

import keras

from keras_mtl.graph import find_units, is_normalisation, read, skip_kind, support
from keras_mtl.graph.operators import _LINEAR, OPERATORS
from tests.backbones import BACKBONES

HEAD = """# Operators: shared, own copy or skipped

Written by `PYTHONPATH=. python docs/make_operators.py` with Keras {keras} on {date}.

With `granularity="operator"` every weighted operator of a backbone is a unit of its own, together
with the normalisation that alone reads it. What a search may do there is in one table, by layer
class; a class that is not in it is treated as the nearest class that it inherits from.

"""
AFTER_TABLE = """
- **own copy**: tasks may have their own copy of the operator, cloned from its `get_config`. That
  works with every layer that Keras can save.
- **skip**: where shapes allow it, a task may leave the operator out. The skip begins with its first
  input; of attention, that is the query.
- **mixed**: while the choice is open, copies are mixed by mixing their weights, one call for all of
  them, since the output is linear in the weights; an activation in the layer runs on the mixture.
  Only exactly these classes, without LoRA, quantisation and activity regulariser; of the others the
  outputs are mixed.
- Wrappers (`TimeDistributed`, `SpectralNormalization`) are as the layer inside; outputs are mixed.
- The state of a `stateful` recurrent layer belongs to its copy; several paths that call one copy
  write one state.

## How it is skipped

`keras_mtl.graph.skip_kind(layer, source, target)` decides, from the shapes and types of the first
input and of the output:

| | when |
|---|---|
| identity | shape and type agree, and so do places |
| projection | one rank, floating point, and no axis grows but the channels |
| never: changes the rank | `LSTM` without `return_sequences`, heads split by `EinsumDense` |
| never: enlarges its input | transposed convolutions with stride |
| never: changes an unknown length | "valid" or strided convolution along an axis of size `None` |
| never: reverses its sequence | recurrent layers with `go_backwards=True` |
| never: moves its axes | `EinsumDense("abcd,de->acbe")` |
| never: reads integers, gives integers, channels_first | a 1x1 convolution cannot follow |

A projection is a 1x1 convolution (for vectors a dense layer) that reads every s-th position around
the middle of the input, `keras_mtl.layers.Projection`.

An axis of size `None` counts as equal where the layer keeps lengths: padding "same" or "causal" and
stride 1, dense, attention, recurrent layers with `return_sequences=True`. Of other classes
`compute_output_spec` is asked; one that cannot say is not skipped.

## What that gives

Operators of the backbones of `tests/backbones.py` (those of `keras.applications` with
`include_top=False` at the smallest size that they take).

"""
AFTER_BACKBONES = """
## Your own layer class

A class of yours that inherits from `keras.layers.Layer` is copied as it is, and never skipped until
you say that its output means the same as its first input. Its FLOPs count 0, with a warning, until
you price them. `get_config` must be complete, as Keras asks for saving.

```python
"""
EXAMPLE = """import keras
from keras_mtl.graph import find_units, flops, read, register_flops, register_operator


@register_operator
class Gated(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 2 * self.units))

    def call(self, inputs):
        value, gate = keras.ops.split(inputs @ self.kernel, 2, axis=-1)
        return value * keras.ops.sigmoid(gate)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register_flops(Gated)
def gated_flops(layer, inputs, outputs):  # shapes with batch 1
    return 2 * inputs[0][-1] * 2 * layer.units


inputs = keras.Input((8,))
backbone = keras.Model(inputs, Gated(4, name="second")(Gated(8, name="first")(inputs)))
units = find_units(read(backbone), "operator")
assert [unit.name for unit in units] == ["first", "second"]
assert flops(backbone, [(None, 8)], [(None, 4)]) == 2 * 8 * 16 + 2 * 8 * 8
"""
TAIL = """```

`register_operator(Gated, skip=False, why="...")` keeps it always on; the reason is shown by
`summary()`. A class of a library that you do not want to import is given by its name:
`register_operator("LlamaTransformerDecoder")`, or by the name under which Keras has registered it,
`register_operator("keras_hub>FNetEncoder")`. `register_flops` takes names too.
"""


def support_table():
    """The table of the code, a line for all classes with one entry."""
    rows = {}
    for key, entry in OPERATORS.entries.items():
        if not isinstance(key, str) and not key.__module__.startswith("keras."):
            continue  # a user's class
        name = key.replace("keras_hub>", "keras_hub: ") if isinstance(key, str) else _name(key)
        linear = "weights" if key in _LINEAR else "outputs"
        rows.setdefault((entry, linear), []).append(f"`{name}`")
    lines = ["| layer classes | own copy | skip | mixed by | why not |", "|---|---|---|---|---|"]
    for (entry, linear), names in rows.items():
        cells = (", ".join(names), _yes(entry.own), _yes(entry.skip), linear, entry.why)
        lines.append("| " + " | ".join(cells) + " |")
    other = support(keras.layers.Layer())
    cells = (_yes(other.own), _yes(other.skip), "outputs", "is in no table")
    lines.append("| any other class with weights | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _name(cls):
    """The name that Keras exports a class by, which may be another than its own."""
    names = [name for name, value in vars(keras.layers).items() if value is cls]
    return cls.__name__ if cls.__name__ in names else names[0]


def _yes(value):
    return "yes" if value else "no"


def row(make):
    """What the operators of one backbone allow."""
    graph = read(make())
    found, reasons = collections.Counter(), collections.Counter()
    for unit in find_units(graph, "operator"):
        call = graph.calls[unit.calls[0]]
        if not unit.searchable or is_normalisation(call.operation):
            continue
        kind, why = skip_kind(call.operation, graph.spec(call.inputs[0]), call.outputs[0])
        found.update(["operators", kind or "never"])
        found["linear"] += support(call.operation).linear
        if kind is None:
            reasons[why] += 1
    counts = [found[name] for name in ("operators", "linear", "identity", "projection", "never")]
    return [*counts, ", ".join(f"{why} ({count})" for why, count in reasons.items())]


def main():
    lines = ["| backbone | operators | mixed by weights | identity | projection | never | why |"]
    lines += ["|---|" + "--:|" * 5 + "---|"]
    for name, (make, _) in BACKBONES.items():
        cells = row(make)
        print(name, *cells, flush=True)
        lines.append("| " + " | ".join(map(str, (name, *cells))) + " |")
        keras.backend.clear_session()
    head = HEAD.format(keras=keras.__version__, date=datetime.date.today().isoformat())
    text = head + support_table() + AFTER_TABLE + "\n".join(lines) + "\n"
    text += AFTER_BACKBONES + EXAMPLE + TAIL
    pathlib.Path(__file__).with_name("operators.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
