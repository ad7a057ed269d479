"""The one function behind every model: what it computes once, what it leaves out, what it costs."""

import collections

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl import Architecture
from keras_mtl.assembly import (
    Mix,
    Skip,
    Use,
    assemble,
    count,
    operations,
    resolve_architecture,
)
from keras_mtl.assembly.count import Counter
from keras_mtl.graph import find_units, parameters, projection_cost, read, unit_costs
from tests import toys
from tests.contracts import assert_gradient_reaches
from tests.profiler import profiled_flops

TASKS = ("a", "b", "c")


class Recorder(Counter):
    """Carries nothing out and notes every call; tensors are texts that say how they were made."""

    def __init__(self):
        self.runs = []

    def run(self, call, copy, tensors):
        self.runs.append((call.key, copy))
        inside = ",".join(tensors)
        return [f"{call.key}{'' if copy in (None, 'shared') else '@' + copy}({inside})"]

    def blend(self, call, copies, weights, tensors):
        (result,) = self.run(call, f"{'+'.join(copies)}", tensors)
        return result

    def mix(self, weights, tensors):
        self.runs.append((tensors[0].split("(")[0], "mix"))
        return f"mix[{'|'.join(tensors)}]"

    def switch(self, weights, groups, branches):
        found = [branch() for branch in branches]
        return [f"one of[{'|'.join(same)}]" for same in zip(*found, strict=True)]

    def activate(self, unit, tensor):
        self.runs.append((unit.name, "activate"))
        return f"activate({tensor})"

    def project(self, unit, copy, tensor):
        self.runs.append((unit.name, "project"))
        return f"project@{copy}({tensor})"

    def normalize(self, unit, copy, tensor):
        self.runs.append((unit.name, "normalise"))
        return f"normalise@{copy}({tensor})"


def run(backbone, resolve, tasks=TASKS, granularity="block"):
    graph = read(backbone)
    recorder = Recorder()
    inputs = [spec.name for spec in graph.inputs]
    features = assemble(graph, find_units(graph, granularity), tasks, resolve, recorder, inputs)
    return features, collections.Counter(recorder.runs)


def plan(backbone, choices, **changes):
    graph = read(backbone)
    units = [unit.name for unit in find_units(graph) if unit.searchable]
    tasks = tuple(choices)
    rows = {task: tuple(row.split()) for task, row in choices.items()}
    return Architecture(tasks, tuple(units), rows, **changes)


def resolved(backbone, choices, **changes):
    return resolve_architecture(plan(backbone, choices, **changes))


# What is computed once ----------------------------------------------------------------------------


def test_hard_sharing_computes_one_trunk():
    features, runs = run(toys.mlp(), lambda task, unit: Use())
    assert len(set(features.values())) == 1
    assert set(runs.values()) == {1}
    assert len(runs) == 7


def test_a_shared_prefix_is_computed_once():
    backbone = toys.mlp()
    choices = {
        "a": "shared shared own shared",
        "b": "shared shared shared shared",
        "c": "shared shared shared skip",
    }
    features, runs = run(backbone, resolved(backbone, choices))
    assert runs["stem", "shared"] == runs["block1", "shared"] == 1
    assert runs["block2", "shared"] == runs["block2", "a"] == 1
    # One set of parameters of block 3, on the features of two paths.
    assert runs["block3", "shared"] == 2
    assert features["c"] != features["b"] != features["a"]


def test_nodes_of_a_tree_are_computed_once():
    backbone = toys.mlp()
    choices = {
        "a": "shared ab ab own",
        "b": "shared ab ab own",
        "c": "shared own own own",
    }
    features, runs = run(backbone, resolved(backbone, choices))
    assert [runs[key] for key in [("stem", "shared"), ("block1", "ab"), ("block2", "ab")]] == [
        1
    ] * 3
    assert [runs["block3", task] for task in TASKS] == [1, 1, 1]
    assert runs["block1", "c"] == 1
    assert len(set(features.values())) == 3


def test_independent_columns_share_nothing():
    backbone = toys.mlp()
    features, runs = run(backbone, resolved(backbone, dict.fromkeys(TASKS, "own own own own")))
    assert len(set(features.values())) == 3
    weighted = {key: n for key, n in runs.items() if key[1] is not None}
    assert set(weighted) == {(k, t) for t in TASKS for k in ["stem", "block1", "block2", "block3"]}
    assert set(weighted.values()) == {1}
    assert runs["block1_add", None] == 3


