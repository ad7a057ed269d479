"""ChannelMask: what is exactly zero, and what stays."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.layers import ChannelMask
from tests.contracts import assert_serialises, run_layer_test


def test_contract():
    for shape in ((2, 3), (2, 4, 3), (2, 4, 4, 3)):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        run_layer_test(ChannelMask, {"mask": "101"}, x, expected_shape=shape)
    assert_serialises(ChannelMask, {"mask": "01"})


def test_by_hand():
    x = np.array([[1.0, -2.0, np.inf], [np.nan, 5.0, -np.inf]], "float32")
    np.testing.assert_array_equal(ChannelMask("010")(x), [[0, -2, 0], [0, 5, 0]])


def test_no_gradient_through_a_masked_channel():
    x = tf.constant([[1.0, 2.0, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(ChannelMask("011")(x) * [[2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(tape.gradient(y, x), [[0, 3, 4]])


def test_keras_masks_pass():
    assert ChannelMask("1").supports_masking


@pytest.mark.parametrize("mask", ["", "012", None, [1, 0]])
def test_what_is_no_mask(mask):
    message = f"`mask` must be a text of 0 and 1. Received: mask={mask!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChannelMask(mask)


def test_another_number_of_channels():
    message = (
        "`inputs` must have 2 channels on the last axis, as the mask has. Received: shape=(1, 3)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChannelMask("01")(np.ones((1, 3)))
