"""A backbone as data: the calls of a functional Keras model, in order, and the units they form."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_mtl.errors import UnsupportedBackboneError

INPUT = -1  # the `node` of a value that is an input of the backbone

# Keras has no public name for it. Before 3.14 a model without any operation is refused.
_probe = keras.Input((1,), name="probe")
_Functional = type(keras.Model(_probe, keras.layers.Identity(name="reader")(_probe)))


@dataclasses.dataclass(frozen=True)
class Value:
    """Names one tensor of the backbone: output number `output` of call number `node`."""

    node: int
    output: int


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of one operation.

    Args:
        index: int. Position in the order of execution.
        key: string. Path of the operation; calls of one shared layer have the same key.
        operation: the user's `keras.Operation` (read only; models own clones of it).
        args, kwargs: what it was called with; tensors are replaced by `Value`.
        outputs: tuple of `keras.KerasTensor`, the flat outputs' shapes and types.
    """

    index: int
    key: str
    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: tuple

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Flat tuple of the `Value`s that the call reads."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return tuple(x for x in flat if isinstance(x, Value))

    @property
    def first_input(self) -> Value | None:
        """The `Value` of the operation's first argument, by position or by name; or `None`."""
        named = [self.kwargs.get("inputs"), self.kwargs.get("query"), *self.kwargs.values()]
        flat = [x for x in keras.tree.flatten([*self.args, *named]) if isinstance(x, Value)]
        return flat[0] if flat else None

    def replay(self, operation: Callable[..., Any], tensor_of: Callable[[Value], Any]) -> Any:
        """Calls `operation` as the original was called; `tensor_of(value)` gives its tensors."""

        def replace(x):
            return tensor_of(x) if isinstance(x, Value) else x

        args, kwargs = keras.tree.map_structure(replace, (self.args, self.kwargs))
        return operation(*args, **kwargs)


@dataclasses.dataclass(frozen=True, eq=False)
class BackboneGraph:
    """Everything that the library knows of a backbone; made by `read`.

    Args:
        name: string. The backbone's name.
        inputs: tuple of `keras.KerasTensor`, with names.
        calls: tuple of `Call`, in order of execution; nested functional models are opened.
        output: `Value`. The features.
        backbone: the user's model (for its configuration; never changed).
    """

    name: str
    inputs: tuple
    calls: tuple
    output: Value
    backbone: keras.Model

    def spec(self, value: Value) -> keras.KerasTensor:
        """The `keras.KerasTensor` (shape and type) of a `Value`."""
        if value.node == INPUT:
            return self.inputs[value.output]
        return self.calls[value.node].outputs[value.output]

    def ancestors(
        self, values: Iterable[Value], inside: Collection[int] | None = None
    ) -> list[int]:
        """Indices of the calls on which values depend, in order.

        Args:
            values: iterable of `Value`.
            inside: collection of int, or `None`. The search stays among these calls.
        """
        return sorted(_behind(self.calls, values, inside)[0])

    def run(
        self,
        values: Mapping[Value, Any],
        layer_of: Callable[[Call], Callable],
        calls: Iterable[int] | None = None,
    ) -> dict[Value, Any]:
        """Runs calls of the backbone one after another.

        Args:
            values: mapping from `Value` to a tensor. What is there at the beginning.
            layer_of: function of a `Call` that returns the layer, or function, to be called.
            calls: iterable of int, or `None`. The indices of the calls, in order; all of them.

        Returns:
            A dict with the given values and those that the calls gave.
        """
        known = dict(values)
        for index in range(len(self.calls)) if calls is None else calls:
            call = self.calls[index]
            outputs = call.replay(layer_of(call), known.__getitem__)
            for i, tensor in enumerate(keras.tree.flatten(outputs)):
                known[Value(index, i)] = tensor
        return known

    def pack_inputs(self, inputs: Sequence[Any]) -> Any:
        """Packs a flat list of inputs into the structure that the backbone takes."""
        if isinstance(self.backbone, keras.Sequential):
            return inputs[0]
        return keras.tree.pack_sequence_as(self.backbone.input, inputs)

    @property
    def features(self) -> keras.KerasTensor:
        """Shape and type of the backbone's output."""
        return self.spec(self.output)

    @property
    def fingerprint(self) -> str:
        """A short hash of the calls: classes, settings, shapes; not weights, names or seeds."""
        text = [[list(x.shape), str(x.dtype)] for x in self.inputs]
        text += [
            [type(c.operation).__name__, [[v.node, v.output] for v in c.inputs]]
            + [list(x.shape) for x in c.outputs]
            + [_settings(c.operation)]
            for c in self.calls
        ]
        return hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]


