"""Read text files; parse numbers, sizes and paths; cache what is read. (Helper, not a format.)"""

import csv
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

import numpy as np

from frcnn.data.problems import AnnotationError

T = TypeVar("T")
P = ParamSpec("P")


_KEPT = 8  # files
_NEAR = 40  # characters before and after a mistake that messages show
_FRESH = 50_000_000  # nanoseconds: a change within a tick of the file system's clock could not be seen


def while_unchanged(read: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """Cache a function of a file or folder (and of other things, by identity) until that changes. Its results are
    shared and must not be changed."""
    kept: dict[tuple[object, ...], tuple[tuple[int, int, int], T]] = {}
    lock = threading.Lock()

    @wraps(read)
    def read_if_changed(file: Path, /, *others: P.args, **named: P.kwargs) -> T:
        if not file.exists():
            return read(file, *others, **named)
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        key = (file, *others)
        cached = kept.get(key)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        value = read(file, *others, **named)
        with lock:
            kept.pop(key, None)
            if time.time_ns() - status.st_mtime_ns > _FRESH:
                kept[key] = (stamp, value)
            while len(kept) > _KEPT:
                del kept[next(iter(kept))]
        return value

    return read_if_changed


def visible(files: Iterable[Path]) -> Iterator[Path]:
    """The files that are not hidden. Killed processes leave hidden files, and macOS adds some to images."""
    return (file for file in files if not file.name.startswith("."))


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark. Lines end with a line feed.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or not UTF-8.
    """
    try:
        content = file.read_bytes()
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as spreadsheets write "Unicode text"
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: this file is missing") from None
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        start = len(content[: error.start].decode("utf-8", "replace"))
        raise error_at(file, reason, content.decode("utf-8", "replace"), offset=start) from None


def error_at(
    file: Path, reason: str, text: str, *, offset: int | None = None, position: tuple[int, int] | None = None
) -> AnnotationError:
    """What a parser says of a file, with the place and the nearest text.

    Args:
        text: of the whole file.
        offset: of the place in the text; or
        position: its line from 1, and its column from 0.
    """
    if position is None:
        before = text[:offset]
        position = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
    number, column = position
    lines = text.split("\n")
    line = lines[min(number, len(lines)) - 1]
    near = line[max(column - _NEAR, 0) :][: 2 * _NEAR].strip()
    return AnnotationError(file, f"{reason}: '{near}'" if near else reason, f"line {number}, column {column + 1}")


def read_lines(file: Path) -> list[str]:
    """The lines of a file; errors as `read_text`. Only line ends separate lines: names may have other separators."""
    return read_text(file).removesuffix("\n").split("\n")


def csv_rows(file: Path, text: str, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Each row of CSV with the number of its last line.

    Args:
        file: has the text; errors name it.

    Raises:
        ValueError: a row cannot be read, e.g. because a cell is longer than Python's limit.
    """
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=separator == " ")
    try:
        yield from ((reader.line_num, cells) for cells in reader)
    except csv.Error as error:
        raise error_at(file, str(error), text, position=(reader.line_num, 0)) from None


def to_number(value: object) -> float | None:
    """A number, or the text of one, e.g. "12.5" or "12,5"; None: it is neither. NaN stays NaN."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value.replace(",", ".") if isinstance(value, str) else value)
    except (ValueError, OverflowError):  # the last one: 10**400
        return None


def to_numbers(values: Iterable[object], count: int | None = None) -> list[float] | None:
    """All values as numbers; None: one of them is none, or they are not `count` values."""
    numbers = list(map(to_number, values))
    if None in numbers or count not in (None, len(numbers)):
        return None
    return cast("list[float]", numbers)


def is_count(text: str) -> bool:
    """Whether a text is a whole number of at most nine digits. `int` refuses numbers of thousands of digits."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def to_size(height: object, width: object) -> tuple[int, int] | None:
    """(height, width) in pixels; None: they are no sizes."""
    numbers = to_numbers((height, width))
    if numbers is None or not all(1 <= number < 2**31 for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])


def slashes(path: str) -> str:
    """A path with slashes instead of the backslashes of Windows."""
    return path.replace("\\", "/")


def plain(value: float) -> str:
    """A float32 in the fewest digits that identify it: 10, 10.5, 0.1."""
    return np.format_float_positional(np.float32(value), trim="-")
