"""The kinds of errors and what they cost, worked by hand and against a slow twin of the rules of TIDE."""

from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import given
from oracles.boxes import iou
from tiny import detections_of

from frcnn.data.records import Record, make_record
from frcnn.evaluation.average_precision import ap_of, matched_by_coco, mean_ap
from frcnn.evaluation.errors import DetectionError, ErrorKind, find_errors
from frcnn.inference.results import Detections

CLASSES = strategies.CLASSES
CAT, DOG = (0.0, 0.0, 10.0, 10.0), (100.0, 0.0, 110.0, 10.0)
TRUTH = make_record(Path("a.jpg"), [(CAT, "cat"), (DOG, "dog")])


def kinds_of(*found: tuple[str, float, tuple[float, ...]], record: Record = TRUTH) -> list[tuple[str, int | None]]:
    """Kind and object of each error."""
    report = find_errors([detections_of(*found)], [record], ("cat", "dog"))
    return [(error.kind.value, error.object) for error in report.errors]


BOTH_FOUND = (("cat", 0.9, CAT), ("dog", 0.8, DOG))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), [("missed", 0), ("missed", 1)]),
        (BOTH_FOUND, []),
        ((*BOTH_FOUND, ("cat", 0.7, (0, 0, 10, 9))), [("duplicate", 0)]),
        ((*BOTH_FOUND, ("cat", 0.7, (50, 50, 60, 60))), [("background", None)]),
        ((*BOTH_FOUND, ("cat", 0.7, (0, 6, 10, 16))), [("location", 0)]),  # IoU 0.25
        ((*BOTH_FOUND, ("dog", 0.7, (0, 0, 10, 9))), [("class", 0)]),
        ((*BOTH_FOUND, ("dog", 0.7, (0, 6, 10, 16))), [("both", 0)]),
        ((("cat", 0.9, CAT), ("dog", 0.5, (100, 6, 110, 16))), [("location", 1)]),  # not missed as well
        ((("cat", 0.9, CAT), ("cat", 0.5, DOG)), [("class", 1)]),
    ],
)
def test_each_kind(
    found: tuple[tuple[str, float, tuple[float, ...]], ...], expected: list[tuple[str, int | None]]
) -> None:
    assert kinds_of(*found) == expected


def test_an_image_without_objects_has_only_background() -> None:
    assert kinds_of(("cat", 0.9, CAT), record=make_record(Path("a.jpg"), [])) == [("background", None)]


def test_ignored_objects_and_what_is_inside_them_do_not_count() -> None:
    crowd = TRUTH._replace(ignore=np.array([True, False]))
    assert kinds_of(("cat", 0.9, (2, 2, 8, 8)), ("dog", 0.8, DOG), record=crowd) == []


def test_the_cost_of_each_error_by_hand() -> None:
    """One class, two objects. By confidence: a background, the first object, a box of the second that is badly
    placed: precision 0, 1/2, 1/3; recall 0, 1/2, 1/2. At 51 of 101 recalls, the best precision is 1/2."""
    record = make_record(Path("a.jpg"), [(CAT, "cat"), (DOG, "cat")])
    found = detections_of(("cat", 0.9, (50, 50, 60, 60)), ("cat", 0.8, CAT), ("cat", 0.7, (100, 6, 110, 16)))
    report = find_errors([found], [record], ("cat",))
    assert [error.kind.value for error in report.errors] == ["background", "location"]
    assert report.ap50 == pytest.approx(51 / 101 / 2)
    # Without the background: precision 1, 1/2 at recall 1/2: 51 recalls at 1.
    assert report.cost[ErrorKind.BACKGROUND] == pytest.approx(51 / 101 - 51 / 101 / 2)
    # With the box in its place: precision 0, 1/2, 2/3 at recall 0, 1/2, 1: 101 recalls at 2/3.
    assert report.cost[ErrorKind.LOCATION] == pytest.approx(2 / 3 - 51 / 101 / 2)
    assert report.cost[ErrorKind.MISSED] == 0


def test_missed_objects_cost_the_recall() -> None:
    record = make_record(Path("a.jpg"), [(CAT, "cat"), (DOG, "cat")])
    report = find_errors([detections_of(("cat", 0.9, CAT))], [record], ("cat",))
    assert report.ap50 == pytest.approx(51 / 101)
    assert report.cost[ErrorKind.MISSED] == pytest.approx(1 - 51 / 101)


