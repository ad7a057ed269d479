"""What a task does at a unit: use it, skip it, or, while a gate is open, a mixture of both."""

import dataclasses
from typing import Any

from keras_mtl.architecture import SHARED
from keras_mtl.graph import is_normalisation, is_weighted


@dataclasses.dataclass(frozen=True)
class Use:
    """Run the unit with one parameter copy; normalisation layers may have a copy of their own."""

    copy: str = SHARED
    normalisation: str | None = None

    def copy_of(self, call):
        """The parameter copy that a call runs with; `None` where it has no parameters."""
        if not is_weighted(call.operation):
            return None
        if self.normalisation is not None and is_normalisation(call.operation):
            return self.normalisation
        return self.copy


@dataclasses.dataclass(frozen=True)
class Skip:
    """Hand on the unit's skip value; `copy` names the parameters of its shortcut or projection.

    With `normalisation`, the normalisation behind an operator still runs, by that copy of it;
    without, it is skipped with the operator.
    """

    copy: str = SHARED
    normalisation: str | None = None

    @property
    def behind(self):
        """The copies of the normalisation that run behind the operator."""
        return () if self.normalisation is None else (self.normalisation,)

    def copy_of(self, call):
        """The parameter copy that a call of the unit's shortcut runs with."""
        return Use(self.copy, self.normalisation).copy_of(call)


@dataclasses.dataclass(frozen=True, eq=False)
class Mix:
    """Mix the results of several options with the weights of an open gate.

    Where options differ only in the copy of an operator that is linear in its weights, the copies
    are mixed instead of the results: the same by arithmetic, and one operator is run, not several.

    Args:
        options: tuple of `Use` and `Skip`.
        weights: tensor of shape `(len(options),)` or tuple of floats; `None` where only structure
            is asked for.
        key: hashable. Two mixes with one key and equal inputs are one result.
        normalisation: tuple of strings. The copies of the normalisation behind an operator, which
            runs after the mixing, on its result; several are averaged. `()`: before, by option.
        sampled: bool. Only the option with the largest weight is executed.
    """

    options: tuple
    weights: Any
    key: Any
    normalisation: tuple = ()
    sampled: bool = False

    @property
    def behind(self):
        """The copies of the normalisation that run behind the operator."""
        return self.normalisation

    def weight(self, position):
        """The weight of one option."""
        return None if self.weights is None else self.weights[position]