def _settings(operation):
    """An operation's configuration without what differs between two equal backbones."""

    def strip(config):
        if isinstance(config, dict):
            return {
                key: strip(value)
                for key, value in config.items()
                if key not in ("name", "seed", "trainable", "dtype", "vocabulary_size")
                and not key.endswith("initializer")
            }
        if isinstance(config, (list, tuple)):
            return [strip(value) for value in config]
        return (
            config if isinstance(config, (str, int, float, bool, type(None))) else str(type(config))
        )

    try:
        return strip(operation.get_config())
    except NotImplementedError:  # refused with a sentence when it is to be cloned
        return None


def read(backbone: keras.Model) -> BackboneGraph:
    """Reads a functional backbone into a `BackboneGraph`, with public Keras names only.

    The model is replayed by `keras.models.clone_model` with stand-ins for its operations, so that
    neither the backbone nor its layers are changed. A `Sequential` model counts as functional;
    nested functional models are opened; any other layer is one operation.

    Args:
        backbone: functional `keras.Model` with one output.

    Returns:
        A `BackboneGraph`.

    Raises:
        UnsupportedBackboneError: for anything else, with the way out.

    Example:

    >>> import keras, keras_mtl
    >>> inputs = keras.Input((8,))
    >>> backbone = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Dense(8)(inputs)))
    >>> [call.outputs[0].shape for call in keras_mtl.graph.read(backbone).calls]
    [(None, 8), (None, 4)]
    """
    _check(backbone)
    reader = _Reader()
    inputs = [Value(INPUT, i) for i in range(len(backbone.inputs))]
    (output,) = reader.replay(backbone, inputs, prefix="")
    specs = tuple(keras.KerasTensor(x.shape, x.dtype, name=x.name) for x in backbone.inputs)
    calls, output = _needed(reader.calls, output)
    return BackboneGraph(backbone.name, specs, calls, output, backbone)


def needed_inputs(network: keras.Model) -> list[tuple[int, ...]]:
    """Which inputs every output of a functional model depends on.

    Args:
        network: functional `keras.Model`, with any number of outputs.

    Returns:
        A list with a tuple for each of `network.outputs`: the positions in `network.inputs`.
    """
    reader = _Reader()
    inputs = [Value(INPUT, i) for i in range(len(network.inputs))]
    outputs = reader.replay(network, inputs, prefix="")
    return [tuple(sorted(_behind(reader.calls, [output])[1])) for output in outputs]


def _behind(calls, values, inside=None):
    """The calls and the numbers of the inputs that values depend on, as two sets."""
    needed, inputs, stack = set(), set(), list(values)
    while stack:
        value = stack.pop()
        if value.node == INPUT:
            inputs.add(value.output)
        elif value.node not in needed and (inside is None or value.node in inside):
            needed.add(value.node)
            stack += calls[value.node].inputs
    return needed, inputs


def _needed(calls, output):
    """The calls that the output depends on: a nested model may have outputs that nobody reads."""
    needed = sorted(_behind(calls, [output])[0])
    numbers = {old: new for new, old in enumerate(needed)}
    numbers[INPUT] = INPUT

    def renumbered(x):
        return Value(numbers[x.node], x.output) if isinstance(x, Value) else x

    kept = []
    for old in needed:
        args, kwargs = keras.tree.map_structure(renumbered, (calls[old].args, calls[old].kwargs))
        kept.append(dataclasses.replace(calls[old], index=numbers[old], args=args, kwargs=kwargs))
    return tuple(kept), renumbered(output)


