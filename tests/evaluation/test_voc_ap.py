"""Average precision, by hand and against a loop over detections."""

import math
from pathlib import Path

import numpy as np
import pytest
import strategies
from compare.eval import random_detections
from compare.voc_loop import voc_ap_by_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import detections_of as detections

from frcnn.data.records import Record
from frcnn.evaluation.average_precision import mean_ap, voc_ap
from frcnn.inference.results import Detections

Box = list[float]


def objects(*of_image: tuple[str, Box], ignore: tuple[int, ...] = ()) -> Record:
    return Record(
        Path("photo.jpg"),
        np.array([box for _, box in of_image], np.float32).reshape(-1, 4),
        tuple(name for name, _ in of_image),
        np.array([number in ignore for number in range(len(of_image))], bool),
    )


A, B, C, D = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [0.0, 0, 10, 10], [50.0, 50, 60, 60]

# Cats: A is found (0.9), found again (0.8: wrong), the ignore D is found (0.7: does not count), B is found (0.6),
# C is missed. So of 3 objects: right, wrong, right; recall 1/3, 1/3, 2/3; precision 1, 1/2, 2/3.
# A dog is missed; there is no bird, but one is detected.
RECORDS = [objects(("cat", A), ("cat", B)), objects(("cat", C), ("cat", D), ("dog", A), ignore=(1,))]
PREDICTIONS = [
    detections(("cat", 0.9, A), ("cat", 0.8, [0, 0, 10, 9]), ("cat", 0.6, B)),
    detections(("bird", 0.95, A), ("cat", 0.7, D)),
]
CLASSES = ("cat", "dog", "bird")


def test_area_under_the_curve_by_hand() -> None:
    ap = voc_ap(PREDICTIONS, RECORDS, CLASSES)
    np.testing.assert_allclose([ap[name] for name in CLASSES], [1 / 3 * 1 + 1 / 3 * 2 / 3, 0, math.nan])


def test_use_07_metrics_by_hand() -> None:
    # Recall 0, 0.1, 0.2, 0.3: precision 1. Recall 0.4, 0.5, 0.6: 2/3. Beyond: 0.
    ap = voc_ap(PREDICTIONS, RECORDS, CLASSES, use_07_metric=True)
    np.testing.assert_allclose([ap[name] for name in CLASSES], [(4 * 1 + 3 * 2 / 3) / 11, 0, math.nan])


def test_mean_leaves_out_classes_without_objects() -> None:
    np.testing.assert_allclose(mean_ap({"cat": 0.5, "dog": 0.25, "bird": math.nan}), 0.375)
    assert math.isnan(mean_ap({"bird": math.nan}))
    assert math.isnan(mean_ap({}))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.3, 0.9])
def test_iou_exactly_at_the_threshold_is_right(threshold: float) -> None:
    predictions = [detections(("cat", 0.9, [0, 0, 10, 10 * threshold]))]
    records = [objects(("cat", [0, 0, 10, 10]))]
    ap = voc_ap(predictions, records, ["cat"], iou_threshold=float(np.float32(10 * threshold)) / 10)
    assert ap == {"cat": 1.0}
    ap = voc_ap(predictions, records, ["cat"], iou_threshold=threshold + 1e-6)
    assert ap == {"cat": 0.0}


@pytest.mark.parametrize("use_07_metric", [False, True])
def test_perfect_detections_have_ap_1(use_07_metric: bool) -> None:
    records = [objects(("cat", A), ("dog", B), ("cat", D)), objects(("dog", C))]
    predictions = [
        detections(*[(name, 0.9, box.tolist()) for name, box in zip(record.class_names, record.boxes, strict=True)])
        for record in records
    ]
    assert voc_ap(predictions, records, ["cat", "dog"], use_07_metric=use_07_metric) == {"cat": 1.0, "dog": 1.0}


def test_the_surest_detection_takes_the_object_across_images_and_ranks() -> None:
    # The duplicate comes first in its image's row only by score; in the other image stands a surer one.
    records = [objects(("cat", A)), objects(("cat", A))]
    predictions = [detections(("cat", 0.8, A), ("cat", 0.7, A)), detections(("cat", 0.9, A))]
    assert voc_ap(predictions, records, ["cat"]) == {"cat": 1.0}
    predictions = [detections(("cat", 0.8, A), ("cat", 0.7, A)), detections(("cat", 0.6, A))]
    np.testing.assert_allclose(voc_ap(predictions, records, ["cat"])["cat"], 1 / 2 + 1 / 2 * 2 / 3)