def test_one_copy_on_different_inputs_is_computed_for_each():
    backbone = toys.mlp(blocks=2)
    choices = {"a": "own shared shared", "b": "own shared shared"}
    _, runs = run(backbone, resolved(backbone, choices), ("a", "b"))
    assert runs["block1", "shared"] == runs["block2", "shared"] == 2


def test_paths_that_meet_again_by_skipping_are_shared():
    # Task a skips blocks 2 and 3: it stops at what b goes on from.
    backbone = toys.mlp()
    choices = {"a": "shared shared skip skip", "b": "shared shared shared shared"}
    features, runs = run(backbone, resolved(backbone, choices), ("a", "b"))
    assert set(runs.values()) == {1}
    assert features["a"] in features["b"]


def test_context_is_computed_once():
    backbone = toys.masked()
    features, runs = run(backbone, resolved(backbone, dict.fromkeys(TASKS, "own own own")))
    assert runs["keep", None] == 1
    assert all("keep(mask)" in text for text in features.values())


def test_task_normalisation_splits_what_follows():
    backbone = toys.residual(blocks=1)
    choices = dict.fromkeys(TASKS, "shared shared")
    resolve = resolved(backbone, choices, normalisation="task")
    features, runs = run(backbone, resolve)
    assert runs["stem", "shared"] == 1  # before the first normalisation
    assert [runs["stem_bn", task] for task in TASKS] == [1, 1, 1]
    assert runs["block1", "shared"] == 3
    assert len(set(features.values())) == 3


def test_a_shared_layer_within_one_copy():
    backbone = toys.siamese()
    _, runs = run(backbone, resolved(backbone, dict.fromkeys(TASKS, "shared shared own")))
    assert runs["encoder", "shared"] == 2  # left and right, for all tasks together
    assert runs["difference", None] == 1
    assert runs["block1", "a"] == 1


# Skipping -----------------------------------------------------------------------------------------


def test_a_skipped_unit_is_not_computed():
    backbone = toys.mlp()
    features, runs = run(backbone, resolved(backbone, {"a": "shared skip skip shared"}), ("a",))
    assert sorted(runs) == [("block3", "shared"), ("block3_add", None), ("stem", "shared")]
    assert features["a"] == "block3_add(stem(features),block3(stem(features)))"


def test_a_skipped_block_keeps_its_projection_shortcut():
    backbone = toys.residual(downsample=(3,))
    choices = {"a": "shared skip skip skip skip"}
    features, runs = run(backbone, resolved(backbone, choices), ("a",))
    assert features["a"] == "block3_shortcut(stem_relu(stem_bn(stem(image))))"
    assert runs["block3", "shared"] == 0


def test_a_skip_between_shapes_is_a_projection():
    backbone = toys.chain()
    choices = {"a": "shared shared skip", "b": "shared shared skip"}
    features, runs = run(backbone, resolved(backbone, choices), ("a", "b"))
    assert runs["conv3", "project"] == runs["conv3", "normalise"] == 1
    assert features["a"] == features["b"]
    assert features["a"].startswith("normalise@shared(project@shared(conv2_relu(")


def test_ancestors_within_a_unit():
    graph = read(toys.residual(downsample=(3,)))
    keys = [call.key for call in graph.calls]
    unit = {unit.name: unit for unit in find_units(graph)}["block3"]
    assert [keys[i] for i in graph.ancestors([unit.skip], unit.calls)] == ["block3_shortcut"]
    assert [keys[i] for i in graph.ancestors([unit.output], unit.calls)] == [
        keys[i] for i in unit.calls
    ]
    assert graph.ancestors([unit.inputs[0]], unit.calls) == []


# Mixing -------------------------------------------------------------------------------------------


def mix_last(names, key=None):
    def resolve(task, unit):
        if unit.name not in names:
            return Use()
        return Mix((Use(), Skip()), None, key=key or task)

    return resolve


def test_open_units_are_mixed_per_task_behind_a_common_prefix():
    features, runs = run(toys.mlp(), mix_last({"block2", "block3"}))
    assert runs["stem", "shared"] == runs["block1", "shared"] == 1
    assert runs["block2", "shared"] == 1  # one result, mixed by three decisions
    assert runs["block2_add", "mix"] == 3
    assert runs["block3", "shared"] == runs["block3_add", "mix"] == 3
    assert all(text.startswith("mix[block3_add(mix[") for text in features.values())


