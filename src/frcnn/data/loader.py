"""Batches for training and evaluation, read ahead by threads.

Threads are enough: Pillow decodes and resizes without holding Python's lock, and threads share the records. The order
and the flips follow from (seed, epoch) alone, so the number of threads changes nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from typing import TypeVar

import torch

from frcnn.config import ImageSettings
from frcnn.data.images import image_size, read_image
from frcnn.data.transforms import frame, input_size, resize
from frcnn.ops.boxes import flip as flip_boxes
from frcnn.ops.boxes import rescale
from frcnn.types import Batch, Record, Target

T = TypeVar("T")
R = TypeVar("R")


def load_batch(
    records: Sequence[Record], classes: Sequence[str], settings: ImageSettings, *, flip: bool = False
) -> Batch:
    """Read, resize and frame these images, with their boxes in input pixels."""
    images = [read_image(record.image) for record in records]
    originals = [(image.height, image.width) for image in images]
    frames = frame([resize(image, settings, flip=flip) for image in images], originals, settings)
    targets = []
    for record, size, original in zip(records, frames.image_sizes, frames.original_sizes, strict=True):
        boxes = rescale(torch.from_numpy(record.boxes)[None], original[None], size[None])[0]
        boxes = flip_boxes(boxes, float(size[1])) if flip else boxes
        labels = torch.tensor([1 + classes.index(name) for name in record.names], dtype=torch.int64)
        targets.append(Target(boxes, labels, torch.from_numpy(record.difficult)))
    return Batch(*frames, targets, [str(record.image) for record in records])


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """A random order of `count` records, the same for the same seed and epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Runs of `size` items, in order; the last one may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batched_by_frame(records: Sequence[Record], size: int, settings: ImageSettings) -> Iterator[Sequence[Record]]:
    """Runs of at most `size` records, in order, whose images fill frames of the same size.

    A frame larger than its image changes the features near the border a little (layers see the padding), so a batch
    gives what its images give alone only if no image is padded more than it would be alone.
    """

    def frame_size(record: Record) -> tuple[int, int] | None:
        return None if settings.resize == "fit" else input_size(image_size(record.image), settings)

    for _, equal in groupby(records, key=frame_size):
        yield from batched(list(equal), size)


def read_ahead(make: Callable[[T], R], items: Iterator[T], *, workers: int) -> Iterator[R]:
    """`map(make, items)`, in order, with `workers` threads a few items ahead; 0 works in the caller's thread."""
    if workers == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting: deque[Future[R]] = deque(pool.submit(make, item) for item in islice(items, 2 * workers))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(make, item) for item in islice(items, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
