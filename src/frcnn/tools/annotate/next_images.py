"""Which images to label next: those that differ most from the labeled ones, and among them those of which the detector
is least sure.

Differences are measured in the features of the detector's own backbone, and images are picked one by one, each time the
one farthest from all that are labeled or picked (the greedy k-center rule of Sener & Savarese 2018, Core-Set). The
detector is unsure of an image if many of its detections have a confidence near 0.5 (the sum of Brust et al. 2019, with
the confidence in place of the margin between two classes).

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

CANDIDATES = 3
"""So many times the wanted number are picked by their difference; of these, the unsure ones stay."""
_LEAST_CONFIDENCE = 0.05


class Seen(NamedTuple):
    """What a detector says of an image, in numbers."""

    features: np.ndarray
    """(F,)."""
    doubt: float
    """How unsure the detector is; 0 or more."""


def look_at(detector: Detector, image: Path) -> Seen:
    """
    Raises:
        ValueError, OSError: an exported file, whose features nobody can see; an image that cannot be read.
    """
    features = image_features(detector.model, image)
    return Seen(features, doubt(detector.predict(image, threshold=_LEAST_CONFIDENCE).confidence))


@torch.inference_mode()
def image_features(model: FasterRCNN, image: Path) -> np.ndarray:
    """(F,): the mean of the coarsest feature map over the image."""
    images, sizes, _ = (torch.from_numpy(part) for part in prepare_images([image], model.settings.detector.resizing))
    device = next(model.parameters()).device
    *_, coarsest = model.backbone(model.normalize(images.to(device), sizes.to(device)))
    mean: np.ndarray = coarsest.float().mean(dim=(0, 2, 3)).cpu().numpy()
    return mean


def doubt(confidence: np.ndarray) -> float:
    """0 for detections that are surely right or surely wrong; each with a confidence of 0.5 adds 1."""
    return float(np.square(1 - np.abs(2 * confidence - 1)).sum())


def choose_next(new: Sequence[Seen], labeled: Sequence[np.ndarray], count: int) -> list[int]:
    """Indices of the images to label next, the one of most doubt first.

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
    picked = farthest_first(directions[len(labeled) :], directions[: len(labeled)], CANDIDATES * count)
    return sorted(picked, key=lambda index: -new[index].doubt)[:count]


def farthest_first(features: np.ndarray, labeled: np.ndarray, count: int) -> list[int]:
    """Indices of images, each the one farthest from all that are labeled or picked before it.

    Args:
        features: (N, F).
        labeled: (L, F); without any, the first one is that nearest to the mean.
        count: at most so many.
    """
    nearest = np.full(len(features), np.inf)  # the distance to what is labeled or picked
    for each in labeled:
        nearest = np.minimum(nearest, np.linalg.norm(features - each, axis=1))
    picked: list[int] = []
    while len(picked) < min(count, len(features)):
        first = not picked and not len(labeled)
        central = np.linalg.norm(features - features.mean(axis=0), axis=1)
        index = int(central.argmin() if first else nearest.argmax())
        picked.append(index)
        nearest = np.minimum(nearest, np.linalg.norm(features - features[index], axis=1))
        nearest[picked] = -1
    return picked
