"""Packaging of keras_mtl. `make` installs it; `pip install .` does too."""

from pathlib import Path

from setuptools import find_packages, setup

_README = Path(__file__).parent / "README.md"

setup(
    name="keras_mtl",
    version="0.1.0",
    description="Multi-task learning and multi-task architecture search on Keras 3",
    long_description=_README.read_text(encoding="utf-8") if _README.exists() else "",
    long_description_content_type="text/markdown",
    author="The keras_mtl authors",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["keras_mtl", "keras_mtl.*"]),
    install_requires=[
        "tensorflow>=2.19",
        "keras>=3.10",
        "keras-tuner>=1.4.7",
        "tensorflow-datasets>=4.9",
        "importlib_resources",
        "numpy",
        "scipy",
        "scikit-learn",
        "matplotlib",
        "tensorboard",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.19"],
        "dev": ["pytest", "pytest-xdist", "hypothesis", "ruff", "keras-hub"],
    },
)
