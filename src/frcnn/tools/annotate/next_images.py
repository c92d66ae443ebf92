"""Which images to label next: those that differ most from the labeled ones, and among them those of which the detector
is least certain.

Distances are measured in the features of the detector's own backbone. Images are picked one by one, each time the one
farthest from all that are labeled or picked (the greedy k-center rule of Sener & Savarese 2018, Core-Set). The
uncertainty of an image is a sum over its detections, in which those with a confidence of 0.5 count most (the sum of
Brust et al. 2019, with the confidence in place of the margin between two classes).

Letters: N images to choose from, L labeled images, F features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from frcnn.data.transforms import prepare_images
from frcnn.detector import Detector
from frcnn.nn.faster_rcnn import FasterRCNN

CANDIDATE_FACTOR = 3
"""`CANDIDATE_FACTOR * count` images are picked by distance; of these, the `count` most uncertain are returned."""
_LEAST_CONFIDENCE = 0.05


class ImageSummary(NamedTuple):
    """What a detector says of an image, in numbers."""

    features: np.ndarray
    """(F,)."""
    uncertainty: float
    """0 or more, see `uncertainty`."""


def summarize(detector: Detector, image: Path) -> ImageSummary:
    """The features and the uncertainty of an image.

    Raises:
        ValueError: the detector is an exported file, which does not give its features; or the image is too small.
        OSError: the image cannot be read.
    """
    features = image_features(detector.model, image)
    return ImageSummary(features, uncertainty(detector.predict(image, threshold=_LEAST_CONFIDENCE).confidence))


@torch.inference_mode()
def image_features(model: FasterRCNN, image: Path) -> np.ndarray:
    """(F,): the mean of the coarsest feature map over the image."""
    images, sizes, _ = (torch.from_numpy(part) for part in prepare_images([image], model.settings.detector.resizing))
    device = next(model.parameters()).device
    *_, coarsest = model.backbone(model.normalize(images.to(device), sizes.to(device)))
    mean: np.ndarray = coarsest.float().mean(dim=(0, 2, 3)).cpu().numpy()
    return mean


def uncertainty(confidence: np.ndarray) -> float:
    """A sum over detections: one with a confidence of 0.5 adds 1, one with 0 or 1 adds nothing."""
    return float(np.square(1 - np.abs(2 * confidence - 1)).sum())


def choose_next(new: Sequence[ImageSummary], labeled: Sequence[np.ndarray], count: int) -> list[int]:
    """Indices of the images to label next, the most uncertain first.

    Args:
        new: the N images to choose from.
        labeled: (F,) features of each of the L labeled images.
        count: the number of images that are wanted.
    """
    if not new:
        return []
    both = np.stack([*labeled, *(each.features for each in new)])
    directions = both - both.mean(axis=0)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    picked = farthest_first(directions[len(labeled) :], directions[: len(labeled)], CANDIDATE_FACTOR * count)
    return sorted(picked, key=lambda index: -new[index].uncertainty)[:count]


def farthest_first(features: np.ndarray, labeled: np.ndarray, count: int) -> list[int]:
    """Indices of images, each the one farthest from all that are labeled or picked before it.

    Args:
        features: (N, F).
        labeled: (L, F); without any, the first one is that nearest to the mean.
        count: largest number of indices.
    """

    def distances(point: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.linalg.norm(features - point, axis=1)
        return found

    nearest = np.full(len(features), np.inf)  # the distance to what is labeled or picked
    for each in labeled:
        nearest = np.minimum(nearest, distances(each))
    picked: list[int] = []
    while len(picked) < min(count, len(features)):
        is_first = not picked and not len(labeled)
        index = int(distances(features.mean(axis=0)).argmin() if is_first else nearest.argmax())
        picked.append(index)
        nearest = np.minimum(nearest, distances(features[index]))
        nearest[picked] = -1
    return picked
