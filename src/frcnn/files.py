"""Files and folders that are written whole or not at all."""

import glob
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import BinaryIO

from frcnn.json_text import load_json
from frcnn.messages import short

PARTIAL = ".partial-"
"""Prefix of the hidden files and folders that are being written."""
_REMOVABLE = (".bboxes.tsv", ".bboxes.labels.tsv")
"""Ends of the names of files that a journal may remove: those of CNTK's tutorial, the only annotations in two files."""
MAX_CLASSES, MAX_NAME = 100_000, 1000
MAX_INPUT = 1 << 28
"""Pixels of the largest input of a detector, all images of its batch together."""
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""ASCII and Latin-1 control characters, line ends, and bidirectional control characters. Class names have none, because
they are printed, and are lines of exported files."""
JOURNAL = ".frcnn-changes-"
"""Prefix of the hidden files that say which files are to be replaced together."""
_FOLDER: ContextVar[Path | None] = ContextVar("_FOLDER", default=None)
"""Of `only_inside`, without symbolic links."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all. The block writes to the path it is given: a hidden file beside `path`, which
    replaces `path` when the block ends without an error. Missing folders are made.

    The hidden file has the suffix of `path`, because some writers choose the format by it. A process that is killed
    leaves at most the hidden file. The file is flushed to the disk before it replaces `path`, so that a power failure
    leaves the old file or the new one.
    """
    with atomic_write_all(path) as (partial,):
        yield partial


@contextmanager
def atomic_write_all(*paths: Path) -> Iterator[list[Path]]:
    """`atomic_write` for files of one folder that belong together. If the process is killed during the replacement,
    the next one that opens the folder completes it (`finish_changes`)."""
    paths = tuple(path.absolute() for path in paths)  # a link is replaced, its target is not written
    for path in paths:
        _require_inside(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    if len(paths) > 1:
        finish_changes(paths[0].parent)
    partials = [_partial(path) for path in paths]
    journal = None
    try:
        modes = [_default_mode(partial) for partial in partials]
        yield partials
        for partial, path, mode in zip(partials, paths, modes, strict=True):
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.chmod(path.stat().st_mode if path.is_file() else mode)
        if len(paths) == 1:
            os.replace(partials[0], paths[0])
        else:
            journal = _write_journal(paths[0].parent, dict(zip(partials, paths, strict=True)))
    finally:
        if journal is None:  # else the files belong to the journal, even if an error comes now
            for partial in partials:
                partial.unlink(missing_ok=True)
    if journal is not None:
        _finish(journal)


def remove_all(*paths: Path) -> None:
    """Remove the files of an annotation: all of them, or none. The next process completes what a killed one began."""
    paths = tuple(path.absolute() for path in paths if path.is_file())
    for path in paths:
        _require_inside(path)
    if paths:
        finish_changes(paths[0].parent)
        _finish(_write_journal(paths[0].parent, dict.fromkeys(paths)))


@contextmanager
def only_inside(folder: Path) -> Iterator[None]:
    """In the block, files are written and removed only inside of a folder. A link to a folder outside is an error; a
    link to a file is replaced anyway.

    Raises:
        ValueError: a file is not inside of `folder`, once all links to folders are resolved. It is not changed.
    """
    token = _FOLDER.set(Path(os.path.realpath(folder)))
    try:
        yield
    finally:
        _FOLDER.reset(token)


def _require_inside(path: Path) -> None:
    folder = _FOLDER.get()
    if folder is None:
        return
    real = Path(os.path.realpath(path.parent))
    if not real.is_relative_to(folder):
        raise ValueError(
            f"{path}: not changed, because a link in its path leads to {real}, which is outside of {folder}; open the "
            f"folder that holds both, or replace the link by a folder"
        )


def _write_journal(folder: Path, changes: Mapping[Path, Path | None]) -> Path:
    """Write down how files of a folder are renamed. From then on, this process or a later one does it.

    Args:
        changes: hidden file -> its new path; file of an annotation -> None: it is removed.
    """
    if any(path.parent != folder for path in (*changes, *filter(None, changes.values()))):
        raise ValueError(f"{folder}: files that belong together must be in one folder")
    journal = folder / f"{JOURNAL}{secrets.token_hex(4)}.json"
    names = {old.name: None if new is None else new.name for old, new in changes.items()}
    write_text(journal, json.dumps(names))  # ASCII, also for names that are no UTF-8
    return journal


def finish_changes(folder: Path) -> dict[str, bool]:
    """Complete the changes that a killed process began in a folder, and remove its hidden files that have no change to
    make.

    Returns:
        The names of the changed files; True: it was written, False: it was removed.

    Raises:
        OSError: the folder cannot be written to.
        ValueError: a journal that frcnn did not write.
    """
    changed: dict[str, bool] = {}
    abandoned = [file for file, _ in _abandoned(folder) if file.is_file()]  # listed first: a journal may own some
    for journal in sorted(folder.glob(f"{JOURNAL}*.json")):
        try:
            changed |= _finish(journal)
        except OSError as error:
            raise OSError(
                f"{folder}: a process was killed while it changed files here, and the change cannot be completed "
                f"({error}); open the folder once where it can be written to"
            ) from None
    for file in abandoned:
        with suppress(OSError):  # gone by now, or a folder that cannot be written to
            file.unlink()
    return changed


def _finish(journal: Path) -> dict[str, bool]:
    try:
        changes = _read_journal(journal)
    except FileNotFoundError:  # another process was faster
        return {}
    for old, new in changes.items():
        with suppress(FileNotFoundError):  # already done, by this process or another one
            if new is None:
                os.unlink(journal.with_name(old))
            else:
                os.replace(journal.with_name(old), journal.with_name(new))
    journal.unlink(missing_ok=True)
    return {old if new is None else new: new is not None for old, new in changes.items()}


def _read_journal(journal: Path) -> dict[str, str | None]:
    """Only hidden files are renamed, and only annotations removed, whoever wrote the journal."""
    try:
        changes = load_json(journal.read_text(encoding="utf-8"))
    except ValueError:
        changes = None
    if isinstance(changes, dict) and all(
        _is_name(old) and (old.endswith(_REMOVABLE) if new is None else old.startswith(PARTIAL) and _is_name(new))
        for old, new in changes.items()
    ):
        return changes
    raise ValueError(f"{journal}: not written by frcnn; delete this file")


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or len(value) > 255:
        return False
    return value not in ("", ".", "..") and Path(value).name == value and "\0" not in value


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all. The block fills the folder it is given: a hidden one beside `path`, which is
    renamed to `path` when the block ends without an error.

    Raises:
        FileExistsError: `path` is a file, or a folder that is not empty.
    """
    path = path.resolve()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise FileExistsError(f"{path}: exists and is not overwritten; choose another folder, or delete it first")
    with partial_dir(path) as partial:
        yield partial
        if path.exists():
            path.rmdir()  # Windows renames no folder onto another, not even onto an empty one
        os.replace(partial, path)


