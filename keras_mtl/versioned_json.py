"""Plain data as JSON text with a `format_version`, and files that are there whole or not at all."""

import json
import os
import pathlib
from typing import Self


def parse(text, what, version, error):
    """Returns the fields of what was written, a dict; refuses broken text and unknown versions.

    Args:
        text: string, or bytes in UTF-8; a mark of the byte order before it does not count.
        what: string. What the text should be of, for messages.
        version: int. The version that is known.
        error: class of the exception.
    """
    if not isinstance(text, (str, bytes)):
        raise error(f"`text` must be the JSON of {what}. Received: text={text!r}.")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        data = json.loads(text.removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise error(
            f"`text` must be the JSON of {what}, in UTF-8. Received: bytes that are not."
        ) from None
    except RecursionError:
        raise error(
            f"`text` must be the JSON of {what}. Received: text that is nested too deep."
        ) from None
    except ValueError as broken:
        raise error(
            f"`text` must be the JSON of {what}. Received: text that breaks off or does not parse "
            f"({broken})."
        ) from None
    if not isinstance(data, dict) or "format_version" not in data:
        raise error(
            f"`text` must be the JSON of {what}, with a `format_version`. Received: "
            f"{str(text)[:60]!r}."
        )
    found = data.pop("format_version")
    if type(found) is not int or found != version:
        raise error(
            f"`format_version` must be {version}. Received: format_version={found!r}. "
            "Use the version of keras_mtl that wrote it."
        )
    return data


def write(path, text):
    """Writes a file, whole or not at all."""
    path = _checked(path)
    temporary = path.with_name(f"{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise type(error)(
            f"`path` must be a file that can be written. Received: path={str(path)!r} "
            f"({error.strerror})."
        ) from None


def _checked(path):
    """The path of a file, which may be missing."""
    if not isinstance(path, (str, os.PathLike)) or not pathlib.Path(path).name:
        raise TypeError(f"`path` must be the name of a file. Received: path={path!r}.")
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"`path` must be a file. Received: path={str(path)!r}, a folder.")
    return path


class Saved:
    """Files of an object that has `to_json` and `from_json`."""

    def save(self, path: os.PathLike[str] | str) -> None:
        """Writes a JSON file, whole or not at all."""
        write(path, self.to_json(indent=1))  # type: ignore[attr-defined]

    @classmethod
    def load(cls, path: os.PathLike[str] | str) -> Self:
        """Reads what `save` wrote; refuses a damaged file."""
        path = _checked(path)
        try:
            return cls.from_json(path.read_bytes())  # type: ignore[attr-defined]
        except ValueError as error:
            raise type(error)(f"{error} It is in the file {str(path)!r}.") from None
