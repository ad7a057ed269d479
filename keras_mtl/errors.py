"""The library's own errors, and the one sentence form they share.

Every message says what, what was expected, what was received, and the way out. The classes derive
from the built-in error of the same kind, so that `except ValueError` keeps working.
"""

import difflib


class UnsupportedBackboneError(ValueError):
    """The backbone cannot be read as a graph of Keras operations."""


class ArchitectureError(ValueError):
    """An Architecture is malformed, of another version, or of another backbone."""


class DataError(ValueError):
    """A dataset does not fit the tasks; raised before the first training step."""


class NonFiniteError(ArithmeticError):
    """An input, loss or gradient became NaN or infinite; variables keep their last good value."""


def suggestion(name, known):
    """Returns ``" Did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
