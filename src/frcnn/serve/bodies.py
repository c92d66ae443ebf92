"""From the body of a request to images. Every limit is checked before memory is taken, and no name in a request is
opened as a file or a URL."""

from __future__ import annotations

import asyncio
import binascii
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import python_multipart  # noqa: F401  # Starlette needs it, and would say so only when a request comes
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from frcnn.data.images import NOT_A_PHOTO, UNREADABLE, open_safely, stored_size
from frcnn.inference.inputs import open_input
from frcnn.json_text import load_json
from frcnn.messages import short
from frcnn.serve.budget import Share
from frcnn.serve.limits import Limits

_MAX_NAME = 200
_RULE = 'the body must be {"image": BASE64} or {"images": [BASE64, ...]}'
_OPTIONS = "Options are query parameters: /predict?threshold=0.5"
_MAX_SCANNED = 2_500_000_000
"""Scans of a JPEG times its pixels. A progressive one has about ten scans. Each scan, even an empty one, costs time for
every block, so a small file could take hours."""
_MAX_VALUES = 1_000_000
"""Brackets and commas of a JSON body. Each value takes 25 times as much memory as its text."""
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DATA_URL = re.compile(r"data:[\w.+-]*(/[\w.+-]*)?(;[\w.+=-]+)*;base64,", re.ASCII)
"""Unambiguous: a long text that almost matches causes no backtracking."""
_BYTES_PER_PIXEL = 8
_BYTES_PER_DEEP_PIXEL = 28
"""Pillow takes 4 for RGB, and an image is copied once; one of 16 or more bits is converted in numbers of 64 bits."""


class ImageError(ValueError):
    """An image of a request cannot be predicted. Its text is for the client."""


class Upload(NamedTuple):
    """One image of a request, not decoded."""

    name: str | None
    """As the client calls it. It is repeated in the answer and used for nothing else."""
    content: bytes


class Uploads(NamedTuple):
    """The images of a request."""

    images: Sequence[Upload]
    is_list: bool
    """Whether the client sent a list, also one of one image. The answer is a list too."""


async def read_body(request: Request, limits: Limits, memory: Share) -> bytearray:
    """The whole body.

    Args:
        memory: of the request; what the body takes is counted.

    Raises:
        BusyError: other requests take too much memory.
        HTTPException: 400 without a body, 408 too slow, 413 too large.
    """
    announced = request.headers.get("content-length", "0")
    too_large = HTTPException(
        413, f"The body is larger than {limits.body_bytes >> 20} MB; send a smaller image, or fewer (--max-body)."
    )
    if announced.isascii() and announced.isdecimal() and int(announced[:20]) > limits.body_bytes:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                memory.take(len(chunk))
                content += chunk
                if len(content) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"The body took longer than {limits.body_seconds:g} s.") from None
    if not content:
        raise HTTPException(400, "The body is empty; send an image, e.g. curl --data-binary @photo.jpg.")
    return content


def is_json(request: Request) -> bool:
    """Whether the body is JSON, as its media type says."""
    return _media_type(request) == "application/json"


def json_of(body: bytearray) -> Any:
    """The content of a JSON body, which is not null.

    Raises:
        HTTPException: 400, not valid JSON; 413, too many values.
    """
    if sum(map(body.count, (b"[", b"{", b","))) > _MAX_VALUES:
        raise HTTPException(413, f"The JSON body has more than {_MAX_VALUES:,} values.")
    try:
        content = load_json(bytes(body))
    except ValueError as error:  # UnicodeDecodeError included
        raise HTTPException(400, f"The body is not valid JSON ({error}).") from None
    if content is None:
        raise HTTPException(400, f"The body is null; {_RULE}.")
    return content


async def read_uploads(request: Request, body: bytearray, content: object, limits: Limits) -> Uploads:
    """The images of a request.

    Args:
        body: multipart/form-data has one image or several as files; a body of another type is the file of one image.
        content: of a JSON body; None: it is of another type. {"image": B} or {"images": [B, ...]}; each B is base64,
            also as a data URL.

    Raises:
        HTTPException: 400, or 413 with too many images.
    """
    if content is not None:
        return _from_json(content, limits)
    if _media_type(request) == "multipart/form-data":
        return await _from_multipart(request, body, limits)
    return Uploads([Upload(None, bytes(body))], False)


