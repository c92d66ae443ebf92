"""Batches for training, validation losses and stored proposals, prefetched by threads.

Threads suffice: Pillow decodes and resizes without Python's global lock, and threads share the records. The order and
the flips depend only on (seed, epoch), so the number of threads changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map_only

from frcnn import distributed
from frcnn.data.images import image_size
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Record
from frcnn.data.transforms import batches_by_shape, prepare_images
from frcnn.ops.boxes import rescale
from frcnn.resizing import Resizing, input_size
from frcnn.seeds import generator_of
from frcnn.types import Batch, Target

T = TypeVar("T")


def load_batch(
    records: Sequence[Record],
    classes: Sequence[str],
    settings: Resizing,
    *,
    flip: bool = False,
    proposals: Sequence[np.ndarray] | None = None,
) -> Batch:
    """Read, resize and frame these images, with their boxes in input pixels.

    Args:
        flip: flip them left to right, boxes too.
        proposals: of each image, (K, 4), pixels of the original image.
    """
    arrays = prepare_images([record.image for record in records], settings, flip=flip)
    pixels, image_sizes, original_sizes = map(torch.from_numpy, arrays)

    def to_input(boxes: np.ndarray, index: int) -> Tensor:
        size, original = image_sizes[index], original_sizes[index]
        resized = rescale(torch.from_numpy(boxes)[None], original[None], size[None])[0]
        return flip_boxes(resized, float(size[1])) if flip else resized

    label_of = {name: label for label, name in enumerate(classes, start=1)}
    targets = [
        Target(
            to_input(record.boxes, index),
            torch.tensor(
                [
                    label_of.get(name, -1) if ignore else label_of[name]
                    for name, ignore in zip(record.class_names, record.ignore, strict=True)
                ],
                dtype=torch.int64,
            ),
            torch.from_numpy(record.ignore),
        )
        for index, record in enumerate(records)
    ]
    kept = None if proposals is None else [to_input(boxes, index) for index, boxes in enumerate(proposals)]
    return Batch(pixels, image_sizes, original_sizes, targets, [str(record.image) for record in records], kept)


def flip_boxes(boxes: Float[Tensor, "*b 4"], width: float) -> Float[Tensor, "*b 4"]:
    """Mirror boxes left to right with their image.

    Args:
        width: of the image, same unit as the boxes.

    Contract: `flip_boxes(flip_boxes(b, w), w) == b`.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x2, y1, width - x1, y2), dim=-1)


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
        return None if settings.resize == "fit" else input_size(image_size(records[index].image), settings)

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
