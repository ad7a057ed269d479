"""`EvolutionStrategiesOracle`: step for step what a plain implementation does."""

import json

import keras_tuner
import numpy as np
import pytest

from keras_mtl.partition import PartitionSpace
from keras_mtl.tuners import EvolutionStrategiesOracle, RandomOracle

SPACE = PartitionSpace(("a", "b", "c"))
# A partition that is worth 0, and others the less the further they are.
GOAL = np.array([0.8, 0.6, 0.4, 0.7, 0.5, 0.6, 0.5, 0.3, 0.6, 0.7, 0.4, 0.5])


def quadratic(point):
    return -np.square(np.asarray(point) - GOAL).sum()


def reference(score, samples, seed, directions, kept, deviation, rate, momentum, decay):
    """Evolution strategies after Mania et al., one candidate after another, with lists and loops.

    Returns the scores of all candidates, in order, and the points of all generations.
    """
    size, scores = len(GOAL), []
    drawn = [np.random.default_rng((seed, 0, i)).random(size) for i in range(32)]
    scores += [score(point) for point in drawn]
    points = [drawn[max(range(32), key=lambda i: scores[i])]]
    velocity = np.zeros(size)
    while len(scores) + 2 * directions <= samples:
        pairs = []
        for number in range(directions):
            generator = np.random.default_rng((seed, 1, len(points), number))
            delta = deviation * generator.standard_normal(size)
            up = score(np.minimum(1, np.maximum(0, points[-1] + delta)))
            down = score(np.minimum(1, np.maximum(0, points[-1] - delta)))
            scores += [up, down]
            pairs.append((up, down, delta))
        spread = np.std([one for up, down, _ in pairs for one in (up, down)]) + 1e-4
        pairs.sort(key=lambda pair: max(pair[:2]), reverse=True)
        gradient = np.zeros(size)
        for up, down, delta in pairs[:kept]:
            gradient -= (up / spread - down / spread) * delta / kept
        for place in (0, 3, 5):  # the diagonal of the forward matrix
            gradient[place] += decay * points[-1][place]
        velocity = momentum * velocity + gradient
        points.append(np.minimum(1, np.maximum(0, points[-1] - rate * velocity)))
    return scores, points


def run(oracle, score, failures=()):
    """Asks and tells, one after another, until all samples are used; returns their scores."""
    scores = []
    for index in range(oracle.max_trials):
        scores.append(score(list(oracle.propose(index).values())))
        oracle.observe(index, None if index in failures else scores[-1])
    return scores


def samples_to(scores, least):
    """How many samples it took until one was worth so much."""
    return next(i for i, score in enumerate(scores, 1) if score >= least)


PAPER = {"directions": 16, "kept": 8, "deviation": 0.05, "rate": 0.1, "momentum": 0.0}
CODE = {"directions": 8, "kept": 7, "deviation": 0.04, "rate": 0.25, "momentum": 0.8}


