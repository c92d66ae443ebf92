"""Whatever stands for an image becomes the same RGB pixels, or an error that names the rule."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import draw_image

from frcnn.data.images import read_image
from frcnn.inference import inputs
from frcnn.inference.inputs import is_folder, is_one, list_images, open_input

PHOTO = draw_image([("red", (10, 12, 60, 70))])
PIXELS = np.asarray(PHOTO)
GRAY = np.asarray(PHOTO.convert("L"))
PNG = BytesIO()
PHOTO.save(PNG, "PNG")


def pixels_of(image: Any, **options: Any) -> np.ndarray:
    opened = open_input(image, **options).image
    return np.asarray(opened if isinstance(opened, Image.Image) else read_image(opened))


@pytest.mark.parametrize(
    "image",
    [
        PHOTO,
        PIXELS,
        PIXELS[::-1][::-1],
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        np.concatenate((PIXELS, GRAY[..., None]), axis=2),  # alpha
        torch.from_numpy(PIXELS.copy()).permute(2, 0, 1),
        torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255,
        (torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255).requires_grad_(),
        PNG.getvalue(),
        BytesIO(PNG.getvalue()),
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'shape', '')} {getattr(image, 'dtype', '')}",
)
def test_all_ways_to_give_an_image_give_its_pixels(image: Any) -> None:
    assert is_one(image)
    source = open_input(image)
    np.testing.assert_array_equal(np.asarray(source.image), PIXELS)
    assert source.kept is source.image


@pytest.mark.parametrize(
    "image", [GRAY, GRAY[..., None], GRAY / 255, torch.from_numpy(GRAY.copy()), torch.from_numpy(GRAY.copy())[None]]
)
def test_gray_becomes_rgb(image: Any) -> None:
    np.testing.assert_array_equal(pixels_of(image), np.repeat(GRAY[..., None], 3, axis=2))


def test_opencv_has_its_channels_the_other_way_round() -> None:
    np.testing.assert_array_equal(pixels_of(PIXELS[..., ::-1], channels="bgr"), PIXELS)
    bgra = np.concatenate((PIXELS[..., ::-1], GRAY[..., None]), axis=2)
    np.testing.assert_array_equal(pixels_of(bgra, channels="bgr"), PIXELS)
    np.testing.assert_array_equal(pixels_of(PHOTO, channels="bgr"), PIXELS)  # Pillow's are always RGB
    with pytest.raises(ValueError, match="channels: 'hsv' must be 'rgb' or 'bgr'"):
        open_input(PIXELS, channels="hsv")


@pytest.mark.parametrize("orientation", range(10))
def test_a_pillow_image_is_turned_as_its_file_is(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    PHOTO.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as image:
        np.testing.assert_array_equal(pixels_of(image), pixels_of(tmp_path / "photo.png"))
        np.testing.assert_array_equal(pixels_of((tmp_path / "photo.png").read_bytes()), pixels_of(image))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_image_is_turned_once(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = BytesIO()
    PHOTO.save(content, form, exif=exif)
    upright = open_input(content.getvalue()).kept
    assert upright is not None
    assert upright.size == PHOTO.size[::-1]
    np.testing.assert_array_equal(pixels_of(upright), np.asarray(upright))


def test_a_pillow_image_stays_as_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = BytesIO()
    PHOTO.save(content, "JPEG", exif=exif)
    with Image.open(content) as image:
        assert open_input(image).size() == image.size == PHOTO.size
    assert open_input(PHOTO).image is not PHOTO


def test_a_jpeg_without_its_last_bytes_is_read_from_memory_too() -> None:
    content = BytesIO()
    PHOTO.save(content, "JPEG")
    whole, cut = (pixels_of(each) for each in (content.getvalue(), content.getvalue()[:-3]))
    np.testing.assert_array_equal(cut[:79], whole[:79])  # colors of the last block reach row 79


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 9, 9, 3), np.uint8), r"shape \(2, 9, 9, 3\) and uint8 is a batch; pass a list of its images"),
        (torch.zeros(2, 3, 9, 9), r"\(2, 3, 9, 9\) and float32 is a batch"),
        (np.zeros((9, 9, 2), np.uint8), r"shape \(9, 9, 2\) and uint8; an array must be \(H, W\)"),
        (np.zeros(9, np.uint8), r"shape \(9,\) and uint8"),
        (np.zeros((0, 9, 3), np.uint8), r"shape \(0, 9, 3\)"),
        (np.zeros((9, 9, 3), np.int64), "and int64; .* uint8, or float with values in 0..1"),
        (np.zeros((9, 9, 3), np.uint16), "and uint16; "),
        (np.full((9, 9, 3), 1.5), "float64 has values from 1.5 to 1.5; "),
        (np.full((9, 9, 3), -0.1), "has values from -0.1 to -0.1"),
        (np.full((9, 9, 3), np.nan), "has values from nan to nan"),
        (torch.zeros(9, 9, 3), r"tensor of shape \(9, 9, 3\) and torch.float32; .* a tensor \(H, W\) or \(C, H, W\)"),
    ],
)
def test_other_arrays_are_an_error_that_names_the_rule(array: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_input(array)


def test_what_is_no_image_is_an_error() -> None:
    with pytest.raises(TypeError, match="image: dict is not an image"):
        open_input({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image \(5 bytes\): not an image"):
        open_input(b"hello")


def test_addresses_are_downloaded_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def urlopen(url: str, timeout: float) -> BytesIO:
        asked.append(url)
        return BytesIO(PNG.getvalue())

    monkeypatch.setattr(inputs, "urlopen", urlopen)
    url = "https://example.com/photo.png"
    with pytest.raises(ValueError, match="pass allow_urls=True"):
        open_input(url)
    assert not asked
    np.testing.assert_array_equal(pixels_of(url, allow_urls=True), PIXELS)
    assert (open_input(url, allow_urls=True).path, is_folder(url)) == (url, False)
    monkeypatch.setattr(inputs, "MAX_DOWNLOAD", 10)
    with pytest.raises(ValueError, match="larger than"):
        open_input(url, allow_urls=True)


def test_a_folder_stands_for_its_images_in_natural_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.png", "a10.JPG", "a9.jpg", "._a9.jpg", ".hidden.png", "notes.txt", "d.bmp"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.png").touch()
    expected = ["a9.jpg", "a10.JPG", "b.png", "d.bmp"]
    assert [Path(str(each)).name for each in list_images(tmp_path)] == expected
    assert [Path(str(each)).name for each in list_images([tmp_path, "x.png"])] == [*expected, "x.png"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(list(list_images("~"))) == 4
    assert open_input("~/b.png").image == tmp_path / "b.png"
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: the folder has no image"):
        list(list_images(tmp_path / "none"))


@pytest.mark.parametrize("several", [[PHOTO], (PHOTO,), (each for each in [PHOTO]), []])
def test_several_images(several: Any) -> None:
    assert not is_one(several)
    assert all(each is PHOTO for each in list_images(several))


def test_the_options_reach_every_image(tmp_path: Path) -> None:
    opened: Callable[[Any], Any] = open_input
    assert opened(tmp_path / "photo.png").kept is None
    assert opened(PHOTO).path is None


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_an_image_without_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"image: {size[0]} x {size[1]} pixels; each side needs at least 1"):
        pixels_of(Image.new("RGB", size))


def test_postscript_in_memory_is_no_image_either() -> None:
    """Pillow would start Ghostscript, which runs the program that PostScript is."""
    content = BytesIO()
    PHOTO.save(content, "EPS")
    for image in (content.getvalue(), BytesIO(content.getvalue())):
        with pytest.raises(ValueError, match=r"not an image in a format that frcnn reads"):
            pixels_of(image)
