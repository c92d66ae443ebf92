"""What is wrong with a data set: one thing, its place, the rule and the way out."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong, or looks it."""

    kind: str
    """In a few words, the same for all of its kind, e.g. "box without area"."""
    path: Path
    """The image or the annotation file."""
    rule: str
    """What is wrong, the rule, and the way out."""
    place: str = ""
    """In the file, e.g. "line 3"."""
    object: int | None = None
    """Of the image, from 0: what can be drawn."""
    other: Path | None = None
    """Another image that it is about, too."""
    level: Literal["error", "warning"] = "error"
    """An error stops training; of a warning only a person can say."""

    def __str__(self) -> str:
        return f"{self.path}{', ' if self.place else ''}{self.place}: {self.rule}"


Report = Callable[[Problem], None]
"""Takes each problem as it is found."""


def twins(images: Iterable[Path]) -> Iterator[Problem]:
    """Images of one folder that have the same name but for their suffix, where an annotation is found by that name."""
    first: dict[Path, Path] = {}
    for image in images:
        other = first.setdefault(image.with_suffix(""), image)
        if other != image:
            rule = f"has the name of {other.name}, so both would have one annotation; rename one of them"
            yield Problem("two images for one annotation", image, rule)


def object_place(number: int, name: str) -> str:
    """How messages name an object, counted from 0 here and from 1 there."""
    return f"object {number + 1} ('{name}')"