def test_mixes_with_one_key_are_one_result():
    _, runs = run(toys.mlp(), mix_last({"block2", "block3"}, key="everyone"))
    assert set(runs.values()) == {1}


def test_a_mix_of_equal_results_is_no_mix():
    def resolve(task, unit):
        return Mix((Use(), Use()), None, key=task)

    _, runs = run(toys.mlp(), resolve)
    assert not any(copy == "mix" for _, copy in runs)


# Operators: normalisation behind the mixing, blended copies, sampled branches ---------------------


def open_operators(options=None, **settings):
    def resolve(task, unit):
        if unit.core.node not in (0, 3) or not unit.searchable:
            return Use()
        given = options or (Use("shared", task), Use(task, task), Skip(task, task))
        return Mix(given, None, key=task, **settings)

    return resolve


def two_operators(a=None):
    """An operator `a` that keeps the shape, normalisation, ReLU; then a dense one that narrows."""
    x = inputs = keras.Input((5, 4), name="x")
    x = (a or layers.Dense(4, name="a"))(x)
    x = layers.BatchNormalization(name="a_bn")(x)
    x = layers.ReLU(name="relu")(x)
    return keras.Model(inputs, layers.Dense(3, name="b")(x))


def test_copies_of_a_linear_operator_are_blended():
    """One run instead of two, per task; the normalisation runs once, behind the mixture."""
    resolve = open_operators(normalisation=("t",))
    features, runs = run(two_operators(), resolve, ("t",), "operator")
    first = "relu(a_bn@t(mix[a@shared+t(x)|x]))"
    assert features["t"] == f"mix[b@shared+t({first})|normalise@t(project@t({first}))]"
    assert set(runs.values()) == {1}


def not_linear():
    return two_operators(layers.SimpleRNN(4, return_sequences=True, name="a"))


def test_operators_that_are_not_linear_are_run_for_every_option():
    resolve = open_operators(normalisation=("t",))
    features, runs = run(not_linear(), resolve, ("t",), "operator")
    assert "mix[a(x)|a@t(x)|x]" in features["t"]
    assert runs["a_bn", "t"] == 1


def test_an_activation_inside_runs_once_behind_the_mixture():
    backbone = two_operators(layers.Dense(4, "tanh", name="a"))
    for sampled, mixed in (
        (False, "mix[a@shared+t(x)|x]"),
        (True, "one of[mix[a@shared+t(x)]|mix[x]]"),
    ):
        resolve = open_operators(normalisation=("t",), sampled=sampled)
        features, runs = run(backbone, resolve, ("t",), "operator")
        assert f"a_bn@t(activate({mixed}))" in features["t"]
        assert runs["a", "activate"] == 1


def test_an_activation_inside_runs_on_what_is_skipped():
    backbone = two_operators(layers.Dense(4, "tanh", name="a"))

    def resolve(task, unit):
        return Skip("t", "t") if unit.name == "a" else Use()

    features, _ = run(backbone, resolve, ("t",), "operator")
    assert features["t"] == "b(relu(a_bn@t(activate(x))))"
    # Where the normalisation belongs to the copy, every option has the activation before it.
    resolve = open_operators((Use(), Use("t"), Skip("t")))
    features, _ = run(backbone, resolve, ("t",), "operator")
    assert "relu(mix[a_bn(a(x))|a_bn@t(a@t(x))|activate(x)])" in features["t"]


def test_several_normalisations_behind_a_mixture_are_averaged():
    resolve = open_operators(normalisation=("shared", "t"))
    features, _ = run(two_operators(), resolve, ("t",), "operator")
    mixed = "mix[a@shared+t(x)|x]"
    assert f"relu(mix[a_bn({mixed})|a_bn@t({mixed})])" in features["t"]


def test_normalisation_before_the_mixing_belongs_to_the_copy():
    options = (Use(), Use("t"), Skip("t"))
    features, _ = run(two_operators(), open_operators(options), ("t",), "operator")
    assert "relu(mix[a_bn(a(x))|a_bn@t(a@t(x))|x])" in features["t"]


