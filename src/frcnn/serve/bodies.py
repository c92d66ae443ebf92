"""From the body of a request to images. Every limit is checked before memory is taken, and no name in a request is
opened as a file or an address."""

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
from frcnn.serve.limits import Limits

_MAX_NAME = 200
_MAX_SCANS = 1000
"""Of a JPEG. A progressive one has about ten. Each takes as long to decode as the image has blocks, also an empty one,
so that a small file could be decoded for hours."""
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_DATA_ADDRESS = re.compile(r"data:[\w.+-]*(/[\w.+-]*)?(;[\w.+=-]+)*;base64,", re.ASCII)
"""No character can be matched in two ways: a text of megabytes that matches nearly would take hours."""


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


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
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
                content += chunk
                if len(content) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"The body took longer than {limits.body_seconds:g} s.") from None
    if not content:
        raise HTTPException(400, "The body is empty; send an image, e.g. curl --data-binary @photo.jpg.")
    return bytes(content)


def json_of(request: Request, body: bytes) -> Any:
    """The content of a JSON body; None: the body is of another type.

    Raises:
        HTTPException: 400, not valid JSON.
    """
    if _media_type(request) != "application/json":
        return None
    try:
        return load_json(body)
    except ValueError as error:  # UnicodeDecodeError included
        raise HTTPException(400, f"The body is not valid JSON ({error}).") from None


async def read_uploads(request: Request, body: bytes, content: object, limits: Limits) -> Uploads:
    """The images of a request.

    Args:
        body: multipart/form-data has one image or several as files; a body of another type is the file of one image.
        content: of a JSON body; None: it is of another type. {"image": B} or {"images": [B, ...]}; each B is base64,
            also as a data address.

    Raises:
        HTTPException: 400, or 413 with too many images.
    """
    if content is not None:
        return _from_json(content, limits)
    if _media_type(request) == "multipart/form-data":
        return await _from_multipart(request, body, limits)
    return Uploads([Upload(None, body)], False)


def decode(upload: Upload, limits: Limits) -> Image.Image:
    """The image as upright 8-bit RGB.

    Raises:
        ValueError: not an image, damaged, or of too many pixels.
    """
    name = "image" if upload.name is None else short(upload.name)
    try:
        with open_safely(BytesIO(upload.content)) as image:  # reads the header only
            height, width = stored_size(image)[0]
            scans = upload.content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    except (*UNREADABLE, *_BOMBS) as error:
        why = "it has too many pixels" if isinstance(error, _BOMBS) else NOT_A_PHOTO
        raise ValueError(f"{name}: {why}") from None
    if width * height > limits.pixels:
        raise ValueError(
            f"{name}: {width} x {height} pixels; an image may have {limits.pixels / 1e6:g} million (--max-pixels)"
        )
    if scans > _MAX_SCANS:
        raise ValueError(f"{name}: {scans} scans; a JPEG may have {_MAX_SCANS}")
    try:
        decoded = open_input(upload.content).kept
    except ValueError as error:
        raise ValueError(f"{name}: damaged, or not an image ({error})") from None
    assert decoded is not None
    return decoded


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _from_json(content: object, limits: Limits) -> Uploads:
    rule = 'the body must be {"image": BASE64} or {"images": [BASE64, ...]}'
    if not isinstance(content, dict) or len(content) != 1 or not content.keys() <= {"image", "images"}:
        raise HTTPException(400, f"{short(content)}: {rule}. Options are in the address: /predict?threshold=0.5")
    ((key, value),) = content.items()
    texts = [value] if key == "image" else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, f"{key} is {short(value)}; {rule}")
    if len(texts) > limits.images:
        raise HTTPException(413, f"{len(texts)} images; a request may have {limits.images} (--max-images).")
    return Uploads([Upload(None, from_base64(text)) for text in texts], key == "images")


def from_base64(text: str) -> bytes:
    """The bytes in a base64 text or data address.

    Raises:
        HTTPException: 400, it is neither.
    """
    address = _DATA_ADDRESS.match(text)
    encoded = text[address.end() :] if address else text
    try:
        content = b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(
            400, f"{short(text)}: not base64. Send the bytes of the image file; names and addresses are not opened."
        ) from None
    if not content:
        raise HTTPException(400, "An image is empty.")
    return content


class _Parser(MultiPartParser):
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _from_multipart(request: Request, body: bytes, limits: Limits) -> Uploads:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _Parser(request.headers, stream(), max_files=limits.images, max_fields=0)
    parser.spool_max_size = limits.body_bytes  # in memory, never on the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise HTTPException(413, f"A request may have {limits.images} images (--max-images).") from None
        if "Too many fields" in error.message:
            raise HTTPException(
                400, "A part of the body is no file. Options are in the address: /predict?threshold=0.5"
            ) from None
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
