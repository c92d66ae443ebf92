"""The images of a job, and the shard of each."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import iglob
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.files import expand_home

LIST_SUFFIX = ".txt"
DIGEST_SIZE = 16
"""Bytes."""


@dataclass(frozen=True, order=True)
class Shard:
    """The images of one process: those whose digest is `index` modulo `count`."""

    index: int = 0
    """0..count-1."""
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "I/N", e.g. "0/4".

        Raises:
            ValueError: another text.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, flags=re.ASCII)
        if match is None or not int(match[1]) < int(match[2]):
            raise ValueError(f"shard '{text}': must be I/N, with I from 0 to N - 1, e.g. 0/4 to 3/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, digest: bytes) -> bool:
        """Whether an image belongs to this shard."""
        return int.from_bytes(digest, "big") % self.count == self.index


ALL = Shard()
"""One process for all images."""


def digest_of(name: str) -> bytes:
    """16 bytes that are the same on every machine and in every version of Python, which `hash` is not."""
    return hashlib.blake2b(name.encode(), digest_size=DIGEST_SIZE).digest()


class DigestSet:
    """A set of digests. Each of many digests takes up to 40 bytes; a set of Python takes over 100.

    New digests are in a set of Python. When they are an eighth of all, they are merged into a sorted array; this copies
    the array.
    """

    def __init__(self) -> None:
        self._sorted = np.empty(0, f"S{DIGEST_SIZE}")
        self._new: set[bytes] = set()
        """Not yet in `_sorted`."""

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)

    def __contains__(self, digest: bytes) -> bool:
        digest = digest.rstrip(b"\0")  # as NumPy returns it
        if digest in self._new:
            return True
        place = int(np.searchsorted(self._sorted, np.bytes_(digest)))
        return place < len(self._sorted) and self._sorted[place] == digest

    def add(self, digest: bytes) -> bool:
        """Add a digest. Returns whether it was not there before."""
        if digest in self:
            return False
        self._new.add(digest.rstrip(b"\0"))
        if len(self._new) >= max(1 << 16, len(self._sorted) // 8):
            new = np.array(list(self._new), f"S{DIGEST_SIZE}")
            self._new.clear()  # before the copy, so that both are never in memory
            self._sorted = np.concatenate((self._sorted, new))
            self._sorted.sort()
        return True


def list_names(source: str | Path) -> Iterator[tuple[str, Path]]:
    """The images of a job: the name and the file of each. They are listed as they are needed; the names of one folder
    are in memory at a time.

    Args:
        source: a folder, whose subfolders are searched; a text file (.txt) with one path per line, relative
            to the folder of the text file; or a pattern, e.g. "photos/**/*.jpg". Hidden files and folders are skipped.
            In a folder, links to folders are not followed; a pattern with `**` follows them.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something else.
    """
    path = expand_home(source)
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        if path.suffix.lower() != LIST_SUFFIX:
            raise ValueError(
                f"{source}: name one folder, one text file ({LIST_SUFFIX}) with one path per line, or a pattern"
            )
        return _in_list(path)
    if not set("*?[") & set(str(path)):
        raise FileNotFoundError(f"{source}: no such folder or list of images")
    return _matching(path)


def _in_folder(root: Path) -> Iterator[tuple[str, Path]]:
    def fail(error: OSError) -> None:
        raise error  # a folder that cannot be listed may hold images

    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            if _is_visible_image(file):
                yield _text(file.relative_to(root)), file


def _in_list(path: Path) -> Iterator[tuple[str, Path]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if file := line.rstrip("\r\n"):
                yield _text(PurePosixPath(file)), path.parent / file


def _matching(pattern: Path) -> Iterator[tuple[str, Path]]:
    root = next(each for each in pattern.parents if not set("*?[") & set(str(each)))
    for name in iglob(str(pattern), recursive=True):
        file = Path(name)
        if _is_visible_image(file) and file.is_file():
            yield _text(file.relative_to(root)), file


def _is_visible_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _text(path: PurePath) -> str:
    """A path as text that every file format can hold; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