def test_a_shared_copy_of_an_open_operator_is_run_once_for_all_tasks():
    _, runs = run(not_linear(), open_operators(), ("s", "t"), "operator")
    assert [runs["a", copy] for copy in ("shared", "s", "t")] == [1, 1, 1]
    assert runs["b", "shared+s"] == runs["b", "shared+t"] == 1  # on the features of two paths


def test_a_sampled_mix_has_a_branch_for_each_option():
    """What two branches have in common is computed in both: a branch does not see the other."""
    resolve = open_operators(normalisation=("t",), sampled=True)
    features, runs = run(not_linear(), resolve, ("t",), "operator")
    first = "relu(a_bn@t(one of[mix[a(x)]|mix[a@t(x)]|mix[x]]))"
    second = f"one of[mix[b@shared+t({first})]|mix[normalise@t(project@t({first}))]]"
    assert features["t"] == second
    assert runs["a", "shared"] == runs["a", "t"] == 1


def test_every_output_of_an_operator_is_mixed():
    x = inputs = keras.Input((5, 4), name="x")
    x, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="a")(x)
    backbone = keras.Model(inputs, layers.LSTM(4, name="b")(x, initial_state=[h, c]))
    found = []

    class Several(Recorder):
        def run(self, call, copy, tensors):
            (text,) = super().run(call, copy, tensors)
            return [f"{text}.{i}" for i in range(len(call.outputs))]

        def mix(self, weights, tensors):
            found.append(tensors)
            return super().mix(weights, tensors)

    graph = read(backbone)
    units = find_units(graph, "operator")
    resolve = open_operators((Use(), Use("t")))
    for sampled in (False, True):
        found.clear()
        resolve = open_operators((Use(), Use("t")), sampled=sampled)
        features = assemble(graph, units, ("t",), resolve, Several(), ["x"])
        separate = [[f"a(x).{i}"] for i in range(3)] + [[f"a@t(x).{i}"] for i in range(3)]
        together = [[f"a(x).{i}", f"a@t(x).{i}"] for i in range(3)]
        assert found == (separate if sampled else together)
        text = "one of[mix[a(x).{0}]|mix[a@t(x).{0}]]" if sampled else "mix[a(x).{0}|a@t(x).{0}]"
        assert features["t"] == f"b({','.join(text.format(i) for i in range(3))}).0"


def standing_in(needs):
    """Unit and copy of the projections, and of the normalization behind them."""
    kinds = operations.Project, operations.Normalize
    return tuple([(each.unit.name, each.copy) for each in needs.of(kind)] for kind in kinds)


def test_what_open_operators_need():
    """Both copies of a blended or sampled operator, the projections and their normalisation."""
    graph = read(two_operators())
    units = find_units(graph, "operator")
    for sampled in (False, True):
        resolve = open_operators(normalisation=("shared", "t"), sampled=sampled)
        needs = count(graph, units, ("t",), resolve)
        assert set(needs.copies) >= {("a", "shared"), ("a", "t"), ("b", "shared"), ("b", "t")}
        assert {("a_bn", "shared"), ("a_bn", "t")} <= set(needs.copies)
        assert standing_in(needs) == ([("b", "t")], [("b", "t")])
        a, b, statistics = 4 * 4 + 4, 4 * 3 + 3, 4 * 4
        together = 2 * (a + b + statistics) + 4 * 3 + 4 * 3
        assert needs.costs["parameters"]["together"] == together


def test_a_skipped_operator_keeps_its_normalisation_where_it_is_the_tasks():
    backbone = two_operators()
    graph = read(backbone)
    units = find_units(graph, "operator")
    names = [unit.name for unit in units if unit.searchable]
    for normalisation, expected in (("task", "relu(a_bn@t(x))"), ("shared", "relu(x)")):
        decided = Architecture(
            ("t",),
            names,
            {"t": ("skip", "shared")},
            granularity="operator",
            normalisation=normalisation,
        )
        resolve = resolve_architecture(decided)
        features, _ = run(backbone, resolve, ("t",), "operator")
        assert features["t"] == f"b({expected})"


def test_units_without_a_choice_are_not_asked_for():
    asked = []

    def resolve(task, unit):
        asked.append(unit.name)
        return Use()

    run(toys.chain(), resolve, ("a",))
    assert asked == ["conv1", "conv2", "conv3"]


