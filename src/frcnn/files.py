"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial-"
"""Begins the names of files that are being written."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends without an error. The
    folder is made if it is missing.

    The suffix is kept, since some writers go by it. A killed process leaves at most the hidden partial file. The file
    is on the disk before it takes its place, so a machine that stops leaves the old one or the new one.
    """
    with whole_files(path) as (partial,):
        yield partial


@contextmanager
def whole_files(*paths: Path) -> Iterator[list[Path]]:
    """The same for files that belong together: all are on the disk before the first takes its place."""
    paths = tuple(path.resolve() for path in paths)  # what a link leads to is written, not the link
    partials = []
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        partials.append(path.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(3)}-{path.name}"))
    try:
        rights = [_usual_rights(partial) for partial in partials]
        yield partials
        for partial in partials:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        for partial, path, mode in zip(partials, paths, rights, strict=True):
            partial.chmod(path.stat().st_mode if path.is_file() else mode)
            os.replace(partial, path)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def _usual_rights(path: Path) -> int:
    """Of a new file there; some writers give others."""
    path.touch()
    rights = path.stat().st_mode
    path.unlink()
    return rights


def remove_partial(folder: Path) -> None:
    """Remove what killed processes have left of files that they were writing."""
    for file in folder.glob(f"{PARTIAL}*"):
        file.unlink(missing_ok=True)


def write_all(file: BinaryIO, content: bytes) -> None:
    """To an unbuffered file, which on a disk that fills up takes a part before it raises."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def write_text(path: Path, text: str) -> None:
    """UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
