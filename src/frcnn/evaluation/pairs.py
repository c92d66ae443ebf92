"""Detections and objects of all images in a few arrays, and the pairs of them that overlap.

Letters: D detections, G objects, P pairs, all over all images; N of either.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from frcnn.types import Prediction, Record

_CHUNK = 1 << 16  # detections that are compared at once: as fast as all, in a few megabytes


class Boxes(NamedTuple):
    """Of all images and classes."""

    boxes: np.ndarray
    """(N, 4) float32."""
    labels: np.ndarray
    """(N,): which of the classes."""
    groups: np.ndarray
    """(N,): the same for boxes of the same image and class."""

    def take(self, places: np.ndarray) -> "Boxes":
        """Those at these places, in this order."""
        return Boxes(*(values.take(places, axis=0) for values in self))


def arrange(
    predictions: Sequence[Prediction], records: Sequence[Record], classes: Sequence[str]
) -> tuple[Boxes, Boxes, np.ndarray]:
    """The detections, class by class and by falling score (ties: image by image, as they stand there); the objects,
    image by image; and which of these are "difficult", (G,) bool.

    Args:
        predictions, records: of the same images, in the same order.

    Raises:
        ValueError: there are not as many predictions as records.
    """
    if len(predictions) != len(records):
        raise ValueError(f"{len(predictions)} predictions of {len(records)} images; there must be one for each image")
    records = list(records)  # may make each record when it is asked for
    found, objects = _in_arrays(predictions, classes), _in_arrays(records, classes)
    scores = np.concatenate([np.zeros(0, np.float32), *(prediction.scores for prediction in predictions)])
    difficult = np.concatenate([np.zeros(0, bool), *(record.difficult for record in records)])
    return found.take(np.lexsort((-scores, found.labels))), objects, difficult


def overlapping(
    found: Boxes, objects: Boxes, *, at_least: float, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of a detection and an object of its image and class that overlap by `at_least` (> 0) or more.

    Args:
        crowd: (G,) bool, the objects that overlap by the share of the detection that lies in them; others by IoU.

    Returns:
        Of each pair: place of the detection, place of the object, overlap. In no order.
    """
    order = np.argsort(objects.groups, kind="stable")
    groups, starts, counts = np.unique(objects.groups[order], return_index=True, return_counts=True)
    of_group = np.append(groups, -1)  # the last stands for no group
    group = np.searchsorted(groups, found.groups)
    candidates = np.flatnonzero(of_group[group] == found.groups)
    pairs = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for first in range(0, len(candidates), _CHUNK):
        d = candidates[first : first + _CHUNK]
        for number in range(counts[group[d]].max()):  # with the first object of its group, with the second, ...
            d = d[counts[group[d]] > number]
            o = order[starts[group[d]] + number]
            overlap = _overlap(found.boxes[d], objects.boxes[o], crowd[o])
            near = overlap >= at_least
            pairs.append((d[near], o[near], overlap[near]))
    detections, places, overlaps = (np.concatenate(values) for values in zip(*pairs, strict=True))
    return detections, places, overlaps


def _in_arrays(images: Sequence[Prediction] | Sequence[Record], classes: Sequence[str]) -> Boxes:
    index = {name: number for number, name in enumerate(classes)}
    small = np.min_scalar_type(len(classes))  # half of the time to sort that int64 takes
    labels = np.fromiter(map(index.__getitem__, chain.from_iterable(image.names for image in images)), small)
    numbers = np.repeat(np.arange(len(images)), [len(image.names) for image in images])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(image.boxes for image in images)])
    return Boxes(boxes, labels, numbers * len(classes) + labels)


def _overlap(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(P,): of each box with its object. In NumPy and float64, so that evaluation needs no torch and sums of areas are
    exact."""
    # Sides in rows: a third faster than in columns.
    boxes, objects = np.array(boxes.T, np.float64, order="C"), np.array(objects.T, np.float64, order="C")
    intersection = _area(np.maximum(boxes[:2], objects[:2]), np.minimum(boxes[2:], objects[2:]))
    own = _area(boxes[:2], boxes[2:])
    whole = np.where(crowd, own, own + _area(objects[:2], objects[2:]) - intersection)
    return np.divide(intersection, whole, out=np.zeros_like(whole), where=whole > 0)


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    width, height = (high - low).clip(min=0)
    return width * height
