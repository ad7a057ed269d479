"""The door: names that stay apart, one rule for seeds, and what first weights come from."""

import random
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl import Architecture
from keras_mtl.checks import check_seed
from tests import toys

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def backbone(names=("d1", "d2")):
    dense = [layers.Dense(4, activation="relu", name=name) for name in names]
    return keras.Sequential([keras.Input((4,), name="x"), *dense])


def task(name, units=1):
    return keras_mtl.Task(name, layers.Dense(units), "mse")


TASKS = [task("a"), task("b")]


def refused(kind, message, make):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        make()


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["shared", "independent", "adashare", "auto_mtl", "mtan"])
def test_a_layer_called_like_a_copy_is_refused(strategy):
    refused(
        ValueError,
        "`backbone` must have layers that are not called like another part of the model. Received: "
        "layer 'd1.a' and the copy of layer 'd1' for 'a', which would both have the name 'd1.a'. "
        "Rename the layer, or the task.",
        lambda: keras_mtl.build(backbone(("d1", "d1.a")), TASKS, strategy),
    )


@pytest.mark.parametrize(
    ("names", "strategy", "clash"),
    [
        (("d1", "a.head"), "shared", "layer 'a.head' and the head of task 'a'"),
        (("d1", "d1.stitch"), "cross_stitch", "layer 'd1.stitch' and the fusion 'd1.stitch'"),
        (("d1", "d1.nddr.a"), "mtl_nas", "layer 'd1.nddr.a' and the fusion 'd1.nddr.a'"),
        (("d1", "d1.activation"), "auto_mtl", "layer 'd1.activation' and the activation"),
    ],
)
def test_a_layer_called_like_another_part_is_refused(names, strategy, clash):
    with pytest.raises(ValueError, match=re.escape(clash)):
        keras_mtl.build(backbone(names), TASKS, strategy)


def test_a_layer_called_like_a_branch_is_refused():
    plan = Architecture(("a", "b"), ("d1", "d1.ab"), {"a": ("ab", "own"), "b": ("ab", "own")})
    with pytest.raises(ValueError, match="the copy of layer 'd1' for 'ab'"):
        keras_mtl.build(backbone(("d1", "d1.ab")), TASKS, architecture=plan)


def test_a_nested_layer_called_like_an_input_is_refused():
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, layers.Dense(4, name="x")(inner_inputs), name="inner")
    inputs = keras.Input((4,), name="inner.x")
    nested = keras.Model(inputs, layers.Dense(4, name="last")(inner(inputs)))
    with pytest.raises(ValueError, match=re.escape("layer 'inner.x' and the input 'inner.x'")):
        keras_mtl.build(nested, TASKS, "shared")


@pytest.mark.parametrize("strategy", ["independent", "adashare", "nddr_cnn"])
def test_no_layer_is_lost(strategy):
    """Dots in names are no harm by themselves."""
    model = keras_mtl.build(backbone(("d1", "d1.c")), TASKS, strategy, seed=0)
    found = {id(v) for layer in model.named_layers().values() for v in layer.weights}
    assert found == {id(v) for v in model.weights} & found
    assert len(model.named_layers()) >= 4


# Seeds --------------------------------------------------------------------------------------------


def seeds():
    keras.utils.set_random_seed(0)
    return [keras_mtl.build(backbone(), TASKS, "shared").seed for _ in range(2)]


def test_the_seed_of_keras_decides_those_that_are_drawn():
    first, second = seeds()
    assert first != second
    assert seeds() == [first, second]


def test_a_build_with_a_seed_draws_nothing():
    given = backbone()
    random.seed(0)
    keras_mtl.build(given, TASKS, "shared", seed=0)
    drawn = random.random()
    random.seed(0)
    assert drawn == random.random()


