"""Average precision: frcnn compared with the loop of the VOC development kit."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compare.timing import OURS, Row, interleaved
from compare.voc_loop import voc_ap_by_loop
from frcnn.data.records import Record
from frcnn.evaluation.average_precision import voc_ap
from frcnn.inference.results import Detections

_IMAGES, _CLASSES, _DETECTIONS = 4952, 20, 100  # Pascal VOC 2007's test set, and what a detector gives of an image
_SLICE = 200  # images: the loop takes its time


def bench_eval(rounds: int) -> Iterator[Row]:
    """Time both on some images, and frcnn on all.

    Raises:
        AssertionError: ours does not compute the same.
    """
    classes = [f"class {number}" for number in range(_CLASSES)]
    predictions, records = random_detections(_IMAGES, classes, _DETECTIONS)
    some = (predictions[:_SLICE], records[:_SLICE], classes)
    ours, expected = voc_ap(*some), voc_ap_by_loop(*some)
    np.testing.assert_allclose(list(ours.values()), list(expected.values()), rtol=0, atol=1e-12)
    ways = {OURS: lambda: voc_ap(*some), "development kit's loop": lambda: voc_ap_by_loop(*some)}
    check = "the same AP of each class"
    yield Row("eval", _work(_SLICE), check, interleaved(ways, rounds=rounds))
    whole = {OURS: lambda: voc_ap(predictions, records, classes)}
    yield Row("eval", _work(_IMAGES), f"{check} of {_SLICE} of the images", interleaved(whole, rounds=rounds))


def _work(images: int) -> str:
    return f"Pascal VOC's AP, {images:,} images, {_CLASSES} classes, {images * _DETECTIONS:,} detections"


def random_detections(
    images: int, classes: Sequence[str], detections: int, *, seed: int = 0
) -> tuple[list[Detections], list[Record]]:
    """Random objects, of one or two classes per image, a fifth of them ignored; and random detections of these objects.

    Most detections have the right class, many are of the same object, and some scores are equal.
    """
    random = np.random.default_rng(seed)
    predictions, records = [], []
    for number in range(images):
        count = 1 + random.poisson(1.4)
        corners, sides = random.uniform(0, 300, (count, 2)), random.uniform(20, 200, (count, 2))
        boxes = np.concatenate((corners, corners + sides), axis=1).astype(np.float32)
        labels = random.choice(random.integers(len(classes), size=2), count)
        ignore = random.random(count) < 0.2
        records.append(Record(Path(f"{number}.jpg"), boxes, tuple(classes[label] for label in labels), ignore))
        near = random.integers(count, size=detections)
        found = boxes[near] + random.normal(0, 10, (detections, 1)).astype(np.float32)
        right = random.random(detections) < 0.7
        names = np.where(right, labels[near], random.integers(len(classes), size=detections))
        scores = np.sort(random.random(detections).round(3).astype(np.float32))[::-1]
        predictions.append(Detections(found, scores, names, tuple(classes), f"{number}.jpg"))
    return predictions, records