class _StandIn(keras.Operation):
    """Has the shapes of an operation without being it: calling it leaves the original alone."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def compute_output_spec(self, *args, **kwargs):
        return self.operation.compute_output_spec(*args, **kwargs)

    def call(self, *args, **kwargs):
        return self.operation(*args, **kwargs)


class _Reader:
    def __init__(self):
        self.calls = []
        self.keys = {}  # id(operation) -> key
        self.values = {}  # id(symbolic tensor) -> Value
        self.alive = []  # keeps those tensors, so that no id is used twice
        self.stand_ins = {}

    def key(self, operation, prefix):
        if id(operation) not in self.keys:
            taken = set(self.keys.values())
            key = f"{prefix}{operation.name}".replace("/", ".")
            while key in taken:
                key += "_"
            self.keys[id(operation)] = key
        return self.keys[id(operation)]

    def remember(self, tensors, values):
        for tensor, value in zip(tensors, values, strict=True):
            self.values[id(tensor)] = value
            self.alive.append(tensor)

    def replay(self, model, inputs, prefix, shapes=None):
        """Records the calls of `model`; returns the `Value`s of its flat outputs."""
        plain = keras.Model(list(model.inputs), list(model.outputs))
        shapes = shapes or [x.shape for x in plain.inputs]
        symbols = [
            keras.Input(batch_shape=shape, dtype=x.dtype)
            for shape, x in zip(shapes, plain.inputs, strict=True)
        ]
        for symbol in symbols:  # before Keras 3.14 every input must be read by something
            keras.layers.Identity(name="reader")(symbol)
        self.remember(symbols, inputs)

        def stand_in(operation):
            if id(operation) not in self.stand_ins:
                self.stand_ins[id(operation)] = _StandIn(operation)
            return self.stand_ins[id(operation)]

        def record(stand_in, *args, **kwargs):
            outputs = stand_in(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            if is_functional(stand_in.operation):
                values = self.open(stand_in.operation, args, kwargs, prefix)
            else:
                values = self.record(stand_in.operation, args, kwargs, flat, prefix)
            self.remember(flat, values)
            return outputs

        replayed = keras.models.clone_model(
            plain, input_tensors=symbols, clone_function=stand_in, call_function=record
        )
        return [self.values[id(x)] for x in replayed.outputs]

    def record(self, operation, args, kwargs, outputs, prefix):
        index = len(self.calls)
        if isinstance(operation, keras.layers.Layer):
            # Keras notes the default, False; when run, a layer asks the model that calls it.
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        args, kwargs = keras.tree.map_structure(
            lambda x: self.values[id(x)] if isinstance(x, keras.KerasTensor) else x, (args, kwargs)
        )
        specs = tuple(keras.KerasTensor(x.shape, x.dtype) for x in outputs)
        key = self.key(operation, prefix)
        self.calls.append(Call(index, key, operation, args, kwargs, specs))
        return [Value(index, i) for i in range(len(outputs))]

    def open(self, model, args, kwargs, prefix):
        structure = args[0] if args else kwargs["inputs"]
        by_name = isinstance(model, keras.Sequential) or not isinstance(model.input, dict)
        if isinstance(structure, dict) and by_name:
            structure = [structure[x.name] for x in model.inputs]
        tensors = keras.tree.flatten(structure)
        inputs = [self.values[id(x)] for x in tensors]
        # Sizes that the nested model leaves open are known where it is called.
        shapes = [
            x.shape if len(x.shape) == len(own.shape) else own.shape
            for x, own in zip(tensors, model.inputs, strict=True)
        ]
        return self.replay(model, inputs, f"{self.key(model, prefix)}.", shapes)


def is_functional(model: Any) -> bool:
    """Whether `model` is a functional model (or a built `Sequential`), which can be opened."""
    return isinstance(model, _Functional) or (isinstance(model, keras.Sequential) and model.built)


_DENSE = {"sparse": "tf.sparse.to_dense", "ragged": "tf.RaggedTensor.to_tensor"}


def _check(backbone):
    if not isinstance(backbone, keras.Model):
        raise UnsupportedBackboneError(
            "`backbone` must be a functional `keras.Model`. "
            f"Received: backbone={backbone!r} of type {type(backbone).__name__}."
        )
    if isinstance(backbone, keras.Sequential) and not backbone.built:
        raise UnsupportedBackboneError(
            f"`backbone` must be built. Received: an unbuilt Sequential model {backbone.name!r}. "
            "Begin it with a `keras.Input`."
        )
    if not is_functional(backbone):
        raise UnsupportedBackboneError(
            "`backbone` must be a functional `keras.Model`, whose layers can be read. Received: "
            f"the subclassed model {type(backbone).__name__}, which hides its layers in `call`. "
            "Use `keras.Model(inputs, outputs)` with the same layers called one by one."
        )
    for kind in ("sparse", "ragged"):
        names = [x.name for x in backbone.inputs if getattr(x, kind)]
        if names:
            raise UnsupportedBackboneError(
                f"`backbone` must have dense inputs. Received: the {kind} inputs {names}. Make the "
                f"inputs without `{kind}=True`, and let the dataset give dense tensors: "
                f"`dataset.map(lambda x, y: ({_DENSE[kind]}(x), y))`."
            )
    if len(backbone.outputs) != 1:
        raise UnsupportedBackboneError(
            "`backbone` must have one output, the features that the heads read. Received: "
            f"{len(backbone.outputs)} outputs {[x.name for x in backbone.outputs]}. Use "
            "`keras.Model(backbone.input, backbone.outputs[i])`, or concatenate the outputs."
        )
