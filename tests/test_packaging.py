"""What pip is told is true: requirements, lowest versions, optional packages, one version."""

import ast
import importlib
import pathlib
import re
import runpy
import subprocess
import sys
import textwrap
import tomllib

import keras_mtl

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Where the name to import by is not the name to install by.
MODULES = {"keras-tuner": "keras_tuner", "tensorflow-datasets": "tensorflow_datasets"}
MODULES |= {"scikit-learn": "sklearn", "grpcio": "grpc"}


def name_of(requirement):
    return re.match(r"[\w-]+", requirement)[0]


def required_modules(requirements):
    names = {name_of(requirement) for requirement in requirements}
    return {MODULES.get(name, name) for name in names}


def imported(path):
    """Top-level names of the packages that a file imports, also by `require`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "require":
            yield node.args[0].value.split(".")[0]


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    found = {name for path in (ROOT / "keras_mtl").rglob("*.py") for name in imported(path)}
    found -= {"keras_mtl", *sys.stdlib_module_names}
    optional = required_modules([*EXTRAS["plot"], *EXTRAS["data"]])
    # TFDS imports `importlib_resources` and does not always bring it.
    assert found == required_modules(PROJECT["dependencies"]) | optional - {"importlib_resources"}


def test_requirements_repeat_the_bounds():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    expected = [*PROJECT["dependencies"], *EXTRAS["plot"], *EXTRAS["data"], *EXTRAS["cuda"]]
    expected.remove("tensorflow>=2.20")  # the line with CUDA stands for it
    assert sorted(lines) == sorted([*expected, "pytest"])


def test_every_dependency_has_a_lowest_version():
    required = [*PROJECT["dependencies"], *EXTRAS["plot"], *EXTRAS["data"], *EXTRAS["cuda"]]
    assert all(re.fullmatch(r"[\w-]+(\[and-cuda\])?>=[\d.]+", each) for each in required)
    constraints = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["constraints"](PROJECT)
    assert constraints == sorted({re.sub(r"(\[.*\])?>=", "==", each) for each in required})


def test_one_version():
    assert PROJECT["dynamic"] == ["version"]
    assert keras_mtl.__version__ == importlib.import_module("keras_mtl.version").__version__
    places = [p for p in (ROOT / "keras_mtl").rglob("*.py") if "__version__ =" in p.read_text()]
    assert [path.name for path in places] == ["version.py"]


WITHOUT = """
    import importlib.abc, sys

    class Missing(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.split(".")[0] in {missing!r}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Missing())
"""


def run_without(missing, script):
    """What a script prints where some packages cannot be imported."""
    script = textwrap.dedent(WITHOUT).format(missing=missing) + textwrap.dedent(script)
    options = {"capture_output": True, "text": True, "cwd": ROOT}
    run = subprocess.run([sys.executable, "-c", script], **options)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def test_optional_packages_are_imported_on_use_and_named_where_they_are_missing():
    optional = ["keras_tuner", "matplotlib", "sklearn", "tensorflow_datasets"]
    script = """
        import keras_mtl

        assert set(keras_mtl.__all__) <= set(dir(keras_mtl))

        def show(use):
            try:
                use()
            except ImportError as error:
                print(f"{type(error).__name__}: {error}")

        show(lambda: keras_mtl.plot)
        show(lambda: keras_mtl.plot.architecture)
        show(lambda: keras_mtl.tuners)
        show(keras_mtl.data.load_multidigits)
        show(lambda: keras_mtl.data.tfds_folder.open_folder("x"))
        try:
            keras_mtl.unknown
        except AttributeError as error:
            print(error)
    """
    assert run_without(optional, script).splitlines() == [
        *["ImportError: `keras_mtl.plot` needs matplotlib. "
          "Install it: pip install keras_mtl[plot]"] * 2,
        "ModuleNotFoundError: No module named 'keras_tuner'",
        "ImportError: `keras_mtl.data.load_multidigits` needs scikit-learn. "
        "Install it: pip install keras_mtl[data]",
        "ImportError: `keras_mtl.data` needs tensorflow-datasets. "
        "Install it: pip install keras_mtl[data]",
        "module 'keras_mtl' has no attribute 'unknown'",
    ]  # fmt: skip


def test_subpackages_on_use():
    assert {"plot", "tuners"} <= set(keras_mtl.__all__) <= set(dir(keras_mtl))
    assert keras_mtl.tuners is importlib.import_module("keras_mtl.tuners")
    assert keras_mtl.plot is importlib.import_module("keras_mtl.plot")
