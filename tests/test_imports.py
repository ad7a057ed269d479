"""Imports point one way, and TensorFlow stays where it belongs."""

import ast
import pathlib

import keras_mtl

ROOT = pathlib.Path(keras_mtl.__file__).parent
# A module may import modules of its own layer and of layers below it.
LAYERS = [
    {"checks", "errors", "optional", "report", "text_table", "version", "versioned_json"},
    {"channel_use", "fusion"},
    {"architecture", "task"},
    {"graph"},
    {"assembly", "layers", "metrics", "heads", "plot", "data", "affinity", "partition"},
    {"strategies", "callbacks"},
    {"models", "export"},
    {"build"},
    {"tuners"},
]
TENSORFLOW = {"models/tensorflow_step.py", "export.py"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "keras_mtl":
                yield from (f"keras_mtl.{alias.name}" for alias in node.names)


def files():
    return [
        path for path in ROOT.rglob("*.py") if path.name != "__init__.py" or path.parent != ROOT
    ]


def layer_of(name):
    (number,) = [i for i, names in enumerate(LAYERS) if name in names]
    return number


def test_imports_point_one_way():
    wrong = []
    for path in files():
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imports(path):
            if name.startswith("keras_mtl.") and layer_of(name.split(".")[1]) > layer_of(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_every_module_has_a_layer():
    top = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in files()}
    assert top == set().union(*LAYERS)


def test_tensorflow_only_in_the_train_step_the_data_and_the_export():
    users = {
        str(path.relative_to(ROOT))
        for path in files()
        if any(name.split(".")[0] == "tensorflow" for name in imports(path))
    }
    assert {user for user in users if not user.startswith("data/")} == TENSORFLOW


def test_nothing_private_of_keras():
    assert not [p for p in files() if any(n.startswith("keras.src") for n in imports(p))]
