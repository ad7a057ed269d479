"""ChannelUse: masks of one operator as plain data."""

import pickle
import re

import numpy as np
import pytest

from keras_mtl import ArchitectureError, ChannelUse

FORWARD, BACKWARD = {"a": "1101", "b": "0111"}, {"a": "1001", "b": "0000"}


def test_what_it_says():
    use = ChannelUse(FORWARD, BACKWARD)
    assert use.channels == 4
    assert use.share("a") == 0.75 and use.share("a", "backward") == 0.5
    assert use.share("b", "backward") == 0.0


def test_without_a_backward_mask_a_task_changes_what_it_uses():
    assert ChannelUse(FORWARD) == ChannelUse(FORWARD, FORWARD)
    assert ChannelUse(FORWARD).to_data() == {"forward": FORWARD}


def test_arrays_lists_and_texts_are_the_same():
    for row in (np.array([True, False]), [1, 0], (True, False), np.array([1.0, 0.0])):
        assert ChannelUse({"a": row}) == ChannelUse({"a": "10"})


def test_data_round_trip():
    use = ChannelUse(FORWARD, BACKWARD)
    assert use.to_data() == {"forward": FORWARD, "backward": BACKWARD}
    for again in (
        ChannelUse.from_data(use.to_data()),
        ChannelUse.from_data(use),
        pickle.loads(pickle.dumps(use)),
    ):
        assert again == use and hash(again) == hash(use)
    assert use != ChannelUse(FORWARD)


def test_it_cannot_be_changed():
    with pytest.raises(TypeError):
        ChannelUse(FORWARD).forward["a"] = "1111"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (FORWARD, {"a": "1101"}),
            "`backward` must have a mask for each of the tasks ['a', 'b']. Received: masks for "
            "['a'].",
        ),
        (
            ({"a": "110", "b": "01"},),
            "Masks of one operator must have one length, its number of channels. Received: "
            "lengths [2, 3].",
        ),
        (
            (FORWARD, {"a": "1011", "b": "0000"}),
            "`backward` must lie inside `forward`. Received: channel 2, which task 'a' may change "
            "but does not use.",
        ),
        (({},), "`forward` must be a mapping from task to mask. Received: forward={}."),
        (("11",), "`forward` must be a mapping from task to mask. Received: forward='11'."),
        (
            ({"a": "12"},),
            "`forward['a']` must be a text of 0 and 1, or a sequence of truth values. Received: "
            "'12'.",
        ),
        (
            ({"a": 3},),
            "`forward['a']` must be a text of 0 and 1, or a sequence of truth values. Received: 3.",
        ),
        (
            ({"a": ""},),
            "`forward['a']` must be a text of 0 and 1, or a sequence of truth values. Received: "
            "''.",
        ),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$"):
        ChannelUse(*arguments)
