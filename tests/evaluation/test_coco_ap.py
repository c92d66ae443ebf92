"""COCO's average precision, against pycocotools."""

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import assume, given
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny import detections_of

from frcnn.data.records import Record
from frcnn.evaluation.average_precision import SIZES, ap_of, ar_of, coco_ap, matched_by_coco, mean_ap
from frcnn.inference.results import Detections

CLASSES = ("cat", "dog", "emu")


def record(*objects: tuple[str, Sequence[float], bool]) -> Record:
    return Record(
        Path("photo.jpg"),
        np.array([box for _, box, _ in objects], np.float32).reshape(-1, 4),
        tuple(name for name, _, _ in objects),
        np.array([crowd for _, _, crowd in objects], bool),
    )


def prediction(*detections: tuple[str, Sequence[float], float]) -> Detections:
    ordered = sorted(detections, key=lambda one: -one[2])
    return detections_of(*[(name, score, box) for name, box, score in ordered])


def oracle(predictions: list[Detections], records: list[Record]) -> dict[str, float]:
    precision = evaluated(predictions, records).eval["precision"][:, :, :, 0, 2]  # (IoU, recall, class), all sizes
    return {
        name: float("nan") if (precision[:, :, i] < 0).all() else float(precision[:, :, i].mean())
        for i, name in enumerate(CLASSES)
    }


def evaluated(predictions: list[Detections], records: list[Record]) -> COCOeval:
    """By pycocotools."""

    def xywh(box: np.ndarray) -> list[float]:
        x1, y1, x2, y2 = (float(value) for value in box)
        return [x1, y1, x2 - x1, y2 - y1]

    annotations, results = [], []
    for image, (found, truth) in enumerate(zip(predictions, records, strict=True), start=1):
        for box, name, crowd in zip(truth.boxes, truth.class_names, truth.ignore, strict=True):
            x, y, w, h = xywh(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": CLASSES.index(name) + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(crowd),
                }
            )
        for box, name, score in zip(found.xyxy, found.class_name, found.confidence, strict=True):
            category = CLASSES.index(name) + 1
            results.append({"image_id": image, "category_id": category, "bbox": xywh(box), "score": float(score)})
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i + 1} for i in range(len(records))],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(25))
def test_it_equals_pycocotools(seed: int) -> None:
    random = np.random.default_rng(seed)

    def box() -> list[float]:
        x, y, w, h = random.integers(1, 12, 4) * 10.0
        return [x, y, x + w, y + h]

    records, predictions = [], []
    for _ in range(6):
        objects = [
            (CLASSES[random.integers(2)], box(), bool(random.random() < 0.15)) for _ in range(random.integers(7))
        ]
        near = [
            (name, [value + random.uniform(-4, 4) for value in one], round(random.random(), 2))
            for name, one, _ in objects
        ] * 2
        noise = [(CLASSES[random.integers(3)], box(), round(random.random(), 2)) for _ in range(random.integers(1, 9))]
        records.append(record(*objects))
        predictions.append(prediction(*near, *noise))
    expected = oracle(predictions, records)
    assert any(0 < value < 1 for value in expected.values())
    np.testing.assert_allclose(
        list(coco_ap(predictions, records, CLASSES).values()), list(expected.values()), atol=1e-9
    )


@given(strategies.evaluations())
def test_sizes_and_average_recall_equal_pycocotools(images: tuple[list[Detections], list[Record]]) -> None:
    assume(images[0])
    stats = evaluated(*images).stats  # -1: no objects
    found = {
        name: mean_ap({m.name: ap_of(m) for m in matched_by_coco(*images, CLASSES, area=area)})
        for name, area in SIZES.items()
    }
    recall = mean_ap({m.name: ar_of(m) for m in matched_by_coco(*images, CLASSES)})
    expected = [math.nan if value < 0 else value for value in (*stats[3:6], stats[8])]
    np.testing.assert_allclose([*found.values(), recall], expected, atol=1e-9)


@given(strategies.evaluations())
def test_it_equals_pycocotools_where_scores_and_overlaps_are_equal(
    images: tuple[list[Detections], list[Record]],
) -> None:
    assume(images[0])  # pycocotools needs a detection
    np.testing.assert_allclose(list(coco_ap(*images, CLASSES).values()), list(oracle(*images).values()), atol=1e-9)


def test_perfect_and_no_detections() -> None:
    truth = record(("cat", [0, 0, 10, 10], False), ("dog", [5, 5, 20, 30], False))
    found = prediction(("cat", [0, 0, 10, 10], 0.9), ("dog", [5, 5, 20, 30], 0.8))
    perfect = coco_ap([found], [truth], CLASSES)
    assert (perfect["cat"], perfect["dog"]) == (1, 1)
    assert math.isnan(perfect["emu"])
    nothing = coco_ap([prediction()], [truth], CLASSES)
    assert (nothing["cat"], nothing["dog"]) == (0, 0)


def test_an_iou_of_three_quarters_is_right_at_six_of_ten_thresholds() -> None:
    found = prediction(("cat", [0, 0, 10, 7.5], 0.9))
    assert coco_ap([found], [record(("cat", [0, 0, 10, 10], False))], CLASSES)["cat"] == pytest.approx(0.6)


def test_of_two_objects_overlapped_alike_the_last_is_taken() -> None:
    # The first detection overlaps both objects by 2/3 and takes the last, of which the second, which overlaps that one
    # by 9/11, then finds nothing: up to 0.65 right, wrong; up to 0.8 wrong, right; above that wrong, wrong.
    truth = record(("cat", [0, 0, 10, 10], False), ("cat", [4, 0, 14, 10], False))
    found = prediction(("cat", [2, 0, 12, 10], 0.9), ("cat", [5, 0, 15, 10], 0.8))
    expected = (4 * 51 / 101 + 3 * 51 / 101 / 2) / 10
    assert coco_ap([found], [truth], CLASSES)["cat"] == pytest.approx(expected)
    assert oracle([found], [truth])["cat"] == pytest.approx(expected)


def test_a_crowd_swallows_what_lies_in_it() -> None:
    truth = record(("cat", [0, 0, 10, 10], False), ("cat", [100, 100, 300, 300], True))
    inside = [("cat", [120.0 + i, 120, 140 + i, 140], 0.95) for i in range(3)]
    assert coco_ap([prediction(("cat", [0, 0, 10, 10], 0.9), *inside)], [truth], CLASSES)["cat"] == 1


def test_predictions_and_records_must_pair_up() -> None:
    with pytest.raises(
        ValueError, match="detections of 0 images and records of 1; there must be one of each for each image"
    ):
        coco_ap([], [record()], CLASSES)


def test_no_more_than_a_hundred_detections_of_a_class_count() -> None:
    noise = [("cat", [50.0, 50, 60, 60], 0.9)] * 100
    truth = record(("cat", [0, 0, 10, 10], False))
    assert coco_ap([prediction(*noise, ("cat", [0, 0, 10, 10], 0.1))], [truth], CLASSES)["cat"] == 0
    assert coco_ap([prediction(*noise[1:], ("cat", [0, 0, 10, 10], 0.1))], [truth], CLASSES)["cat"] > 0
