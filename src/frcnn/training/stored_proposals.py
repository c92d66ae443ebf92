"""Stored proposals: in alternating training, the RPN of one phase makes the proposals that the next phase trains on.

A .npy file of shape (N, K, 4), float32: for each of N images, K boxes in pixels of the original image, best first. Rows
of NaN fill the places of missing boxes. The file is memory-mapped, so the data set may be large.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.lib.format import open_memmap, read_array_header_1_0, read_magic, write_array_header_1_0

from frcnn import distributed
from frcnn.data.loader import batch_to, sharded_batches
from frcnn.data.records import Record
from frcnn.evaluation.metrics import first_match, recall_at
from frcnn.fast.optimize import optimize
from frcnn.files import atomic_write, write_all
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.ops.boxes import rescale


def proposals_file(run_dir: Path, phase: str) -> Path:
    """Where the proposals are stored that a phase trains on."""
    return run_dir / f"proposals-{phase.replace(' ', '-')}.npy"


def remove_proposals(run_dir: Path) -> None:
    """Remove the stored proposals of all phases (main process only)."""
    if distributed.is_main_process():
        for file in run_dir.glob("proposals-*.npy"):
            file.unlink(missing_ok=True)


def store_proposals(
    model: FasterRCNN, records: Sequence[Record], path: Path, *, batch_size: int = 1, workers: int = 1
) -> dict[int, float]:
    """Write the RPN's proposals for all images to a file, atomically: `train_proposals.post_nms_top_n` per image.

    Each process computes the proposals of some images. All of them must see the folder of `path`.

    Args:
        batch_size: images that go through the model at once, in each process.
        workers: threads that read images; 0: none.

    Returns:
        n -> recall: the fraction of the objects that the best n proposals overlap with an IoU of at least 0.5, for n =
        50, 100, 300.
    """
    count = model.settings.detector.train_proposals.post_nms_top_n
    with atomic_write(path) if distributed.is_main_process() else nullcontext() as partial_file:
        shared: Path = distributed.broadcast_object(partial_file)  # type: ignore[assignment]
        if distributed.is_main_process():
            with shared.open("wb") as file:
                write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": (len(records), count, 4)}
                )
        distributed.barrier()  # the header is written
        # Written, not memory-mapped: a full disk is an error then, not a signal, and machines do not share pages.
        with shared.open("rb+", buffering=0) as file:
            matches = distributed.gather(_write_rows(model, records, file, batch_size, workers))
            os.fsync(file.fileno())
    distributed.barrier()  # the file has its final name
    return recall_at([match for own in matches for match in own])


def open_proposals(path: Path) -> np.ndarray:
    """Stored proposals, (N, K, 4) float32, memory-mapped.

    Raises:
        FileNotFoundError: the file is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the stored proposals are missing, so this run cannot resume; train into another run directory"
        )
    return open_memmap(path, mode="r")


def without_fillers(boxes: np.ndarray) -> np.ndarray:
    """The proposals of one image without the rows of NaN, read into memory."""
    return np.array(boxes[~np.isnan(boxes[:, 0])])


@torch.no_grad()
def _write_rows(
    model: FasterRCNN, records: Sequence[Record], file: BinaryIO, batch_size: int, workers: int
) -> list[int]:
    """Write the rows of this process's images.

    Returns:
        For each object of these images, the index of the first proposal that overlaps it (see `first_match`).
    """
    model = optimize(model).eval()
    device = next(model.parameters()).device
    settings = model.settings.detector
    matches: list[int] = []
    read_magic(file)
    read_array_header_1_0(file)
    start = file.tell()
    for own, batch in sharded_batches(
        records, model.classes, settings.resizing, batch_size=batch_size, workers=workers
    ):
        images, sizes, originals, *_ = batch_to(batch, device)
        _, (boxes, _, valid) = model.run_rpn(images, sizes, originals, settings.train_proposals)
        original = rescale(boxes, sizes, originals).masked_fill(~valid[..., None], torch.nan).cpu().numpy()
        rows = np.full((len(own), settings.train_proposals.post_nms_top_n, 4), np.nan, "<f4")
        rows[:, : original.shape[1]] = original
        file.seek(start + own.start * rows[0].nbytes)
        write_all(file, rows.tobytes())
        for index, proposals in zip(own, original, strict=True):
            matches += first_match(without_fillers(proposals), records[index])
    return matches
