"""Packages that only some uses need: an import that says how to install what is missing."""

import importlib

# Names to install by, where they are not those to import by.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "tensorflow_datasets": "tensorflow-datasets"}


def require(module, user, extra):
    """Imports an optional module, or says which extra of `keras_mtl` brings it.

    Args:
        module: string. What to import.
        user: string. The public name that needs it.
        extra: string. The extra of `keras_mtl` that installs it.

    Returns:
        The module.

    Raises:
        ImportError: when the module, or one that it imports in turn, is not installed.

    Example:

    >>> from keras_mtl.optional import require
    >>> require("json", "keras_mtl.plot", "plot").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = error.name.split(".")[0]
        raise ImportError(
            f"`{user}` needs {_DISTRIBUTIONS.get(package, package)}. "
            f"Install it: pip install keras_mtl[{extra}]",
            name=package,
        ) from None
