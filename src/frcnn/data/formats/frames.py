"""The frames of videos, which annotations number instead of naming them. (Helper, not a format.)"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path

from frcnn.data.tree import Tree

_NUMBER = re.compile(r"\d+$")


def frames_in(is_sequence: Callable[[Path], bool], tree: Tree) -> dict[int, Path]:
    """The images of a sequence by the number at the end of their names: those of the largest folder of images.

    Args:
        is_sequence: whether a folder has images of the sequence.
    """
    folders = _folders(tree)
    best = max(filter(is_sequence, folders), key=lambda folder: len(folders[folder]), default=None)
    return {} if best is None else folders[best]


def named(name: str, tree: Tree) -> Callable[[Path], bool]:
    """For `frames_in`: folders of this name, and folders in them."""
    return lambda folder: name in tree.relative(folder).parts


@lru_cache(maxsize=2)
def _folders(tree: Tree) -> dict[Path, dict[int, Path]]:
    folders: dict[Path, dict[int, Path]] = {}
    for image in tree.images:
        number = _NUMBER.search(image.stem)
        if number is not None:
            folders.setdefault(image.parent, {})[int(number[0])] = image
    return folders


def frame_shift(numbers: Collection[int], frames: Collection[int]) -> int:
    """What to add to the numbers of an annotation for those of the images: one may count from 0, the other from 1."""
    if not numbers or all(number in frames for number in numbers):
        return 0
    ends = min(numbers), min(frames)
    shift = ends[1] - ends[0]
    return shift if sorted(ends) == [0, 1] and all(number + shift in frames for number in numbers) else 0
