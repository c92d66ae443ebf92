"""Batches: boxes follow their images, and threads change nothing."""

import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image
from tiny import write_tiny

from frcnn.config import DataSettings
from frcnn.data.augment import Augmentation
from frcnn.data.dataset import open_dataset
from frcnn.data.loader import batched, epoch_order, load_batch
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Record
from frcnn.resizing import Resizing
from frcnn.types import Batch

CLASSES = ("cat", "dog")
FLIPPED = Augmentation(flip=True)
SHORTER = Resizing(resize="shorter_side", shorter_side=120, longer_side=200)
SMALL = Resizing(resize="shorter_side", shorter_side=60, longer_side=90)


def record(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], name: str = "dog") -> Record:
    """A black image, white in the box."""
    x1, y1, x2, y2 = box
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[y1:y2, x1:x2] = 255
    Image.fromarray(pixels).save(path)
    return Record(path, np.array([box], np.float32), (name,), np.array([False]))


@given(
    size=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    flip=st.booleans(),
    settings=st.sampled_from((SHORTER, Resizing(resize="fit", width=150, height=100))),
)
def test_a_bright_rectangle_stays_in_its_box(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    corner: tuple[float, float],
    flip: bool,
    settings: Resizing,
) -> None:
    height, width = size
    x, y = int(corner[0] * width), int(corner[1] * height)
    box = (x, y, x + max(width // 3, 8), y + max(height // 3, 8))
    image = record(tmp_path_factory.mktemp("images") / "a.png", size, box)
    batch = load_batch([image], CLASSES, settings, augmentations=[Augmentation(flip=flip)])
    bright = batch.images[0, 0] >= 128
    rows, columns = bright.any(dim=1).nonzero(), bright.any(dim=0).nonzero()
    seen = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    torch.testing.assert_close(batch.targets[0].boxes[0], seen, atol=1.01, rtol=0)
    # Mirroring is exact: the flipped box has the same distance to the other border.
    plain = load_batch([image], CLASSES, settings).targets[0].boxes[0]
    if flip:
        torch.testing.assert_close(batch.targets[0].boxes[0, [2, 0]], batch.image_sizes[0, 1] - plain[[0, 2]])
        torch.testing.assert_close(batch.targets[0].boxes[0, [1, 3]], plain[[1, 3]])


def test_boxes_follow_a_photo_that_is_decoded_at_reduced_size(tmp_path: Path) -> None:
    """To the bit as they follow one that is read whole."""
    reduced, whole = (
        load_batch([record(tmp_path / name, (480, 640), (80, 160, 400, 400))], CLASSES, SMALL, augmentations=[FLIPPED])
        for name in ("a.jpg", "a.png")
    )
    torch.testing.assert_close(reduced.original_sizes, torch.tensor([[480.0, 640]]))
    torch.testing.assert_close(reduced.targets[0].boxes, torch.tensor([[30.0, 20, 70, 50]]), rtol=0, atol=0)
    torch.testing.assert_close(reduced.targets, whole.targets, rtol=0, atol=0)
    torch.testing.assert_close(reduced.images.float(), whole.images.float(), rtol=0, atol=16)


def test_a_batch_says_what_is_in_each_image(tmp_path: Path) -> None:
    one = record(tmp_path / "one.png", (60, 120), (10, 10, 40, 50), "dog")
    none = record(tmp_path / "none.png", (240, 120), (0, 0, 1, 1))._replace(
        boxes=np.zeros((0, 4), np.float32), class_names=(), ignore=np.zeros(0, bool)
    )
    batch = load_batch([one, none], CLASSES, SHORTER)
    assert batch.image_names == [str(one.image), str(none.image)]
    torch.testing.assert_close(batch.original_sizes, torch.tensor([[60.0, 120], [240, 120]]))
    torch.testing.assert_close(batch.image_sizes, torch.tensor([[100.0, 200], [200, 100]]))
    assert batch.images.shape == (2, 3, 200, 200)
    assert batch.targets[0].labels.tolist() == [2]
    assert batch.targets[1].boxes.shape == (0, 4)
    assert batch.targets[1].labels.shape == batch.targets[1].ignore.shape == (0,)


def test_any_number_of_workers_gives_the_same_batches_in_the_same_order(tmp_path: Path) -> None:
    dataset = open_dataset(write_tiny(tmp_path / "data"), DataSettings())

    def batches(workers: int) -> list[Batch]:
        def make(records: list[Record]) -> Batch:
            return load_batch(records, dataset.classes, SHORTER)

        return list(prefetch(make, batched(dataset.train, 2), workers=workers))  # type: ignore[arg-type]

    expected = batches(0)
    assert [len(batch.images) for batch in expected] == [2, 2, 1]
    for workers in (1, 3):
        found = batches(workers)
        assert [batch.image_names for batch in found] == [batch.image_names for batch in expected]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.images, other.images, rtol=0, atol=0)
            for a, b in zip(one.targets, other.targets, strict=True):
                torch.testing.assert_close(tuple(a), tuple(b), rtol=0, atol=0)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_read_ahead_is_map(workers: int) -> None:
    assert list(prefetch(lambda x: x * x, iter(range(20)), workers=workers)) == [x * x for x in range(20)]
    assert list(prefetch(lambda x: x, iter([]), workers=workers)) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_in_a_worker_reaches_the_caller(workers: int) -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("image 2 is damaged")
        return number

    results = prefetch(make, iter(range(5)), workers=workers)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="image 2 is damaged"):
        next(results)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_of_the_items_comes_after_what_was_made_of_those_before(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("image 3 is damaged")

    results = prefetch(lambda x: x, prefetch(lambda x: x, items(), workers=workers), workers=workers)
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="image 3 is damaged"):
        next(results)


@pytest.mark.parametrize("workers", [1, 3])
def test_it_reads_only_a_few_items_ahead_and_stops_when_the_caller_does(workers: int) -> None:
    taken = []
    before = set(threading.enumerate())

    def items() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    results = prefetch(lambda x: x, items(), workers=workers)
    assert list(islice(results, 3)) == [0, 1, 2]
    assert len(taken) <= 3 + 2 * workers
    results.close()  # type: ignore[attr-defined]
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


@given(st.integers(0, 50), st.integers(0, 10), st.integers(0, 10))
def test_epoch_order_is_a_permutation_that_follows_from_seed_and_epoch(number: int, seed: int, epoch: int) -> None:
    order = epoch_order(number, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(number))
    assert epoch_order(number, seed=seed, epoch=epoch) == order


def test_another_epoch_or_seed_is_another_order() -> None:
    orders = [epoch_order(20, seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_the_last_batch_may_be_shorter() -> None:
    assert list(batched([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]


def test_an_abandoned_iterator_does_not_wait_for_its_threads() -> None:
    """The garbage collector may close it in a thread that holds a lock of `threading`."""
    release = threading.Event()

    def make(number: int) -> int:
        if number:
            release.wait(30)
        return number

    results = prefetch(make, iter(range(4)), workers=1)
    assert next(results) == 0
    closing = threading.Thread(target=results.close, daemon=True)  # type: ignore[attr-defined]
    closing.start()
    closing.join(10)
    is_closed = not closing.is_alive()
    release.set()
    assert is_closed
