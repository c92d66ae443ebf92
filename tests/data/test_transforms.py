"""From an image to the detector's input: sizes, mirroring, frames."""

from pathlib import Path
from zipfile import ZipFile

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given
from PIL import Image
from torch.nn import functional
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from frcnn.data.images import read_image
from frcnn.data.transforms import at_points, frame, prepare_images, read_resized, resize
from frcnn.resizing import Resizing, input_size

FIT = Resizing(resize="fit", width=850, height=850)
SHORTER = Resizing(resize="shorter_side", shorter_side=600, longer_side=1000)


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((3264, 2448), (850, 638)),  # the tutorial's photos are portraits
        ((2448, 3264), (638, 850)),
        ((850, 850), (850, 850)),
        ((85, 17), (850, 170)),  # small images grow
        ((1, 5000), (1, 850)),
    ],
)
def test_fit_scales_into_the_square(original: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(original, FIT) == expected


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((375, 500), (600, 800)),  # a photo of Pascal VOC, Ren et al. 2015
        ((500, 375), (800, 600)),
        ((300, 600), (500, 1000)),  # else the longer side would have 1200
        ((1, 5000), (1, 1000)),
    ],
)
def test_shorter_side_is_the_papers_rule(original: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(original, SHORTER) == expected


@given(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), st.sampled_from((FIT, SHORTER)))
def test_the_shape_is_kept_and_no_limit_exceeded(original: tuple[int, int], settings: Resizing) -> None:
    height, width = input_size(original, settings)
    assert min(height, width) >= 1
    assert max(height, width) <= (850 if settings is FIT else 1000)
    scale = max(height, width) / max(original)
    np.testing.assert_allclose((height, width), np.maximum(np.multiply(original, scale), 1), atol=1)


def test_resizing_down_averages_what_it_drops() -> None:
    """Without that, a chequered photo would turn black or white by chance."""
    chequered = np.indices((80, 80)).sum(axis=0) % 2 * np.uint8(255)
    image = Image.fromarray(chequered.astype(np.uint8)).convert("RGB")
    small = resize(image, (10, 10), Resizing(resize="fit", width=10, height=10))
    np.testing.assert_allclose(small[2:-2, 2:-2], 127.5, atol=3)


POINT = Resizing(resize="shorter_side", shorter_side=80, longer_side=133, divisor=32, antialias=False)


@given(st.integers(20, 300), st.integers(20, 300))
def test_sizes_without_antialiasing_and_frames_are_torchvisions(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = GeneralizedRCNNTransform(80, 133, [0.0] * 3, [1.0] * 3).eval()
    expected, _ = theirs([torch.from_numpy(pixels).permute(2, 0, 1).float()])
    images, sizes, _ = frame([read_resized(Image.fromarray(pixels), POINT)[0]], [(height, width)], POINT)
    assert tuple(sizes[0].astype(int).tolist()) == expected.image_sizes[0]
    assert images.shape == tuple(expected.tensors.shape)
    np.testing.assert_allclose(images, expected.tensors.numpy(), rtol=0, atol=1e-3)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120), st.integers(1, 120))
def test_without_antialiasing_torch_makes_no_difference(rows: int, columns: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (rows, columns, 3)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None], (height, width), mode="bilinear")
    np.testing.assert_allclose(
        at_points(pixels, height, width), expected[0].permute(1, 2, 0).numpy(), rtol=0, atol=5e-3
    )


SMALL = (
    Resizing(resize="fit", width=70, height=60),
    Resizing(resize="shorter_side", shorter_side=60, longer_side=90),
)


def assert_as_if_read_whole(path: Path, settings: Resizing) -> None:
    """Sizes are the same, pixels within what decoding at reduced size may change."""
    found, whole = (prepare_images([image], settings) for image in (path, read_image(path)))
    np.testing.assert_array_equal(found.image_sizes, whole.image_sizes)
    np.testing.assert_array_equal(found.original_sizes, whole.original_sizes)
    difference = np.abs(found.images.astype(int) - whole.images)
    assert difference.mean() < 0.8
    assert np.percentile(difference, 99) <= 4
    assert difference.max() <= 16
    assert difference.any()  # it was not read whole


@given(
    sides=st.tuples(st.integers(60, 90), st.integers(60, 90)).map(lambda sides: (sides[0] * 8, sides[1] * 8)),
    settings=st.sampled_from(SMALL),
    orientation=st.integers(1, 8),
    kind=st.sampled_from(["RGB", "L", "CMYK"]),
    progressive=st.booleans(),
    subsampling=st.integers(0, 2),
    content=st.sampled_from(["photo", "smooth"]),
)
def test_a_jpeg_decoded_at_reduced_size_becomes_the_same_input(
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
    sides: tuple[int, int],
    settings: Resizing,
    orientation: int,
    kind: str,
    progressive: bool,
    subsampling: int,
    content: str,
) -> None:
    if content == "photo":
        image = read_image(shared / "datasets" / "grocery" / "testImages" / "5.jpg").crop((0, 0, *sides))
    else:
        image = Image.radial_gradient("L").resize(sides).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path_factory.mktemp("reduced") / "image.jpg"
    image.convert(kind).save(path, quality=92, exif=exif, progressive=progressive, subsampling=subsampling)
    assert_as_if_read_whole(path, settings)


def test_only_a_jpeg_that_is_resized_smoothly_is_decoded_at_reduced_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    for name, settings in (("image.png", SMALL[1]), ("image.jpg", POINT)):
        Image.fromarray(pixels).save(tmp_path / name)
        found, whole = (prepare_images([image], settings) for image in (tmp_path / name, read_image(tmp_path / name)))
        np.testing.assert_array_equal(found.images, whole.images)
        np.testing.assert_array_equal(found.original_sizes, [[480, 640]])


def test_photos_in_an_archive_are_decoded_at_reduced_size_too(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.radial_gradient("L").resize((640, 480)).save(path)
    with ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(path, "image.jpg")
    zipped = tmp_path / "photos.zip@" / "image.jpg"
    assert_as_if_read_whole(zipped, SMALL[0])
    for found, expected in zip(*(prepare_images([image], SMALL[0]) for image in (zipped, path)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_images_stand_in_the_upper_left_corner_of_a_common_frame() -> None:
    images = [np.full((20, 30, 3), 1, np.uint8), np.full((25, 10, 3), 2, np.uint8)]
    frames = frame(images, [(40, 60), (50, 20)], SHORTER)
    assert frames.images.shape == (2, 3, 25, 30)
    for number, (height, width) in enumerate([(20, 30), (25, 10)]):
        expected = np.zeros((3, 25, 30), np.uint8)
        expected[:, :height, :width] = number + 1
        np.testing.assert_array_equal(frames.images[number], expected)
    np.testing.assert_array_equal(frames.image_sizes, np.array([[20, 30], [25, 10]], np.float32))
    np.testing.assert_array_equal(frames.original_sizes, np.array([[40, 60], [50, 20]], np.float32))


def test_fit_frames_all_have_the_settings_size() -> None:
    settings = Resizing(resize="fit", width=40, height=30)
    assert frame([np.zeros((30, 10, 3), np.uint8)], [(60, 20)], settings).images.shape == (1, 3, 30, 40)
