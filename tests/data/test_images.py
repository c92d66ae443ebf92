"""Images of every kind come out as RGB, the way up that a person sees them; bad ones are named."""

import os
import struct
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from PIL import EpsImagePlugin, Image, ImageDraw, ImageFile

from frcnn.data.images import IMAGE_SUFFIXES, image_size, images_among, read_image, read_to_resize, to_rgb, verify_image
from frcnn.resizing import Resizing


def read_reduced(path: Path) -> Image.Image:
    """As small as it can be decoded."""
    return read_to_resize(path, Resizing("fit", width=1, height=1))[0]


ALL_READERS = (read_image, read_reduced, image_size, verify_image)

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
    assert image_size(path) == verify_image(path).size == (5, 8)


def test_an_rgb_image_is_not_copied() -> None:
    image = Image.fromarray(photo())
    assert to_rgb(image) is image


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    gray = photo()[..., 0]
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(gray))), np.dstack([gray] * 3))


def test_transparency_is_dropped_and_the_colors_stay(tmp_path: Path) -> None:
    rgba = np.dstack((photo(), np.arange(40, dtype=np.uint8).reshape(5, 8)))
    np.testing.assert_array_equal(pixels(saved(tmp_path, Image.fromarray(rgba))), photo())


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palette_colors_are_looked_up(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    expected = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    np.testing.assert_array_equal(pixels(saved(tmp_path, image, **options)), expected)


def test_cmyk_is_read_as_the_colors_it_prints(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "image.jpg", quality=95)
    np.testing.assert_allclose(pixels(path), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=8)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 257, 32768, 65535]], np.uint16)
    gray = pixels(saved(tmp_path, Image.fromarray(deep), name))
    np.testing.assert_allclose(gray[0, :, 0], [0, 1, 127.5, 255], atol=0.6)
    np.testing.assert_array_equal(gray, gray[..., :1].repeat(3, axis=2))


# --------------------------------------------------------------------------------------------------- ranges of values


def values(high: float, dtype: type, low: float = 0) -> np.ndarray:
    return np.linspace(low, high, 256).reshape(16, 16).astype(dtype)


@pytest.mark.parametrize(
    ("numbers", "white", "guessed"),
    [
        (values(65535, np.uint16), 65535, False),
        (values(20000, np.uint16), 65535, False),
        (values(4095, np.uint16), 4095, True),
        (values(3000, np.uint16), 4095, True),
        (values(255, np.uint16), 255, True),
        (values(255, np.int32), 255, True),
        (values(4000, np.int32), 4095, True),
        (values(65535, np.int32), 65535, False),
        (values(1, np.float32), 1, True),
        (values(0.4, np.float32), 1, True),
        (values(255, np.float32), 255, True),
        (values(4095, np.float32), 4095, True),
        (values(65535, np.float32), 65535, True),
        # Read as 8, 12 or 16 bits, all of these would look black, or be cut off.
        (values(15, np.int32), 15, True),
        (values(1.2, np.float32), 1.2, True),
        (values(0.01, np.float32), 0.01, True),
        (values(1e6, np.int32), 1e6, True),
        (values(1e6, np.float32), 1e6, True),
        (values(0, np.uint16), 1, False),
        (values(0, np.float32), 1, False),
    ],
    ids=lambda value: f"{value.dtype} to {value.max():g}" if isinstance(value, np.ndarray) else "",
)
def test_white_is_the_largest_value_of_the_fewest_bits_that_hold_all(
    tmp_path: Path, numbers: np.ndarray, white: float, guessed: bool
) -> None:
    path = saved(tmp_path, Image.fromarray(numbers), "image.tif")
    np.testing.assert_allclose(pixels(path)[..., 0], numbers / white * 255, atol=1.01)
    np.testing.assert_array_equal(pixels(path), pixels(path)[..., :1].repeat(3, axis=2))
    problems = verify_image(path).problems
    assert [(problem.kind, problem.level) for problem in problems] == [("guessed range of values", "warning")] * guessed
    assert all(f"{numbers.max():g}" in problem.message for problem in problems)


