"""Text files of annotations."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")


_KEPT = 8  # files
_FRESH = 50_000_000  # nanoseconds: a change within a tick of the file system's clock could not be seen


def while_unchanged(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """A function of a file, or of a folder's list of files, that keeps its last result for each as long as it stays so.
    What it gives is shared, and must not be changed."""
    kept: dict[Path, tuple[tuple[int, int, int], T]] = {}
    lock = threading.Lock()

    @wraps(read)
    def read_if_changed(file: Path) -> T:
        if not file.exists():
            return read(file)
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        found = kept.get(file)
        if found is not None and found[0] == stamp:
            return found[1]
        value = read(file)
        with lock:
            kept.pop(file, None)
            if time.time_ns() - status.st_mtime_ns > _FRESH:
                kept[file] = (stamp, value)
            while len(kept) > _KEPT:
                del kept[next(iter(kept))]
        return value

    return read_if_changed


def visible(files: Iterable[Path]) -> Iterator[Path]:
    """Without hidden ones: what a killed process has left of a file, what macOS adds to images."""
    return (file for file in files if not file.name.startswith("."))


def read_text(file: Path) -> str:
    """The text of a file, UTF-8 or UTF-16 with its mark; lines end with a line feed.

    Raises:
        FileNotFoundError, ValueError: it is missing, or not UTF-8.
    """
    try:
        content = file.read_bytes()
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as spreadsheets write "Unicode text"
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: this file is missing") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file; same errors. Only line ends end a line: names may hold other separators."""
    return read_text(file).removesuffix("\n").split("\n")


def to_numbers(parts: Sequence[str], count: int) -> list[float] | None:
    """As many numbers as there must be; None if they are not."""
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def to_size(height: str, width: str) -> tuple[int, int] | None:
    """(height, width) in pixels; None if they are none."""
    numbers = to_numbers([height, width], 2)
    if numbers is None or not all(1 <= number < 2**31 for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])


def slashes(path: str) -> str:
    """A path as programs on Windows write it, as all others do."""
    return path.replace("\\", "/")


def plain(value: float) -> str:
    """A float32 in as few digits as tell it from all others: 10, 10.5, 0.1."""
    return np.format_float_positional(np.float32(value), trim="-")
