"""Prints the lowest version that pyproject.toml allows of every dependency, as pip constraints."""

import pathlib
import re
import tomllib


def constraints(project):
    """Lines of `name==version` for every bound `name>=version` of a `[project]` table."""
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(each for extra in extras for each in extra)]
    bounds = [re.fullmatch(r"([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)", each) for each in required]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})


if __name__ == "__main__":
    text = pathlib.Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8")
    print("\n".join(constraints(tomllib.loads(text)["project"])))