def test_full_range_of_sixteen_bits_is_divided_by_257(tmp_path: Path) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for numbers in (deep, deep.astype(np.int32)):
        path = saved(tmp_path, Image.fromarray(numbers), "image.tif")
        np.testing.assert_array_equal(pixels(path)[..., 0], deep // 257)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_negative_values_are_stretched(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path, Image.fromarray(values(3000, dtype, low=-1000)), "image.tif")
    np.testing.assert_allclose(pixels(path)[..., 0].ravel(), np.arange(256), atol=1.01)
    assert "-1000 to 3000, which are stretched" in verify_image(path).problems[0].message


def test_values_that_are_no_numbers_are_black(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[np.nan, np.inf, -np.inf, 0.5, 1]], np.float32)), "image.tif")
    assert pixels(path)[0, :, 0].tolist() == [0, 0, 0, 128, 255]


def tiff(pixels: np.ndarray, bits: int) -> bytes:
    """An uncompressed TIFF of (H, W, bands), which Pillow cannot write."""
    height, width, bands = pixels.shape
    content = pixels.astype("<u2" if bits > 8 else "u1").tobytes()
    tags = [(256, width), (257, height), (259, 1), (262, 2), (273, 8), (277, bands), (278, height), (279, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags[:2])
    depth = 8 + len(content) + 2 + 12 * (len(tags) + 1) + 4
    entries += struct.pack("<HHII", 258, 3, bands, depth)
    entries += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags[2:])
    start = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    return start + content + struct.pack("<H", len(tags) + 1) + entries + bytes(4) + struct.pack("<H", bits) * bands


def test_bands_and_bits_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff(photo().astype(int) * 257, 16))
    np.testing.assert_array_equal(pixels(path), photo())
    assert not verify_image(path).problems
    path.write_bytes(tiff(photo().astype(int) * 16, 16))
    assert "reach only 15 of 255" in verify_image(path).problems[0].message
    path.write_bytes(tiff(np.dstack((photo(), photo()[..., :1])), 8))
    np.testing.assert_array_equal(pixels(path), photo())


# ------------------------------------------------------------------------------------------------------ truncated files