def test_detection_goes_to_the_object_it_overlaps_most_even_if_that_is_taken() -> None:
    # Both detections overlap the first object most; the second also overlaps the other one by more than a half.
    records = [objects(("cat", [0, 0, 10, 10]), ("cat", [0, 3, 10, 13]))]
    predictions = [detections(("cat", 0.9, [0, 0, 10, 10]), ("cat", 0.8, [0, 1, 10, 11]))]
    assert voc_ap(predictions, records, ["cat"]) == {"cat": 0.5}


def test_another_classs_object_is_no_match() -> None:
    assert voc_ap([detections(("dog", 0.9, A))], [objects(("cat", A), ("dog", B))], CLASSES)["dog"] == 0.0


def test_detections_of_a_difficult_object_do_not_count_however_many() -> None:
    records = [objects(("cat", A), ("cat", D), ignore=(1,))]
    predictions = [detections(("cat", 0.9, D), ("cat", 0.8, D), ("cat", 0.7, A))]
    assert voc_ap(predictions, records, ["cat"]) == {"cat": 1.0}


def test_a_class_of_difficult_objects_only_has_no_ap() -> None:
    assert math.isnan(voc_ap([detections(("cat", 0.9, A))], [objects(("cat", A), ignore=(0,))], ["cat"])["cat"])


def test_precision_at_a_recall_is_the_best_there_or_beyond() -> None:
    # Wrong, right, right: recall 0, 1/2, 1; precision 0, 1/2, 2/3, so 2/3 at every recall.
    records = [objects(("cat", A), ("cat", B))]
    predictions = [detections(("cat", 0.9, D), ("cat", 0.8, A), ("cat", 0.7, B))]
    np.testing.assert_allclose(voc_ap(predictions, records, ["cat"])["cat"], 2 / 3)
    np.testing.assert_allclose(voc_ap(predictions, records, ["cat"], use_07_metric=True)["cat"], 2 / 3)


def test_a_detection_that_only_touches_a_difficult_object_is_wrong() -> None:
    records = [objects(("cat", A), ("cat", D), ignore=(1,))]
    predictions = [detections(("cat", 0.9, [50, 57, 60, 67]), ("cat", 0.7, A))]
    assert voc_ap(predictions, records, ["cat"]) == {"cat": 0.5}


def test_detection_in_an_image_without_objects_is_wrong() -> None:
    records = [objects(), objects(("cat", A))]
    predictions = [detections(("cat", 0.9, A)), detections(("cat", 0.8, A))]
    assert voc_ap(predictions, records, ["cat"]) == {"cat": 0.5}


def test_nothing_detected_and_nothing_there() -> None:
    assert voc_ap([detections()], [objects(("cat", A))], ["cat"]) == {"cat": 0.0}
    assert math.isnan(voc_ap([detections()], [objects()], ["cat"])["cat"])
    assert math.isnan(voc_ap([], [], ["cat"])["cat"])


def test_predictions_and_records_must_pair_up() -> None:
    with pytest.raises(
        ValueError, match="detections of 1 image and records of 2; there must be one of each for each image"
    ):
        voc_ap([detections()], [objects(), objects()], ["cat"])


@settings(max_examples=200)
@given(strategies.evaluations(), st.sampled_from((0.25, 0.5, 0.6, 1.0)), st.booleans())
def test_ap_equals_a_loop_over_detections(
    images: tuple[list[Detections], list[Record]], threshold: float, use_07_metric: bool
) -> None:
    predictions, records = images
    rules = {"iou_threshold": threshold, "use_07_metric": use_07_metric}
    ap = voc_ap(predictions, records, strategies.CLASSES, **rules)
    expected = voc_ap_by_loop(predictions, records, strategies.CLASSES, **rules)
    assert ap == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_ap_of_many_images_and_classes_equals_a_loop_over_detections(seed: int) -> None:
    classes = [f"class {number}" for number in range(20)]
    predictions, records = random_detections(60, classes, 60, seed=seed)
    ap = voc_ap(predictions, records, classes)
    assert 0.05 < mean_ap(ap) < 0.95
    assert ap == pytest.approx(voc_ap_by_loop(predictions, records, classes), abs=1e-12, nan_ok=True)
