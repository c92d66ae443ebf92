"""Pascal VOC's average precision as the development kit computes it: class by class, in a loop over detections.

frcnn is tested against it, so it shares no code with frcnn, not even the IoU.
"""

import math
from collections.abc import Sequence

import numpy as np

from frcnn.data.records import Record
from frcnn.inference.results import Detections


def voc_ap_by_loop(
    predictions: Sequence[Detections],
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    use_07_metric: bool = False,
) -> dict[str, float]:
    """The result of `voc_ap`.

    Source:
        The steps of VOCdevkit's VOCevaldet, in their order, as its translations into Python take them, with an IoU of
        one detection with all objects of its class. Overlaps are continuous, without the kit's "+1".
    """
    return {name: _of_class(predictions, records, name, iou_threshold, use_07_metric) for name in classes}


def _of_class(
    predictions: Sequence[Detections], records: Sequence[Record], name: str, iou_threshold: float, use_07_metric: bool
) -> float:
    mine = [np.array([other == name for other in record.class_names], bool) for record in records]
    boxes = [record.boxes[own].astype(float) for record, own in zip(records, mine, strict=True)]
    ignore = [record.ignore[own] for record, own in zip(records, mine, strict=True)]
    found = [np.zeros(len(own), bool) for own in ignore]
    objects = sum(int((~own).sum()) for own in ignore)
    if objects == 0:
        return math.nan

    detections = [
        (float(score), image, box.astype(float))
        for image, prediction in enumerate(predictions)
        for score, box, other in zip(prediction.confidence, prediction.xyxy, prediction.class_name, strict=True)
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
        if ignore[image][best]:
            continue
        if found[image][best]:
            false[d] = 1
        else:
            found[image][best] = True
            true[d] = 1

    true, false = true.cumsum(), false.cumsum()
    recall, precision = true / objects, true / np.maximum(true + false, 1)
    if use_07_metric:
        levels = [precision[recall >= level / 10 - 1e-9].max(initial=0.0) for level in range(11)]
        return sum(levels) / 11
    recall, precision = np.concatenate(([0], recall, [1])), np.concatenate(([0], precision, [0]))
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(G,) IoU of one box with each of the others."""
    x1, y1 = np.maximum(box[:2], others[:, :2]).T
    x2, y2 = np.minimum(box[2:], others[:, 2:]).T
    intersection = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return intersection / ((box[2] - box[0]) * (box[3] - box[1]) + areas - intersection)
