"""Stands in for `uv pip install` where code blocks of the pages run: checks that this environment has the packages.

python tests/installed.py pip install [--no-deps] ['.[EXTRA]'] [PACKAGE ...]
"""

import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

PROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]


def check(requirement: str) -> None:
    """Raise PackageNotFoundError or KeyError if a package or an extra is missing."""
    name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?(?:[<>=~!].*)?", requirement).groups()
    for extra in (extras or "").split(",") if name in (".", "frcnn") and extras else ():
        for each in PROJECT["optional-dependencies"][extra]:
            check(each)
    distribution("frcnn" if name == "." else name)


if __name__ == "__main__":
    assert sys.argv[1:3] == ["pip", "install"], sys.argv
    for argument in sys.argv[3:]:
        if not argument.startswith("-"):
            check(argument)
