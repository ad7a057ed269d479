"""A user's way: build the wheel, install it where nothing is, run README's first example."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ["keras_mtl", "tests", "LICENSE", "MANIFEST.in", "README.md"]
SOURCES += ["pyproject.toml", "setup.py"]
SCRIPT = """
import pathlib, keras_mtl

home = pathlib.Path(keras_mtl.__file__).parent
assert "site-packages" in str(home) and (home / "py.typed").is_file(), home
try:
    keras_mtl.plot
except ImportError as error:
    print(error)
"""
pytestmark = pytest.mark.slow


def run(*command, cwd):
    """Runs a command without what this process adds to a Python's path; returns its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with source archive and wheel, built from a copy without anything ignored."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    (source / "shared").mkdir()
    (source / "shared" / "data.py").write_text("")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "setuptools"]
    if subprocess.run(pip, cwd=folder, capture_output=True).returncode:
        pytest.skip("no package index can be reached")
    run(sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(source), cwd=folder)
    return folder / "dist"


def test_contents(built):
    (archive,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        inside = {"wheel": opened.namelist()}
    with tarfile.open(archive) as opened:
        inside["archive"] = [name.split("/", 1)[-1] for name in opened.getnames()]
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "keras_mtl").rglob("*.py")}
    for names in inside.values():
        assert modules <= set(names)
        assert "keras_mtl/py.typed" in names
        assert any(name.endswith("LICENSE") for name in names)
        assert not [name for name in names if name.startswith(("tests", "shared", "benchmarks"))]
    others = {name for name in inside["wheel"] if ".dist-info/" not in name}
    assert others == modules | {"keras_mtl/py.typed"}


@pytest.fixture
def python(built, tmp_path):
    """Python of an environment with nothing but the wheel and what it asks for."""
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(python, *pip, f"{wheel}[data]", cwd=tmp_path)
    yield python
    shutil.rmtree(tmp_path / "venv")  # gigabytes, which pytest would keep


def test_readme_runs_where_the_wheel_is_installed(python, tmp_path):
    assert run(python, "-c", SCRIPT, cwd=tmp_path).splitlines() == [
        "`keras_mtl.plot` needs matplotlib. Install it: pip install keras_mtl[plot]"
    ]
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(example[1], "utf-8")
    output = run(python, "example.py", cwd=tmp_path)
    assert "with endpoints serve (image (None, 16, 16, 1)), left, right, sum." in output
    assert (tmp_path / "saved" / "saved_model.pb").is_file()
    assert (tmp_path / "search.npz").is_file()
