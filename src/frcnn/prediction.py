"""Detecting in images: files, folders, or images at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from frcnn.data.ahead import read_ahead
from frcnn.data.images import IMAGE_SUFFIXES, cropped, image_size, is_huge, is_large, read_image, to_rgb
from frcnn.data.transforms import frames_of
from frcnn.detectors import Detector, open_detector
from frcnn.types import Frames, Prediction

if TYPE_CHECKING:
    from frcnn.ops.tiles import Window

T = TypeVar("T")
R = TypeVar("R")

_READERS = min(4, os.cpu_count() or 1)
"""Threads that read and resize."""

_STRIP = 10
"""A photo is one if it is more times as long as wide."""

ImageLike = str | Path | Image.Image | np.ndarray


def predict(
    model: Detector | str | Path,
    images: ImageLike | Sequence[ImageLike],
    *,
    min_score: float = 0.5,
    tile: int | None = None,
    overlap: float = 0.2,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[Prediction]:
    """Detect objects.

    Args:
        model: a detector, a RUN, or a file that `frcnn export` wrote.
        images: a file, a folder (all its images), a Pillow image, an array (H, W, 3) uint8 RGB, or several.
        min_score: detections under it are left out.
        tile: images larger than so many pixels are predicted by tiles of this side, as well as whole (but strips), and
            what was found is merged; so small objects of large photos are found. None: never.
        overlap: least share of a tile, 0..0.9, that neighbours have in common.
        on_image: called with the images done and their total.

    Returns:
        A prediction for each image, in order; boxes in pixels of the original image.

    Raises:
        FileNotFoundError, ValueError: no such file, no image in the folder, not an image, one that is too large to be
            predicted whole, or a tile or overlap that leads nowhere.
    """
    detector, listed = open_detector(model), list_images(images)
    predictions: list[Prediction] = []
    for prediction in predict_each(detector, listed, min_score=min_score, tile=tile, overlap=overlap):
        predictions.append(prediction)
        on_image(len(predictions), len(listed))
    return predictions


def predict_each(
    detector: Detector, images: Sequence[ImageLike], *, min_score: float, tile: int | None, overlap: float
) -> Iterator[Prediction]:
    """`predict`, one by one, as they come. Images are read and resized ahead; those of equal frames may go through the
    detector at once, which gives what each gives alone. Few images are held at any time.

    Args:
        images: no folders.
    """

    def prepare(item: tuple[Path | Image.Image, _Piece]) -> tuple[_Piece, Frames]:
        image, piece = item
        if isinstance(image, Image.Image) and piece.window != piece.whole:
            image = cropped(image, piece.window)
        return piece, frames_of([image], detector.image_settings)

    def detect(batch: Sequence[tuple[_Piece, Frames]]) -> list[tuple[_Piece, Prediction]]:
        pieces, inputs = zip(*batch, strict=True)
        frames = Frames(*map(np.concatenate, zip(*inputs, strict=True)))
        return list(zip(pieces, detector.detect(frames, [piece.name for piece in pieces]), strict=True))

    size, calls = detector.at_once
    prepared = read_ahead(prepare, _pieces(images, tile, overlap), workers=_READERS)
    batches = _batched_by_frame(prepared, size)
    alone = calls == 1 or (len(images) == 1 and tile is None)
    found = map(detect, batches) if alone else _side_by_side(detect, batches, calls)
    parts: list[tuple[_Piece, Prediction]] = []
    for piece, prediction in chain.from_iterable(found):
        parts.append((piece, at_least(prediction, min_score)))
        if piece.last:
            yield parts[0][1] if len(parts) == 1 else _merged(parts)
            parts = []


class _Piece(NamedTuple):
    """What the detector sees as one image: a photo, or a window of one."""

    name: str
    window: Window
    whole: Window
    """The photo."""
    last: bool
    """Of its photo."""


def _pieces(
    images: Iterable[ImageLike], tile: int | None, overlap: float
) -> Iterator[tuple[Path | Image.Image, _Piece]]:
    """What to detect, each with its whole photo, or the file of one that is not cut."""
    for image_like in images:
        name = str(image_like) if isinstance(image_like, str | Path) else "image"
        image = image_or_file(image_like)
        height, width = size = _size(image)
        whole = (0, 0, width, height)
        windows = [whole] if tile is None else _windows(size, tile, overlap)
        if isinstance(image, Path) and is_huge(size) and tile is None:
            raise ValueError(
                f"{name}: {width} x {height} pixels are more than are read without being asked; predict it by tiles: "
                "--tile 1024 (in Python: tile=1024)"
            )
        if isinstance(image, Path) and tile is not None and (is_large(size) or len(windows) > 1):
            image = read_image(image, any_size=True)  # once for all its windows
        for window in windows:
            yield image, _Piece(name, window, whole, last=window is windows[-1])


def _size(image: Path | Image.Image) -> tuple[int, int]:
    """(height, width)."""
    if isinstance(image, Path):
        return image_size(image, any_size=True)
    image.load()  # here, since two threads must not load the same image
    return image.height, image.width


def _windows(size: tuple[int, int], tile: int, overlap: float) -> list[Window]:
    """Tiles, and the whole photo for objects that are larger than what these have in common; but not a strip, of which
    resizing leaves a thread."""
    from frcnn.ops.tiles import cut_into_windows

    windows = cut_into_windows(size, tile, overlap)
    if len(windows) == 1 or max(size) > _STRIP * min(size):
        return windows
    return [*windows, (0, 0, size[1], size[0])]


def _batched_by_frame(
    prepared: Iterator[tuple[_Piece, Frames]], size: int
) -> Iterator[Sequence[tuple[_Piece, Frames]]]:
    """Runs of at most `size` whose frames have the same shape, so that none is padded more than it would be alone."""
    batch: list[tuple[_Piece, Frames]] = []
    try:
        for item in prepared:
            if batch and item[1].images.shape != batch[0][1].images.shape:
                yield batch
                batch = []
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:  # of an image that cannot be read; those before it can
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _side_by_side(detect: Callable[[T], R], batches: Iterator[T], calls: int) -> Iterator[R]:
    """`calls` threads, each of which computes by itself, since many layers do not share well: an image took 40 ms on
    two cores that share every layer, and 63 ms on one (EfficientNet-Lite0, 480 x 640)."""
    import torch

    threads = torch.get_num_threads()

    def detect_alone(batch: T) -> R:
        torch.set_num_threads(max(1, threads // calls))  # of this thread, and of those that begin later
        return detect(batch)

    try:
        yield from read_ahead(detect_alone, batches, workers=calls)
    finally:
        torch.set_num_threads(threads)


def _merged(parts: Sequence[tuple[_Piece, Prediction]]) -> Prediction:
    """What was found in the windows of one photo, each object once."""
    import torch

    from frcnn.ops.tiles import Found, merge

    pieces, predictions = zip(*parts, strict=True)
    names = [name for prediction in predictions for name in prediction.names]
    classes = sorted(set(names))
    counts = [len(prediction.names) for prediction in predictions]
    windows = np.repeat(np.array([piece.window for piece in pieces], np.float32), counts, axis=0)
    boxes = np.concatenate([prediction.boxes for prediction in predictions]) + windows[:, [0, 1, 0, 1]]
    scores = np.concatenate([prediction.scores for prediction in predictions])
    labels = np.array([classes.index(name) for name in names], np.int64)
    width, height = pieces[0].whole[2:]
    merged = merge(Found(*map(torch.from_numpy, (boxes, scores, labels, windows))), (height, width))
    return Prediction(
        pieces[0].name,
        merged.boxes.numpy(),
        merged.scores.numpy(),
        tuple(classes[label] for label in merged.labels.tolist()),
    )


def at_least(prediction: Prediction, min_score: float) -> Prediction:
    """The detections with this score or more."""
    count = int((prediction.scores >= min_score).sum())  # scores fall
    return Prediction(prediction.image, prediction.boxes[:count], prediction.scores[:count], prediction.names[:count])


def to_json(predictions: Iterable[Prediction]) -> str:
    """For programs: a list of images, each with its detections; boxes are x1, y1, x2, y2, pixels."""
    plain = [
        {
            "image": prediction.image,
            "detections": [
                {"class": name, "score": round(float(score), 6), "box": [round(float(v), 3) for v in box]}
                for box, score, name in zip(prediction.boxes, prediction.scores, prediction.names, strict=True)
            ],
        }
        for prediction in predictions
    ]
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def image_or_file(image: ImageLike) -> Image.Image | Path:
    """Whatever stands for an image, as a Pillow image or the path of a file, which need not be read whole."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image: an array must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
        return Image.fromarray(image)
    return Path(image)


def list_images(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """One or several, with a folder's images in its place.

    Raises:
        ValueError: no image in a folder.
    """
    listed: list[ImageLike] = []
    for image in [images] if isinstance(images, ImageLike) else images:
        if isinstance(image, str | Path) and Path(image).is_dir():
            files = sorted(file for file in Path(image).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not files:
                raise ValueError(f"{image}: no image in this folder")
            listed += files
        else:
            listed.append(image)
    return listed
