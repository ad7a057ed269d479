"""DistillationProxy: the student's masks and updates, its score, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mtl
from keras_mtl.models import DistillationProxy
from keras_mtl.models.student import Joined, squared_errors
from keras_mtl.partition import Partition
from keras_mtl.strategies import FeaturePartition
from tests import toys

NAMES = ("a", "b")


def make_tasks():
    return [
        keras_mtl.Task(
            name,
            keras_mtl.heads.Classifier(3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            [keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="label_error")],
            inputs=name,
        )
        for name in NAMES
    ]


def make_data(seed, count=24):
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.normal(size=(count, *toys.SHAPE)).astype("float32"),
            generator.integers(0, 3, count),
        )
        for name in NAMES
    }


class Case:
    """A backbone of two stages, teachers with other weights, and a proxy of the second stage."""

    def __init__(self, **options):
        keras.utils.set_random_seed(0)
        self.backbone = toys.residual(blocks=2, width=8, downsample=(2,))
        self.tasks = make_tasks()
        self.data = make_data(0)
        self.teachers = {
            task.name: keras_mtl.build(self.backbone, [task], "shared", seed=0)
            for task in self.tasks
        }
        settings = {"steps": 6, "batch_size": 4, "learning_rate": 0.1, "frozen": 1, **options}
        settings["lower_is_better"] = {"label_error": True}
        self.proxy = DistillationProxy(self.backbone, self.tasks, self.teachers, **settings)
        self.proxy.prepare(self.data, self.data)

    def strategy(self, partition):
        return FeaturePartition.of(partition, frozen=1, seed=3)

    def plan(self, partition):
        return keras_mtl.plan(self.backbone, self.tasks, self.strategy(partition), seed=0)

    def kernel(self):
        """The one masked operator's kernel."""
        return self.proxy.named_layers()["block2"].kernel.numpy()


@pytest.fixture(scope="module")
def case():
    return Case()


def test_the_loss_is_the_sum_of_the_blocks_mean_squared_errors():
    generator = np.random.default_rng(0)
    first = [generator.normal(size=(2, 3, 4)), generator.normal(size=(2, 5))]
    second = [generator.normal(size=(2, 3, 4)), generator.normal(size=(2, 5))]
    expected = sum(
        np.mean((a - b).reshape(2, -1) ** 2, axis=1) for a, b in zip(first, second, strict=True)
    )
    found = squared_errors(Joined()(first), Joined()(second))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_with_the_teachers_weights_and_all_channels_nothing_is_lost(case):
    case.proxy.begin(case.plan(Partition.share_all(NAMES)))
    assert case.proxy.measure() == pytest.approx({"a": 1.0, "b": 1.0, "score": 1.0}, abs=1e-5)


def test_the_score_is_that_of_the_masked_network(case):
    """Without a step, student and teacher's head are the masked network of the teacher."""
    partition = Partition(NAMES, [[0.25, 0.5], [0.5, 0.75]])
    case.proxy.begin(case.plan(partition))
    found = case.proxy.measure()
    model = keras_mtl.build(case.backbone, case.tasks, case.strategy(partition), seed=0)
    model.compile()
    held_out = keras_mtl.data.join_tasks(case.data, 8, training=False)
    for task in case.tasks:
        teacher = case.teachers[task.name]
        head = teacher.named_layers()[f"{task.name}.head"]
        model.named_layers()[f"{task.name}.head"].set_weights(head.get_weights())
    results = model.task_results(model.evaluate(held_out, verbose=0, return_dict=True))
    for task, own in case.proxy.teacher_results.items():
        ratio = (
            1 - (results[task]["label_error"] - own["label_error"]) / own["label_error"]
        )  # lower is better
        assert found[task] == pytest.approx(ratio, rel=1e-3)
        assert abs(found[task] - 1) > 1e-4
    assert found["score"] == pytest.approx((found["a"] + found["b"]) / 2)


