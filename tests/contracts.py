"""Contracts that many tests share, as named helpers."""

import inspect
import json

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import keras_mtl
from keras_mtl.architecture import SKIP
from keras_mtl.strategies.auto_mtl import OPTIONS as AUTO_MTL_OPTIONS

SURE = 20.0  # a logit whose decision is certain in float32


def run_layer_test(
    layer_class,
    config,
    *args,
    expected_shape,
    weights=0,
    trainable=None,
    call_options=None,
    dtype=None,
):
    """Holds a layer to what every Keras layer promises.

    It must rebuild itself from its configuration (as JSON), give the same numbers with the same
    weights, have the expected shape, number of weights and type of output, run symbolically with
    the shape that it says, and be found by its registered name.

    Args:
        layer_class: class.
        config: dict of constructor arguments.
        *args: positional arguments of the call; nested arrays.
        expected_shape: tuple. Shape of the output on these arguments.
        weights: int. Number of weight arrays.
        trainable: int. Number of trainable ones; all by default.
        call_options: dict. Keyword arguments of the call.
        dtype: string. Type of the output; float32 by default.

    Returns:
        The layer, built and called.
    """
    options = call_options or {}
    layer = layer_class(**config)
    output = layer(*args, **options)
    assert tuple(output.shape) == tuple(expected_shape)
    assert keras.backend.standardize_dtype(output.dtype) == (dtype or "float32")
    assert len(layer.weights) == weights
    assert len(layer.trainable_weights) == (weights if trainable is None else trainable)

    rebuilt = layer_class.from_config(json.loads(json.dumps(layer.get_config())))
    assert jsonable(rebuilt.get_config()) == jsonable(layer.get_config())
    rebuilt(*args, **options)
    rebuilt.set_weights(layer.get_weights())
    np.testing.assert_array_equal(rebuilt(*args, **options), layer(*args, **options))

    by_name = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(by_name) is layer_class

    def symbolic(x):
        return keras.KerasTensor(np.shape(x), keras.backend.standardize_dtype(np.asarray(x).dtype))

    tensors = keras.tree.map_structure(symbolic, args)
    assert tuple(layer_class(**config)(*tensors, **options).shape) == tuple(expected_shape)
    return layer


def assert_serialises(cls, arguments, other=()):
    """Every constructor argument, each off its default, survives `get_config` and `from_config`.

    Args:
        cls: class with `get_config` and `from_config`.
        arguments: dict. A value unlike the default for every named argument.
        other: names that may be left out.
    """
    parameters = inspect.signature(cls.__init__).parameters
    named = {
        name: parameter
        for name, parameter in list(parameters.items())[1:]
        if parameter.kind is not parameter.VAR_KEYWORD and name not in other
    }
    assert set(arguments) == set(named), "every argument must be given"
    for name, parameter in named.items():
        assert arguments[name] != parameter.default, f"{name} must be off its default"
    config = json.loads(json.dumps(jsonable(cls(**arguments).get_config())))
    again = cls.from_config(config)
    for name, value in arguments.items():
        assert jsonable(getattr(again, name)) == jsonable(value), name
    assert jsonable(again.get_config()) == config


def jsonable(value):
    """Tuples as lists, so that configurations can be compared with what JSON gives back."""
    return json.loads(json.dumps(value))


def set_policy(model, architecture):
    """Makes an architecture the certain decision of a search model.

    Its gates select or skip (one logit or two), choose among `OPTIONS` (a logit for each), or open
    edges.
    """
    (logits,) = model.policy_variables()
    if hasattr(model.search, "edges"):
        chosen = {
            (*source, fusion.targets[0], fusion.unit)
            for fusion in architecture.fusions
            for source in fusion.sources[1:]
        }
        signs = [1.0 if edge in chosen else -1.0 for edge in model.search.edges]
        logits.assign(SURE * np.array(signs, "float32")[:, None])
        return
    value = np.full(logits.shape, -SURE, "float32")
    for name, row in model.search.rows.items():
        unit = architecture.units.index(name)
        for column, task in enumerate(model.task_names):
            choice = architecture.choices[task][unit]
            if logits.shape[-1] == len(AUTO_MTL_OPTIONS):
                value[row, column, AUTO_MTL_OPTIONS.index(choice)] = SURE
            elif choice != SKIP:
                value[row, column, 0] = SURE
            elif logits.shape[-1] == 2:  # the second logit is that of skipping
                value[row, column, 1] = SURE
    logits.assign(value)


def assert_derived_equals_supernet(model, backbone, tasks, architecture, x, tolerance=1e-5):
    """With one decision and one set of weights, derived model and supernet give the same numbers.

    Sets the model's policy so that `architecture` is its most likely decision. Returns the derived
    model.
    """
    set_policy(model, architecture)
    assert model.decide() == architecture
    derived = keras_mtl.build(backbone, tasks, architecture=architecture, initial_weights=model)
    expected, found = model(x, training=False), derived(x, training=False)
    assert set(found) == set(expected) == set(model.task_names)
    for task in model.task_names:
        difference = np.abs(ops.convert_to_numpy(found[task] - expected[task])).max()
        assert difference <= tolerance, f"{task}: {difference}"
    return derived


def assert_gradient_reaches(model, expected, loss=None, x=None):
    """The gradient of a loss reaches the expected variables of a model, and exactly those.

    Args:
        model: layer or model.
        expected: list of variables of the model.
        loss: function without arguments that returns a scalar; by default the sum of squares of all
            outputs of `model(x, training=True)`.
        x: inputs, where no loss is given.
    """
    if loss is None:

        def loss():
            outputs = keras.tree.flatten(model(x, training=True))
            return sum(ops.sum(ops.square(output)) for output in outputs)

    variables = model.trainable_variables
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for value in values:
            tape.watch(value)
        total = loss()
    gradients = tape.gradient(total, values)
    reached = {
        variable.path
        for variable, gradient in zip(variables, gradients, strict=True)
        if gradient is not None and np.any(np.asarray(tf.convert_to_tensor(gradient)) != 0)
    }
    assert reached == {variable.path for variable in expected}
    assert len({variable.path for variable in variables}) == len(variables), "paths must differ"
