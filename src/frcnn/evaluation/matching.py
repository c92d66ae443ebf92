"""Matching detections to ground truth, by the rules of Pascal VOC and of COCO.

Letters: D detections, O objects (ground truth), P pairs, all over all images; T IoU thresholds; N boxes of either kind;
C classes.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.inference.results import Detections
from frcnn.messages import plural

_CHUNK = 1 << 16  # detections that are compared at once: as fast as all, in a few megabytes
_INSIDE = 0.5
"""A detection of which more than this fraction is inside an ignored object of its class does not count."""


class Boxes(NamedTuple):
    """Boxes of all images and classes."""

    boxes: np.ndarray
    """(N, 4) float32."""
    labels: np.ndarray
    """(N,): index of the class."""
    groups: np.ndarray
    """(N,): the same number for boxes of the same image and class."""

    def take(self, indices: np.ndarray) -> "Boxes":
        """The boxes with these indices, in this order."""
        return Boxes(*(values.take(indices, axis=0) for values in self))


def arrange(
    detections: Sequence[Detections], records: Sequence[Record], classes: Sequence[str]
) -> tuple[Boxes, Boxes, np.ndarray, np.ndarray]:
    """Detections and objects of all images in a few arrays.

    Args:
        detections, records: of the same images, in the same order.

    Returns:
        The detections, sorted by class, then by falling confidence, then by image; the objects, image by image; which
        objects are to be ignored, (O,) bool; and the confidence of each detection, (D,).

    Raises:
        ValueError: the numbers of detections and records differ.
    """
    if len(detections) != len(records):
        counts = f"detections of {plural(len(detections), 'image')} and records of {len(records)}"
        raise ValueError(f"{counts}; there must be one of each for each image")
    records = list(records)  # a sequence may make its records anew each time
    arranged = _in_arrays([(each.xyxy, each.class_name.tolist()) for each in detections], classes)
    objects = _in_arrays([(record.boxes, record.class_names) for record in records], classes)
    scores = np.concatenate([np.zeros(0, np.float32), *(each.confidence for each in detections)])
    ignore = np.concatenate([np.zeros(0, bool), *(record.ignore for record in records)])
    order = np.lexsort((-scores, arranged.labels))
    return arranged.take(order), objects, ignore, scores[order]


def match_voc(
    detections: Boxes, objects: Boxes, ignore: np.ndarray, *, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Match by Pascal VOC's rule.

    A detection belongs to the object of its image and class that it overlaps most. It is a true positive if that IoU
    reaches the threshold and no detection with higher confidence belongs to the object. A detection of an ignored
    object counts neither for nor against.

    Returns:
        true: (D,) bool, true positives.
        counts: (D,) bool, the detections that count.

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes Challenge", section 4.2; VOCdevkit's VOCevaldet.
    """
    d, o, overlap = overlapping(detections, objects, at_least=iou_threshold, crowd=np.zeros_like(ignore))
    most = np.lexsort((o, -overlap, d))  # of equal overlaps the first object
    d, first = np.unique(d[most], return_index=True)
    o = o[most][first]
    true, counts = np.zeros(len(detections.labels), bool), np.ones(len(detections.labels), bool)
    counts[d[ignore[o]]] = False
    true[d[np.unique(o, return_index=True)[1]]] = True  # the detection of each object with the highest confidence
    return true, counts


