"""Parts of messages: counts with singular or plural, lists, times, and commands."""

import reprlib
import shlex
from collections.abc import Sequence
from pathlib import Path

_REPR = reprlib.Repr()
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = 20
_REPR.maxstring = _REPR.maxother = 200


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """E.g. "1 image", "2 images"; `nouns`: the plural, if it is not `noun` with an s."""
    return f"{count} {noun if count == 1 else nouns or f'{noun}s'}"


def listed(names: Sequence[str], most: int) -> str:
    """The first names, e.g. "a, b, ..."."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def short(value: object) -> str:
    """The repr of a value, shortened to 400 characters."""
    return clipped(_REPR.repr(value))


def clipped(text: str) -> str:
    """A text, shortened to 400 characters."""
    return text if len(text) <= 400 else f"{text[:400]}..."


def one_line(text: object) -> str:
    """The text with its line breaks escaped. A file name with a line break could otherwise imitate frcnn's output."""
    return str(text).replace("\n", "\\n").replace("\r", "\\r")


def duration(seconds: float) -> str:
    """A time, rounded, e.g. "40 s", "2.5 min", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def train_command(data: Path, *options: str) -> str:
    """How to train on a folder or on one annotation file, as it is typed: "`frcnn train my_photos/a.json`"."""
    return f"`{shlex.join(('frcnn', 'train', str(data), *options))}`"
