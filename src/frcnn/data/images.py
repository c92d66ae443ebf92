"""Reading images: whatever the file holds, out come RGB pixels the way up that a person sees them."""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})

UNREADABLE = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    RuntimeError,  # an archive with a password, or packed in a way that is not known
    zlib.error,
    BadZipFile,
    Image.DecompressionBombError,
)
"""What Pillow and zipfile raise for files that are damaged or no images."""

TRANSPOSED = frozenset({5, 6, 7, 8})
"""Orientations in which width and height change places."""

REDUCING_GAP = 3
"""How many times as large as needed a JPEG must stay to be decoded at reduced size. Photos of Grocery, resized after
that, then differ by 0.3 grey levels on average, by 2 at the 99th percentile and by 10 at most; with a gap of 2, by 0.6,
4 and 17."""


def images_among(files: Iterable[Path]) -> list[Path]:
    """The images among files, folder by folder, 2.jpg before 10.jpg; without hidden ones, which macOS adds."""
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
    return sorted(images, key=lambda image: (image.parent, len(image.stem), image.name))


def open_image(path: Path, *, any_size: bool = False) -> Image.Image:
    """Pillow's image of a file, or of one in an archive: `photos.zip@/inside.jpg`, as CNTK's map files write it.

    Args:
        any_size: also images that are so large that Pillow warns of them or refuses them.
    """
    archive, inside = _in_archive(path)
    with _any_size() if any_size else nullcontext():
        return Image.open(path if inside is None else BytesIO(_unzipped(archive, inside)))


_PILLOWS_LIMIT = Lock()


@contextmanager
def _any_size() -> Iterator[None]:
    """Pillow's limit, one for all threads, is lifted while a file is opened (pixels are decoded later) or cropped."""
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def cropped(image: Image.Image, window: tuple[int, int, int, int]) -> Image.Image:
    """The pixels of a window x1, y1, x2, y2, however large it is."""
    with _any_size():
        return image.crop(window)


def is_huge(size: tuple[int, int]) -> bool:
    """Whether an image of this (height, width) is so large, twice what it warns of, that Pillow refuses it: a small
    file may be such an image only to fill the memory."""
    return size[0] * size[1] > 2 * _pillows_limit()


def is_large(size: tuple[int, int]) -> bool:
    """Whether Pillow warns of it at least."""
    return size[0] * size[1] > _pillows_limit()


def _pillows_limit() -> float:
    """Pixels."""
    with _PILLOWS_LIMIT:
        return math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS


def read_bytes(path: Path) -> bytes:
    """The whole file; same paths."""
    archive, inside = _in_archive(path)
    return path.read_bytes() if inside is None else _unzipped(archive, inside)


def read_image(path: Path, *, any_size: bool = False) -> Image.Image:
    """The image as RGB, 8 bits; rotated as its EXIF tag says; 16 bits scaled down, transparency dropped.

    Args:
        any_size: see `open_image`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, or cut off.
    """
    return read_to_resize(path, lambda original: original, any_size=any_size)[0]


def read_to_resize(
    path: Path, new_size: Callable[[tuple[int, int]], tuple[int, int]], *, any_size: bool = False
) -> tuple[Image.Image, tuple[int, int]]:
    """The image, to be resized, and its original (height, width); same errors as `read_image`.

    A JPEG that is much larger than needed is decoded at exactly 1/2, 1/4 or 1/8 of its size: decoding and resizing a
    photo of 12 megapixels to 480 x 640 then takes 94 ms instead of 182.

    Args:
        new_size: from the original (height, width) to what it will be resized to.
        any_size: see `open_image`.
    """
    try:
        with open_image(path, any_size=any_size) as image:
            original = _upright_size(image)
            factor = _reduction(original, new_size(original))
            image.draft(None, (image.width // factor, image.height // factor))  # does nothing but for JPEG
            turn_upright(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from None
    return to_rgb(image), original


def _reduction(original: tuple[int, int], new: tuple[int, int]) -> int:
    """The largest of 8, 4 and 2 that leaves the image large enough, else 1. It must divide both sides: else the last
    pixels would stand for less than the others, and everything would lie a little off."""
    for factor in (8, 4, 2):
        least = (REDUCING_GAP * factor * side for side in new)
        if all(old % factor == 0 and old >= side for old, side in zip(original, least, strict=True)):
            return factor
    return 1


def image_size(path: Path, *, any_size: bool = False) -> tuple[int, int]:
    """(height, width) as a person sees it, without decoding the pixels; same errors as `read_image`."""
    try:
        with open_image(path, any_size=any_size) as image:
            return _upright_size(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    stored, orientation = stored_size(image)
    return stored[::-1] if orientation in TRANSPOSED else stored


def stored_size(image: Image.Image) -> tuple[tuple[int, int], int]:
    """(height, width) as the file has it, and the orientation in which it is to be seen (1: as it is). Pillow turns the
    size of a TIFF already when it opens it, and decodes a whole PNG to look for EXIF data after the pixels."""
    width, height = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
    exif = Image.Image.getexif(image) if isinstance(image, PngImageFile) else image.getexif()
    return (height, width), exif.get(ExifTags.Base.Orientation, 1)


def turn_upright(image: Image.Image) -> None:
    """Decode an image that was just opened, and turn it, in place, as a person is to see it."""
    stored_size(image)  # reads the tags now: those after the pixels of a PNG do not count, here as in `image_size`
    image.load()
    ImageOps.exif_transpose(image, in_place=True)


def verify_image(path: Path) -> tuple[int, int]:
    """(height, width), after reading the whole file, so that a cut-off image is found; same errors."""
    size = image_size(path)
    try:
        with open_image(path) as image:
            image.draft(
                "RGB", (max(1, image.width // 8), max(1, image.height // 8))
            )  # JPEG only: all bytes, few pixels
            image.load()
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from None
    return size


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB, 8 bits: 16 bits scaled down, transparency dropped. An RGB image is returned as it is."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits (or 32 that hold 16): Pillow's own conversion would cut off at 255
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((grey // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _in_archive(path: Path) -> tuple[Path, str | None]:
    archive, at, inside = path.as_posix().partition(".zip@/")
    return (Path(f"{archive}.zip"), inside) if at else (path, None)


def _unzipped(archive: Path, inside: str) -> bytes:
    try:
        return _open_archive(archive, archive.stat().st_mtime_ns).read(inside)
    except KeyError:
        raise FileNotFoundError(f"{archive}@/{inside}: the archive has no such file") from None


@lru_cache(maxsize=8)
def _open_archive(path: Path, changed: int) -> ZipFile:
    """Stays open: finding the list of a large archive's files takes longer than reading one."""
    return ZipFile(path)


def _unreadable(path: Path, error: Exception) -> str:
    if path.is_file() and path.stat().st_size == 0:
        return f"{path}: the file is empty; replace or remove it"
    if isinstance(error, UnidentifiedImageError):
        return f"{path}: not an image that Pillow can read; replace or remove it"
    return f"{path}: damaged or cut off ({error}); replace or remove it"