# Parameters and FLOPs by hand ---------------------------------------------------------------------

WIDTH = 8
DENSE = WIDTH * WIDTH + WIDTH  # parameters of one dense layer of `toys.mlp`
WORK = 2 * WIDTH * WIDTH  # and its FLOPs


def costs_of(backbone, choices, **changes):
    graph = read(backbone)
    units = find_units(graph)
    resolve = resolve_architecture(plan(backbone, choices, **changes))
    return count(graph, units, tuple(choices), resolve)


def test_costs_alone_and_together():
    choices = {
        "a": "shared shared own skip",
        "b": "shared shared shared shared",
        "c": "shared skip shared shared",
    }
    needs = costs_of(toys.mlp(), choices)
    copies, costs = needs.copies, needs.costs
    assert {type(operation) for operation in needs.operations} == {operations.Run}
    assert copies == [
        ("stem", "shared"),
        ("block1", "shared"),
        ("block2", "a"),
        ("block2", "shared"),
        ("block3", "shared"),
    ]
    assert costs["parameters"] == {
        "tasks": {"a": 3 * DENSE, "b": 4 * DENSE, "c": 3 * DENSE},
        "together": 5 * DENSE,
    }
    # Together: stem, block 1 and block 2 of a, blocks 2 and 3 of b, and both again on c's features.
    assert costs["flops"] == {
        "tasks": {"a": 3 * WORK, "b": 4 * WORK, "c": 3 * WORK},
        "together": (1 + 1 + 1 + 2 + 2) * WORK,
    }


def test_costs_of_the_fixed_strategies():
    for choice, copies in (("shared", 1), ("own", 3)):
        row = " ".join([choice] * 4)
        costs = costs_of(toys.mlp(), dict.fromkeys(TASKS, row)).costs
        assert costs["parameters"]["tasks"] == dict.fromkeys(TASKS, 4 * DENSE)
        assert costs["parameters"]["together"] == 4 * DENSE * copies
        assert costs["flops"]["tasks"] == dict.fromkeys(TASKS, 4 * WORK)
        assert costs["flops"]["together"] == 4 * WORK * copies


def test_costs_of_a_shared_layer_count_its_parameters_once():
    costs = costs_of(toys.siamese(), {"a": "shared shared shared"}).costs
    dense, work = 4 * 4 + 4, 2 * 4 * 4
    assert costs["parameters"]["together"] == 2 * dense
    assert costs["flops"]["together"] == 3 * work


def test_costs_with_normalisation_per_task():
    backbone = toys.residual(blocks=1)
    choices = {"a": "shared shared", "b": "shared shared"}
    shared = costs_of(backbone, choices).costs
    per_task = costs_of(backbone, choices, normalisation="task").costs
    stem, block, statistics = 3 * 9 * 4 + 4, 4 * 9 * 4 + 4, 4 * 4
    assert shared["parameters"]["together"] == stem + block + 2 * statistics
    assert per_task["parameters"]["together"] == stem + block + 4 * statistics
    assert per_task["parameters"]["tasks"] == shared["parameters"]["tasks"]
    stem_work, block_work = 2 * 64 * 27 * 4, 2 * 64 * 36 * 4
    assert shared["flops"]["together"] == stem_work + block_work
    assert per_task["flops"]["together"] == stem_work + 2 * block_work


def test_cost_of_a_projection():
    backbone = toys.chain()
    graph = read(backbone)
    unit = {unit.name: unit for unit in find_units(graph)}["conv3"]
    expected, statistics = (4 * 6, 2 * 16 * 4 * 6), 4 * 6
    assert projection_cost(graph, unit) == expected
    needs = costs_of(backbone, {"a": "shared shared skip", "b": "own own skip"})
    assert standing_in(needs) == ([("conv3", "shared")] * 2, [("conv3", "shared")] * 2)
    skipped = needs.costs
    without = costs_of(backbone, {"a": "shared shared shared", "b": "own own shared"}).costs
    convolution = 4 * 9 * 6 + 6 + 4 * 6
    difference = without["parameters"]["together"] - skipped["parameters"]["together"]
    assert difference == convolution - (expected[0] + statistics)
    # One projection on two inputs: its parameters count once, its work twice.
    work = without["flops"]["together"] - skipped["flops"]["together"]
    assert work == 2 * (2 * 16 * 9 * 4 * 6 - expected[1])


