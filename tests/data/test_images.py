"""Images of every kind come out as RGB, the way up that a person sees them; bad ones are named."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from PIL import Image, ImageFile

from frcnn.data.images import image_size, read_image, read_to_resize, to_rgb, verify_image


def read_reduced(path: Path) -> Image.Image:
    """As small as it can be decoded."""
    return read_to_resize(path, lambda original: (1, 1))[0]


READERS = (read_image, read_reduced, image_size, verify_image)

# What undoes each EXIF orientation: the camera's pixels -> the picture as a person sees it.
UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def photo(height: int = 5, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_comes_out_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(photo()))
    np.testing.assert_array_equal(pixels(path), photo())
    assert image_size(path) == verify_image(path) == (5, 8)


def test_an_rgb_image_is_not_copied() -> None:
    image = Image.fromarray(photo())
    assert to_rgb(image) is image


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = photo()[..., 0]
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(grey))), np.dstack([grey] * 3))


def test_transparency_is_dropped_and_the_colours_stay(tmp_path: Path) -> None:
    rgba = np.dstack((photo(), np.arange(40, dtype=np.uint8).reshape(5, 8)))
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(rgba))), photo())


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palette_colours_are_looked_up(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    expected = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    np.testing.assert_array_equal(pixels(saved(tmp_path, image, **options)), expected)


def test_cmyk_is_read_as_the_colours_it_prints(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "image.jpg", quality=95)
    np.testing.assert_allclose(pixels(path), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=8)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    grey = pixels(saved(tmp_path, Image.fromarray(deep), name))
    np.testing.assert_allclose(grey[0, :, 0], [0, 1, 127.5, 255], atol=0.6)
    np.testing.assert_array_equal(grey, grey[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif"])
def test_exif_orientation_is_undone_and_the_size_agrees(tmp_path: Path, orientation: int, name: str) -> None:
    """Oracle: NumPy's own flips and turns of what the same file holds without the tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = Image.fromarray(photo(16, 32))
    plain = pixels(saved(tmp_path, source, f"plain-{name}"))
    path = saved(tmp_path, source, name, exif=exif)
    upright = UPRIGHT[orientation](plain)
    np.testing.assert_array_equal(pixels(path), upright)
    assert image_size(path) == verify_image(path) == upright.shape[:2]


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif", "image.webp"])
def test_the_size_is_told_without_decoding(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.fromarray(photo()), name)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert image_size(path) == (5, 8)


def test_a_tag_after_the_pixels_of_a_png_counts_neither_for_the_size_nor_for_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(photo()), exif=exif)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    last = content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
    assert image_size(path) == (5, 8)
    np.testing.assert_array_equal(pixels(path), photo())


@pytest.mark.parametrize(
    ("original", "new", "read"),
    [
        ((960, 1280), (40, 53), (120, 160)),  # 1/8, 3 times as large as needed
        ((960, 1280), (41, 53), (240, 320)),
        ((960, 1284), (40, 53), (240, 321)),  # 8 divides one side only
        ((960, 1280), (160, 53), (480, 640)),
        ((960, 1280), (161, 53), (960, 1280)),
        ((961, 1280), (40, 53), (961, 1280)),
    ],
)
def test_a_jpeg_is_decoded_at_the_least_exact_size_that_leaves_enough(
    tmp_path: Path, original: tuple[int, int], new: tuple[int, int], read: tuple[int, int]
) -> None:
    seen = []
    for name, expected in (("image.jpg", read), ("image.png", original)):
        path = saved(tmp_path, Image.new("RGB", original[::-1]), name)
        image, said = read_to_resize(path, lambda size: seen.append(size) or new)  # type: ignore[func-returns-value]
        assert (image.height, image.width) == expected
        assert said == original
    assert seen == [original, original]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_jpeg_decoded_at_reduced_size_is_turned_by_its_tag(tmp_path: Path, orientation: int) -> None:
    """Oracle: the mean of each 8 x 8 pixels, which 1/8 decodes to."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    coarse = Image.fromarray(photo(4, 6)).resize((48, 32), Image.Resampling.NEAREST)
    path = saved(tmp_path, coarse, "image.jpg", exif=exif, quality=100, subsampling=0)
    image, original = read_to_resize(path, lambda size: (1, 1))
    upright = UPRIGHT[orientation](photo(4, 6))
    np.testing.assert_allclose(np.asarray(image, int), upright, atol=3)
    assert original == image_size(path) == (8 * upright.shape[0], 8 * upright.shape[1])


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image"):
        read(tmp_path / "nowhere.jpg")  # type: ignore[operator]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"dear diary", "not an image")])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, read: object, content: bytes, said: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"photo\.jpg: .*{said}.*replace or remove it"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_a_file_cut_in_half_is_named(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, Image.fromarray(photo(64, 64)), f"photo.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (read_image, read_reduced, verify_image):
        with pytest.raises(ValueError, match=rf"photo\.{suffix}: .*replace or remove it"):
            read(path)


@pytest.mark.filterwarnings("ignore")  # Pillow also warns of some damage
@given(suffix=st.sampled_from(["jpg", "png", "bmp", "webp", "gif"]), data=st.data())
def test_damage_of_any_kind_is_a_named_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    """Bytes overwritten or cut off: either the image can still be read, or the error names the file."""
    path = saved(tmp_path_factory.mktemp("damaged"), Image.fromarray(photo(16, 24)), f"photo.{suffix}")
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for read in (read_image, read_reduced, verify_image):
        message = f"photo.{suffix}: "
        try:
            read(path)
        except ValueError as error:
            message = str(error)
        assert f"photo.{suffix}: " in message
