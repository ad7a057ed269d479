"""StepSeed: random numbers follow from (seed, step), in eager and traced code."""

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.layers import StepSeed


def step_variable():
    return keras.Variable(0, dtype="int32", trainable=False)


def draw(seed):
    return np.asarray(keras.random.uniform((4,), seed=seed))


def test_draws_are_a_function_of_seed_and_step():
    step = step_variable()
    seed = StepSeed(3, step)
    first = draw(seed)
    np.testing.assert_array_equal(draw(seed), first)  # no state moves on
    step.assign(1)
    second = draw(seed)
    assert not np.array_equal(first, second)
    step.assign(0)
    np.testing.assert_array_equal(draw(seed), first)
    np.testing.assert_array_equal(draw(StepSeed(3, 0)), first)
    np.testing.assert_array_equal(draw(StepSeed(3, 1)), second)


def test_seeds_differ():
    drawn = {tuple(draw(StepSeed(seed, 5)).tolist()) for seed in range(20)}
    assert len(drawn) == 20


def test_the_step_is_not_frozen_in_a_traced_function():
    step = step_variable()
    seed = StepSeed(0, step)
    traces = []

    @tf.function
    def traced():
        traces.append(1)
        return keras.random.uniform((4,), seed=seed)

    found = []
    for number in range(3):
        step.assign(number)
        found.append(np.asarray(traced()))
    assert len(traces) == 1
    for number, values in enumerate(found):
        np.testing.assert_array_equal(values, draw(StepSeed(0, number)))
    assert len({tuple(values.tolist()) for values in found}) == 3


def test_it_has_no_variable_of_its_own():
    """A state would be made again in every traced function, and saved with every model."""
    step = step_variable()
    seed = StepSeed(3, step)
    assert not any(
        isinstance(value, keras.Variable) for value in vars(seed).values() if value is not step
    )

    @tf.function
    def traced():
        return keras.random.uniform((4,), seed=StepSeed(3, step))

    np.testing.assert_array_equal(traced(), draw(seed))
    assert {variable.name for variable in traced.get_concrete_function().variables} <= {
        step.value.name
    }


def test_any_python_int_is_a_seed():
    for seed in (0, 2**31 - 1, 2**31, 2**40):
        assert np.isfinite(draw(StepSeed(seed, 2**30))).all()


def test_numbers_of_neighbouring_steps_are_not_related():
    step = step_variable()
    seed = StepSeed(0, step)
    values = []
    for number in range(300):
        step.assign(number)
        values.append(float(keras.random.uniform((), seed=seed)))
    values = np.array(values)
    assert abs(values.mean() - 0.5) < 4 / np.sqrt(12 * 300)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(300)
