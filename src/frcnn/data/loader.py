"""Batches for training, validation losses and stored proposals, prefetched by threads.

Threads suffice: Pillow decodes and resizes without Python's global lock, and threads share the records. The order and
the augmentations depend only on (seed, epoch, image), so the number of threads changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from frcnn import distributed
from frcnn.data.augment import Augmentation, View, read_augmented, to_view
from frcnn.data.image_cache import ImageReader
from frcnn.data.images import read_to_resize
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Record
from frcnn.data.tiles import MIN_VISIBLE, size_of
from frcnn.data.transforms import batches_by_shape, frame
from frcnn.resizing import Resizing, input_size
from frcnn.seeds import generator_of
from frcnn.types import Batch, Target

T = TypeVar("T")


def load_batch(
    records: Sequence[Record],
    classes: Sequence[str],
    settings: Resizing,
    *,
    augmentations: Sequence[Augmentation] | None = None,
    proposals: Sequence[np.ndarray] | None = None,
    read: ImageReader = read_to_resize,
) -> Batch:
    """Read, resize and frame these images, with their boxes in input pixels.

    Args:
        augmentations: one for each image; None: no augmentation.
        proposals: of each image, (K, 4), pixels of the original image.
        read: how an image file is read.
    """
    augmentations = [Augmentation()] * len(records) if augmentations is None else augmentations
    pixels, views = zip(
        *(
            read_augmented(record, settings, change, read)
            for record, change in zip(records, augmentations, strict=True)
        ),
        strict=True,
    )
    arrays = frame(pixels, [view.window_size for view in views], settings)
    images, image_sizes, original_sizes = map(torch.from_numpy, arrays)
    label_of = {name: label for label, name in enumerate(classes, start=1)}
    targets = [_target(record, view, label_of) for record, view in zip(records, views, strict=True)]
    kept = None
    if proposals is not None:
        kept = [_visible_boxes(boxes, view) for boxes, view in zip(proposals, views, strict=True)]
    return Batch(images, image_sizes, original_sizes, targets, [str(record.image) for record in records], kept)


def _target(record: Record, view: View, label_of: dict[str, int]) -> Target:
    """The objects of which a part is visible. Those with less than `MIN_VISIBLE` of their area visible are ignored."""
    boxes, visible = to_view(record.boxes, view)
    labels = [
        label_of.get(name, -1) if ignore else label_of[name]
        for name, ignore in zip(record.class_names, record.ignore, strict=True)
    ]
    seen = visible > 0
    return Target(
        torch.from_numpy(boxes[seen]),
        torch.tensor(labels, dtype=torch.int64)[torch.from_numpy(seen)],
        torch.from_numpy((record.ignore | (visible < MIN_VISIBLE))[seen]),
    )


def _visible_boxes(boxes: np.ndarray, view: View) -> Tensor:
    moved, visible = to_view(boxes, view)
    return torch.from_numpy(moved[visible > 0])


def batch_to(batch: Batch, device: torch.device) -> Batch:
    """The batch with all tensors on a device."""
    moved: Batch = tree_map_only(Tensor, lambda tensor: tensor.to(device), batch)
    return moved


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """A random order of `count` records, the same for the same seed and epoch."""
    order: list[int] = torch.randperm(count, generator=generator_of(seed, epoch)).tolist()
    return order


class MicroBatchPlan(NamedTuple):
    """Images that one process computes at once, and the weight of their mean loss in the step."""

    indices: Sequence[int]
    weight: float


class MicroBatch(NamedTuple):
    """Images that go through the model at once; a step may have several micro-batches."""

    batch: Batch
    weight: float
    """Weight of its mean loss in the loss of the step."""
    seeds: list[tuple[int, ...]]
    """Seed numbers of each image's random samples."""


def plan_micro_batches(
    order: Sequence[int], *, images_per_step: int, batch_size: int, rank: int = 0, count: int = 1
) -> Iterator[list[MicroBatchPlan]]:
    """The micro-batches of one process, for each step of an epoch.

    The sum of the weighted losses over all processes is the mean over the images of the step, whichever process has
    which image. If the last step has no image for a process, the process computes the first one with weight 0, because
    all processes must take part.
    """
    for chunk in batched(order, images_per_step):
        mine = chunk[rank::count]
        plans = [MicroBatchPlan(indices, len(indices) / len(chunk)) for indices in batched(mine, batch_size)]
        yield plans or [MicroBatchPlan(chunk[:1], 0.0)]


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in groups of `size`, in order; the last group may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batched_by_frame(records: Sequence[Record], size: int, settings: Resizing) -> Iterator[range]:
    """The indices of at most `size` records in a row whose frames have the same size (see `batches_by_shape`)."""

    def frame_size(index: int) -> tuple[int, int] | None:
        return None if settings.resize == "fit" else input_size(size_of(records[index]), settings)

    for batch in batches_by_shape(range(len(records)), frame_size, size):
        yield range(batch[0], batch[-1] + 1)


def sharded_batches(
    records: Sequence[Record], classes: Sequence[str], settings: Resizing, *, batch_size: int = 1, workers: int = 1
) -> Iterator[tuple[range, Batch]]:
    """The batches of this process, with equal frames (see `batched_by_frame`), and the indices of their records."""
    mine = list(batched_by_frame(records, batch_size, settings))[distributed.rank() :: distributed.world_size()]

    def load(indices: range) -> Batch:
        return load_batch([records[index] for index in indices], classes, settings)

    yield from zip(mine, prefetch(load, iter(mine), workers=workers), strict=True)
