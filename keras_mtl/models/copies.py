"""The parameter copies that one model owns, and how a call is carried out with them."""

import contextlib
import inspect
import random

import keras
from keras import ops

from keras_mtl.architecture import SHARED
from keras_mtl.assembly import Executor, operations
from keras_mtl.errors import UnsupportedBackboneError
from keras_mtl.graph import flops, is_weighted, parameters
from keras_mtl.layers import ChannelMask, Projection, SelectOrSkip
from keras_mtl.layers.fusions import fusion_kind
from keras_mtl.models.layer_names import layer_name
from keras_mtl.models.layer_state import hand_state, has_state
from keras_mtl.strategies.strategy import child_seed

BACKBONE, FRESH = "backbone", "fresh"
_TAKE_OPTIONS = "Let its `__init__` take `**kwargs`, and hand them to `super().__init__(**kwargs)`."


class Copies(Executor):
    """Clones of the backbone's operations: one per parameter copy, one if there are no parameters.

    Args:
        graph: `BackboneGraph`.
        trace: iterable of `Operation`, from `count`: what the layers have to carry out.
        seed: int. Of every clone that draws random numbers.
        source: where weights come from: `"backbone"`, `"fresh"` or a mapping from names to layers.
        merge: bool. Whether activations and the like with one configuration are one layer: quicker
            to make, where no network of named layers is to come out.
    """

    def __init__(self, graph, trace, seed, source=BACKBONE, *, merge=False):
        self.layers = {}
        trace = tuple(dict.fromkeys(trace))
        wanted = [copy for operation in trace for copy in operation.copies]
        calls = {call.key: call for call in reversed(graph.calls)}
        weightless = [(c.key, None) for c in graph.calls if not is_weighted(c.operation)]
        alike = {}
        for key, copy in [*wanted, *weightless]:
            if (key, copy) in self.layers:
                continue
            kind = _stateless_kind(calls[key].operation) if merge else None
            if kind is not None and kind in alike:
                self.layers[key, copy] = alike[kind]
                continue
            layer = clone_operation(graph, calls[key], copy, seed, random=source == FRESH)
            self.layers[key, copy] = layer
            if kind is not None:
                alike[kind] = layer
            if is_weighted(layer):
                hand_weights(layer, key, copy, calls[key].operation, source)
            hand_state(layer, calls[key].operation)  # of the data: never drawn anew
        self.projections, self.normalisations, self.activations = {}, {}, {}
        self.fusions, self.masks = {}, {}
        for operation in trace:
            match operation:
                case operations.Project(unit=unit, copy=copy):
                    self._make(self.projections, _projection, graph, unit, copy, seed, source)
                case operations.Normalize(unit=unit, copy=copy):
                    self._make(self.normalisations, _normalisation, graph, unit, copy, seed, source)
                case operations.Activate(unit=unit) if unit.name not in self.activations:
                    self.activations[unit.name] = _activation(graph, unit)
                case operations.Fuse(fusion=fusion) if fusion.name not in self.fusions:
                    self.fusions[fusion.name] = layer = _fusion(operation, seed)
                    if not isinstance(source, str) and fusion.name in source:
                        hand_weights(layer, fusion.name, SHARED, None, source)
                case operations.Mask(value=value, mask=mask) if (value, mask) not in self.masks:
                    number = 1 + sum(known == value for known, _ in self.masks)
                    self.masks[value, mask] = _mask(graph, value, mask, number)
        self.mixer = SelectOrSkip(name="mix")
        self.mixer.built = True

    @staticmethod
    def _make(made, make, graph, unit, copy, seed, source):
        """One of the layers that stand in for a unit, if it is not there yet."""
        if (unit.name, copy) not in made:
            made[unit.name, copy] = layer = make(graph, unit, copy, seed)
            if not isinstance(source, str):
                key = layer.name if copy == SHARED else layer.name.removesuffix(f".{copy}")
                hand_weights(layer, key, copy, None, source)

    def named_layers(self):
        """Every Keras layer whose name comes from the backbone, in an order that is always so."""
        layers = [
            *self.layers.values(),
            *self.projections.values(),
            *self.normalisations.values(),
            *self.activations.values(),
            *self.fusions.values(),
            *self.masks.values(),
        ]
        different = {id(layer): layer for layer in layers}.values()
        return [layer for layer in different if isinstance(layer, keras.layers.Layer)]

    def all_layers(self):
        """Every Keras layer, in an order that depends on the backbone and the tasks only."""
        return [*self.named_layers(), self.mixer]

    # As an executor ------------------------------------------------------------------------------

    def run(self, call, copy, tensors):
        return _replayed(call, self.layers[call.key, copy], tensors)

    def blend(self, call, copies, weights, tensors):
        layers = [self.layers[call.key, copy] for copy in copies]
        mixed = []
        for variables in zip(*(layer.weights for layer in layers), strict=True):
            value = sum(w * ops.cast(v, "float32") for w, v in zip(weights, variables, strict=True))
            mixed.append((variables[0], ops.cast(value, variables[0].dtype)))
        with keras.StatelessScope(state_mapping=mixed), _without_activation(layers[0]):
            return _replayed(call, layers[0], tensors)[0]

    def mix(self, weights, tensors):
        return self.mixer(tensors, decision=weights)

    def switch(self, weights, groups, branches):
        if len(branches) == 1:
            return branches[0]()
        group_of = [0] * sum(map(len, groups))
        for number, group in enumerate(groups):
            for position in group:
                group_of[position] = number
        chosen = ops.argmax(ops.stack(weights))
        return ops.switch(ops.take(ops.convert_to_tensor(group_of, "int32"), chosen), branches)

    def project(self, unit, copy, tensor):
        return self.projections[unit.name, copy](tensor)

    def normalize(self, unit, copy, tensor):
        return self.normalisations[unit.name, copy](tensor)

    def activate(self, unit, tensor):
        return self.activations[unit.name](tensor)

    def fuse(self, fusion, tensors, gates):
        return fusion_kind(fusion).run(self.fusions[fusion.name], tensors, gates)

    def mask(self, value, mask, tensor):
        return self.masks[value, mask](tensor)