def test_of_two_detections_of_an_object_the_one_with_the_higher_confidence_would_be_correct() -> None:
    """Also if their errors differ: the other one stays wrong."""
    record = make_record(Path("a.jpg"), [(CAT, "cat")])
    found = detections_of(("dog", 0.9, CAT), ("cat", 0.8, (0, 6, 10, 16)))
    report = find_errors([found], [record], ("cat", "dog"))
    assert [(error.kind.value, error.fixable) for error in report.errors] == [("class", True), ("location", False)]
    assert report.cost[ErrorKind.CLASS] == pytest.approx(1)
    assert report.cost[ErrorKind.LOCATION] == 0


def twin(found: Detections, record: Record) -> list[tuple[str, int | None]]:
    """The rules of TIDE for one image, as loops."""
    counted = [number for number in range(len(record.boxes)) if not record.ignore[number]]
    boxes, truth = found.xyxy.tolist(), record.boxes.tolist()
    taken: dict[int, int] = {}
    for number, (box, name) in enumerate(zip(boxes, found.class_name, strict=True)):
        free = [(iou(box, truth[o]), -o) for o in counted if o not in taken and record.class_names[o] == name]
        if free and max(free)[0] >= 0.5:
            taken[-max(free)[1]] = number
    errors: list[tuple[str, int | None]] = []
    usable = set()
    for number, (box, name) in enumerate(zip(boxes, found.class_name, strict=True)):
        if number in taken.values() or any(
            record.ignore[o] and record.class_names[o] == name and inside(box, truth[o]) > 0.5
            for o in range(len(truth))
        ):
            continue
        overlap = {o: iou(box, truth[o]) for o in counted}
        own = {o: value if record.class_names[o] == name else 0 for o, value in overlap.items()}
        others = {o: value if record.class_names[o] != name else 0 for o, value in overlap.items()}
        used = {o: value if o in taken else 0 for o, value in own.items()}
        if not counted:
            errors.append(("background", None))
        elif 0.1 <= max(own.values()) <= 0.5:
            o = max(own, key=lambda o: (own[o], -o))
            errors.append(("location", o))
            usable.add(o)
        elif max(others.values()) >= 0.5:
            o = max(others, key=lambda o: (others[o], -o))
            errors.append(("class", o))
            usable.add(o)
        elif max(used.values()) >= 0.5:
            errors.append(("duplicate", max(used, key=lambda o: (used[o], -o))))
        elif max(overlap.values()) <= 0.1:
            errors.append(("background", None))
        else:
            errors.append(("both", max(overlap, key=lambda o: (overlap[o], -o))))
    return errors + [("missed", o) for o in counted if o not in taken and o not in usable]


def inside(box: list[float], region: list[float]) -> float:
    width = min(box[2], region[2]) - max(box[0], region[0])
    height = min(box[3], region[3]) - max(box[1], region[1])
    own = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0) * max(height, 0) / own if own else 0


@given(strategies.evaluations())
def test_the_errors_are_those_of_the_twin(images: tuple[list[Detections], list[Record]]) -> None:
    report = find_errors(*images, CLASSES)
    for number, (found, record) in enumerate(zip(*images, strict=True)):
        own: list[DetectionError] = [error for error in report.errors if error.image == number]
        assert [(error.kind.value, error.object) for error in own] == twin(found, record)
    assert set(report.cost) == set(ErrorKind)
    assert all(cost >= 0 for cost in report.cost.values())


@given(strategies.evaluations())
def test_the_ap_is_that_of_coco_if_nothing_is_ignored(images: tuple[list[Detections], list[Record]]) -> None:
    detections, records = images
    records = [record._replace(ignore=np.zeros(len(record.boxes), bool)) for record in records]
    matched = matched_by_coco(detections, records, CLASSES, iou_thresholds=np.array([0.5]))
    expected = mean_ap({each.name: ap_of(each) for each in matched})
    # Where two objects overlap a detection alike, COCO takes the last and TIDE the first: AP may differ then.
    ties = any(len(set(map(tuple, record.boxes.tolist()))) < len(record.boxes) for record in records)
    if not ties and not any(len(record.boxes) > 1 for record in records):
        assert find_errors(detections, records, CLASSES).ap50 == pytest.approx(expected, nan_ok=True)
