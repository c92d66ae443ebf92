"""Pascal VOC's average precision as the development kit computes it: class by class, a loop over detections. Ours is
measured and tested against it, so it shares nothing with ours, overlaps included."""

import math
from collections.abc import Sequence

import numpy as np

from frcnn.types import Prediction, Record


def voc_ap_by_loop(
    predictions: Sequence[Prediction],
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    eleven_point: bool = False,
) -> dict[str, float]:
    """What `voc_ap` gives.

    Source:
        The steps of VOCdevkit's VOCevaldet, in their order, as its translations into Python take them, with an IoU of
        one detection with all objects of its class. Overlaps are continuous, without the kit's "+1".
    """
    return {name: _of_class(predictions, records, name, iou_threshold, eleven_point) for name in classes}


def _of_class(
    predictions: Sequence[Prediction], records: Sequence[Record], name: str, iou_threshold: float, eleven_point: bool
) -> float:
    mine = [np.array([other == name for other in record.names], bool) for record in records]
    boxes = [record.boxes[own].astype(float) for record, own in zip(records, mine, strict=True)]
    difficult = [record.difficult[own] for record, own in zip(records, mine, strict=True)]
    found = [np.zeros(len(own), bool) for own in difficult]
    objects = sum(int((~own).sum()) for own in difficult)
    if objects == 0:
        return math.nan

    detections = [
        (float(score), image, box.astype(float))
        for image, prediction in enumerate(predictions)
        for score, box, other in zip(prediction.scores, prediction.boxes, prediction.names, strict=True)
        if other == name
    ]
    detections.sort(key=lambda detection: -detection[0])
    true, false = np.zeros(len(detections)), np.zeros(len(detections))
    for d, (_, image, box) in enumerate(detections):
        overlaps = _iou(box, boxes[image])
        if overlaps.max(initial=0.0) < iou_threshold:
            false[d] = 1
            continue
        best = overlaps.argmax()
        if difficult[image][best]:
            continue
        if found[image][best]:
            false[d] = 1
        else:
            found[image][best] = True
            true[d] = 1

    true, false = true.cumsum(), false.cumsum()
    recall, precision = true / objects, true / np.maximum(true + false, 1)
    if eleven_point:
        levels = [precision[recall >= level / 10 - 1e-9].max(initial=0.0) for level in range(11)]
        return sum(levels) / 11
    recall, precision = np.concatenate(([0], recall, [1])), np.concatenate(([0], precision, [0]))
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(G,): of one box with each of the others."""
    x1, y1 = np.maximum(box[:2], others[:, :2]).T
    x2, y2 = np.minimum(box[2:], others[:, 2:]).T
    intersection = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return intersection / ((box[2] - box[0]) * (box[3] - box[1]) + areas - intersection)