def match_coco(
    detections: Boxes,
    objects: Boxes,
    crowd: np.ndarray,
    *,
    iou_thresholds: np.ndarray,
    max_detections: int,
    ignore: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match by COCO's rule, at several thresholds.

    By falling confidence, each detection takes the object of its image and class that it overlaps most and that is
    still free. A crowd is never taken: it holds any number of detections, which count neither for nor against, and
    overlap is the fraction of the detection inside the crowd.

    Args:
        iou_thresholds: (T,), rising.
        max_detections: of an image and class; the others are dropped.
        ignore: (O,) bool, objects that count neither for nor against, crowds included; None: the crowds.

    Returns:
        The indices of the detections that are left, and for each threshold and detection of these, (T, D) bool:
        true: it has an object or a crowd.
        ignored: it has an ignored object or a crowd.

    Source:
        Lin et al. 2014, arXiv:1405.0312; pycocotools' COCOeval. Differs from Pascal VOC: a detection takes the best
        free object, not the best of all.
    """
    ignore = crowd if ignore is None else ignore
    rank = _rank_in(detections.groups)
    best = np.flatnonzero(rank < max_detections)
    detections, rank = detections.take(best), rank[best]
    d, o, overlap = overlapping(detections, objects, at_least=iou_thresholds[0], crowd=crowd)
    order = np.lexsort((-o, -overlap, ignore[o], d))  # ignored ones last; of equal ones the last, as COCOeval
    d, o, overlap = d[order], o[order], overlap[order]
    # A round holds one detection of each image and class, each with one candidate: no two pairs of a round share a
    # detection or an object, so a whole round is decided at once.
    rounds = rank[d] * (len(objects.labels) + 1) + _rank_in(d)
    reaches = overlap >= iou_thresholds[:, None]
    true = np.zeros((len(iou_thresholds), len(detections.labels)), bool)
    ignored, free = np.zeros_like(true), np.ones((len(iou_thresholds), len(objects.labels)), bool)
    order = np.argsort(rounds, kind="stable")
    for pairs in np.split(order, np.flatnonzero(np.diff(rounds[order])) + 1):
        mine, theirs = d[pairs], o[pairs]
        takes = reaches[:, pairs] & free[:, theirs] & ~true[:, mine]
        true[:, mine] |= takes
        ignored[:, mine] |= takes & ignore[theirs]
        free[:, theirs] &= ~takes | crowd[theirs]
    return best, true, ignored


def overlapping(
    detections: Boxes, objects: Boxes, *, at_least: float, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of a detection and an object of one group that overlap by `at_least` (> 0) or more.

    Args:
        crowd: (O,) bool. Overlap with these is the fraction of the detection inside the object; with others the IoU.

    Returns:
        Index of the detection, index of the object, and overlap of each pair, (P,) each, in no order.
    """
    order = np.argsort(objects.groups, kind="stable")
    groups, starts, counts = np.unique(objects.groups[order], return_index=True, return_counts=True)
    of_group = np.append(groups, -1)  # the last stands for no group
    group = np.searchsorted(groups, detections.groups)
    candidates = np.flatnonzero(of_group[group] == detections.groups)
    pairs = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for first in range(0, len(candidates), _CHUNK):
        d = candidates[first : first + _CHUNK]
        for number in range(counts[group[d]].max()):  # with the first object of its group, with the second, ...
            d = d[counts[group[d]] > number]
            o = order[starts[group[d]] + number]
            overlap = _overlap(detections.boxes[d], objects.boxes[o], crowd[o])
            near = overlap >= at_least
            pairs.append((d[near], o[near], overlap[near]))
    d, o, overlap = (np.concatenate(values) for values in zip(*pairs, strict=True))
    return d, o, overlap


def iou_matrix(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) float64: IoU of every box with every other box."""
    rows, columns = np.repeat(boxes, len(others), axis=0), np.tile(others, (len(boxes), 1))
    return _overlap(rows, columns, np.zeros(len(rows), bool)).reshape(len(boxes), len(others))


def overlap_matrix(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """(N, M) float64: the fraction of every box that is inside every region."""
    rows, columns = np.repeat(boxes, len(regions), axis=0), np.tile(regions, (len(boxes), 1))
    return _overlap(rows, columns, np.ones(len(rows), bool)).reshape(len(boxes), len(regions))


def inside_ignored(detections: Detections, record: Record) -> np.ndarray:
    """(D,) bool: which detections of an image are inside an ignored object of their class, by more than half of their
    area. An ignored object may be a region with many objects, e.g. a crowd of COCO."""
    names = np.array(record.class_names, dtype=str)[record.ignore]
    inside = overlap_matrix(detections.xyxy, record.boxes[record.ignore]) > _INSIDE
    same: np.ndarray = detections.class_name[:, None] == names[None]
    return (inside & same).any(axis=1)


def _in_arrays(images: Sequence[tuple[np.ndarray, Sequence[str]]], classes: Sequence[str]) -> Boxes:
    """Boxes and class names of each image."""
    index = {name: number for number, name in enumerate(classes)}
    small = np.min_scalar_type(len(classes))  # half of the time to sort that int64 takes
    labels = np.fromiter(map(index.__getitem__, chain.from_iterable(names for _, names in images)), small)
    numbers = np.repeat(np.arange(len(images)), [len(names) for _, names in images])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(own for own, _ in images)])
    return Boxes(boxes, labels, numbers * len(classes) + labels)


def _rank_in(groups: np.ndarray) -> np.ndarray:
    """For each element, how many of its group stand before it."""
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    ranks = np.empty(len(groups), int)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return ranks


def _overlap(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(P,): of each box with its object. In float64, so that sums of areas are exact."""
    # Sides in rows: a third faster than in columns.
    boxes, objects = np.array(boxes.T, np.float64, order="C"), np.array(objects.T, np.float64, order="C")
    intersection = _area(np.maximum(boxes[:2], objects[:2]), np.minimum(boxes[2:], objects[2:]))
    own = _area(boxes[:2], boxes[2:])
    whole = np.where(crowd, own, own + _area(objects[:2], objects[2:]) - intersection)
    return np.divide(intersection, whole, out=np.zeros_like(whole), where=whole > 0)


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    width, height = (high - low).clip(min=0)
    return width * height
