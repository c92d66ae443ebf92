"""Batches for training and evaluation, read ahead by threads.

Threads are enough: Pillow decodes and resizes without holding Python's lock, and threads share the records. The order
and the flips follow from (seed, epoch) alone, so the number of threads changes nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from frcnn import processes
from frcnn.config import Config, ImageSettings
from frcnn.data.ahead import read_ahead
from frcnn.data.images import image_size
from frcnn.data.transforms import frames_of, input_size
from frcnn.ops.boxes import flip as flip_boxes
from frcnn.ops.boxes import rescale
from frcnn.ops.sampling import generator_of
from frcnn.types import Batch, Record, Target

T = TypeVar("T")


def load_batch(
    records: Sequence[Record],
    classes: Sequence[str],
    settings: ImageSettings,
    *,
    flip: bool = False,
    proposals: Sequence[np.ndarray] | None = None,
) -> Batch:
    """Read, resize and frame these images, with their boxes in input pixels.

    Args:
        flip: mirror them left to right, boxes too.
        proposals: those of each image, (K, 4) pixels of the original image.
    """
    arrays = frames_of([record.image for record in records], settings, flip=flip)
    pixels, image_sizes, original_sizes = map(torch.from_numpy, arrays)

    def to_input(boxes: np.ndarray, index: int) -> Tensor:
        size, original = image_sizes[index], original_sizes[index]
        resized = rescale(torch.from_numpy(boxes)[None], original[None], size[None])[0]
        return flip_boxes(resized, float(size[1])) if flip else resized

    targets = [
        Target(
            to_input(record.boxes, index),
            torch.tensor([1 + classes.index(name) for name in record.names], dtype=torch.int64),
            torch.from_numpy(record.difficult),
        )
        for index, record in enumerate(records)
    ]
    kept = None if proposals is None else [to_input(boxes, index) for index, boxes in enumerate(proposals)]
    return Batch(pixels, image_sizes, original_sizes, targets, [str(record.image) for record in records], kept)


def batch_to(batch: Batch, device: torch.device) -> Batch:
    """All tensors on a device."""
    images, image_sizes, original_sizes, targets, names, proposals = batch
    return Batch(
        images.to(device),
        image_sizes.to(device),
        original_sizes.to(device),
        [Target(*(value.to(device) for value in target)) for target in targets],
        names,
        None if proposals is None else [boxes.to(device) for boxes in proposals],
    )


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """A random order of `count` records, the same for the same seed and epoch."""
    order: list[int] = torch.randperm(count, generator=generator_of(seed, epoch)).tolist()
    return order


class Share(NamedTuple):
    """Images that one process takes at once, and what their mean loss counts for in the step."""

    indices: Sequence[int]
    weight: float


def shares_of_steps(
    order: Sequence[int], *, images_per_step: int, batch_size: int, rank: int = 0, count: int = 1
) -> Iterator[list[Share]]:
    """How an epoch's images are shared out: for each step, the batches of one process.

    Weights are such that the sum over all processes is the mean over the step's images: it does not matter who takes
    which. A process for which the last step has no image takes its first one with weight 0, since all must take part.
    """
    for chunk in batched(order, images_per_step):
        mine = chunk[rank::count]
        shares = [Share(indices, len(indices) / len(chunk)) for indices in batched(mine, batch_size)]
        yield shares or [Share(chunk[:1], 0.0)]


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Runs of `size` items, in order; the last one may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batched_by_frame(records: Sequence[Record], size: int, settings: ImageSettings) -> Iterator[range]:
    """The places of at most `size` records in a row, whose images fill frames of the same size.

    A frame larger than its image changes the features near the border a little (layers see the padding), so a batch
    gives what its images give alone only if no image is padded more than it would be alone.
    """

    def frame_size(place: int) -> tuple[int, int] | None:
        return None if settings.resize == "fit" else input_size(image_size(records[place].image), settings)

    for _, equal in groupby(range(len(records)), key=frame_size):
        places = list(equal)
        for first in range(places[0], places[-1] + 1, size):
            yield range(first, min(first + size, places[-1] + 1))


def own_batches(records: Sequence[Record], classes: Sequence[str], config: Config) -> Iterator[tuple[range, Batch]]:
    """This process's share of the images, in batches of equal frames (see `batched_by_frame`), and the places of
    each batch's images among the records."""
    settings = config.detector.image
    mine = list(batched_by_frame(records, config.train.batch_size, settings))[processes.rank() :: processes.count()]

    def load(places: range) -> Batch:
        return load_batch([records[place] for place in places], classes, settings)

    yield from zip(mine, read_ahead(load, iter(mine), workers=config.data.workers), strict=True)
