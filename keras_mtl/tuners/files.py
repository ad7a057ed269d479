"""Files that are there whole or not at all."""

import json
import os
import pathlib


def write_json(path, data):
    """Writes plain data as JSON."""
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(data), encoding="utf-8"))


def read_json(path):
    """Reads what `write_json` wrote, or returns `None` where there is no file."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


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
