"""A folder as its format reads it, before repairs."""

from pathlib import Path

from frcnn.config import DataSettings
from frcnn.data.discover import discover
from frcnn.data.formats import FORMATS
from frcnn.data.problems import Problem
from frcnn.data.records import Records


def read_folder(folder: Path, settings: DataSettings | None = None) -> tuple[dict[str, Records], list[Problem]]:
    """The records of each split, and the problems."""
    settings = settings or DataSettings()
    found = discover(folder, settings)
    problems: list[Problem] = []
    form = FORMATS[found.format]
    splits = {
        source.split: Records.of(form.read(source, found.tree, settings, problems.append)) for source in found.sources
    }
    return splits, problems
