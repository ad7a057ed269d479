"""ChannelUse: which channels of an operator each task uses and may change, as plain data."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal

from keras_mtl.errors import ArchitectureError


@dataclasses.dataclass(frozen=True)
class ChannelUse:
    """The channel masks of one operator (feature partitioning).

    A channel that a task does not use is exactly 0 for the next operator. One that it uses and may
    not change still carries its features, but training on the task leaves it alone: the operator's
    kernel and bias of this channel, and what the next operators' kernels read it with.

    Args:
        forward: mapping from task to its mask, a text such as `"0110"` or a sequence of truth
            values, one for each output channel. The channels that the task uses.
        backward: the same of the channels that training on the task may change, among those that it
            uses. `None`: all that it uses.

    Raises:
        ArchitectureError: when masks have different lengths or tasks, or a task may change a
            channel that it does not use.

    Example:

    >>> from keras_mtl import ChannelUse
    >>> use = ChannelUse({"a": "1100", "b": [0, 1, 1, 1]}, {"a": "0100", "b": "0111"})
    >>> use.channels, use.forward["b"], use.share("a")
    (4, '0111', 0.5)

    Reference: [Feature Partitioning for Efficient Multi-Task Architectures](
    https://arxiv.org/abs/1908.04339), Section 3.
    """

    forward: Mapping
    backward: Mapping | None = None

    def __post_init__(self):
        forward = _masks("forward", self.forward)
        backward = forward if self.backward is None else _masks("backward", self.backward)
        if set(backward) != set(forward):
            raise ArchitectureError(
                f"`backward` must have a mask for each of the tasks {list(forward)}. Received: "
                f"masks for {list(backward)}."
            )
        lengths = {len(mask) for masks in (forward, backward) for mask in masks.values()}
        if len(lengths) > 1:
            raise ArchitectureError(
                "Masks of one operator must have one length, its number of channels. Received: "
                f"lengths {sorted(lengths)}."
            )
        for task, mask in backward.items():
            outside = [i for i, bit in enumerate(mask) if bit > forward[task][i]]
            if outside:
                raise ArchitectureError(
                    f"`backward` must lie inside `forward`. Received: channel {outside[0]}, which "
                    f"task {task!r} may change but does not use."
                )
        object.__setattr__(self, "forward", types.MappingProxyType(forward))
        object.__setattr__(self, "backward", types.MappingProxyType(backward))

    def __hash__(self):
        return hash((frozenset(self.forward.items()), frozenset(self.backward.items())))

    def __reduce__(self):
        return ChannelUse, (dict(self.forward), dict(self.backward))

    @property
    def channels(self) -> int:
        """The operator's number of channels."""
        return len(next(iter(self.forward.values())))

    def share(self, task: str, direction: Literal["forward", "backward"] = "forward") -> float:
        """The share of channels that a task uses, or with `"backward"` may change."""
        return getattr(self, direction)[task].count("1") / self.channels

    def to_data(self) -> dict[str, Any]:
        """The masks as a dict that JSON can hold."""
        data = {"forward": dict(self.forward)}
        return data if self.backward == self.forward else data | {"backward": dict(self.backward)}

    @classmethod
    def from_data(cls, data: Any) -> ChannelUse:
        """Reads what `to_data` gave."""
        if isinstance(data, ChannelUse):
            return data
        if not isinstance(data, Mapping) or not {"forward"} <= set(data) <= {"forward", "backward"}:
            raise ArchitectureError(
                "Masks must be a `ChannelUse`, or a mapping with `forward` and `backward`. "
                f"Received: {data!r}."
            )
        return cls(**data)


def _masks(name, masks):
    if not isinstance(masks, Mapping) or not masks:
        raise ArchitectureError(
            f"`{name}` must be a mapping from task to mask. Received: {name}={masks!r}."
        )
    return {str(task): _bits(name, task, mask) for task, mask in masks.items()}


def _bits(name, task, mask):
    try:
        bits = mask if isinstance(mask, str) else "".join(str(int(bit)) for bit in mask)
    except (TypeError, ValueError):
        bits = ""
    if not bits or not set(bits) <= {"0", "1"}:
        raise ArchitectureError(
            f"`{name}[{task!r}]` must be a text of 0 and 1, or a sequence of truth values. "
            f"Received: {mask!r}."
        )
    return bits
