"""Kills at a file: what is left is what a process would leave that dies there."""

import contextlib

from keras_mtl.tuners import files

MOMENTS = ("before", "while writing", "after")


class _Kill(BaseException):
    pass


class _Killer:
    """Stands in for `files.write_whole`."""

    def __init__(self, at, moment):
        self.at, self.moment, self.count = at, moment, 0
        self.write_whole = files.write_whole

    @property
    def killed(self):
        return self.count >= self.at

    def __call__(self, path, write, writer="partial"):
        self.count += 1
        if self.count != self.at:
            return self.write_whole(path, write, writer)
        if self.moment == "while writing":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{writer}.{path.name}").write_text('{"half": ')
        if self.moment == "after":
            self.write_whole(path, write, writer)
        raise _Kill


@contextlib.contextmanager
def at_file(number, moment):
    """Ends the block at the n-th file that tuners write in it: before, in the middle, or after.

    Yields what says, as `killed`, whether there were so many.
    """
    files.write_whole = killer = _Killer(number, moment)
    try:
        with contextlib.suppress(_Kill):
            yield killer
    finally:
        files.write_whole = killer.write_whole
