"""Plain data as JSON text with a `format_version`, and files that are there whole or not at all."""

import json
import os


def parse(text, what, version, error):
    """Returns the fields of what was written, a dict; refuses broken text and unknown versions.

    Args:
        text: string.
        what: string. What the text should be of, for messages.
        version: int. The version that is known.
        error: class of the exception.
    """
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, TypeError) as broken:
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
    if found != version:
        raise error(
            f"`format_version` must be {version}. Received: format_version={found!r}. "
            "Use the version of keras_mtl that wrote it."
        )
    return data


def write(path, text):
    """Writes a file, whole or not at all."""
    temporary = f"{path}.partial"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def read(path):
    """The text of a file."""
    with open(path, encoding="utf-8") as file:
        return file.read()


class Saved:
    """Files of an object that has `to_json` and `from_json`."""

    def save(self, path):
        """Writes a JSON file, whole or not at all."""
        write(path, self.to_json(indent=1))

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote."""
        return cls.from_json(read(path))
