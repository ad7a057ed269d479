"""All public names and signatures, as text. `python tests/public_names.py` renews the snapshot."""

import inspect
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = pathlib.Path(__file__).parents[1]
SNAPSHOT = ROOT / "tests" / "public_names.txt"


def lines(package):
    """A line for every public name of the package and of its subpackages, in order.

    Classes are followed by the methods and properties that they define or inherit from the
    library. Annotations are left out: `make lint` checks them.
    """
    for name in sorted(package.__all__):
        thing = getattr(package, name)
        path = f"{package.__name__}.{name}"
        if inspect.ismodule(thing):
            yield from lines(thing)
        elif isinstance(thing, type):
            yield f"{path}{_signature(thing)}"
            yield from (f"{path}.{member}" for member in _members(thing))
        elif callable(thing):
            yield f"{path}{_signature(thing)}"
        else:
            yield path


def _members(cls):
    for name in sorted(dir(cls)):
        owners = [each for each in cls.__mro__ if name in vars(each)]
        if name.startswith("_") or not owners[0].__module__.startswith("keras_mtl"):
            continue
        value = vars(owners[0])[name]
        if isinstance(value, property):
            yield name
        elif isinstance(value, (staticmethod, classmethod)) or inspect.isfunction(value):
            yield f"{name}{_signature(getattr(cls, name))}"


def _signature(thing):
    if isinstance(thing, type) and issubclass(thing, Exception):
        return ""  # which signature it has depends on the version of Python
    signature = inspect.signature(thing)
    empty = inspect.Parameter.empty
    bare = [each.replace(annotation=empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=empty))


def text():
    import keras_mtl

    return "\n".join(lines(keras_mtl)) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    SNAPSHOT.write_text(text(), "utf-8")