@contextmanager
def partial_dir(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside `path`, to prepare `path` in, and remove it at the end. Those of killed processes are
    removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder, name in _abandoned(path.parent, glob.escape(path.name)):
        if name == path.name and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
    partial = _partial(path)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}{os.getpid()}-{_host()}-{secrets.token_hex(3)}-{path.name}")


@cache
def _host() -> str:
    """This machine: others may write to the same disk."""
    import platform  # not needed to start a command

    return f"{zlib.crc32(platform.node().encode()):08x}"


def _abandoned(folder: Path, pattern: str = "*") -> Iterator[tuple[Path, str]]:
    """The hidden files and folders that killed processes of this machine left in a folder, and the names that they
    would have got. Their ends match the pattern."""
    if os.name != "posix":  # on Windows, os.kill ends the process
        return
    for partial in folder.glob(f"{PARTIAL}*-{_host()}-*-{pattern}"):
        process, _, _, name = partial.name.removeprefix(PARTIAL).split("-", 3)
        if process.isdecimal() and not _is_alive(int(process)):
            yield partial, name


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    return True


def _default_mode(path: Path) -> int:
    """The mode that a new file gets here; some writers set another one."""
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return mode


def as_path(value: object, argument: str) -> Path:
    """Check that an argument is a path, and return it.

    Raises:
        TypeError: it is something else.
        ValueError: it is empty, which Python would take for the current folder.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{argument}: {short(value)} is not a path; pass a str or a pathlib.Path")
    if not os.fspath(value):
        raise ValueError(f"{argument}: is empty; name a file or a folder ('.': the current folder)")
    return Path(value)


def expand_home(path: str | Path) -> Path:
    """Replace a leading `~` by the home folder. The path is unchanged if that folder is unknown; `Path.expanduser`
    would raise an error."""
    return Path(os.path.expanduser(path))


def relative_path(path: str | Path, folder: str | Path) -> str:
    """The path as it is written in a file of this folder, with slashes: relative; absolute if it is on another drive of
    Windows."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # there is no relative path from one drive to another
        return Path(os.path.abspath(path)).as_posix()


