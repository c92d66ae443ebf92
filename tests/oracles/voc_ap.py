"""Average precision of one class, step by step as in the Pascal VOC development kit's description."""

import math
from collections.abc import Sequence
from itertools import pairwise

from frcnn.types import Prediction, Record
from oracles.boxes import iou


def voc_ap(
    predictions: Sequence[Prediction], records: Sequence[Record], name: str, iou_threshold: float, eleven_point: bool
) -> float:
    objects = sum(
        n == name and not hard for record in records for n, hard in zip(record.names, record.difficult, strict=True)
    )
    if objects == 0:
        return math.nan

    detections = [
        (prediction.scores[d], image, prediction.boxes[d])
        for image, prediction in enumerate(predictions)
        for d in range(len(prediction.names))
        if prediction.names[d] == name
    ]
    found: set[tuple[int, int]] = set()
    true_positives, false_positives = 0, 0
    curve = []  # (recall, precision)
    for _, image, box in sorted(detections, key=lambda detection: -detection[0]):
        record = records[image]
        best, most = -1, 0.0
        for g in range(len(record.names)):
            if record.names[g] == name and iou(box.tolist(), record.boxes[g].tolist()) > most:
                best, most = g, iou(box.tolist(), record.boxes[g].tolist())
        if best >= 0 and most >= iou_threshold:
            if record.difficult[best]:
                continue
            if (image, best) in found:
                false_positives += 1
            else:
                found.add((image, best))
                true_positives += 1
        else:
            false_positives += 1
        curve.append((true_positives / objects, true_positives / (true_positives + false_positives)))

    if eleven_point:
        return sum(_best_precision(curve, level / 10) for level in range(11)) / 11
    recalls = sorted({0.0, *(recall for recall, _ in curve)})
    return sum((high - low) * _best_precision(curve, high) for low, high in pairwise(recalls))


def _best_precision(curve: list[tuple[float, float]], recall: float) -> float:
    return max((p for r, p in curve if r >= recall - 1e-9), default=0.0)
