"""Reading images: files in formats for photos become 8-bit RGB, with their EXIF orientation applied."""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from frcnn.data.problems import Problem, ProblemKind
from frcnn.files import require_regular
from frcnn.memory import total_memory
from frcnn.resizing import Resizing, input_size

_PHOTOS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "SUN", "TGA"}
    | {"TIFF", "WEBP"}
)
"""Pillow's names of formats for photos. Its other formats are documents, programs, icons and data."""
IMAGE_SUFFIXES = frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in _PHOTOS)
"""Suffixes of the photos that the installed Pillow reads, in lower case, e.g. ".jpg"."""
NOT_A_PHOTO = "not an image in a format that frcnn reads, such as JPEG, PNG or WebP"
"""What is said of a file that `open_safely` refuses."""
_NO_SIGNATURE = "TGA"
"""This format has no signature, so Pillow may take another file for it. The suffix must be right too."""
MAX_MEMBER_BYTES = 1 << 29
"""Largest unpacked image in a zip file. A small zip file may hold an image that fills the memory."""

UNREADABLE = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    RuntimeError,  # an archive with a password, or with an unknown compression
    zlib.error,
    BadZipFile,
    Image.DecompressionBombError,
)
"""What Pillow and zipfile raise for damaged files, and for files that are no images."""

TRANSPOSED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation but 1 (upright)."""

_BYTES_PER_PIXEL = 4
"""Of Pillow's images, also of RGB."""

_ORIENTED = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
"""Where Pillow finds an orientation in the information of an image."""

MAX_MISSING_ROWS = (16, 0.02)
"""Rows of pixels: a truncated JPEG is read if it lacks at most 16, or at most 2% of its rows, but not all."""

REDUCED_SIDE = 128
"""Least side of the reduced JPEG of `verify_image`, pixels: enough to compare images by 16 x 16 cells."""

WHITE = (255, 4095, 65535)
"""Largest values of 8, 12 and 16 bits."""

REDUCING_GAP = 3
"""A JPEG is decoded at a reduced size only if that is still this many times the needed size. Photos of Grocery that are
resized after it then differ by 0.3 gray levels on average, by 2 at the 99th percentile and by 10 at most. With a gap of
2 they differ by 0.6, 4 and 17."""


class TooLargeError(ValueError):
    """An image would take too much memory."""


def images_among(files: Iterable[Path]) -> list[Path]:
    """The images among files, by folder, 2.jpg before 10.jpg. Hidden files are skipped, because macOS adds some."""
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
    return sorted(images, key=lambda image: (image.parent, len(image.stem), image.name))


def open_image(path: Path, *, any_size: bool = False) -> Image.Image:
    """Pillow's image of a file, or of one in an archive: `photos.zip@/inside.jpg`, as CNTK's map files write it.

    Args:
        any_size: also open images that Pillow warns about or refuses because of their size.
    """
    archive, inside = _in_archive(path)
    with _any_size() if any_size else nullcontext():
        return open_safely(path if inside is None else BytesIO(_unzipped(archive, inside)), path.suffix)


def open_safely(file: Path | BytesIO, suffix: str = "") -> Image.Image:
    """Pillow's image, but of formats for photos only. Others may be programs: for PostScript, Pillow starts
    Ghostscript.

    Args:
        suffix: of the file's name. The content decides the format, except for formats without a signature.

    Raises:
        UnidentifiedImageError: not a photo.
    """
    if isinstance(file, Path):
        require_regular(file)
    formats = _PHOTOS & Image.OPEN.keys()  # a plugin for HEIF may be registered later
    if Image.registered_extensions().get(suffix.lower()) != _NO_SIGNATURE:
        formats -= {_NO_SIGNATURE}
    return Image.open(file, formats=sorted(formats))


_PILLOWS_LIMIT = Lock()


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit, which all threads share, while a file is opened (pixels are decoded later) or cropped."""
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def cropped(image: Image.Image, window: tuple[int, int, int, int]) -> Image.Image:
    """The pixels of a window x1, y1, x2, y2 of any size."""
    with _any_size():
        return image.crop(window)


def is_huge(size: tuple[int, int]) -> bool:
    """Whether Pillow refuses an image of this (height, width): it has more than twice the pixels that Pillow warns
    about. A small file may be such an image only to fill the memory."""
    return size[0] * size[1] > 2 * _pillows_limit()


def is_large(size: tuple[int, int]) -> bool:
    """Whether Pillow warns about an image of this (height, width), or refuses it."""
    return size[0] * size[1] > _pillows_limit()


def _pillows_limit() -> float:
    """Pixels."""
    with _PILLOWS_LIMIT:
        return math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; paths as for `open_image`."""
    archive, inside = _in_archive(path)
    if inside is not None:
        return _unzipped(archive, inside)
    require_regular(path)
    return path.read_bytes()


