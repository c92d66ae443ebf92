"""Proposals that are made once and kept: what alternating training hands from the RPN to the RoI head.

A file of one array, (N, K, 4) float32: the proposals of each of N images in pixels of the original image, best first;
where an image has fewer than K, the rest is NaN. It is mapped into memory, not read, so the set may be large.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.lib.format import open_memmap, read_array_header_1_0, read_magic, write_array_header_1_0

from frcnn import processes
from frcnn.data.loader import batch_to, own_batches
from frcnn.files import whole_file, write_all
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.boxes import iou, rescale
from frcnn.ops.matching import first_match, recall
from frcnn.ops.selection import select_proposals
from frcnn.types import Record


def keep_proposals(detector: FasterRCNN, records: Sequence[Record], path: Path) -> dict[int, float]:
    """Write the RPN's proposals for all images, as many as in training, to a file, whole or not at all.

    Several processes share the images out; `path` must be in a folder that they all see.

    Returns:
        The recall of the ground truth by the best 50, 100 and 300.
    """
    count = detector.config.detector.train_proposals.post_nms_top_n
    with whole_file(path) if processes.is_first() else nullcontext() as partial_file:
        shared: Path = processes.from_first(partial_file)  # type: ignore[assignment]
        if processes.is_first():
            with shared.open("wb") as file:
                write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": (len(records), count, 4)}
                )
        processes.gather(None)  # the file is there
        # Written, not mapped: a full disk is an error then, not a signal, and machines do not share pages.
        with shared.open("rb+", buffering=0) as file:
            places = processes.gather(_fill(detector, records, file, count))
            os.fsync(file.fileno())
    processes.gather(None)  # and in its place
    return recall([place for some in places for place in some])


def open_proposals(path: Path) -> np.ndarray:
    """Those of each image, (N, K, 4).

    Raises:
        FileNotFoundError: they are gone.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the kept proposals are gone, so this training cannot go on; begin again in another folder"
        )
    return open_memmap(path, mode="r")


def without_fillers(boxes: np.ndarray) -> np.ndarray:
    """The proposals that count, read into memory."""
    return np.array(boxes[~np.isnan(boxes[:, 0])])


@torch.no_grad()
def _fill(detector: FasterRCNN, records: Sequence[Record], file: BinaryIO, count: int) -> list[int]:
    """Fill this process's rows; for each of their objects, the place of the first proposal that finds it."""
    detector.eval()
    device = next(detector.parameters()).device
    config = detector.config
    places: list[int] = []
    read_magic(file)
    read_array_header_1_0(file)
    start = file.tell()
    for own, batch in own_batches(records, detector.classes, config):
        images, sizes, originals, targets, _, _ = batch_to(batch, device)
        features = detector.backbone(detector.normalize(images, sizes))
        rpn = detector.rpn(features, (images.shape[-2], images.shape[-1]))
        boxes, _, valid = select_proposals(rpn, sizes, originals, **config.detector.train_proposals.model_dump())
        kept = rescale(boxes, sizes, originals).masked_fill(~valid[..., None], torch.nan).cpu().numpy()
        rows = np.full((len(own), count, 4), np.nan, "<f4")
        rows[:, : kept.shape[1]] = kept
        file.seek(start + own.start * rows[0].nbytes)
        write_all(file, rows.tobytes())
        for found, counts, target in zip(boxes, valid, targets, strict=True):
            places += first_match(iou(found[counts], target.boxes[~target.difficult])).tolist()
    return places
