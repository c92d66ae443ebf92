"""Detecting in images: files, folders, or images at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from frcnn.data.ahead import read_ahead
from frcnn.data.images import IMAGE_SUFFIXES, to_rgb
from frcnn.data.transforms import frames_of
from frcnn.detectors import Detector, open_detector
from frcnn.types import Frames, Prediction

ImageLike = str | Path | Image.Image | np.ndarray


def predict(
    model: Detector | str | Path,
    images: ImageLike | Sequence[ImageLike],
    *,
    min_score: float = 0.5,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[Prediction]:
    """Detect objects.

    Args:
        model: a detector, a RUN, or a file that `frcnn export` wrote.
        images: a file, a folder (all its images), a Pillow image, an array (H, W, 3) uint8 RGB, or several.
        min_score: detections under it are left out.
        on_image: called with the images done and their total.

    Returns:
        A prediction for each image, in order; boxes in pixels of the original image.

    Raises:
        FileNotFoundError, ValueError: no such file, no image in the folder, or not an image.
    """
    detector = open_detector(model)
    listed = list(_listed([images] if isinstance(images, ImageLike) else images))

    def prepare(image: ImageLike) -> tuple[str, Frames]:
        name = str(image) if isinstance(image, str | Path) else "image"
        return name, frames_of([image_or_file(image)], detector.image_settings)

    predictions = []
    for name, inputs in read_ahead(prepare, iter(listed), workers=1):
        (prediction,) = detector.detect(inputs, [name])
        predictions.append(at_least(prediction, min_score))
        on_image(len(predictions), len(listed))
    return predictions


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


def _listed(images: Iterable[ImageLike]) -> Iterator[ImageLike]:
    for image in images:
        if isinstance(image, str | Path) and Path(image).is_dir():
            files = sorted(file for file in Path(image).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not files:
                raise ValueError(f"{image}: no image in this folder")
            yield from files
        else:
            yield image