def read_image(path: Path, *, any_size: bool = False) -> Image.Image:
    """The image as 8-bit RGB with its EXIF orientation applied, see `to_rgb`. A JPEG that lacks its last bytes is read.

    Args:
        any_size: see `open_image`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, or truncated.
    """
    return read_to_resize(path, None, any_size=any_size)[0]


def read_to_resize(
    path: Path,
    resizing: Resizing | None,
    window: tuple[int, int, int, int] | None = None,
    *,
    any_size: bool = False,
) -> tuple[Image.Image, tuple[int, int]]:
    """An image that will be resized, and its original (height, width); errors as `read_image`.

    A JPEG that is much larger than needed is decoded at exactly 1/2, 1/4 or 1/8 of its size. To decode a photo of 12
    megapixels and resize it to 640 x 480 then takes 94 ms instead of 182.

    Args:
        resizing: how it will be resized; None: not at all.
        window: the part of the image to read, x1, y1, x2, y2, which counts as the image; None: all of it.
        any_size: see `open_image`.
    """
    with _clear_errors(path), open_image(path, any_size=any_size) as image:
        if any_size:
            _require_room(image)
        if window is not None:
            return cropped(to_rgb(turn_upright(image)), window), (window[3] - window[1], window[2] - window[0])
        original = _upright_size(image)
        # Where the pixels are to be those of another library, nothing may be averaged before.
        if resizing is not None and resizing.antialias and resizing.reduced_decoding:
            factor = _reduction(original, input_size(original, resizing))
            image.draft(None, (image.width // factor, image.height // factor))  # does nothing but for JPEG
        return to_rgb(turn_upright(image)), original


def _require_room(image: Image.Image) -> None:
    """Refuse an image that would fill the memory, before it is decoded. A small file may say that it has any size.

    Raises:
        TooLargeError: it takes more than half of the memory.
    """
    needed, limit = _BYTES_PER_PIXEL * image.width * image.height, total_memory() / 2
    if needed > limit:
        raise TooLargeError(
            f"too large: {image.width} x {image.height} pixels take {needed / 1e9:.1f} GB, and one image may take half "
            f"of the memory ({limit / 1e9:.1f} GB); no setting changes that: cut it into parts, or use a computer with "
            f"more memory"
        )


def decoded_bytes(path: Path, original: tuple[int, int], resizing: Resizing) -> int:
    """Bytes of an image that `read_to_resize` returns, about.

    Args:
        original: (height, width).
    """
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    is_reduced = is_jpeg and resizing.antialias and resizing.reduced_decoding
    factor = _reduction(original, input_size(original, resizing)) if is_reduced else 1
    return 3 * original[0] * original[1] // factor**2


def _reduction(original: tuple[int, int], new: tuple[int, int]) -> int:
    """The largest of 8, 4 and 2 that leaves the image large enough, else 1. It must divide both sides: else the last
    pixels would cover less than the others, and everything would be shifted a little."""
    for factor in (8, 4, 2):
        least = (REDUCING_GAP * factor * side for side in new)
        if all(old % factor == 0 and old >= side for old, side in zip(original, least, strict=True)):
            return factor
    return 1


def image_size(path: Path, *, any_size: bool = False) -> tuple[int, int]:
    """(height, width) with the EXIF orientation applied, without decoding the pixels; errors as `read_image`."""
    with _clear_errors(path), open_image(path, any_size=any_size) as image:
        return _upright_size(image)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    stored, orientation = stored_size(image)
    return stored[::-1] if orientation in TRANSPOSED else stored


def stored_size(image: Image.Image) -> tuple[tuple[int, int], int]:
    """(height, width) as stored, and the EXIF orientation (1: upright, or no valid one). Pillow itself swaps the size
    of a TIFF when it opens it, and decodes a whole PNG to find EXIF data after the pixels; neither is wanted here."""
    width, height = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
    try:
        exif = Image.Image.getexif(image) if isinstance(image, PngImageFile) else image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever Pillow raises for a broken EXIF block: the pixels can be read without it
        orientation = 1
    return (height, width), orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def turn_upright(image: Image.Image) -> Image.Image:
    """Decode an image that was just opened, and apply its EXIF orientation. A JPEG may lack its last bytes.

    Raises:
        One of UNREADABLE: the image is damaged.
    """
    return _decode(image)[0]


def _decode(image: Image.Image) -> tuple[Image.Image, int]:
    """`turn_upright`, and about how many rows the file lacks."""
    stored_size(image)  # reads the tags now: those after the pixels of a PNG do not count, here as in `image_size`
    missing = 0
    try:
        image.load()
    except OSError:
        if not isinstance(image, JpegImageFile) or image.format != "JPEG" or image.fp is None:
            raise
        missing = _load_truncated(image)
    turn = _TURNS.get(stored_size(image)[1])  # Pillow has turned a TIFF already, and removed its orientation
    if turn is None:
        return image, missing
    upright = image.transpose(turn)
    for name in _ORIENTED & upright.info.keys():  # else it would be turned again where it is used next
        del upright.info[name]
    return upright, missing


def _load_truncated(image: JpegImageFile) -> int:
    """Decode a JPEG after an error, as if it ended where its bytes end. What it lacks becomes gray.

    Pillow has its own switch for this, but for all images and all threads at once, however much is missing.

    Returns:
        About how many rows are incomplete; at least 1.

    Raises:
        OSError: too many are.
    """
    assert image.fp is not None
    tiles, image.tile = image.tile, []  # without tiles, Pillow gives the rows that it has decoded until now
    before = np.array(image)
    image.tile = tiles
    image.fp.seek(0)
    content = image.fp.read()
    image.fp.close()
    image.fp = BytesIO(content + b"\xff\xd9")  # the marker of the end of an image
    image.load()

    scale = image.decoderconfig[0] if image.decoderconfig else 1
    block = 8 * max(layer[2] for layer in image.layer)  # rows of the file that are stored together
    changed = np.flatnonzero((np.asarray(image) != before).reshape(image.height, -1).any(axis=1))
    # In whole blocks, so that the answer is the same at each reduced size.
    whole, all_ = (math.ceil(rows * scale / block) for rows in (changed[0] if len(changed) else 0, image.height))
    if whole == 0 and _is_in_last_scan(content, len(image.layer)):
        return 1
    if not whole or all_ - whole > max(MAX_MISSING_ROWS[0] // block, MAX_MISSING_ROWS[1] * all_):
        raise OSError(f"about {(all_ - whole) * block} of its {image.height * scale} rows are missing")
    return max(1, (all_ - whole) * block)  # 1: all pixels are there, only the end of the file is not


def _is_in_last_scan(content: bytes, components: int) -> bool:
    """Whether a progressive JPEG lacks only bytes of its last scan, which refines the image. No row is decoded before
    all scans are there."""
    start = 2
    while start < len(content) - 4 and content[start + 1] != 0xDA:  # an EXIF thumbnail in the header has scans too
        start += 2 + int.from_bytes(content[start + 2 : start + 4])
    complete: Counter[int] = Counter()  # coefficients of each component whose last bit has come
    scans = list(re.finditer(rb"\xff\xda..(.)", content[start:], re.DOTALL))
    for scan in scans:
        count = scan[1][0]
        header = content[start + scan.end() :][: 2 * count + 3]
        if len(header) == 2 * count + 3 and header[-1] & 15 == 0:
            complete.update(dict.fromkeys(header[: 2 * count : 2], header[-2] - header[-3] + 1))
    return len(scans) > 1 and len(complete) == components and min(complete.values()) >= 64


class VerifiedImage(NamedTuple):
    """What `verify_image` found out about a file that can be read."""

    size: tuple[int, int]
    """(height, width) with the EXIF orientation applied."""
    stored_size: tuple[int, int]
    """(height, width) without it."""
    orientation: int
    """EXIF orientation, 1..8."""
    format: str
    """Pillow's name, e.g. "JPEG"."""
    mode: str
    """Pillow's name, e.g. "RGB" or "I;16"."""
    image: Image.Image
    """Decoded and upright; a JPEG at a reduced size of at least 128 pixels a side, and in gray."""
    problems: list[Problem]
    """"repaired": a truncated file. "warning": a range of values that had to be guessed."""


def verify_image(path: Path) -> VerifiedImage:
    """Read a whole file, so that a damaged image raises an error as in `read_image`."""
    with _clear_errors(path), open_image(path) as opened:
        form, mode, (stored, orientation) = opened.format or "", opened.mode, stored_size(opened)
        size = stored[::-1] if orientation in TRANSPOSED else stored
        is_deep = ";16" in str(getattr(opened, "tile", ""))  # how Pillow unpacks the bytes
        opened.draft("L", (REDUCED_SIDE, REDUCED_SIDE))  # JPEG only: all bytes, few pixels
        image, missing = _decode(opened)
    problems = []
    if missing:
        message = f"the file lacks its last bytes; about {missing} of its {stored[0]} rows are incomplete"
        problems.append(Problem(ProblemKind.TRUNCATED_IMAGE, path, message, level="repaired"))
    guess = _to_8_bits(image)[1] if _is_numeric(image) else _too_dark(image) if is_deep else ""
    if guess:
        problems.append(Problem(ProblemKind.GUESSED_RANGE, path, guess, level="warning"))
    return VerifiedImage(size, stored, orientation, form, mode, image, problems)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB: see `_to_8_bits` for numbers that are no colors; transparency is dropped. An RGB image is
    returned unchanged."""
    if image.mode == "RGB":
        return image
    if _is_numeric(image):  # Pillow's own conversion would clip at 255
        return Image.fromarray(_to_8_bits(image)[0]).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def to_gray(image: Image.Image) -> Image.Image:
    """Any mode as 8-bit gray, see `to_rgb`."""
    return image if image.mode == "L" else to_rgb(image).convert("L")


def _is_numeric(image: Image.Image) -> bool:
    """Whether the pixels are integers of 16 or 32 bits, or floating point numbers."""
    return image.mode == "F" or image.mode.startswith("I")


def _to_8_bits(image: Image.Image) -> tuple[np.ndarray, str]:
    """The pixels of a numeric image as 0..255, and what had to be guessed ("": nothing).

    0 is black. White is the largest value of the bits that the file names, if these are fewer than 16; else of 8, 12
    or 16 bits, the fewest that hold all values (floating point numbers up to 1: 1). If values are negative or larger,
    or would all look black (below 1/16 of white), they are stretched: the largest becomes white, 0 or the least black.
    """
    pixels = np.asarray(image)
    is_float = pixels.dtype.kind == "f"
    pixels = np.nan_to_num(pixels.astype(np.float64), posinf=0, neginf=0) if is_float else pixels.astype(np.int64)
    low, high = pixels.min(), pixels.max()
    bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (16,))[0] if isinstance(image, TiffImageFile) else 16
    if bits < 16:
        black, white, guess = 0, 2**bits - 1, ""
    else:
        black, white = 0, next((each for each in ((1, *WHITE) if is_float else WHITE) if high <= each), 0)
        is_certain = high == 0 or (white == WHITE[-1] and not is_float)
        guess = "" if is_certain else f"its values reach {high:g}, so {white} is taken for white"
        if low < 0 or 16 * high < white or high > white:
            black, white = min(low, 0), high
            guess = "" if low == high == 0 else f"its values are {low:g} to {high:g}, which are stretched to 0..255"
    scaled = (pixels - black) * 255
    scaled = np.rint(scaled / (white - black or 1)) if is_float else scaled // (white - black or 1)
    return scaled.astype(np.uint8), guess


def _too_dark(image: Image.Image) -> str:
    """Pillow reads colors of 16 bits as their upper 8. What to say if almost nothing is left of them."""
    highest = max(high for _, high in np.reshape(image.getextrema(), (-1, 2)))
    return (
        f"its 16-bit colors reach only {highest} of 255; does it hold 12 bits? export it with 8" if highest < 16 else ""
    )


def _in_archive(path: Path) -> tuple[Path, str | None]:
    archive, at, inside = path.as_posix().partition(".zip@/")
    return (Path(f"{archive}.zip"), inside) if at else (path, None)


def _unzipped(archive: Path, inside: str) -> bytes:
    require_regular(archive)
    content = _open_archive(archive, archive.stat().st_mtime_ns)
    try:
        member = content.getinfo(inside)
    except KeyError:
        raise FileNotFoundError(f"{archive}@/{inside}: the archive has no such file") from None
    require_readable(member)
    if member.file_size > MAX_MEMBER_BYTES:
        raise TooLargeError(
            f"too large: {member.file_size:,} bytes when unpacked; frcnn reads at most {MAX_MEMBER_BYTES:,}"
        )
    with content.open(member) as file:
        return file.read(member.file_size)  # no more than it says, whatever it holds


def require_readable(member: ZipInfo) -> None:
    """Refuse other compressions than the usual one. Python reads bzip2 and LZMA in pieces of any size, which could fill
    the memory.

    Raises:
        BadZipFile: it has another compression.
    """
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise BadZipFile(f"{member.filename!r} is neither stored nor deflated; pack it again")


@lru_cache(maxsize=8)
def _open_archive(path: Path, changed: int) -> ZipFile:
    """The archive stays open, because reading its list of files takes longer than reading one file."""
    return ZipFile(path)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Errors that name the file and the fix, instead of those of Pillow and zipfile."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    except UNREADABLE as error:
        reason = f"damaged or truncated ({error})"
        if isinstance(error, TooLargeError):
            raise ValueError(f"{path}: {error}") from None
        if isinstance(error, UnidentifiedImageError):
            reason = NOT_A_PHOTO
        if path.is_file() and path.stat().st_size == 0:
            reason = "the file is empty"
        raise ValueError(f"{path}: {reason}; replace or remove it") from None