def test_a_score_depends_on_partition_and_seed_alone(case):
    half, whole = (Partition(NAMES, [[p, 1.0], [1.0, p]]) for p in (0.5, 1.0))
    first = case.proxy.score(case.plan(half), seed=1)
    other = case.proxy.score(case.plan(whole), seed=1)
    assert first != other
    assert case.proxy.score(case.plan(half), seed=1) == first
    assert case.proxy.score(case.plan(half), seed=2) != first


def test_distillation_comes_nearer_to_the_teachers(case):
    plan = case.plan(Partition.share_all(NAMES))
    case.proxy.begin(plan)
    layer = case.proxy.named_layers()["block2"]
    generator = np.random.default_rng(0)
    layer.kernel.assign(layer.kernel + 0.3 * generator.normal(size=layer.kernel.shape))
    turns = keras_mtl.data.sample_tasks(case.proxy.targets, 8, steps_per_epoch=12, seed=0)
    losses = case.proxy.fit(turns, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


def test_only_the_channels_of_the_backward_masks_change(case):
    forward = np.ones((2, 2))
    case.proxy.begin(case.plan(Partition(NAMES, forward)))
    before = case.kernel()
    frozen = Partition(NAMES, forward, np.zeros((2, 2)))
    case.proxy.score(case.plan(frozen))
    np.testing.assert_array_equal(case.kernel(), before)
    some = case.plan(Partition(NAMES, forward, [[0.25, 0.0], [0.0, 0.25]]))
    (use,) = some.masks.values()
    changed = np.array([[bit == "1" for bit in use.backward[task]] for task in NAMES]).any(axis=0)
    case.proxy.score(some)
    moved = (case.kernel() != before).any(axis=(0, 1, 2))
    np.testing.assert_array_equal(moved, changed)
    assert 0 < changed.sum() < len(changed)


def test_what_it_refuses(case):
    with pytest.raises(ValueError, match=r"^`teachers` must have a trained model for every task\."):
        DistillationProxy(case.backbone, case.tasks, {"a": case.teachers["a"]})
    with pytest.raises(ValueError, match=r"Received: the metric 'label_error'\."):
        DistillationProxy(case.backbone, case.tasks, case.teachers)
    known = {"lower_is_better": {"label_error": True}}
    fresh = DistillationProxy(case.backbone, case.tasks, case.teachers, frozen=1, **known)
    with pytest.raises(ValueError, match=r"^`score` needs the teachers' features\."):
        fresh.score(case.plan(Partition.share_all(NAMES)))
    everywhere = FeaturePartition(frozen=0, layers="all")
    plan = keras_mtl.plan(case.backbone, case.tasks, everywhere, seed=0)
    if set(plan.masks) - {"block2"}:
        with pytest.raises(ValueError, match=r"^`architecture` must have masks in the student's"):
            case.proxy.score(plan)


def test_data_of_another_form_are_refused(case):
    tasks = [keras_mtl.Task(name, keras_mtl.heads.Regressor(1), "mse", ["mae"]) for name in NAMES]
    teachers = {task.name: keras_mtl.build(case.backbone, task, "shared") for task in tasks}
    proxy = DistillationProxy(case.backbone, tasks, teachers, frozen=1)
    with pytest.raises(keras_mtl.DataError) as error:
        proxy.prepare(case.data, case.data)
    assert str(error.value) == (
        "The data of `prepare` must be `(x, y)` with labels by task, with labels of task "
        f"{NAMES[0]!r}. Received: a dict with {list(case.data)}, and tasks without inputs of their "
        f"own, `Task(..., inputs={NAMES[0]!r})`."
    )
    with pytest.raises(keras_mtl.DataError, match=r"labels of task .*\. Received: tuple\.$"):
        proxy.prepare((np.zeros((2, *toys.SHAPE)), {}), case.data)
    with pytest.raises(
        keras_mtl.DataError, match=r"must be a dict by input set, .* dict with \[\]"
    ):
        case.proxy.prepare({}, case.data)


def test_teachers_features_are_their_own(case):
    source, _ = case.proxy.targets["a"]
    assert source.shape[0] == 24 and source.shape[1:3] == (8, 8)
    assert np.isfinite(ops.convert_to_numpy(source)).all()