def scene(height: int = 480, width: int = 640) -> Image.Image:
    """Many bytes in each row."""
    image = Image.fromarray(photo(height // 8, width // 8)).resize((width, height))
    ImageDraw.Draw(image).rectangle((0, height - 40, width, height), fill=(128, 128, 128))
    return image


def jpeg(**options: object) -> bytes:
    content = BytesIO()
    scene().save(content, "JPEG", **options)  # type: ignore[arg-type]
    return content.getvalue()


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("lost", [1, 2, 3, 20])
def test_a_jpeg_without_its_last_bytes_is_read_and_reported(
    tmp_path: Path, options: dict[str, object], lost: int
) -> None:
    whole, path = jpeg(**options), tmp_path / "photo.jpg"
    path.write_bytes(whole)
    expected = pixels(path)
    assert not verify_image(path).problems
    path.write_bytes(whole[:-lost])
    difference = np.abs(pixels(path)[:462].astype(int) - expected[:462])
    assert difference.mean() < 0.1
    assert options.get("progressive") or not difference.any()
    reduced = read_to_resize(path, Resizing("fit", width=20, height=20))[0]
    assert reduced.size == (80, 60)
    verified = verify_image(path)
    assert verified.size == (480, 640)
    assert [(problem.kind, problem.level) for problem in verified.problems] == [("truncated image", "repaired")]
    with Image.open(path) as image, pytest.raises(OSError, match="truncated"):
        image.load()  # nothing was switched for the whole process


def test_the_same_jpegs_are_read_at_each_size(tmp_path: Path) -> None:
    """Up to 16 rows may be missing; a rule that differed by the size would stop a training after it was verified."""
    whole, path, outcomes = jpeg(), tmp_path / "photo.jpg", []
    for lost in (*range(0, 2000, 100), *range(2000, len(whole), len(whole) // 8)):
        path.write_bytes(whole[: len(whole) - lost])
        outcome = []
        for read in (read_image, read_reduced, verify_image):
            try:
                read(path)
                outcome.append(True)
            except ValueError:
                outcome.append(False)
        assert len(set(outcome)) == 1
        outcomes.append(outcome[0])
    assert outcomes == sorted(outcomes, reverse=True)
    assert 1 < sum(outcomes) < 10


def test_a_small_jpeg_without_any_pixels_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(photo(16, 24)), "photo.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    for read in (read_image, read_reduced, verify_image):
        with pytest.raises(ValueError, match=r"photo\.jpg: damaged or truncated \(about 16 of its 16 rows"):
            read(path)


def test_a_truncated_progressive_jpeg_that_lacks_scans_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path, scene(), "photo.jpg", progressive=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (read_image, read_reduced, verify_image):
        with pytest.raises(ValueError, match=r"photo\.jpg: damaged or truncated \(about 480 of its 480 rows"):
            read(path)


# ------------------------------------------------------------------------------------------------------ EXIF, suffixes


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif", "image.webp"])
def test_an_invalid_orientation_turns_nothing(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = pixels(saved(tmp_path, Image.fromarray(photo()), f"plain-{name}"))
    path = saved(tmp_path, Image.fromarray(photo()), name, exif=exif)
    np.testing.assert_array_equal(pixels(path), plain)
    assert image_size(path) == (5, 8)
    assert verify_image(path).orientation == 1


@pytest.mark.parametrize(("kind", "value"), [(4, 65537), (4, 2**32 - 1), (9, 2**32 - 1), (2, 54), (11, 6)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_an_orientation_of_another_type_turns_nothing(tmp_path: Path, kind: int, value: int, suffix: str) -> None:
    """Long, signed, text and floating point numbers."""
    block = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0112, kind, 1, value, 0)
    path = saved(tmp_path, Image.fromarray(photo()), f"image.{suffix}", exif=b"Exif\0\0" + block)
    assert read_image(path).size == (8, 5)
    assert image_size(path) == verify_image(path).size == (5, 8)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some
@given(block=st.binary(max_size=60), start=st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12"]))
def test_a_broken_exif_block_does_not_stop_reading(
    tmp_path_factory: pytest.TempPathFactory, block: bytes, start: bytes
) -> None:
    for suffix in ("jpg", "png", "webp"):
        path = saved(
            tmp_path_factory.mktemp("exif"), Image.fromarray(photo()), f"a.{suffix}", exif=b"Exif\0\0" + start + block
        )
        assert {read_image(path).size, verify_image(path).size[::-1]} <= {(8, 5), (5, 8)}


def test_the_content_tells_the_format_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(photo(32, 48)).save(tmp_path / "jpeg.png", "JPEG", quality=95, subsampling=0)
    np.testing.assert_allclose(pixels(tmp_path / "jpeg.png").astype(int), photo(32, 48), atol=60)
    assert verify_image(tmp_path / "jpeg.png").format == "JPEG"
    assert not verify_image(tmp_path / "jpeg.png").problems


def test_suffixes_of_photos_are_known_and_those_of_documents_are_not() -> None:
    photos = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".j2k"}
    assert photos | {".ppm", ".pgm", ".pnm", ".tga", ".mpo"} <= IMAGE_SUFFIXES
    assert not {".pdf", ".eps", ".ps", ".ai", ".svg", ".mpg", ".mpeg", ".psd", ".h5", ".ico"} & IMAGE_SUFFIXES
    assert [path.name for path in images_among([Path("b.JFIF"), Path("a.pdf"), Path("a.ppm")])] == ["a.ppm", "b.JFIF"]


WRITTEN = sorted(name for name, form in Image.registered_extensions().items() if form in Image.SAVE)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES.intersection(WRITTEN)))
def test_a_photo_of_each_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, Image.fromarray(photo()), f"photo{suffix}")
    assert pixels(path).shape == (5, 8, 3)
    assert verify_image(path).size == (5, 8)


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
    assert image_size(path) == verify_image(path).size == upright.shape[:2]


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
    ("original", "height", "read"),
    [
        ((960, 1280), 40, (120, 160)),  # 1/8, 3 times as large as needed
        ((960, 1280), 41, (240, 320)),
        ((960, 1284), 40, (240, 321)),  # 8 divides one side only
        ((960, 1280), 160, (480, 640)),
        ((960, 1280), 161, (960, 1280)),
        ((961, 1280), 40, (961, 1280)),
    ],
)
def test_a_jpeg_is_decoded_at_the_least_exact_size_that_leaves_enough(
    tmp_path: Path, original: tuple[int, int], height: int, read: tuple[int, int]
) -> None:
    resizing = Resizing("fit", width=original[1], height=height)
    for name, expected in (("image.jpg", read), ("image.png", original)):
        path = saved(tmp_path, Image.new("RGB", original[::-1]), name)
        image, said = read_to_resize(path, resizing)
        assert (image.height, image.width) == expected
        assert said == original


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_jpeg_decoded_at_reduced_size_is_turned_by_its_tag(tmp_path: Path, orientation: int) -> None:
    """Oracle: the mean of each 8 x 8 pixels, which 1/8 decodes to."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    coarse = Image.fromarray(photo(4, 6)).resize((48, 32), Image.Resampling.NEAREST)
    path = saved(tmp_path, coarse, "image.jpg", exif=exif, quality=100, subsampling=0)
    image, original = read_to_resize(path, Resizing("fit", width=1, height=1))
    upright = UPRIGHT[orientation](photo(4, 6))
    np.testing.assert_allclose(np.asarray(image, int), upright, atol=3)
    assert original == image_size(path) == (8 * upright.shape[0], 8 * upright.shape[1])


@pytest.mark.parametrize("read", ALL_READERS)
def test_a_missing_file_is_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image"):
        read(tmp_path / "nowhere.jpg")  # type: ignore[operator]


@pytest.mark.parametrize("read", ALL_READERS)
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


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has Ghostscript draw PostScript, whatever the name of the file."""
    marker = tmp_path / "marker"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # not looked for yet
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 5)).save(path, "EPS")
    for read in ALL_READERS:
        with pytest.raises(ValueError, match=r"photo\.jpg: not an image in a format that frcnn reads"):
            read(path)
    assert not marker.exists()


