"""The cache of decoded images: the same pixels, each decoded once, never more than there is room for."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frcnn import memory
from frcnn.data import image_cache
from frcnn.data.image_cache import ImageCache
from frcnn.data.images import read_to_resize
from frcnn.data.records import Window
from frcnn.resizing import Resizing

SMALL = Resizing("shorter_side", shorter_side=30, longer_side=40)
BYTES = 3 * 200 * 150  # of a photo, decoded at half its size


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded."""
    names: list[str] = []

    def noted(path: Path, resizing: Resizing, window: Window | None) -> tuple[Image.Image, tuple[int, int]]:
        names.append(path.name)
        return read_to_resize(path, resizing, window)

    monkeypatch.setattr(image_cache, "read_to_resize", noted)
    return names


@pytest.mark.parametrize("on_disk", [False, True])
def test_each_image_is_decoded_once_and_is_the_same(
    photos: list[Path], tmp_path: Path, decoded: list[str], on_disk: bool
) -> None:
    folder = tmp_path / "run" / ".cache" if on_disk else None
    cache = ImageCache(10**9, folder)
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda path: cache.read(path, SMALL), photos))
        for (image, size), path in zip(found, photos, strict=True):
            expected, original = read_to_resize(path, SMALL)
            np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
            assert size == original == (300, 400)
    assert sorted(decoded) == sorted(path.name for path in photos)
    if folder is not None:
        assert len(list(folder.iterdir())) == 4
    cache.close()
    assert folder is None or not folder.exists()


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_cache_stays_within_its_limit(
    photos: list[Path], tmp_path: Path, decoded: list[str], on_disk: bool
) -> None:
    cache = ImageCache(2 * BYTES + 1, tmp_path / "cache" if on_disk else None)
    for _ in range(2):
        for path in photos:
            cache.read(path, SMALL)
    assert decoded == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "2.jpg", "3.jpg"]


def test_a_full_disk_stops_caching_but_not_reading(
    photos: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(10**9, tmp_path / "cache")
    cache.read(photos[0], SMALL)

    def full(file: Path, pixels: np.ndarray) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache.np, "save", full)
    for path in (*photos, *photos):
        image, _ = cache.read(path, SMALL)
        assert image.size == (200, 150)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["0.npy"]
    assert decoded.count("0.jpg") == 1
    assert decoded.count("3.jpg") == 2


def test_files_of_a_killed_run_are_removed(photos: list[Path], tmp_path: Path) -> None:
    ImageCache(10**9, tmp_path / "cache").read(photos[0], SMALL)
    ImageCache(10**9, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_errors_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    cache = ImageCache(10**9)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.jpg"):
            cache.read(tmp_path / "a.jpg", SMALL)


def test_limits_are_parts_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**28 < image_cache.memory_limit() < 2**45
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text("4000000\n")
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", (tmp_path / "max", tmp_path / "limit", tmp_path / "none"))
    assert image_cache.memory_limit() == 1000000
    assert image_cache.disk_limit(tmp_path) > 0