def require_regular(path: Path) -> None:
    """Raise an error for a pipe, a device or a folder. Opening a pipe may block forever.

    Raises:
        OSError: `path` is there, but is no regular file.
    """
    if not path.is_file() and path.exists():
        raise OSError(f"{path}: is a pipe, a device or a folder; name a regular file")


def remove_links(folder: Path, *names: str) -> None:
    """Remove symbolic links with these names from a folder, so that frcnn does not write to their targets. The targets
    stay."""
    for path in (folder / name for name in names):
        if path.is_symlink():
            path.unlink()


def remove_partial(folder: Path) -> None:
    """Remove the hidden files and folders that killed processes left behind."""
    for partial in folder.glob(f"{PARTIAL}*"):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_all(file: BinaryIO, content: bytes) -> None:
    """Write everything to an unbuffered file. On a disk that fills up, such a file takes a part before it raises."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def is_class_name(value: object) -> bool:
    """Whether a model file may hold this name of a class."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and not CONTROLS.search(value)


def require_classes(value: object, path: Path) -> tuple[str, ...]:
    """The class names in a model file or an exported file.

    Raises:
        ValueError: it is no list of different names, or a name has control characters.
    """
    names = value if isinstance(value, list | tuple) else ()
    if not (0 < len(names) <= MAX_CLASSES and all(map(is_class_name, names)) and len(set(names)) == len(names)):
        raise ValueError(
            f"{path}: damaged, its classes are {short(value)}; they must be at most {MAX_CLASSES:,} distinct names, "
            f"each of 1 to {MAX_NAME:,} characters, without control characters; train or export again"
        )
    return tuple(names)


def require_input(frame: tuple[int, int], batch: int, path: Path) -> None:
    """Check the input of a detector in a model file or an exported file: frcnn makes arrays of this size.

    Args:
        frame: (height, width) of the largest images.
        batch: how many of them.

    Raises:
        ValueError: the input is too large.
    """
    height, width = frame
    if batch * height * width > MAX_INPUT:
        raise ValueError(
            f"{path}: damaged, its input is {batch:,} x {width:,} x {height:,} pixels; it may have at most "
            f"{MAX_INPUT:,}; train or export again"
        )


def require_format(metadata: Mapping[str, str], path: Path, version: int, remedy: str) -> None:
    """Check that this version of frcnn reads a model file or an exported file.

    Args:
        metadata: of the file; "format_version" is its version.
        version: the one that this frcnn reads and writes.
        remedy: what to do with an older file, e.g. "export it again".

    Raises:
        ValueError: the file is older, newer or damaged.
    """
    try:
        stored = int(metadata["format_version"])
    except (KeyError, ValueError):
        raise ValueError(f"{path}: damaged, its format_version cannot be read; {remedy}") from None
    if stored > version:
        raise ValueError(f"{path}: has format {stored}, this frcnn reads format {version}; install a newer frcnn")
    if stored < version:
        raise ValueError(f"{path}: has format {stored} of an older frcnn, this one reads format {version}; {remedy}")
