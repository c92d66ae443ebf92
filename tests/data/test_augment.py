"""Augmentation: boxes follow the pixels, visible objects are kept, and the same seed gives the same augmentation."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from frcnn.data.augment import Augmentation, View, random_augmentation, read_augmented, to_view
from frcnn.data.loader import load_batch
from frcnn.data.records import Record, make_record
from frcnn.data.tiles import MIN_VISIBLE
from frcnn.data.transforms import prepare_images
from frcnn.resizing import Resizing

CLASSES = ("dog",)
SHORTER = Resizing(resize="shorter_side", shorter_side=120, longer_side=200)
FIT = Resizing(resize="fit", width=150, height=100)
POINT = Resizing(resize="shorter_side", shorter_side=80, longer_side=133, divisor=32, antialias=False)

changes = st.builds(
    Augmentation,
    flip=st.booleans(),
    scale=st.floats(0.5, 2),
    position=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    brightness=st.just(1.0),
    contrast=st.just(1.0),
    saturation=st.just(1.0),
)


def bright_in(path: Path, size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Record:
    """A black image, white in the boxes."""
    pixels = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = 255
    Image.fromarray(pixels).save(path)
    return Record(path, np.array(boxes, np.float32), ("dog",) * len(boxes), np.zeros(len(boxes), bool))


@given(
    size=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    change=changes,
    settings=st.sampled_from((SHORTER, FIT, POINT)),
)
def test_boxes_follow_the_pixels(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    corner: tuple[float, float],
    change: Augmentation,
    settings: Resizing,
) -> None:
    height, width = size
    x, y = int(corner[0] * width), int(corner[1] * height)
    record = bright_in(
        tmp_path_factory.mktemp("images") / "a.png",
        size,
        (x, y, x + max(width // 3, 8), y + max(height // 3, 8)),
    )
    batch = load_batch([record], CLASSES, settings, augmentations=[change])
    usual = load_batch([record], CLASSES, settings)
    assert (batch.image_sizes <= usual.image_sizes).all()  # no step takes longer
    bright = batch.images[0, 0] >= 128
    if not len(batch.targets[0].boxes):
        assert not bright.any()
        return
    rows, columns = bright.any(dim=1).nonzero(), bright.any(dim=0).nonzero()
    box = batch.targets[0].boxes[0].numpy()
    if len(rows) == 0:  # less than a pixel
        assert (box[2:] - box[:2]).min() < 1.5
        return
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    pixel = max(2.0, *(batch.image_sizes[0] / batch.original_sizes[0] * 2).tolist())  # of the original, where enlarged
    np.testing.assert_allclose(box, seen, atol=pixel)


@given(change=changes, scaled=st.floats(0.5, 2))
def test_an_object_that_is_mostly_outside_is_ignored_and_one_that_is_not_seen_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, change: Augmentation, scaled: float
) -> None:
    boxes = [(0, 0, 40, 30), (130, 90, 160, 120), (60, 40, 110, 80), (0, 100, 20, 120)]
    record = bright_in(tmp_path_factory.mktemp("images") / "a.png", (120, 160), *boxes)
    _, view = read_augmented(record, SHORTER, change)
    _, visible = to_view(record.boxes, view)
    target = load_batch([record], CLASSES, SHORTER, augmentations=[change]).targets[0]
    assert target.ignore.tolist() == [bool(part < MIN_VISIBLE) for part in visible if part > 0]
    assert len(target.boxes) == len(target.labels) == int((visible > 0).sum())


@pytest.mark.parametrize("settings", [SHORTER, FIT, POINT])
def test_no_augmentation_changes_nothing(shared: Path, settings: Resizing) -> None:
    """A training image has the same pixels, to the bit, as one that is predicted on."""
    photo = next((shared / "datasets" / "grocery" / "positive").glob("*.jpg"))
    pixels, view = read_augmented(make_record(photo, []), settings, Augmentation())
    expected = prepare_images([photo], settings)
    np.testing.assert_array_equal(
        pixels.transpose(2, 0, 1), expected.images[0][:, : pixels.shape[0], : pixels.shape[1]]
    )
    np.testing.assert_array_equal(view.window_size, expected.original_sizes[0])


def test_a_mirror_image_is_exact(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    plain, _ = read_augmented(make_record(tmp_path / "a.png", []), FIT, Augmentation())
    mirrored, view = read_augmented(make_record(tmp_path / "a.png", []), FIT, Augmentation(flip=True))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    boxes = np.array([[0, 5, 10, 15], [45, 5, 50, 15], [20, 1, 30, 2]], np.float32)
    expected = 3 * np.array([[40, 5, 50, 15], [0, 5, 5, 15], [20, 1, 30, 2]])
    np.testing.assert_allclose(to_view(boxes, view)[0], expected, atol=1e-4)


def test_half_of_a_box() -> None:
    view = View(window=(50, 0, 150, 100), size=(200, 200), flip=False)
    moved, visible = to_view(np.array([[40, 10, 60, 20], [0, 0, 10, 10], [100, 50, 150, 100]], np.float32), view)
    np.testing.assert_allclose(visible, [0.5, 0, 1])
    np.testing.assert_allclose(moved[[0, 2]], [[0, 20, 20, 40], [100, 100, 200, 200]])


@given(st.integers(0, 2**32 - 1), st.floats(1, 3), st.floats(0, 0.9))
def test_the_seed_decides_and_no_factor_is_beyond_its_limit(
    seed: int, scale_jitter: float, color_jitter: float
) -> None:
    one, same = (
        random_augmentation(np.random.default_rng(seed), scale_jitter=scale_jitter, color_jitter=color_jitter)
        for _ in range(2)
    )
    assert one == same
    assert 1 / scale_jitter - 1e-9 <= one.scale <= scale_jitter + 1e-9
    for factor in (one.brightness, one.contrast, one.saturation):
        assert 1 - color_jitter - 1e-9 <= factor <= 1 + color_jitter + 1e-9


def test_without_jitter_only_the_mirror_is_left() -> None:
    change = random_augmentation(np.random.default_rng(0), flip=True)
    assert change == Augmentation(flip=True, position=change.position)


def test_scales_are_as_often_smaller_as_larger_and_colors_change() -> None:
    drawn = [random_augmentation(np.random.default_rng(seed), scale_jitter=2, color_jitter=0.5) for seed in range(2000)]
    assert {round(change.scale, 3) for change in drawn} == {0.5, 0.595, 0.707, 0.841, 1, 1.189, 1.414, 1.682, 2}
    assert 0.4 < np.mean([change.scale < 1 for change in drawn]) < 0.5
    assert np.std([change.brightness for change in drawn]) == pytest.approx(0.5 / 3**0.5, rel=0.1)


def test_colors_change_but_not_the_type(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30, 3), (100, 150, 50), np.uint8)).save(tmp_path / "a.png")
    pixels, _ = read_augmented(make_record(tmp_path / "a.png", []), FIT, Augmentation(brightness=1.2))
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[0, 0], [120, 180, 60], atol=1)
    gray, _ = read_augmented(make_record(tmp_path / "a.png", []), FIT, Augmentation(saturation=0.0))
    assert np.ptp(gray[0, 0]) == 0
    floats, _ = read_augmented(make_record(tmp_path / "a.png", []), POINT, Augmentation(contrast=0.5))
    assert floats.dtype == np.float32