def test_the_seed_of_keras_decides_decide():
    search = keras_mtl.build(toys.mlp(), toys.tasks(2), "adashare", seed=0)

    def decided():
        keras.utils.set_random_seed(3)
        return search.decide(samples=3)

    assert decided() == decided()
    seed = decided()[0].origin["decide_seed"]
    assert seed != search.decide(samples=1)[0].origin["decide_seed"]
    assert search.decide(samples=3, seed=seed) == decided()


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0", np.float64(1)])
@pytest.mark.parametrize(
    "use",
    [
        lambda seed: keras_mtl.build(backbone(), TASKS, "shared", seed=seed),
        lambda seed: keras_mtl.plan(backbone(), TASKS, "shared", seed=seed),
        lambda seed: keras_mtl.data.search_split((X, {"a": X, "b": X}), seed=seed),
        lambda seed: keras_mtl.strategies.RandomEdges(seed=seed),
        lambda seed: keras_mtl.partition.find_masks([[1.0]], 4, seed),
        lambda seed: keras_mtl.affinity.random_trees(("a", "b"), [1], 1, seed=seed),
    ],
)
def test_no_seed(use, seed):
    message = f"`seed` must be an integer of at least 0 or None. Received: seed={seed!r}."
    refused(ValueError, message, lambda: use(seed))


def test_seeds_are_plain_integers():
    assert [check_seed(seed) for seed in (0, np.int64(3), 2**40)] == [0, 3, 2**40]
    assert type(check_seed(np.int64(3))) is int
    assert keras_mtl.build(backbone(), TASKS, "shared", seed=np.uint8(7)).seed == 7


# Strategy or architecture -------------------------------------------------------------------------


def test_strategy_and_architecture_are_not_given_both():
    plan = keras_mtl.plan(backbone(), TASKS, "shared", seed=0)
    refused(
        ValueError,
        "`strategy` and `architecture` must not be given both: an architecture is decided. "
        f"Received: strategy='mtl_nas' and {plan!r}. Leave `strategy` out to build the "
        "architecture, or `architecture` to decide anew.",
        lambda: keras_mtl.build(backbone(), TASKS, "mtl_nas", architecture=plan),
    )
    assert keras_mtl.build(backbone(), TASKS, seed=0).strategy.name == "adashare"


