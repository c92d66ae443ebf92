"""Lists of the names of classes, one per line, for formats that number the classes. (Helper, not a format.)"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from frcnn.data.formats.lines import is_count, read_lines
from frcnn.data.tree import Tree

_NAMES = re.compile(r"(class(es)?|names?|labels?)([-_ ]?(names?|list))?$", re.IGNORECASE)


def names_in(tree: Tree) -> list[str]:
    """The names in the file nearest to the root, e.g. classes.txt, voc_classes.txt or obj.names; empty: none."""
    files = [file for file in tree.with_suffix(".txt") if _NAMES.search(file.stem)]
    for file in sorted([*tree.with_suffix(".names"), *files], key=lambda file: len(file.parts)):
        try:
            names = [line.strip() for line in read_lines(file) if line.strip()]
        except ValueError:
            continue
        if names and all(len(name.split()) < 5 and not name.replace(".", "").isdecimal() for name in names):
            return names
    return []


def are_numbers(classes: Iterable[str]) -> bool:
    """Whether all classes are numbers, of which there is one at least."""
    classes = set(classes)
    return bool(classes) and all(map(str.isdecimal, classes))


def class_name(label: str, names: Sequence[str]) -> str:
    """The name of a class that a file numbers from 0; the label itself if there is no such name."""
    return names[int(label)] if is_count(label) and int(label) < len(names) else label
