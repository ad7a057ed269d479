"""Tasks with channel masks take turns: what every step changes, bit by bit."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.data import sample_tasks
from keras_mtl.graph import place_of, read
from tests import partitioned

TASKS = ("a", "b", "c")


def images(seed=0):
    generator = np.random.default_rng(seed)
    return {
        f"{task}_image": (
            generator.normal(size=(16, 8, 8, 3)).astype("float32"),
            {task: generator.normal(size=(16, 2)).astype("float32")},
        )
        for task in TASKS
    }


@pytest.fixture(scope="module")
def built():
    """Of the three tasks, `c` may change no channel of any mask."""
    backbone = partitioned.inverted()
    tasks = [
        keras_mtl.Task(task, keras_mtl.heads.Regressor(2), "mse", inputs=f"{task}_image")
        for task in TASKS
    ]
    masks = partitioned.random_masks(backbone, tasks, seed=4)
    for unit, use in masks.items():
        backward = {**use.backward, "c": "0" * use.channels}
        masks[unit] = keras_mtl.ChannelUse(use.forward, backward)
    plan = partitioned.architecture(backbone, tasks, masks, frozen=("block1_depthwise",))
    model = keras_mtl.build(backbone, tasks, architecture=plan, seed=0)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.1))
    return model, read(backbone), sample_tasks(images(), batch_size=4, steps_per_epoch=1)


def state(model):
    return {layer.name: layer.get_weights() for layer in model.network.layers}


def channels(weights, changed, axis):
    """Weights of the channels that may change, or of the others where `changed` is inverted."""
    return [np.compress(changed, w, -1 if w.ndim == 1 else axis) for w in weights]


def test_every_step_changes_its_tasks_channels_alone(built):
    model, graph, data = built
    turns = []
    for _ in range(9):
        before, counts = state(model), model.turn_counts.numpy()
        model.fit(data, verbose=0)
        (task,) = [TASKS[i] for i in np.flatnonzero(model.turn_counts.numpy() - counts)]
        turns.append(task)
        after = state(model)
        still = {name for name in after if all(map(np.array_equal, after[name], before[name]))}
        assert "block1_depthwise" in still  # frozen
        for other in set(TASKS) - {task}:
            assert {n for n in after if n.endswith((f"_bn.{other}", f"{other}.head"))} <= still
        assert f"{task}.head" not in still and f"stem_bn.{task}" not in still
        for unit, use in model.architecture.masks.items():
            place = place_of(graph, unit)
            allowed = np.array([bit == "1" for bit in use.backward[task]])
            parts = [(unit, -1, slice(None))]
            parts += [(graph.calls[i].key, -2, slice(0, 1)) for i, _ in place.readers]
            parts += [("block2_depthwise", -2, slice(None))] * (unit == "block2_expand")
            for name, axis, which in parts:
                new, old = after[name][which], before[name][which]
                pairs = zip(
                    channels(new, ~allowed, axis), channels(old, ~allowed, axis), strict=True
                )
                assert all(np.array_equal(*pair) for pair in pairs), (task, unit, name)
    assert set(turns) == set(TASKS)


def test_pruned_after_training(built):
    model, _, _ = built
    x, _ = images(1)["a_image"]
    found = model({f"{task}_image": x for task in TASKS})
    for task in TASKS:
        small = model.extract(task)
        np.testing.assert_allclose(small(x), found[task], atol=1e-5)
        assert small.count_params() == model.architecture.parameters(task)