def _stateless_kind(operation):
    """What makes two of Keras' own operations without variables interchangeable, or `None`."""
    if getattr(operation, "variables", None) or not type(operation).__module__.startswith("keras."):
        return None
    if has_state(operation):
        return None
    config = operation.get_config()
    config.pop("name", None)
    return type(operation), repr(config)


def clone_operation(graph, call, copy, seed, *, random=True):
    """A new operation like the one of a call, built, with seeds of its own.

    With `random=False` its weights begin at 0: other weights are about to be handed over.
    """
    operation = call.operation
    name = layer_name(call.key, copy)
    try:
        config = seeded(operation.get_config(), seed, name)
    except NotImplementedError:
        raise UnsupportedBackboneError(
            f"`backbone` must have layers that can be cloned. Received: layer {call.key!r} of type "
            f"{type(operation).__name__} without `get_config`. Add `get_config` to it."
        ) from None
    config = {**config, "name": name}
    if not _takes_name(type(operation)):
        del config["name"]
    with seeds_of(seed, name):
        try:
            clone = type(operation).from_config(config)
        except TypeError as error:
            raise UnsupportedBackboneError(
                f"`backbone` must have layers that can be cloned. Received: layer {call.key!r} of "
                f"type {type(operation).__name__}, whose constructor does not take its own "
                f"configuration ({_first_line(error)}). {_TAKE_OPTIONS}"
            ) from None
        if isinstance(clone, keras.layers.Layer):
            if not clone.built and operation.built:
                with contextlib.nullcontext() if random else _zeros(clone):
                    clone.build_from_config(operation.get_build_config() or {})
            if not clone.built or len(clone.weights) != len(operation.weights):
                call.replay(clone, graph.spec)
    return clone


def _takes_name(operation_class):
    """Older versions of Keras have operations, such as that of `cumsum`, that take no name."""
    if issubclass(operation_class, keras.layers.Layer):
        return True
    parameters = inspect.signature(operation_class.__init__).parameters.values()
    return any(each.name == "name" or each.kind is each.VAR_KEYWORD for each in parameters)


@contextlib.contextmanager
def _zeros(layer):
    """Lets a layer begin at 0 instead of drawing weights that are replaced at once."""
    initializers = {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, keras.initializers.Initializer)
    }
    for name in initializers:
        setattr(layer, name, keras.initializers.Zeros())
    yield
    for name, value in initializers.items():
        setattr(layer, name, value)


def hand_weights(layer, key, copy, original, source):
    """Fills a clone's weights from the backbone or another model; `"fresh"` leaves them alone."""
    if source == FRESH:
        return
    if source == BACKBONE:
        given = original
    else:
        given = source.get(layer_name(key, copy)) or source.get(layer_name(key, SHARED))
        if given is None:
            raise ValueError(
                "`initial_weights` must be a model that has the layers of the new one. Received: a "
                f"model without layer {layer_name(key, copy)!r}."
            )
        if given.weights is None:
            return
        _check_shapes(layer, given)
    for variable, value in zip(layer.weights, given.weights, strict=True):
        variable.assign(value)


