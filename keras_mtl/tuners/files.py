"""Files that are there whole or not at all, and what to say of one that something has damaged."""

import json
import os
import pathlib


class DamagedFileError(ValueError):
    """A file is not what was written.

    Args:
        path: of the file.
        reason: string. What is there instead.
    """

    def __init__(self, path, reason):
        super().__init__(f"{str(path)!r} must be as the search has written it. Received: {reason}.")
        self.path, self.reason = path, reason


def check_folder(directory, name):
    """Makes the folder of a search, if it is not there, and returns its path."""
    if not isinstance(directory, (str, os.PathLike)):
        raise TypeError(
            f"`directory` must be a string or a path. Received: directory={directory!r}."
        )
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"`project_name` must be a string that is not empty. Received: project_name={name!r}."
        )
    folder = pathlib.Path(directory) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            "`directory` and `project_name` must name a folder in which files can be written. "
            f"Received: {str(folder)!r} ({error.strerror})."
        ) from None
    return folder


def write_json(path, data):
    """Writes plain data as JSON."""
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(data), encoding="utf-8"))


def read_json(path):
    """Reads what `write_json` wrote, or returns `None` where there is no file.

    Raises:
        DamagedFileError: when there is something else.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise DamagedFileError(path, "a folder") from None
    except NotADirectoryError:
        raise DamagedFileError(path, "a file in the place of its folder") from None
    except OSError as error:  # links that lead nowhere, a disk that fails
        raise DamagedFileError(path, f"a file that cannot be read, {error.strerror}") from None
    except UnicodeDecodeError:
        raise DamagedFileError(path, "bytes that are no text") from None
    if not text.strip():
        raise DamagedFileError(path, "an empty file")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise DamagedFileError(path, "text that breaks off or does not parse") from None
    if data is None:
        raise DamagedFileError(path, "text without data")
    return data


def set_aside(path):
    """Renames what is in the place of a file, so that the file can be written; keeps it."""
    path = pathlib.Path(path)
    if not os.path.lexists(path):
        path = path.parent  # a file in the place of the folder
    numbers = (f".{number}" if number else "" for number in range(10_000))
    names = (path.with_name(f"{path.name}.damaged{number}") for number in numbers)
    os.replace(path, next(name for name in names if not os.path.lexists(name)))


def write_whole(path, write, writer="partial"):
    """Calls `write` with a temporary path of the same ending, and puts the file in its place.

    Args:
        path: where the file belongs.
        write: function of a path.
        writer: string. Name of the process where several may write the same file at once.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{writer}.{path.name}")
    write(temporary)
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
