"""COCO's average precision: the mean over ten IoU thresholds, 0.50 to 0.95."""

from collections.abc import Sequence

import numpy as np

from frcnn.types import Prediction, Record

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100


def coco_ap(predictions: Sequence[Prediction], records: Sequence[Record], classes: Sequence[str]) -> dict[str, float]:
    """AP of each class at IoU 0.50:0.95, all sizes, at most 100 detections an image and class; NaN without objects.

    "Difficult" objects are COCO's crowds: any number of detections may lie in one (by the share of the detection that
    does), and they neither count nor count against.

    Args:
        predictions: one for each record, in order.

    Source:
        Lin et al. 2014, arXiv:1405.0312; the rules of pycocotools' COCOeval. Differs from Pascal VOC: a detection takes
        the best object that is still free, not the best of all; precision is read at 101 recalls.
    """
    return {name: _ap_of_class(predictions, records, name) for name in classes}


def _ap_of_class(predictions: Sequence[Prediction], records: Sequence[Record], name: str) -> float:
    objects, scores, right, ignored = 0, [], [], []
    for prediction, record in zip(predictions, records, strict=True):
        best = np.argsort(-prediction.scores, kind="stable")
        mine = [i for i in best if prediction.names[i] == name][:MAX_DETECTIONS]
        theirs = [i for i, other in enumerate(record.names) if other == name]
        crowd = record.difficult[theirs]
        objects += int((~crowd).sum())
        matched, skipped = _match(prediction.boxes[mine], record.boxes[theirs], crowd)
        scores.append(prediction.scores[mine])
        right.append(matched)
        ignored.append(skipped)
    if objects == 0:
        return float("nan")
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits, skips = np.concatenate(right, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    true, false = (hits & ~skips).cumsum(axis=1), (~hits & ~skips).cumsum(axis=1)
    recall = true / objects
    precision = true / np.maximum(true + false, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # the best at this recall or a higher one
    precision = np.concatenate((precision, np.zeros((len(IOU_THRESHOLDS), 1))), axis=1)
    return float(np.mean([p[np.searchsorted(r, RECALLS, side="left")] for p, r in zip(precision, recall, strict=True)]))


def _match(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every threshold and detection (by falling score): does it find something, and is that a crowd?"""
    found = np.zeros((len(IOU_THRESHOLDS), len(boxes)), bool)
    skipped = np.zeros_like(found)
    if not len(boxes) or not len(objects):
        return found, skipped
    overlap = _overlap(boxes, objects, crowd)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(len(objects), bool)
        for d in range(len(boxes)):
            usable = np.where(free & (overlap[d] >= min(threshold, 1 - 1e-10)), overlap[d], -1)
            single = np.where(crowd, -1, usable)  # a crowd only if no single object is left
            choice = single if single.max() >= 0 else usable
            if choice.max() < 0:
                continue
            taken = len(choice) - 1 - int(choice[::-1].argmax())  # of equal ones the last, as COCOeval
            found[t, d], skipped[t, d] = True, crowd[taken]
            free[taken] = crowd[taken]
    return found, skipped


def _overlap(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(D, G): IoU; for a crowd, the share of the detection that lies in it."""
    boxes, objects = boxes.astype(np.float64), objects.astype(np.float64)
    corner = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    sides = (np.minimum(boxes[:, None, 2:], objects[None, :, 2:]) - corner).clip(min=0)
    intersection = sides.prod(axis=2)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    union = own + (objects[:, 2:] - objects[:, :2]).prod(axis=1)[None] - intersection
    whole = np.where(crowd[None], own, union)
    return np.divide(intersection, whole, out=np.zeros_like(intersection), where=whole > 0)