@pytest.mark.parametrize(
    ("make", "settings"),
    [(EvolutionStrategiesOracle, PAPER), (EvolutionStrategiesOracle.reference, CODE)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_climbs_in_as_many_samples_as_the_reference(make, settings, seed):
    expected, points = reference(quadratic, 1000, seed, **settings, decay=1e-3)
    oracle = make(SPACE, max_trials=1000, seed=seed)
    scores = run(oracle, quadratic)
    np.testing.assert_allclose(scores[: len(expected)], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(oracle.points, points, rtol=0, atol=1e-9)
    assert samples_to(scores, -0.05) == samples_to(expected, -0.05) < 1000
    assert quadratic(oracle.points[-1]) > quadratic(oracle.points[0]) / 4


def test_random_points_do_not_climb():
    oracle = RandomOracle(SPACE, max_trials=1000, seed=0)
    assert max(run(oracle, quadratic)) < -0.05


def test_it_climbs_through_noise():
    generator = np.random.default_rng(0)
    oracle = EvolutionStrategiesOracle(SPACE, max_trials=1000, seed=0)
    run(oracle, lambda point: quadratic(point) + 0.05 * generator.standard_normal())
    assert quadratic(oracle.points[-1]) > quadratic(oracle.points[0]) / 3


def test_one_step_by_hand():
    space = PartitionSpace(("a",))  # a share, and the fraction of it that is changed
    oracle = EvolutionStrategiesOracle(
        space, starts=1, directions=2, kept=1, learning_rate=0.5, decay=0.1, seed=3
    )
    point = np.array(list(oracle.propose(0).values()))
    oracle.observe(0, 1.0)
    np.testing.assert_array_equal(oracle.points, [point])
    one, other = (np.array(list(oracle.propose(index).values())) - point for index in (1, 3))
    for index, score in ((4, 3.0), (2, 1.0), (1, 2.0), (3, 5.0)):  # the second pair has the 5
        assert oracle.propose(5) is None
        oracle.observe(index, score)
    spread = np.std([2, 1, 5, 3]) + 1e-4
    gradient = -(5 - 3) / spread * other + [0.1 * point[0], 0.0]
    np.testing.assert_allclose(oracle.points[1], point - 0.5 * gradient)
    assert not np.allclose(one, other)


def test_pairs_mirror_each_other_and_stay_inside():
    oracle = EvolutionStrategiesOracle(SPACE, starts=1, deviation=0.3, seed=0)
    oracle.observe(0, 1.0)
    values = np.array([list(oracle.propose(index).values()) for index in range(1, 33)])
    assert values.min() == 0.0 and values.max() == 1.0
    sums = values[::2] + values[1::2]
    free = (values[::2] > 0) & (values[::2] < 1) & (values[1::2] > 0) & (values[1::2] < 1)
    expected = 2 * np.broadcast_to(oracle.points[0], sums.shape)
    np.testing.assert_allclose(sums[free], expected[free])
    assert np.std((values[::2] - values[1::2])[free]) > 0.2  # of 0.6, cut off


def test_generations():
    oracle = EvolutionStrategiesOracle(SPACE, starts=3, directions=2, kept=2)
    assert [oracle.generation_of(index) for index in range(12)] == [0] * 3 + [1] * 4 + [2] * 4 + [3]


def test_scores_may_be_to_be_small():
    large = EvolutionStrategiesOracle(SPACE, max_trials=100)
    small = EvolutionStrategiesOracle(SPACE, keras_tuner.Objective("error", "min"), max_trials=100)
    run(large, quadratic)
    run(small, lambda point: -quadratic(point))
    assert large.points == small.points and len(large.points) == 3


def test_decay_gives_up_channels_and_nothing_else():
    oracle = EvolutionStrategiesOracle(SPACE, decay=0.5, max_trials=32 + 5 * 32)
    run(oracle, lambda point: 1.0)
    first, last = oracle.points[0], oracle.points[-1]
    expected = np.where(SPACE.shares, np.array(first) * (1 - 0.1 * 0.5) ** 5, first)
    np.testing.assert_allclose(last, expected)


# Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_failed_candidate_counts_as_the_worst_of_its_generation(score):
    points = []
    for failed in (score, 1.0):
        oracle = EvolutionStrategiesOracle(SPACE, starts=3, directions=2, kept=2)
        for index, value in enumerate((failed, 1.0, 4.0, 5.0, failed, 1.0, 2.0)):
            oracle.observe(index, value)
        points.append(oracle.points)
    assert points[0] == points[1]
    assert points[0][0] == list(oracle.propose(2).values())


def test_where_all_have_failed_the_point_stays():
    oracle = EvolutionStrategiesOracle(SPACE, max_trials=32 + 64, momentum=0.5, decay=0.1)
    run(oracle, quadratic, failures=range(64, 96))
    first, second, third = oracle.points
    assert first != second == third
    oracle = EvolutionStrategiesOracle(SPACE, max_trials=32)
    run(oracle, quadratic, failures=range(32))
    assert oracle.points == [list(oracle.propose(0).values())]


# State ------------------------------------------------------------------------------------------


def test_the_order_of_results_does_not_matter():
    oracles = [EvolutionStrategiesOracle(SPACE, seed=5) for _ in range(2)]
    shuffled = np.random.default_rng(0)
    for generation in (range(32), range(32, 64), range(64, 96)):
        orders = generation, shuffled.permutation(generation).tolist()
        for oracle, order in zip(oracles, orders, strict=True):
            for index in order:
                oracle.observe(index, quadratic(list(oracle.propose(index).values())))
    assert oracles[0].points == oracles[1].points and len(oracles[0].points) == 3


def test_the_state_is_whole_in_the_middle_of_a_generation():
    alone, broken = (EvolutionStrategiesOracle(SPACE, seed=2, momentum=0.5) for _ in range(2))
    for index in range(40 + 32):
        for oracle in (alone, broken):
            oracle.observe(index, quadratic(list(oracle.propose(index).values())))
        if index in (10, 31, 50, 63):
            state = json.loads(json.dumps(broken.get_state()))
            broken = EvolutionStrategiesOracle(SPACE, seed=2, momentum=0.5)
            broken.set_state(state)
    assert broken.get_state() == alone.get_state() and len(alone.points) == 2


def test_seeds():
    one, same, other = (EvolutionStrategiesOracle(SPACE, seed=seed) for seed in (0, 0, 1))
    assert one.propose(3) == same.propose(3) != other.propose(3)
    assert one.propose(3) == RandomOracle(SPACE, seed=0).propose(3)
    for oracle in (one, same, other):
        run_start(oracle)
    assert one.propose(40) == same.propose(40) != other.propose(40)


def run_start(oracle):
    for index in range(32):
        oracle.observe(index, float(index == 7))


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, "`starts` must be an integer of at least 1. Received: starts=0."),
        ({"kept": 17}, "`kept` must be at most the number of directions, 16. Received: kept=17."),
        ({"deviation": 0.0}, "`deviation` must be positive and finite. Received: deviation=0.0."),
        (
            {"learning_rate": -1},
            "`learning_rate` must be positive and finite. Received: learning_rate=-1.",
        ),
        ({"momentum": -0.1}, "`momentum` must be finite and at least 0. Received: momentum=-0.1."),
        ({"decay": None}, "`decay` must be finite and at least 0. Received: decay=None."),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ValueError) as error:
        EvolutionStrategiesOracle(SPACE, **options)
    assert str(error.value) == message
