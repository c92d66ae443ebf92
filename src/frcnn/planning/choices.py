"""The choices of a plan: each function looks at the fingerprint and chooses settings that belong together."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from frcnn.config import Config
from frcnn.messages import plural
from frcnn.planning.fingerprint import QUANTILES, Fingerprint, Quantiles


class Choice(NamedTuple):
    """Settings that belong together, and why they have these values."""

    settings: dict[str, Any]
    """By dotted name."""
    because: str


SMALL = 32.0
"""Pixels at the input that the size of most objects should reach: two cells of a feature map of stride 16."""
LARGEST_INPUT = 1024
"""Longer side, pixels. The time of a step grows with the area."""


def input_size(found: Fingerprint, config: Config) -> Choice | None:
    """The size to which images are scaled, so that three quarters of the objects reach `SMALL`.

    An image is not enlarged beyond twice its size. Where that is not needed, the default stays.
    """
    image = config.detector.image
    if image.resize != "shorter_side":
        return None
    wanted = SMALL / at(found.relative_size, 0.25)
    longer = min(wanted, LARGEST_INPUT, 2 * at(found.longer_side, 0.5))
    if longer <= image.longer_side:
        return None
    longer = _round_up(longer, 32)
    shorter = _round_up(longer * image.shorter_side / image.longer_side, 32)
    names = "detector.image.shorter_side", "detector.image.longer_side"
    because = f"a quarter of the objects are smaller than {at(found.relative_size, 0.25):.1%} of their image"
    return Choice(dict(zip(names, (shorter, longer), strict=True)), because)


def mirror(found: Fingerprint) -> Choice:
    """Whether training also sees mirror images."""
    if not found.mirrored_classes:
        return Choice({"train.flip": True}, "no class depends on left and right")
    names = ", ".join(found.mirrored_classes[:4]) + (", ..." if len(found.mirrored_classes) > 4 else "")
    return Choice({"train.flip": False}, f"a mirror image would turn some classes into others: {names}")


def min_proposal_size(found: Fingerprint, config: Config) -> Choice:
    """The least side of a proposal: half of the shortest side of nearly all objects, at most the default.

    The paper's code drops proposals of less than 16 pixels, which are whole objects in photos from the air.
    """
    default = config.detector.test_proposals.min_size
    shortest = at(found.shortest_side, 0.05)
    size = min(default, math.floor(shortest / 2))
    names = ("detector.train_proposals.min_size", "detector.test_proposals.min_size")
    return Choice(
        dict.fromkeys(names, float(size)), f"the shorter side of 95 % of the objects is {shortest:g} pixels or more"
    )


def max_detections(found: Fingerprint, config: Config) -> Choice:
    """Twice as many detections per image as the fullest training image has objects, at least the default."""
    most = int(found.objects_per_image[-1])
    count = max(config.detector.results.max_detections, _round_up(2 * most, 50))
    return Choice({"detector.results.max_detections": count}, f"an image has up to {plural(most, 'object')}")


def proposals(found: Fingerprint, config: Config) -> Choice:
    """Four proposals for each object of the fullest image, at least the default."""
    most = int(found.objects_per_image[-1])
    count = max(config.detector.test_proposals.post_nms_top_n, _round_up(4 * most, 100))
    before = max(config.detector.test_proposals.pre_nms_top_n, 4 * count)
    names = "detector.test_proposals.post_nms_top_n", "detector.test_proposals.pre_nms_top_n"
    return Choice(dict(zip(names, (count, before), strict=True)), f"an image has up to {plural(most, 'object')}")


def roi_samples(found: Fingerprint, config: Config) -> Choice:
    """So many RoIs per image that the foreground part has two for each object of a full image."""
    roi = config.train.roi
    many = at(found.objects_per_image, 0.95)
    count = min(512, max(roi.sample_size, _round_up(2 * many / roi.positive_fraction, 128)))
    return Choice({"train.roi.sample_size": count}, f"5 % of the images have {plural(round(many), 'object')} or more")


def at(quantiles: Quantiles, fraction: float) -> float:
    """The value at one of `QUANTILES`."""
    return quantiles[QUANTILES.index(fraction)]


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
