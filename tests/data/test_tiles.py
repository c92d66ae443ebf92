"""Tiles cover an image, and show its objects."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frcnn.data.image_cache import ImageCache
from frcnn.data.loader import load_batch
from frcnn.data.records import Record, Records, make_record
from frcnn.data.tiles import MIN_TILE, MIN_VISIBLE, clipped, count_hidden_objects, cut_into_windows, in_tiles, size_of
from frcnn.resizing import Resizing

sides = st.integers(1, 700)
tiles = st.integers(MIN_TILE, 300)
overlaps = st.floats(0, 0.9)
TILED = Resizing("shorter_side", shorter_side=64, longer_side=64, tile=64)

# -------------------------------------------------------------------------------------------------------------- windows


@given(sides, sides, tiles, overlaps)
def test_windows_cover_the_photo_and_none_is_larger_than_a_tile(
    height: int, width: int, tile: int, overlap: float
) -> None:
    covered = np.zeros((height, width), bool)
    windows = cut_into_windows((height, width), tile, overlap)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert (x2 - x1, y2 - y1) == (min(tile, width), min(tile, height))
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    assert len(set(windows)) == len(windows)


@given(sides, sides, tiles, overlaps, st.data())
def test_a_box_not_larger_than_the_overlap_lies_whole_in_a_window(
    height: int, width: int, tile: int, overlap: float, data: st.DataObject
) -> None:
    box_width, box_height = (data.draw(st.integers(0, min(side, int(overlap * tile)))) for side in (width, height))
    x, y = data.draw(st.integers(0, width - box_width)), data.draw(st.integers(0, height - box_height))
    assert any(
        x1 <= x and y1 <= y and x + box_width <= x2 and y + box_height <= y2
        for x1, y1, x2, y2 in cut_into_windows((height, width), tile, overlap)
    )


@given(sides, tiles, overlaps)
def test_neighbors_overlap_by_what_was_asked_and_no_tile_is_too_many(length: int, tile: int, overlap: float) -> None:
    windows = cut_into_windows((1, length), tile, overlap)
    assert all(left[2] - right[0] >= overlap * tile for left, right in pairwise(windows))
    step = tile - math.ceil(overlap * tile)
    assert len(windows) == 1 or tile + (len(windows) - 2) * step < length  # as far as one less would reach


def test_a_photo_of_108_megapixels() -> None:
    windows = cut_into_windows((9000, 12000), 1024, 0.2)
    assert len(windows) == 11 * 15
    assert windows[0] == (0, 0, 1024, 1024)
    assert windows[-1] == (12000 - 1024, 9000 - 1024, 12000, 9000)


def test_a_photo_not_larger_than_a_tile_is_one_window() -> None:
    assert cut_into_windows((1024, 700), 1024, 0.2) == [(0, 0, 700, 1024)]
    assert len(cut_into_windows((1024, 1025), 1024, 0.2)) == 2


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (63, 0.2, "tile: 63 pixels must be at least 64"),
        (0, 0.2, "tile: 0 "),
        (-1024, 0.2, "tile: -1024 "),
        (1024, -0.1, r"overlap: -0\.1 must be a fraction of a tile, 0 to 0\.9"),
        (1024, 0.91, r"overlap: 0\.91 "),
        (1024, float("nan"), "overlap: nan "),
    ],
)
def test_a_tile_or_an_overlap_that_leads_nowhere_is_an_error(tile: int, overlap: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_into_windows((10, 10), tile, overlap)


# ---------------------------------------------------------------------------------------------------- tiles to train on


def record_of(*boxes: tuple[float, ...], size: tuple[int, int] = (200, 300), path: Path = Path("a.png")) -> Record:
    """Each object has a class of its own."""
    return make_record(path, [(box, str(number)) for number, box in enumerate(boxes)], size)


@st.composite
def boxes_in(draw: st.DrawFn, size: tuple[int, int]) -> tuple[float, ...]:
    height, width = size
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))


@given(boxes=st.lists(boxes_in((200, 300)), max_size=4))
def test_each_tile_has_the_objects_that_it_shows(boxes: list[tuple[float, ...]]) -> None:
    """Twin: each box with each window."""
    found = in_tiles([record_of(*boxes)], TILED)
    for tile in found:
        assert tile.window is not None
        assert size_of(tile) == (64, 64)
        x, y = tile.window[:2]
        expected = []
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            left, top, right, bottom = max(x1 - x, 0), max(y1 - y, 0), min(x2 - x, 64), min(y2 - y, 64)
            if left < right and top < bottom:
                fraction = (right - left) * (bottom - top) / ((x2 - x1) * (y2 - y1))
                expected.append((str(number), [left, top, right, bottom], fraction < MIN_VISIBLE))
        assert list(zip(tile.class_names, tile.boxes.tolist(), tile.ignore.tolist(), strict=True)) == expected
    taught = {name for tile in found for name in np.array(tile.class_names)[~tile.ignore]}
    small = {str(number) for number, (x1, y1, x2, y2) in enumerate(boxes) if max(x2 - x1, y2 - y1) <= 0.2 * 64}
    assert small <= taught
    assert count_hidden_objects([record_of(*boxes)], TILED) == len(boxes) - len(taught)
    assert count_hidden_objects([record_of(*boxes)], TILED._replace(tile=0)) == 0


def test_tiles_without_objects_are_as_many_as_those_with_objects() -> None:
    found = in_tiles([record_of((10, 10, 20, 20)), record_of(), record_of((0, 0, 300, 200))], TILED)
    counts = dict.fromkeys((True, False), 0)
    for tile in found:
        counts[len(tile.boxes) > 0] += 1
    assert counts == {True: 1, False: 2}  # of the third image, no tile shows half of the object


def test_small_images_and_no_tiles_change_nothing() -> None:
    small = record_of((10, 10, 20, 20), size=(64, 60))
    assert [tile.window for tile in in_tiles([small], TILED)] == [None]
    records = Records.of([record_of((10, 10, 20, 20))])
    assert in_tiles(records, TILED._replace(tile=0)) is records


def test_ignored_objects_stay_ignored() -> None:
    crowd = record_of((10, 10, 20, 20), (30, 30, 40, 40))._replace(ignore=np.array([True, False]))
    assert [tile.ignore.tolist() for tile in in_tiles([crowd], TILED) if len(tile.boxes)] == [[True, False]]


def test_half_of_a_box() -> None:
    inside, visible = clipped(np.array([[40, 10, 60, 20], [0, 0, 10, 10]], np.float32), (50, 0, 150, 100))
    assert visible.tolist() == [0.5, 0]
    assert inside[0].tolist() == [50, 10, 60, 20]


@pytest.mark.parametrize("cached", [False, True])
def test_a_tile_has_the_pixels_of_its_window(tmp_path: Path, cached: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    record = record_of((110, 60, 130, 80), path=tmp_path / "a.png")
    cache, whole = ImageCache(10**9 if cached else 0), False
    for tile in in_tiles([record], TILED):
        x1, y1, x2, y2 = tile.window or ()
        for _ in range(2):
            batch = load_batch([tile], ("0",), TILED, read=cache.read)
            np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), pixels[y1:y2, x1:x2])
        if len(tile.boxes):
            ax, ay, bx, by = map(int, batch.targets[0].boxes[0])
            shown = batch.images[0][:, ay:by, ax:bx].permute(1, 2, 0)
            np.testing.assert_array_equal(shown, pixels[y1 + ay : y1 + by, x1 + ax : x1 + bx])
            whole |= (bx - ax, by - ay) == (20, 20)
    assert whole


def test_records_keep_their_window() -> None:
    records = [record_of(), record_of()._replace(window=(5, 6, 69, 70), size=(64, 64))]
    again = Records.of(records)
    assert [each.window for each in again] == [None, (5, 6, 69, 70)]
    assert again.take([1])[0].window == (5, 6, 69, 70)