@pytest.mark.parametrize("form", ["ICO", "MSP", "TGA"])
def test_only_formats_of_photos_are_read_whatever_the_name(tmp_path: Path, form: str) -> None:
    """TGA has no signature, so Pillow may take another file for it."""
    path = tmp_path / "photo.jpg"
    Image.new("1" if form == "MSP" else "RGB", (8, 5)).save(path, form)
    for read in ALL_READERS:
        with pytest.raises(ValueError, match=r"photo\.jpg: not an image in a format that frcnn reads"):
            read(path)


def test_an_image_in_an_archive_that_would_fill_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frcnn.data.images.MAX_MEMBER_BYTES", 1 << 20)
    with ZipFile(tmp_path / "photos.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("large.png", bytes((1 << 20) + 1))
    with pytest.raises(ValueError, match=r"too large: 1,048,577 bytes when unpacked; .* at most 1,048,576"):
        read_image(tmp_path / "photos.zip@" / "large.png")


def test_an_image_that_would_fill_the_memory_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, Image.new("RGB", (500, 300)))
    monkeypatch.setattr("frcnn.data.images.total_memory", lambda: 1_300_000)
    read_image(tmp_path / "image.png", any_size=True)
    monkeypatch.setattr("frcnn.data.images.total_memory", lambda: 1_100_000)
    with pytest.raises(
        ValueError, match=r"too large: 500 x 300 pixels take 0\.0 GB, .*; no setting changes that: cut it into"
    ):
        read_image(tmp_path / "image.png", any_size=True)
