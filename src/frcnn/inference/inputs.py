"""Images to predict: paths, Pillow images, arrays, tensors, bytes and addresses become files or upright 8-bit RGB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeGuard
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from PIL import Image

from frcnn.data.images import NOT_A_PHOTO, UNREADABLE, image_size, images_among, open_safely, to_rgb, turn_upright
from frcnn.files import expand_home
from frcnn.messages import plural

MAX_DOWNLOAD = 100 << 20  # bytes
_TIMEOUT = 30  # seconds
_RULE = (
    "an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), a tensor (H, W) or (C, H, W) with 1, 3 or 4 channels; "
    "uint8, or float with values in 0..1"
)


class _Tensor(Protocol):
    """A `torch.Tensor`; torch is not imported for it."""

    def detach(self) -> Any: ...


ImageLike = str | Path | Image.Image | np.ndarray | bytes | BinaryIO | _Tensor
"""One image:

* a path or, with `allow_urls=True`, an http(s) address;
* a Pillow image: its EXIF orientation is applied, as for a file;
* an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a torch tensor (H, W) or (C, H, W);
* the bytes of an image file, or a file opened in binary mode.

Arrays and tensors hold uint8, or floats in 0..1, which are multiplied by 255. Other values are an error. A fourth
channel (alpha) is ignored.
"""


class InputImage(NamedTuple):
    """One image to detect in."""

    image: Path | Image.Image
    """A Pillow image is RGB, upright and decoded."""
    path: str | None = None
    """As the user named it; None for an image in memory."""
    kept: Image.Image | None = None
    """The image, for plotting, if no file has it."""

    def size(self) -> tuple[int, int]:
        """(height, width), upright; a file is not decoded."""
        if isinstance(self.image, Path):
            return image_size(self.image, any_size=True)
        return self.image.height, self.image.width


def is_one(images: object) -> TypeGuard[ImageLike]:
    """Whether this is one image (or one folder) rather than several."""
    return (
        isinstance(images, str | Path | Image.Image | np.ndarray | bytes)
        or _is_tensor(images)
        or hasattr(images, "read")
    )


def is_folder(image: object) -> TypeGuard[str | Path]:
    return isinstance(image, str | Path) and not _is_url(image) and expand_home(image).is_dir()


def list_images(images: ImageLike | Iterable[ImageLike]) -> Iterator[ImageLike]:
    """One image or several, with the images of a folder in its place: in natural order (2.jpg before 10.jpg), without
    hidden files and subfolders.

    Raises:
        ValueError: a folder without images.
    """
    several: Iterable[Any] = [images]  # also a mapping, whose keys would be taken for images
    if isinstance(images, Iterable) and not isinstance(images, Mapping) and not is_one(images):
        several = images
    for image in several:
        if is_folder(image):
            files = sorted(images_among(expand_home(image).iterdir()), key=_natural)
            if not files:
                raise ValueError(f"{image}: the folder has no image; its subfolders are not searched")
            yield from files
        else:
            yield image


def open_input(image: ImageLike, *, channels: str = "rgb", allow_urls: bool = False) -> InputImage:
    """One image as an `InputImage`.

    Args:
        channels: "rgb" or "bgr" (OpenCV): the order of an array's or a tensor's channels.
        allow_urls: download http(s) addresses, at most 100 MB each.

    Raises:
        TypeError: not an image of any kind.
        ValueError: an array with other values, a damaged file, or an address without `allow_urls`.
        OSError: the download fails.
    """
    if channels not in ("rgb", "bgr"):
        raise ValueError(f"channels: {channels!r} must be 'rgb' or 'bgr'")
    if isinstance(image, Image.Image):
        if not image.width or not image.height:
            raise ValueError(f"image: {image.width} x {image.height} pixels; each side needs at least 1")
        upright = to_rgb(turn_upright(image))
        return _in_memory(upright.copy() if upright is image else upright)
    if isinstance(image, np.ndarray):
        return _in_memory(_from_array(image, channels))
    if isinstance(image, str | Path):
        if not _is_url(image):
            if set("*?") & set(str(image)) and not Path(image).exists():
                raise ValueError(f"{image}: a pattern is not an image; pass glob.glob({str(image)!r}), or the folder")
            return InputImage(expand_home(image), str(image))
        if not allow_urls:
            raise ValueError(f"{image}: frcnn downloads images only if asked to; pass allow_urls=True")
        suffix = PurePosixPath(urlsplit(str(image)).path).suffix
        return _in_memory(_decode(_download(str(image)), str(image), suffix), str(image))
    if isinstance(image, bytes):
        return _in_memory(_decode(image, plural(len(image), "byte")))
    if _is_tensor(image):
        return _in_memory(_from_array(_to_array(image), channels))
    if hasattr(image, "read"):
        return _in_memory(_decode(image.read(), str(getattr(image, "name", "file"))))
    raise TypeError(f"image: {type(image).__name__} is not an image; pass a path, a Pillow image, an array or a tensor")


def _in_memory(image: Image.Image, path: str | None = None) -> InputImage:
    return InputImage(image, path, image)


def _is_url(image: str | Path) -> TypeGuard[str]:
    return isinstance(image, str) and image.startswith(("http://", "https://"))


def _is_tensor(image: object) -> TypeGuard[_Tensor]:
    return type(image).__module__.partition(".")[0] == "torch" and hasattr(image, "detach")


def _natural(file: Path) -> list[tuple[bool, int, str]]:
    """Numbers in a name are compared as numbers."""
    parts = re.split(r"(\d+)", file.name.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _decode(content: bytes, name: str, suffix: str = "") -> Image.Image:
    """The image in a file's bytes."""
    try:
        with open_safely(BytesIO(content), suffix) as image:
            return to_rgb(turn_upright(image))
    except UNREADABLE as error:
        raise ValueError(f"image ({name}): {NOT_A_PHOTO}, or damaged ({error})") from None


def _download(url: str) -> bytes:
    with urlopen(url, timeout=_TIMEOUT) as answer:
        content: bytes = answer.read(MAX_DOWNLOAD + 1)
    if len(content) > MAX_DOWNLOAD:
        raise ValueError(f"{url}: larger than {MAX_DOWNLOAD >> 20} MB; download it yourself and pass its path")
    return content


def _to_array(tensor: Any) -> np.ndarray:
    """A tensor's values, channels last."""
    values = tensor.detach().cpu()
    array: np.ndarray = (values.float() if values.is_floating_point() else values).numpy()
    if array.ndim == 3 and array.shape[0] not in (1, 3, 4):
        raise ValueError(f"image: a tensor of shape {array.shape} and {tensor.dtype}; {_RULE}")
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _from_array(array: np.ndarray, channels: str) -> Image.Image:
    pixels = array[..., None] if array.ndim == 2 else array
    wrong = f"image: an array of shape {array.shape} and {array.dtype}"
    if pixels.ndim == 4:
        raise ValueError(f"{wrong} is a batch; pass a list of its images, e.g. list(array)")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise ValueError(f"{wrong}; {_RULE}")
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN included
            raise ValueError(f"{wrong} has values from {pixels.min():g} to {pixels.max():g}; {_RULE}")
        pixels = (pixels * 255).round().astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"{wrong}; {_RULE}")
    pixels = pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    return Image.fromarray(np.ascontiguousarray(pixels if channels == "rgb" else pixels[..., ::-1]))
