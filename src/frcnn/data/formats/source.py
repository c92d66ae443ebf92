"""The annotation files of one split: group, read, report errors. (Helper, not a format.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from frcnn.data.problems import ImageNotFoundError, OnProblem, missing_image, unreadable_annotation
from frcnn.data.tree import Tree

T = TypeVar("T")

ALL = "all"
"""The name of the only split, where neither names nor lists tell splits."""


class Source(NamedTuple):
    """The annotation files of one split."""

    split: str
    """E.g. "train2017", "valid"; `ALL`: the data has no splits."""
    files: tuple[Path, ...]
    """Sorted."""


def of_split(split: str) -> str:
    """How messages name a split behind a noun, e.g. " of the split 'train'"; empty if there are no splits."""
    return "" if split == ALL else f" of the split '{split}'"


def by_split(files: Iterable[Path], split_of: Callable[[Path], str | None]) -> list[Source]:
    """Group files by split, in the order in which the splits appear. Files of no split are `ALL`."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(split_of(file) or ALL, []).append(file)
    return [Source(split, tuple(group)) for split, group in groups.items()]


def by_image_split(files: Iterable[Path], splits_of: Callable[[Path], Iterable[str]]) -> list[Source]:
    """Group files of many images by the splits of their images. A file can be in several groups."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        for split in dict.fromkeys(splits_of(file)) or [ALL]:
            groups.setdefault(split, []).append(file)
    return [Source(split, tuple(group)) for split, group in groups.items()]


def image_splits(names: Iterable[str], file: Path, tree: Tree) -> dict[str, str]:
    """The split of each image that a file names: the split of the file, else that of the image's folder. Images that
    are missing are of the first split."""
    own = tree.split_of(file)
    if own is not None:
        return dict.fromkeys(names, own)
    splits: dict[str, str] = {}
    missing: list[str] = []
    for name in dict.fromkeys(names):
        try:
            splits[name] = tree.split_of(tree.find_image(name, file).parent) or ALL
        except ImageNotFoundError:
            missing.append(name)
    return splits | dict.fromkeys(missing, next(iter(splits.values()), ALL))


def split_of_image(name: str, file: Path, tree: Tree) -> str | None:
    """The split that the folder of an image tells; None: it tells none, or the image is missing."""
    try:
        return tree.split_of(tree.find_image(name, file).parent)
    except ImageNotFoundError:
        return None


def readable(
    files: Iterable[Path], read: Callable[[Path], T], on_problem: OnProblem, *, images: int
) -> Iterator[tuple[Path, T]]:
    """The files that can be read, with their content. The others are reported.

    Args:
        images: how many images a file has; 0: this is not known.

    Raises:
        ValueError, OSError: there are files of many images, and none of them can be read.
    """
    errors: list[ValueError | OSError] = []
    files = list(files)
    for file in files:
        try:
            content = read(file)
        except (ValueError, OSError) as error:
            errors.append(error)
            on_problem(unreadable_annotation(file, error, images=images))
        else:
            yield file, content
    if errors and not images and len(errors) == len(files):
        raise errors[0]


def find_or_report(
    find: Callable[[], Path], file: Path, on_problem: OnProblem, place: str = "", lost: Iterable[str] = ()
) -> Path | None:
    """The image that an annotation names; None: it is missing, which is reported.

    Args:
        find: finds the image.
        file: the annotation.
        lost: the class of each of its objects.
    """
    try:
        return find()
    except ImageNotFoundError as error:
        on_problem(missing_image(file, error, place, lost))
        return None
