"""Every public argument and result has a type; what the types say, `make lint` checks."""

import inspect
import pathlib

import keras_mtl

ROOT = pathlib.Path(keras_mtl.__file__).parent


def functions(package):
    """Dotted names with the public functions, constructors, methods and properties behind them."""
    for name in package.__all__:
        thing = getattr(package, name)
        path = f"{package.__name__}.{name}"
        if inspect.ismodule(thing):
            yield from functions(thing)
        elif isinstance(thing, type):
            for owner in thing.__mro__:
                if owner.__module__.startswith("keras_mtl"):
                    yield from methods(owner, path)
        elif callable(thing):
            yield path, thing


def methods(cls, path):
    for name, value in vars(cls).items():
        if name.startswith("_") and name != "__init__":
            continue
        parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
        for part in parts:
            function = inspect.unwrap(getattr(part, "__func__", part))
            # Not what `dataclasses` or a decorator of KerasTuner has written.
            if inspect.isfunction(function) and _is_ours(function):
                yield f"{path}.{name}", function


def _is_ours(function):
    return pathlib.Path(function.__code__.co_filename).is_relative_to(ROOT)


def untyped(function):
    """The arguments without a type, and `"return"` where the result has none."""
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls"):
            yield parameter.name
    if signature.return_annotation is signature.empty:
        yield "return"


def test_every_public_signature_has_types():
    found = list(functions(keras_mtl))
    assert len(found) > 800
    missing = {name: parts for name, function in found if (parts := list(untyped(function)))}
    assert not missing


def test_what_has_no_type_is_found():
    def part(known: int, unknown, *, other: int | None = None): ...

    assert list(untyped(part)) == ["unknown", "return"]
