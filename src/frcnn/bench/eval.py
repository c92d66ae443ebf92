"""Average precision, beside the development kit's loop over detections."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from frcnn.bench.timing import OURS, Row, interleaved
from frcnn.bench.voc_loop import voc_ap_by_loop
from frcnn.evaluation.voc_ap import voc_ap
from frcnn.types import Prediction, Record

_IMAGES, _CLASSES, _DETECTIONS = 4952, 20, 100  # Pascal VOC 2007's test set, and what a detector gives of an image
_SLICE = 200  # images: the loop takes its time


def bench_eval(rounds: int) -> Iterator[Row]:
    """Both on some of the images; ours on all.

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
) -> tuple[list[Prediction], list[Record]]:
    """Objects of one class or two, a fifth of them "difficult", and detections of these, most of the right class and
    many of the same object, with scores of three decimals, so that some are equal."""
    random = np.random.default_rng(seed)
    predictions, records = [], []
    for number in range(images):
        count = 1 + random.poisson(1.4)
        corners, sides = random.uniform(0, 300, (count, 2)), random.uniform(20, 200, (count, 2))
        boxes = np.concatenate((corners, corners + sides), axis=1).astype(np.float32)
        labels = random.choice(random.integers(len(classes), size=2), count)
        difficult = random.random(count) < 0.2
        records.append(Record(Path(f"{number}.jpg"), boxes, tuple(classes[label] for label in labels), difficult))
        near = random.integers(count, size=detections)
        found = boxes[near] + random.normal(0, 10, (detections, 1)).astype(np.float32)
        right = random.random(detections) < 0.7
        names = np.where(right, labels[near], random.integers(len(classes), size=detections))
        scores = np.sort(random.random(detections).round(3).astype(np.float32))[::-1]
        predictions.append(Prediction(f"{number}.jpg", found, scores, tuple(classes[name] for name in names)))
    return predictions, records
