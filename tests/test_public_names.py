"""Public names and signatures change on purpose only; what messages and documents name exists."""

import importlib
import pathlib
import re

import keras_mtl
from tests import public_names

ROOT = pathlib.Path(__file__).parents[1]


def test_snapshot():
    expected = public_names.SNAPSHOT.read_text("utf-8").splitlines()
    found = public_names.text().splitlines()
    missing, new = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    assert found == expected, (
        "Public names or signatures have changed. If on purpose: python tests/public_names.py\n"
        + "\n".join([*(f"- {line}" for line in missing), *(f"+ {line}" for line in new)])
    )


def files():
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))
    yield from sorted((ROOT / "docs").glob("*.md"))
    for folder in ("keras_mtl", "examples", "benchmarks", "docs"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def resolves(dotted):
    thing, path = keras_mtl, "keras_mtl"
    for name in dotted.split(".")[1:]:
        path = f"{path}.{name}"
        if not hasattr(thing, name):
            try:
                importlib.import_module(path)
            except ImportError:
                return False
        thing = getattr(thing, name)
    return True


def test_dotted_names_resolve():
    """In code, messages, docstrings and documents, such as `keras_mtl.callbacks.EarlyStopping`."""
    found = {}
    for path in files():
        text = path.read_text("utf-8")
        names = re.findall(r"\bkeras_mtl(?:\.[A-Za-z_]\w*)+", text)
        found |= dict.fromkeys(names, str(path.relative_to(ROOT)))
    assert len(found) > 100
    assert not {name: path for name, path in found.items() if not resolves(name)}


def test_a_name_that_does_not_exist_is_found():
    assert resolves("keras_mtl.layers.GumbelGate.call")
    assert not resolves("keras_mtl.layers.GumbelGates")
    assert not resolves("keras_mtl.nothing.at.all")
