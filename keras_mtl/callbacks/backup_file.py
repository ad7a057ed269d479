"""The file of a backup: whole or not at all, of one process, and said to be broken if it is."""

import contextlib
import glob
import json
import os
import shutil
import socket

import numpy as np

try:
    import fcntl
except ImportError:  # not a Unix: two trainings on one file are the user's care
    fcntl = None  # type: ignore[assignment]

VERSION = 1


def write_atomically(path, arrays):
    """Writes an `.npz` file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Left over of a kill while writing.
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        left_over.unlink()
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path):
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def check_writable(path, size):
    """Raises `ValueError` unless a file of a size can be put at a path.

    Args:
        path: `pathlib.Path`.
        size: int. Bytes that it will have at least.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.write_bytes(b"0")
        temporary.unlink()
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise OSError(0, f"the disk has {free / 1e6:.1f} MB left of {size / 1e6:.1f} MB")
    except OSError as error:
        raise ValueError(
            "`filepath` must be a file that can be written. Received: "
            f"filepath={str(path)!r} ({error.strerror or error}). Give one in a folder of yours "
            "with enough room."
        ) from None


def read(path):
    """The state and the arrays of a backup.

    Raises:
        ValueError: when the file is not a whole backup of this version.
    """
    try:
        # Opened here: NumPy leaves a file open that is no archive.
        with open(path, "rb") as source, np.load(source, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            arrays = {key: file[key] for key in file.files if key != "state"}
        version = state["version"]
        whole = version != VERSION or _is_whole(state, arrays)
    except PermissionError as error:
        raise ValueError(
            f"`filepath` must be a file that can be read. Received: filepath={str(path)!r} "
            f"({error.strerror}). Give one of yours."
        ) from None
    except Exception:  # whatever NumPy, ZIP and JSON make of bytes that are not theirs
        whole = False
    if not whole:
        raise ValueError(
            f"`filepath` must hold a whole backup. Received: filepath={str(path)!r}, which is "
            "empty, damaged or of another kind. Delete it to begin the training again, or restore "
            "it from a copy."
        )
    if version != VERSION:
        raise ValueError(
            f"`filepath` must hold a backup of version {VERSION}. Received: "
            f"filepath={str(path)!r} of version {version!r}. Use the version of keras_mtl that "
            "wrote it, or delete it to begin the training again."
        )
    return state, arrays


def _is_whole(state, arrays):
    fields = {
        "task_names": list,
        "settings": dict,
        "shapes": list,
        "next_epoch": int,
        "stopped": bool,
        "rows": list,
        "classes": list,
        "callbacks": list,
        "arrays": list,
    }
    rows = [(type(epoch), type(row)) for epoch, row in state["rows"]]
    shapes = [list(arrays[f"variable_{i}"].shape) for i in range(len(state["shapes"]))]
    lists = [
        arrays[f"callback_{i}_{name}_{j}"]
        for i, counts in enumerate(state["arrays"])
        for name, count in counts.items()
        for j in range(count)
    ]
    kinds = state.get("kinds", [[name] for name in state["classes"]])
    callbacks = {len(state[key]) for key in ("classes", "callbacks", "arrays")} | {len(kinds)}
    return (
        all(isinstance(state[key], kind) for key, kind in fields.items())
        and state["next_epoch"] > 0
        and all(kind == (int, dict) for kind in rows)
        and all(isinstance(plain, dict) for plain in state["callbacks"])
        and all(array.dtype.kind != "U" for array in arrays.values())
        and shapes == state["shapes"]
        and len(callbacks) == 1
        and len(lists) + len(shapes) == len(arrays)
    )


class Lock:
    """Keeps a file for one training: a second one, also of this process, is refused.

    The operating system lets go of it when its process ends, however that is.

    Args:
        path: `pathlib.Path` of what is kept; the lock lies beside it.
    """

    def __init__(self, path):
        self.path = path
        self._beside = path.with_name(f".{path.name}.lock")
        self._file = None

    def acquire(self):
        """Takes the lock, also one whose process is gone; raises `ValueError` for another's."""
        while fcntl is not None and self._file is None:
            file = open(self._beside, "a+", encoding="utf-8")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._refuse_or_clear(file)
                continue
            except OSError:  # a file system without locks
                file.close()
                return
            if not self._is_there(file):  # its last holder has just removed it
                file.close()
                continue
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}")
            file.flush()
            self._file = file

    def release(self):
        """Gives the lock back, if it is held."""
        if self._file is not None:
            self._beside.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _is_there(self, file):
        try:
            return os.path.samestat(os.stat(self._beside), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _refuse_or_clear(self, file):
        """A process that is gone may have left children, which hold its lock without a use."""
        with contextlib.closing(file):
            file.seek(0)
            pid, _, host = file.read().partition(" ")
            mine = host == socket.gethostname() and pid.isdigit()
            if mine and not _is_alive(int(pid)):
                if self._is_there(file):
                    self._beside.unlink(missing_ok=True)
                return
        holder = f"process {pid} on {host}" if host else "another process"
        raise ValueError(
            "`filepath` must belong to one training at a time. Received: "
            f"filepath={str(self.path)!r}, which {holder} is writing. Wait for its end, or give "
            "each training a file of its own."
        )


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def size_of(variables):
    """Bytes that variables take in a file, at most."""
    return sum(int(np.prod(v.shape, dtype="int64")) for v in variables) * 4