def test_unit_costs_are_those_beyond_skipping():
    graph = read(toys.residual(downsample=(3,)))
    units = {unit.name: unit for unit in find_units(graph)}
    convolution, statistics = 4 * 9 * 4 + 4, 4 * 4
    assert unit_costs(graph, units["block1"]) == (convolution + statistics, 2 * 64 * 36 * 4)
    # The projection shortcut is needed in both cases.
    assert unit_costs(graph, units["block3"]) == (2 * convolution + statistics, 2 * 2 * 16 * 36 * 4)


def test_open_sizes_have_parameters_but_no_costs():
    backbone = toys.residual(shape=(None, None, 3))
    needs = costs_of(backbone, {"a": " ".join(["shared"] * 5)})
    assert len(needs.copies) == 10 and needs.costs is None
    unit = find_units(read(backbone))[1]
    assert unit_costs(read(backbone), unit) == (4 * 9 * 4 + 4 + 4 * 4, 0)


# Against the models that are built ----------------------------------------------------------------


@pytest.fixture(scope="module")
def decided():
    """A derived model with skips, an own copy and a branch, on a net with a projection shortcut."""
    backbone = toys.randomised(toys.residual(downsample=(3,)))
    tasks = toys.tasks(3)
    choices = {
        "classes": "shared shared skip shared skip",
        "value": "shared skip shared skip shared",
        "value2": "shared shared own branch shared",
    }
    architecture = plan(backbone, choices)
    return backbone, tasks, keras_mtl.build(backbone, tasks, architecture=architecture, seed=0)


def test_flops_are_those_of_the_profiler(decided):
    _, tasks, model = decided
    for name in (task.name for task in tasks):
        profiled = profiled_flops(model.task_network(name))
        assert model.architecture.flops(name) == pytest.approx(profiled, rel=0.01)
    together = profiled_flops(model.network)
    assert model.architecture.flops() == pytest.approx(together, rel=0.01)
    assert together < sum(model.architecture.flops(task.name) for task in tasks)


def test_parameters_are_those_of_the_model(decided):
    _, tasks, model = decided
    assert model.architecture.parameters() == model.network.count_params()
    for task in tasks:
        network = model.task_network(task.name)
        assert model.architecture.parameters(task.name) == network.count_params()


def test_statistics_of_the_inputs_count_once():
    x = rows = keras.Input((5,))
    x = layers.Dense(3, name="dense")(layers.Normalization(name="statistics")(x))
    model = keras_mtl.build(keras.Model(rows, x), toys.tasks(2), "independent", seed=0)
    assert model.architecture.parameters() == model.network.count_params()


def test_skipped_units_are_absent_and_own_copies_present(decided):
    _, _, model = decided
    names = {layer.name for layer in model.network.layers}
    assert {"block2", "block2.value2", "block3", "block3.branch"} <= names
    per_task = {
        task: {layer.name for layer in model.task_network(task).layers} for task in model.task_names
    }
    assert "block2" not in per_task["classes"]
    assert "block3" not in per_task["value"] and "block3_shortcut" in per_task["value"]
    assert "block2" not in per_task["value2"] and "block2.value2" in per_task["value2"]


def test_copies_begin_with_the_backbones_weights(decided):
    backbone, _, model = decided
    original = backbone.get_layer("block2").get_weights()
    for name in ("block2", "block2.value2"):
        found = model.network.get_layer(name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(found, original, strict=True))
    owned = {id(variable) for variable in model.weights}
    assert not owned & {id(variable) for variable in backbone.weights}


def test_one_tasks_gradient_reaches_its_path_alone(decided):
    _, _, model = decided
    network = model.task_network("value")
    x = toys.inputs(network, examples=2)
    names = ["stem", "stem_bn", "block2", "block2_bn", "block3_shortcut", "block4", "block4_bn"]
    path = [model.network.get_layer(name) for name in [*names, "value.head"]]

    def loss():
        return keras.ops.sum(network(x, training=False))

    expected = [variable for layer in path for variable in layer.trainable_variables]
    assert_gradient_reaches(model.network, expected, loss)


def test_parameters_counts_layers_only():
    dense = layers.Dense(3)
    dense.build((None, 4))
    assert parameters(dense) == 15