def require_decodable(upload: Upload, limits: Limits) -> int:
    """Look at the header of an image. Returns the bytes that it takes while it is decoded.

    Raises:
        ImageError: not an image, or of too many pixels or scans.
    """
    name = _name(upload)
    try:
        with open_safely(BytesIO(upload.content)) as image:  # reads the header only
            height, width = stored_size(image)[0]
            form, mode = image.format, image.mode
    except (*UNREADABLE, *_BOMBS) as error:
        if isinstance(error, _BOMBS):
            raise ImageError(f"{name}: too many pixels; {_pixel_rule(limits)}") from None
        raise ImageError(f"{name}: {NOT_A_PHOTO}") from None
    if width * height > limits.pixels:
        raise ImageError(f"{name}: {width} x {height} pixels; {_pixel_rule(limits)}")
    scans = upload.content.count(b"\xff\xda") if form in ("JPEG", "MPO") else 0
    if scans * width * height > _MAX_SCANNED:
        raise ImageError(f"{name}: {scans} scans of {width} x {height} pixels take too long; save it as a usual JPEG")
    is_deep = mode == "F" or mode.startswith("I")
    return width * height * (_BYTES_PER_DEEP_PIXEL if is_deep else _BYTES_PER_PIXEL)


def decode(upload: Upload) -> Image.Image:
    """The image as upright 8-bit RGB; first call `require_decodable`.

    Raises:
        ImageError: it is damaged.
    """
    try:
        decoded = open_input(upload.content).kept
    except (ValueError, *_BOMBS) as error:
        raise ImageError(f"{_name(upload)}: damaged, or not an image ({error})") from None
    assert decoded is not None
    return decoded


def _name(upload: Upload) -> str:
    return "image" if upload.name is None else short(upload.name)


def _pixel_rule(limits: Limits) -> str:
    return f"an image may have {limits.pixels / 1e6:g} million (--max-pixels)"


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _from_json(content: object, limits: Limits) -> Uploads:
    if not isinstance(content, dict) or len(content) != 1 or not content.keys() <= {"image", "images"}:
        raise HTTPException(400, f"{short(content)}: {_RULE}. {_OPTIONS}")
    ((key, value),) = content.items()
    texts = [value] if key == "image" else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, f"{key} is {short(value)}; {_RULE}.")
    if len(texts) > limits.images:
        raise HTTPException(413, f"{len(texts)} images; a request may have {limits.images} (--max-images).")
    return Uploads([Upload(None, from_base64(text)) for text in texts], key == "images")


def from_base64(text: str) -> bytes:
    """The bytes in a base64 text or data URL.

    Raises:
        HTTPException: 400, it is neither.
    """
    url = _DATA_URL.match(text)
    encoded = text[url.end() :] if url else text
    try:
        content = b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(
            400, f"{short(text)}: not base64. Send the bytes of the image file; file names and URLs are not opened."
        ) from None
    if not content:
        raise HTTPException(400, "An image is empty.")
    return content


class _Parser(MultiPartParser):
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _from_multipart(request: Request, body: bytearray, limits: Limits) -> Uploads:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield bytes(body)

    parser = _Parser(request.headers, stream(), max_files=limits.images, max_fields=0)
    parser.spool_max_size = limits.body_bytes  # in memory, never on the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise HTTPException(413, f"A request may have {limits.images} images (--max-images).") from None
        if "Too many fields" in error.message:
            raise HTTPException(400, f"A part of the form is not a file. {_OPTIONS}") from None
        raise HTTPException(400, f"The multipart body is invalid ({error.message}).") from None
    except Exception as error:  # of codecs: the client chooses the character set
        raise HTTPException(400, f"The multipart body is invalid ({type(error).__name__}).") from None
    files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
    uploads = [Upload((each.filename or "")[:_MAX_NAME] or None, each.file.read()) for each in files]
    for file in parser._files_to_close_on_error:  # of a part that is cut too, which the form does not have
        file.close()
    if not parser.is_complete:
        raise HTTPException(400, "The multipart body is truncated: its last boundary is missing.")
    if not files:
        raise HTTPException(400, "The multipart body has no image; send one, e.g. curl --form image=@photo.jpg.")
    return Uploads(uploads, True)