def test_a_decision_that_is_not_trained_anew_needs_the_weights_of_its_search():
    search = keras_mtl.build(backbone(), TASKS, "mtl_nas", seed=0)
    plan = search.decide()
    with pytest.warns(UserWarning) as caught:
        keras_mtl.build(backbone(), TASKS, architecture=plan, seed=0)
    (warning,) = [w for w in caught if "initial_weights" in str(w.message)]
    assert warning.filename == __file__
    assert str(warning.message) == (
        "`initial_weights` should be the search that decided this architecture: MTLNAS does not "
        "train a decided network anew. Pass `initial_weights=search`, or train the network that is "
        "built now from the start."
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        keras_mtl.build(backbone(), TASKS, architecture=plan, seed=0, initial_weights=search)


# First weights for other tasks --------------------------------------------------------------------


def weights(model, name):
    return [np.asarray(v) for v in model.named_layers()[name].weights]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("strategy", ["shared", "independent", "adashare", "cross_stitch", "mtan"])
def test_a_task_that_is_added_begins_anew(strategy, capsys):
    first = toys.randomised(keras_mtl.build(backbone(), TASKS, strategy, seed=0))
    given = backbone()
    model = keras_mtl.build(given, [*TASKS, task("c")], strategy, initial_weights=first, seed=1)
    line = "`initial_weights` is a model of the tasks ['a', 'b']. New, with a head of its own "
    assert capsys.readouterr().out.startswith(line + "that begins anew: c.")
    assert_same(weights(model, "a.head"), weights(first, "a.head"))
    assert_same(weights(model, "b.head"), weights(first, "b.head"))
    if strategy in ("independent", "cross_stitch"):
        assert_same(weights(model, "d1.a"), weights(first, "d1.a"))
        assert_same(weights(model, "d1.c"), [np.asarray(v) for v in given.layers[0].weights])
    else:
        assert_same(weights(model, "d1"), weights(first, "d1"))


def test_a_misspelt_task_is_said(capsys):
    first = keras_mtl.build(backbone(), [task("depth"), task("a")], "shared", seed=0)
    keras_mtl.build(backbone(), [task("detph"), task("a")], "shared", initial_weights=first)
    assert capsys.readouterr().out == (
        "`initial_weights` is a model of the tasks ['depth', 'a']. New, with a head of its own "
        "that begins anew: detph. Did you mean 'depth'? Left out: depth.\n"
    )


def test_a_task_less_is_said(capsys):
    first = keras_mtl.build(backbone(), TASKS, "cross_stitch", seed=0)
    model = keras_mtl.build(backbone(), TASKS[1:], "independent", initial_weights=first, seed=1)
    assert capsys.readouterr().out == (
        "`initial_weights` is a model of the tasks ['a', 'b']. Left out: a. What tasks exchange "
        "begins anew where other tasks take part.\n"
    )
    assert_same(weights(model, "b.head"), weights(first, "b.head"))


def test_equal_tasks_say_nothing(capsys):
    first = keras_mtl.build(backbone(), TASKS, "shared", seed=0)
    keras_mtl.build(backbone(), TASKS[::-1], "shared", initial_weights=first)
    assert capsys.readouterr().out == ""


def test_a_head_of_another_shape_is_named():
    first = keras_mtl.build(backbone(), TASKS, "shared", seed=0)
    refused(
        ValueError,
        "`initial_weights` must have weights of the new model's shapes. Received: the head of task "
        "'b' with weights of shapes [(4, 1), (1,)], where the new one has [(4, 3), (3,)]. Give the "
        "task another name to begin with a head of its own.",
        lambda: keras_mtl.build(
            backbone(), [TASKS[0], task("b", 3)], "shared", initial_weights=first
        ),
    )


# What cannot be built -----------------------------------------------------------------------------


class Nameless(layers.Layer):
    """A layer whose constructor takes nothing."""

    def __init__(self):
        super().__init__()

    def call(self, inputs):
        return inputs * 2.0


def test_a_layer_that_takes_no_name():
    inputs = keras.Input((4,))
    layer = Nameless()
    nameless = keras.Model(inputs, layer(layers.Dense(4)(inputs)))
    out = "Let its `__init__` take `**kwargs`, and hand them to `super().__init__(**kwargs)`."
    with pytest.raises(keras_mtl.UnsupportedBackboneError) as caught:
        keras_mtl.build(nameless, TASKS, "shared")
    assert str(caught.value).startswith(
        "`backbone` must have layers that can be cloned. Received: layer "
        f"{layer.name!r} of type Nameless, whose constructor does not take its own configuration ("
    )
    assert str(caught.value).endswith(out)
    with pytest.raises(ValueError, match=r"^`head` of task 'q' must be a layer that can be cloned"):
        keras_mtl.build(backbone(), keras_mtl.Task("q", Nameless(), "mse"), "shared")


@pytest.mark.parametrize("kind", ["sparse", "ragged"])
@pytest.mark.parametrize("strategy", ["shared", "adashare"])
def test_inputs_that_are_not_dense_are_refused(kind, strategy):
    inputs = keras.Input((4,), name="words", **{kind: True})
    x = keras.layers.Lambda(lambda x: x, output_shape=(4,))(inputs)
    model = keras.Model(inputs, layers.Dense(3)(x))
    with pytest.raises(
        keras_mtl.UnsupportedBackboneError, match=f"the {kind} inputs \\['words'\\]"
    ):
        keras_mtl.build(model, TASKS, strategy)


def test_open_sizes_have_no_costs():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layers.Dense(3, name="d")(inputs))
    built = keras_mtl.build(model, TASKS, "shared", seed=0)
    with pytest.raises(keras_mtl.ArchitectureError, match="whose inputs have known sizes"):
        built.architecture.parameters()


@pytest.mark.parametrize("tasks", [None, 3, "a", {"a": TASKS[0]}])
def test_tasks_that_are_no_list_are_refused(tasks):
    with pytest.raises(TypeError) as error:
        keras_mtl.build(backbone(), tasks, "shared")
    assert str(error.value) == (
        f"`tasks` must be a list of `keras_mtl.Task` objects, or one. Received: tasks={tasks!r}."
    )


def test_arrays_as_initial_weights_are_refused():
    with pytest.raises(ValueError, match=r"^`initial_weights` must be 'backbone', 'fresh', a "):
        keras_mtl.build(backbone(), TASKS, "shared", initial_weights=np.zeros(3))
