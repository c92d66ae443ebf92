"""Detecting in images, one by one and in order; few images are held at any time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from threading import RLock
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from frcnn.data.images import cropped, is_huge, is_large, read_image
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Window
from frcnn.data.tiles import OVERLAP, cut_into_windows
from frcnn.data.transforms import PaddedBatch, batches_by_shape, prepare_images
from frcnn.inference.inputs import ImageLike, InputImage, open_input
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Runtime
from frcnn.inference.tiling import WindowDetections, merge_windows

T = TypeVar("T")
R = TypeVar("R")

_READERS = min(4, os.cpu_count() or 1)
"""Threads that read and resize."""

_STRIP = 10
"""An image is a strip if it is more times as long as wide."""

_OF_IMAGE = (OSError, ValueError)
"""Errors that concern one image; others are raised at once."""


def predict_each(
    runtime: Runtime,
    images: Iterable[ImageLike],
    *,
    threshold: float,
    tile: int | None = None,
    overlap: float = OVERLAP,
    channels: str = "rgb",
    allow_urls: bool = False,
    on_error: Callable[[Exception], None] | None = None,
) -> Iterator[Detections]:
    """Detect in images, as they come. Threads read and resize the next images meanwhile. Consecutive images with inputs
    of one size share a batch, if that is faster; each gets what it would get alone.

    Args:
        images: no folders.
        on_error: called with the error of an image that cannot be predicted; the image is left out. None: the error is
            raised.

    The other arguments and the errors are those of `Detector.predict`.
    """

    def read(piece: _Piece) -> tuple[_Piece, PaddedBatch | Exception]:
        try:
            return piece, prepare_images([piece.read()], runtime.resizing)
        except _OF_IMAGE as error:
            return piece, error

    def detect(batch: Sequence[tuple[_Piece, PaddedBatch | Exception]]) -> list[tuple[_Piece, Detections | Exception]]:
        pieces, inputs = zip(*batch, strict=True)
        if isinstance(inputs[0], Exception):  # so are all in the batch
            return list(zip(pieces, inputs, strict=True))
        try:
            detections = runtime.detect(PaddedBatch(*map(np.concatenate, zip(*inputs, strict=True)))).detections
        except _OF_IMAGE as error:  # e.g. an input that is too small for the layers, as all in the batch are
            return [(piece, _naming(piece, error)) for piece in pieces]
        return list(zip(pieces, (each[each.confidence >= threshold] for each in detections), strict=True))

    def open_(image: ImageLike) -> InputImage:
        return open_input(image, channels=channels, allow_urls=allow_urls)

    inputs = prefetch(read, _pieces(images, open_, _Tiling.of(runtime, tile, overlap)), workers=_READERS)
    batches = batches_by_shape(inputs, lambda item: _shape(item[1]), runtime.batch_size)
    parts: list[tuple[_Piece, Detections]] = []
    failed: Exception | None = None
    for piece, result in chain.from_iterable(in_parallel(detect, batches, runtime.parallel_calls)):
        if isinstance(result, Exception):
            failed = failed or result
        else:
            parts.append((piece, result))
        if not piece.last:
            continue
        if failed is None:
            yield _of_image(piece, parts)
        elif on_error is None:
            raise failed
        else:
            on_error(failed)
        parts, failed = [], None


def in_parallel(function: Callable[[T], R], items: Iterator[T], calls: int) -> Iterator[R]:
    """`map(function, items)`, in order, with `calls` calls at a time if there are several items. If PyTorch is in use,
    each of them computes with its part of PyTorch's threads."""
    first: list[T] = []
    try:
        first.extend(islice(items, 2 if calls > 1 else 0))
    except Exception:
        yield from map(function, first)
        raise
    items = chain(first, items)
    if len(first) < 2:
        yield from map(function, items)
        return
    torch = sys.modules.get("torch")  # most exported files do not need it
    if torch is None:
        yield from prefetch(function, items, workers=calls)
        return
    threads = _threads_of_call(torch.get_num_threads(), calls, +1)

    def call(item: T) -> R:
        torch.set_num_threads(threads)  # of this thread, and of those that start later
        return function(item)

    try:
        yield from prefetch(call, items, workers=calls)
    finally:
        _threads_of_call(torch.get_num_threads(), calls, -1)


_PARALLEL = {"predictions": 0, "threads": 0}
"""How many `in_parallel` run now, and the number of threads before the first of them."""
_PARALLEL_LOCK = RLock()
"""Reentrant, because the garbage collector may end an abandoned `in_parallel` while its thread holds the lock."""


