"""A search belongs to one process at a time, alone or as chief; workers come and go."""

import contextlib
import pathlib

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

_NAME = "search.lock"


@contextlib.contextmanager
def locked(folder):
    """Holds the search in a folder; the system lets go of it when the process dies.

    Raises:
        RuntimeError: when another process holds it.
        OSError: when the file of the lock cannot be written.
    """
    path = pathlib.Path(folder) / _NAME
    try:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise OSError(
            f"{str(path)!r} must be a file that can be written. Received: {error.strerror}. "
            "Delete what is in its place."
        ) from None
    with file:
        try:
            # A lock of the process: those that it forks, which may live longer, do not have it.
            fcntl and fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RuntimeError(
                "`project_name` must be of a search that no other process runs. Received: the "
                f"folder {str(folder)!r}, which one does. Wait for it or end it, choose another "
                "name, or make this process one of its workers (see `ResumableTuner`)."
            ) from None
        except OSError:  # a disk that knows no locks
            pass
        yield


def check_unlocked(folder):
    """Raises as `locked`, and holds nothing."""
    if (pathlib.Path(folder) / _NAME).exists():
        with locked(folder):
            pass
