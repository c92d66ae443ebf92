"""What each image file says of itself, and what is odd about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from frcnn.config import DataSettings
from frcnn.data.dataset import errors_of
from frcnn.data.images import TRANSPOSED, UNREADABLE, open_image, stored_size
from frcnn.data.likeness import Look, look_at
from frcnn.data.problems import Problem
from frcnn.types import Record

_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "BMP": {".bmp"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "MPO": {".jpg", ".jpeg"},  # some phones' JPEG with a second picture
}
_PLAIN = {"RGB", "L"}
_MODES = {
    "1": "black and white",
    "P": "a palette",
    "LA": "transparency, which is dropped",
    "PA": "transparency, which is dropped",
    "RGBA": "transparency, which is dropped",
    "CMYK": "colours for print, whose RGB is a guess",
    "YCbCr": "other colours than RGB",
    "LAB": "other colours than RGB",
    "HSV": "other colours than RGB",
    "F": "floating point numbers, cut off at 255",
}


class Seen(NamedTuple):
    """An image after it was looked at."""

    size: tuple[int, int] | None
    """(height, width) as a person sees it; None if it cannot be read."""
    look: Look | None
    problems: list[Problem]


def see(record: Record, settings: DataSettings) -> Seen:
    """Read an image whole; its errors, those of its boxes, and what is odd."""
    problems = errors_of(record, settings)
    try:
        with open_image(record.image) as image:
            form, mode = image.format or "", image.mode
            stored, orientation = stored_size(image)
    except UNREADABLE:
        return Seen(None, None, problems)
    size = stored[::-1] if orientation in TRANSPOSED else stored
    problems += _odd(record, form, mode, orientation, stored, size)
    return Seen(size, look_at(record.image), problems)


def _odd(
    record: Record, form: str, mode: str, orientation: int, stored: tuple[int, int], size: tuple[int, int]
) -> Iterator[Problem]:
    def warning(kind: str, rule: str) -> Problem:
        return Problem(kind, record.image, rule, level="warning")

    suffix = Path(record.image).suffix.lower()
    if form in _SUFFIXES and suffix not in _SUFFIXES[form]:
        yield warning("suffix of another format", f"is a {form} file; other programs may refuse it; rename it")
    if orientation != 1:
        yield warning("turned by a tag", _turned(record, orientation, stored, size))
    elif record.size is not None and record.size != stored:
        yield warning(
            "size in the annotation differs",
            f"its annotation says {_pixels(record.size)}, the file has {_pixels(stored)}; were the boxes drawn on "
            f"another version of it?",
        )
    if mode.startswith("I"):
        yield warning(
            "more than 8 bits", "has 16 bits a pixel, which are scaled down to 8; export it with 8 to choose how"
        )
    elif mode not in _PLAIN:
        yield warning("odd mode", f"its mode is {mode}: {_MODES.get(mode, 'converted to RGB')}")


def _turned(record: Record, orientation: int, stored: tuple[int, int], size: tuple[int, int]) -> str:
    text = f"its EXIF tag turns it (orientation {orientation}): stored as {_pixels(stored)}, seen as {_pixels(size)}"
    if record.size == stored != size:
        return f"{text}; its annotation has the stored size, so its boxes seem to be drawn on the image lying down"
    if record.size == size:
        return f"{text}; its annotation has the size as seen, as it should"
    if len(record.boxes) and not _fits(record, size) and _fits(record, stored):
        return f"{text}; its boxes fit the stored image only, so they seem to be drawn on the image lying down"
    return f"{text}; boxes are taken as drawn on the image as seen; look whether they are (--pictures)"


def _fits(record: Record, size: tuple[int, int]) -> bool:
    height, width = size
    return bool((record.boxes >= 0).all() and (record.boxes <= (width, height, width, height)).all())


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels"