def _threads_of_call(threads: int, calls: int, change: int) -> int:
    """Count an `in_parallel` that begins (+1) or ends (-1). Returns the threads of each of its calls. The last one to
    end restores PyTorch's number of threads: predictions of several threads of a program overlap."""
    import torch

    with _PARALLEL_LOCK:
        if _PARALLEL["predictions"] == 0:
            _PARALLEL["threads"] = threads
        _PARALLEL["predictions"] += change
        if _PARALLEL["predictions"] == 0:
            torch.set_num_threads(_PARALLEL["threads"])
        return max(1, _PARALLEL["threads"] // calls)


class _Piece(NamedTuple):
    """One input of the detector: an image or a window of one."""

    source: InputImage | Exception
    """An image that cannot be opened has an error instead."""
    size: tuple[int, int]
    """(height, width) of the image."""
    window: Window | None
    """None: the whole image."""
    last: bool
    """Whether it is the last piece of its image."""

    def read(self) -> Path | Image.Image:
        if isinstance(self.source, Exception):
            raise self.source
        image = self.source.image
        return cropped(image, self.window) if isinstance(image, Image.Image) and self.window else image


class _Tiling(NamedTuple):
    """How images are cut."""

    tile: int
    """0: they are not."""
    overlap: float
    whole: bool
    """Whether an image is also predicted as a whole, which shows objects that are larger than the overlap."""

    @classmethod
    def of(cls, runtime: Runtime, tile: int | None, overlap: float) -> _Tiling:
        """As the caller asks for; None: as the detector was trained, which then has not seen whole images."""
        tiling = cls(runtime.resizing.tile, overlap, False) if tile is None else cls(tile, overlap, True)
        if tiling.tile:
            cut_into_windows((1, 1), tiling.tile, overlap)  # an error of these concerns all images
        return tiling


def _pieces(images: Iterable[ImageLike], open_: Callable[[ImageLike], InputImage], tiling: _Tiling) -> Iterator[_Piece]:
    """The pieces of each image."""
    for image in images:
        try:
            pieces = _cut(open_(image), tiling)
        except _OF_IMAGE as error:
            pieces = [_Piece(error, (0, 0), None, last=True)]
        yield from pieces


def _cut(source: InputImage, tiling: _Tiling) -> list[_Piece]:
    """The tiles of the image if it is larger than one, and the image as a whole."""
    height, width = size = source.size()
    if not tiling.tile:
        if isinstance(source.image, Path) and is_huge(size):
            raise ValueError(
                f"{source.path}: {width} x {height} pixels are more than frcnn reads at once; predict it in tiles "
                f"(tile=1024, --tile 1024)"
            )
        return [_Piece(source, size, None, last=True)]
    windows = cut_into_windows(size, tiling.tile, tiling.overlap)
    if isinstance(source.image, Path) and (is_large(size) or len(windows) > 1):
        opened = source._replace(image=read_image(source.image, any_size=True))  # decoded once for all its windows
    else:
        opened = source
    if len(windows) == 1:
        return [_Piece(opened, size, None, last=True)]
    pieces = [_Piece(opened, size, window, last=False) for window in windows]
    if tiling.whole and max(size) <= _STRIP * min(size):  # a strip would be resized to a few pixels
        pieces.append(_Piece(opened, size, None, last=False))
    return [*pieces[:-1], pieces[-1]._replace(last=True)]


def _naming(piece: _Piece, error: Exception) -> Exception:
    """An error of the detector, which does not know the file of an image."""
    path = piece.source.path if isinstance(piece.source, InputImage) else None
    return ValueError(f"{path}: {error}") if path is not None and isinstance(error, ValueError) else error


def _shape(prepared: PaddedBatch | Exception) -> tuple[int, ...] | None:
    return None if isinstance(prepared, Exception) else prepared.images.shape


def _of_image(piece: _Piece, parts: Sequence[tuple[_Piece, Detections]]) -> Detections:
    """The detections in the pieces of one image, each object once."""
    assert isinstance(piece.source, InputImage)
    detections = parts[0][1] if len(parts) == 1 else _merged(piece.size, parts)
    return replace(detections, path=piece.source.path, size=piece.size, image=piece.source.kept)


def _merged(size: tuple[int, int], parts: Sequence[tuple[_Piece, Detections]]) -> Detections:
    height, width = size
    pieces, detections = zip(*parts, strict=True)
    own = np.array([piece.window or (0, 0, width, height) for piece in pieces], np.float32)
    windows = np.repeat(own, list(map(len, detections)), axis=0)
    boxes = np.concatenate([each.xyxy for each in detections]) + windows[:, [0, 1, 0, 1]]
    scores = np.concatenate([each.confidence for each in detections])
    labels = np.concatenate([each.class_id for each in detections])
    merged = merge_windows(WindowDetections(boxes, scores, labels, windows), size)
    return Detections(merged.boxes, merged.scores, merged.labels, detections[0].classes)
