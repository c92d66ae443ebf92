"""Detecting in images: files, folders, or images at hand."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frcnn.data.images import IMAGE_SUFFIXES, read_image, to_rgb
from frcnn.data.loader import read_ahead
from frcnn.data.transforms import Frames, frame, resize
from frcnn.nn.checkpoint import load
from frcnn.nn.detector import FasterRCNN, RawOutput
from frcnn.ops.boxes import clip, rescale
from frcnn.ops.coding import decode
from frcnn.types import Prediction

ImageLike = str | Path | Image.Image | np.ndarray


def predict(
    model: FasterRCNN | str | Path,
    images: ImageLike | Sequence[ImageLike],
    *,
    min_score: float = 0.5,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> list[Prediction]:
    """Detect objects.

    Args:
        model: a detector, or a RUN.
        images: a file, a folder (all its images), a Pillow image, an array (H, W, 3) uint8 RGB, or several.
        min_score: detections under it are left out.
        on_image: called with the images done and their total.

    Returns:
        A prediction for each image, in order; boxes in pixels of the original image.

    Raises:
        FileNotFoundError, ValueError: no such file, no image in the folder, or not an image.
    """
    detector = model if isinstance(model, FasterRCNN) else load(model)
    listed = list(_listed([images] if isinstance(images, ImageLike) else images))
    settings = detector.config.detector.image

    def prepare(image: ImageLike) -> tuple[str, Frames]:
        picture = _open(image)
        name = str(image) if isinstance(image, str | Path) else "image"
        return name, frame([resize(picture, settings)], [(picture.height, picture.width)], settings)

    predictions = []
    prepared = read_ahead(prepare, iter(listed), workers=detector.config.data.workers)
    with torch.no_grad():
        for name, inputs in prepared:
            detections = detector(*_on_device(detector, inputs))
            (prediction,) = detector.to_predictions(detections, [name])
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


class Evaluator:
    """The tutorial's evaluator: RoIs and class probabilities of one image, before NMS.

    Args:
        model: a detector, or a RUN.
    """

    def __init__(self, model: FasterRCNN | str | Path) -> None:
        self.detector = model if isinstance(model, FasterRCNN) else load(model)

    @torch.no_grad()
    def __call__(self, image: ImageLike) -> RawOutput:
        """The three raw outputs by the tutorial's names, `rpn_rois` (1, K, 4) in input pixels, `cls_pred`
        (1, K, 1 + C) and `bbox_regr` (1, K, 1 + C, 4), and `valid` (1, K)."""
        return self.detector.raw(*_on_device(self.detector, self._inputs(_open(image))))

    @torch.no_grad()
    def process_image(self, image: ImageLike) -> tuple[np.ndarray, np.ndarray]:
        """Regressed RoIs and class probabilities.

        Returns:
            boxes: (N, 4), pixels of the original image; each RoI regressed for its most probable class (as it
                is where that is the background).
            probabilities: (N, 1 + C); column 0 is the background.
        """
        detector = self.detector
        inputs = _on_device(detector, self._inputs(_open(image)))
        raw = detector.raw(*inputs)
        best = raw.cls_pred.argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 4)
        deltas = raw.bbox_regr.gather(2, best)[:, :, 0]
        boxes = decode(deltas, raw.rpn_rois, mean=detector.delta_mean, std=detector.delta_std)
        boxes = torch.where(best[:, :, 0] == 0, raw.rpn_rois, boxes)
        boxes = rescale(clip(boxes, inputs.image_sizes), inputs.image_sizes, inputs.original_sizes)
        valid = raw.valid[0]
        return boxes[0][valid].cpu().numpy(), raw.cls_pred[0][valid].cpu().numpy()

    def unregressed(self, image: ImageLike) -> np.ndarray:
        """The RoIs as the RPN proposes them: (N, 4), pixels of the original image, in `process_image`'s order."""
        inputs = self._inputs(_open(image))
        raw = self(image)
        boxes = rescale(raw.rpn_rois.cpu(), inputs.image_sizes, inputs.original_sizes)
        return boxes[0][raw.valid[0].cpu()].numpy()

    def _inputs(self, image: Image.Image) -> Frames:
        settings = self.detector.config.detector.image
        return frame([resize(image, settings)], [(image.height, image.width)], settings)


def _on_device(detector: FasterRCNN, inputs: Frames) -> Frames:
    device = detector.mean.device
    return Frames(*(tensor.to(device) for tensor in inputs))


def _open(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image: an array must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
        return Image.fromarray(image)
    return read_image(Path(image))


def _listed(images: Iterable[ImageLike]) -> Iterator[ImageLike]:
    for image in images:
        if isinstance(image, str | Path) and Path(image).is_dir():
            files = sorted(file for file in Path(image).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not files:
                raise ValueError(f"{image}: no image in this folder")
            yield from files
        else:
            yield image