def _check_shapes(layer, given):
    wanted, found = ([tuple(v.shape) for v in x.weights] for x in (layer, given))
    if wanted != found:
        task = layer.name.removesuffix(".head")
        head = task != layer.name
        what = f"the head of task {task!r}" if head else f"layer {layer.name!r}"
        out = " Give the task another name to begin with a head of its own." if head else ""
        raise ValueError(
            f"`initial_weights` must have weights of the new model's shapes. Received: {what} with "
            f"weights of shapes {found}, where the new one has {wanted}.{out}"
        )


def clone_head(task, features, seed, source=BACKBONE):
    """A task's head, cloned and built on the features' shape; says so when it does not fit."""
    name = f"{task.name}.head"
    try:
        with seeds_of(seed, name):
            config = seeded(task.head.get_config(), seed, name)
            head = type(task.head).from_config({**config, "name": name})
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"`head` of task {task.name!r} must be a layer that can be cloned. Received: "
            f"{type(task.head).__name__} {task.head.name!r}, which says: {_first_line(error)}. "
            f"Give it `get_config`. {_TAKE_OPTIONS}"
        ) from None
    try:
        with seeds_of(seed, name):
            output = head(keras.KerasTensor(features.shape, features.dtype))
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"`head` of task {task.name!r} must fit the backbone's features of shape "
            f"{tuple(features.shape)}. Received: {type(task.head).__name__} {task.head.name!r}, "
            f"which says: {_first_line(error)}."
        ) from None
    if not isinstance(output, keras.KerasTensor):
        raise ValueError(
            f"`head` of task {task.name!r} must return one tensor. Received: {output!r}."
        )
    if source == BACKBONE and task.head.built and task.head.weights:
        hand_weights(head, name, SHARED, task.head, source)
    elif not isinstance(source, str) and head.weights:
        hand_weights(head, name, SHARED, None, source)
    hand_state(head, task.head)
    return head


def head_costs(head, features):
    """Parameters and FLOPs of a built head."""
    output = head.compute_output_spec(features)
    return parameters(head), flops(head, [tuple(features.shape)], [tuple(output.shape)])


def seeded(config, seed, *path):
    """Fills every seed that a configuration leaves open, from the build's seed and its place."""
    if isinstance(config, dict):
        return {
            key: child_seed(seed, *path)
            if key == "seed" and value is None
            else seeded(value, seed, *path, key)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(seeded(value, seed, *path, i) for i, value in enumerate(config))
    return config


@contextlib.contextmanager
def seeds_of(seed, *path):
    """Decides the seeds that Keras draws for what no configuration shows, such as inner layers.

    Keras draws them from Python's global random numbers, which go on afterwards as if unused.
    """
    state = random.getstate()
    random.seed(child_seed(seed, *path))
    try:
        yield
    finally:
        random.setstate(state)


def _projection(graph, unit, copy, seed):
    source, target = graph.spec(unit.source).shape, graph.spec(unit.output).shape
    name = layer_name(f"{unit.name}.projection", copy)
    layer = Projection(target[-1], target[1:-1], normalise=False, name=name)
    with seeds_of(seed, name):
        layer.build(source)
    return layer


def _normalisation(graph, unit, copy, seed):
    layer = keras.layers.BatchNormalization(name=layer_name(f"{unit.name}.normalisation", copy))
    layer.build(graph.spec(unit.output).shape)
    return layer


def _activation(graph, unit):
    function = graph.calls[unit.core.node].operation.activation
    return keras.layers.Activation(function, name=f"{unit.name}.activation")


def _fusion(fuse, seed):
    fusion, kind = fuse.fusion, fusion_kind(fuse.fusion)
    with seeds_of(seed, fusion.name):
        layer = kind.layer(**fusion.settings, name=fusion.name)
        kind.run(layer, [keras.KerasTensor(spec.shape, spec.dtype) for spec in fuse.specs], None)
    return layer


def _mask(graph, value, mask, number):
    spec = graph.spec(value)
    name = f"{graph.calls[value.node].key}.mask{number}"
    layer = ChannelMask(mask, name=name, dtype=spec.dtype)
    layer.build(spec.shape)
    return layer


def _replayed(call, layer, tensors):
    """The flat outputs of a call that is made again, on its flat inputs."""
    tensor_of = dict(zip(call.inputs, tensors, strict=True)).__getitem__
    return keras.tree.flatten(call.replay(layer, tensor_of))


@contextlib.contextmanager
def _without_activation(layer):
    activation = layer.activation
    layer.activation = None
    try:
        yield
    finally:
        layer.activation = activation


def _first_line(error):
    return str(error).strip().splitlines()[0].rstrip(".")
