"""Which detections and objects overlap, against a loop over all pairs."""

from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from oracles.boxes import iou, iou_matrix
from tiny import detections_of

from frcnn.data.records import Record
from frcnn.evaluation.matching import arrange, overlapping
from frcnn.inference.results import Detections


@given(strategies.evaluations(), st.sampled_from((0.01, 0.25, 0.5, 1.0)))
def test_pairs_are_those_of_one_image_and_class_that_overlap(
    images: tuple[list[Detections], list[Record]], at_least: float
) -> None:
    found, objects, ignore, _ = arrange(*images, strategies.CLASSES)
    expected = {
        (d, o): overlap
        for d, box in enumerate(found.boxes.tolist())
        for o, other in enumerate(objects.boxes.tolist())
        if found.groups[d] == objects.groups[o] and (overlap := iou(box, other)) >= at_least
    }
    d, o, overlap = overlapping(found, objects, at_least=at_least, crowd=np.zeros_like(ignore))
    assert dict(zip(zip(d.tolist(), o.tolist(), strict=True), overlap.tolist(), strict=True)) == expected


@given(strategies.evaluations())
def test_detections_stand_by_class_then_score_and_objects_by_image(
    images: tuple[list[Detections], list[Record]],
) -> None:
    predictions, records = images
    found, objects, ignore, _ = arrange(predictions, records, strategies.CLASSES)
    lines = [
        (strategies.CLASSES.index(name), -score, image, number)
        for image, prediction in enumerate(predictions)
        for number, (score, name) in enumerate(zip(prediction.confidence, prediction.class_name, strict=True))
    ]
    assert found.labels.tolist() == [label for label, *_ in sorted(lines)]
    places = [(image, number) for _, _, image, number in sorted(lines)]
    np.testing.assert_array_equal(
        found.boxes, np.array([predictions[i].xyxy[n] for i, n in places], np.float32).reshape(-1, 4)
    )
    assert found.groups.tolist() == [2 * image + label for label, _, image, _ in sorted(lines)]
    assert objects.groups.tolist() == [
        2 * image + strategies.CLASSES.index(name)
        for image, record in enumerate(records)
        for name in record.class_names
    ]
    assert ignore.tolist() == [value for record in records for value in record.ignore.tolist()]


def test_a_crowd_overlaps_by_the_share_of_the_detection_in_it() -> None:
    record = Record(Path("photo.jpg"), np.array([[5, 0, 100, 100]], np.float32), ("cat",), np.array([True]))
    found, objects, crowd, _ = arrange([detections_of(("cat", 1, (0, 0, 10, 10)))], [record], ["cat"])
    assert overlapping(found, objects, at_least=0.25, crowd=crowd)[2] == pytest.approx([0.5])
    assert len(overlapping(found, objects, at_least=0.25, crowd=~crowd)[2]) == 0


def test_no_pair_is_lost_among_many_detections() -> None:
    random = np.random.default_rng(0)
    count = 70_000  # more than are compared at once
    boxes = np.tile(random.integers(0, 6, (1000, 2)), (count // 1000, 2)).astype(np.float32)
    boxes[:, 2:] += 4
    objects = Record(
        Path("photo.jpg"), np.array([[0, 0, 4, 4], [3, 2, 7, 6]], np.float32), ("cat",) * 2, np.zeros(2, bool)
    )
    prediction = Detections(boxes, np.ones(count), np.zeros(count, int), ("cat",))
    arrays = arrange([prediction], [objects], ["cat"])
    d, o, _ = overlapping(*arrays[:2], at_least=0.5, crowd=arrays[2])
    expected = np.argwhere(np.tile(iou_matrix(boxes[:1000], objects.boxes) >= 0.5, (count // 1000, 1)))
    assert len(expected) > 10_000
    np.testing.assert_array_equal(np.stack((d, o), axis=1)[np.lexsort((o, d))], expected)
