"""Comparing detections."""

import math
from dataclasses import replace

import pytest
from tiny import detections_of

from frcnn.export.verify import Difference, VerificationRun, compare, refusal, rule, spread
from frcnn.inference.description import ResultRules

RULES = ResultRules(0.5, 0.0, 100, 0.5, False)

CAT = ("cat", 0.9, (0.0, 0.0, 10.0, 10.0))
DOG = ("dog", 0.8, (5.0, 5.0, 20.0, 30.0))


def moved(detection: tuple[str, float, tuple[float, float, float, float]], by: float, score: float = 0.0):  # type: ignore[no-untyped-def]
    name, old, (x1, *rest) = detection
    return name, old + score, (x1 + by, *rest)


def test_the_same_detections() -> None:
    assert compare(detections_of(CAT, DOG), detections_of(CAT, DOG), RULES) == Difference(2, 0, 0, 0.0, 0.0)
    assert compare(detections_of(), detections_of(), RULES) == Difference(0, 0, 0, 0.0, 0.0)


def test_how_far_they_may_be_apart() -> None:
    near = compare(detections_of(moved(CAT, 0.04, 9e-5), DOG), detections_of(CAT, DOG), RULES)
    assert near.without_match == 0
    assert near.pixels == pytest.approx(0.04)
    assert near.score == pytest.approx(9e-5, abs=1e-6)
    far = compare(detections_of(moved(CAT, 0.06, 2e-4), DOG), detections_of(CAT, DOG), RULES)
    assert far.without_match + far.near_ties == 2
    assert far.without_match == 1  # no box of its score could replace the better one
    assert compare(detections_of(moved(CAT, 9), DOG), detections_of(CAT, DOG), RULES).without_match == 2


def test_another_class_is_another_detection() -> None:
    assert compare(detections_of(("dog", *CAT[1:])), detections_of(CAT), RULES).without_match == 2


def test_one_that_only_one_has() -> None:
    assert compare(detections_of(CAT), detections_of(CAT, DOG), RULES).without_match == 1
    assert compare(detections_of(CAT, DOG), detections_of(CAT), RULES).without_match == 1
    assert compare(detections_of(CAT, CAT), detections_of(CAT), RULES).without_match == 1  # each has at most one match


def test_equal_scores_may_change_places() -> None:
    other = ("cat", CAT[1] - 1e-6, (50.0, 50.0, 60.0, 60.0))
    swapped = [("cat", CAT[1], other[2]), ("cat", other[1], CAT[2])]
    assert compare(detections_of(*swapped), detections_of(CAT, other), RULES).without_match == 0


def test_the_last_place_of_a_full_list_may_go_to_another_of_its_score() -> None:
    last, other = ("dog", 0.5, (0.0, 0, 5, 5)), ("dog", 0.50001, (50.0, 50, 60, 60))
    for detection, places, without_match in ((other, 2, 0), (other, 3, 2), (moved(other, 0, 0.1), 2, 1)):
        rules = replace(RULES, max_detections=places)
        difference = compare(detections_of(CAT, last), detections_of(CAT, detection), rules)
        assert difference.without_match == without_match


def overlapping(iou: float, score: float = 0.6) -> tuple[str, float, tuple[float, float, float, float]]:
    """A second cat that overlaps CAT by this IoU."""
    return "cat", score, (0.0, 0.0, 10.0, 10.0 * iou)


def test_an_iou_near_the_nms_threshold_is_a_near_tie() -> None:
    for iou, result in ((0.4995, (0, 1)), (0.5005, (0, 1)), (0.49, (1, 0)), (0.51, (1, 0))):
        both, one = detections_of(CAT, overlapping(iou)), detections_of(CAT)
        assert compare(both, one, RULES)[1:3] == compare(one, both, RULES)[1:3] == result
    dog = detections_of(("dog", 0.9, CAT[2]))
    assert compare(detections_of(overlapping(0.5)), dog, RULES).near_ties == 0  # NMS compares boxes of one class
    lower = detections_of(("cat", 0.5, CAT[2]))
    assert compare(detections_of(overlapping(0.5, 0.6)), lower, RULES)[1:3] == (1, 1)  # a lower score drops none


def test_equal_scores_of_overlapping_boxes_are_a_near_tie() -> None:
    for iou, score, result in ((0.7, 0.90005, (0, 2)), (0.7, 0.91, (1, 1)), (0.4, 0.9, (2, 0))):
        assert compare(detections_of(overlapping(iou, score)), detections_of(CAT), RULES)[1:3] == result
    dropped = ("cat", 0.3, (0.0, 7.0, 10.0, 17.0))  # overlaps the first of the two alone
    first, second = ("cat", 0.9, (0.0, 5.0, 10.0, 15.0)), ("cat", 0.9, (0.0, 2.5, 10.0, 12.5))
    assert compare(detections_of(first), detections_of(second, dropped), RULES)[1:3] == (0, 3)


def test_a_score_near_the_threshold_is_no_difference() -> None:
    rules = replace(RULES, score_threshold=0.3)
    for score, without_match in ((0.30005, 0), (0.302, 1)):
        difference = compare(detections_of(CAT, ("dog", score, DOG[2])), detections_of(CAT), rules)
        assert (difference.without_match, difference.near_ties) == (without_match, 0)


def one_run(
    *, without_match: int = 0, near_ties: int = 0, detections: int = 10, ap: float = 1.0, other_ap: float = 1.0
) -> VerificationRun:
    difference = Difference(detections, without_match, near_ties, 0.0, 0.0)
    return VerificationRun("one by one", difference, ap, other_ap, 0.1, 0.2)


def test_refusals() -> None:
    assert refusal([one_run(ap=0.5)], "fp32", 0.0) is None  # detections count, not the AP
    reason = str(refusal([one_run(), one_run(without_match=1)], "fp32", 0.0))
    assert "of 10 detections, without a match within 0.05 px and a score of 0.0001: 1;" in reason
    assert refusal([one_run(without_match=5, ap=0.985)], "int8", 0.02) is None
    assert "AP 0.9700 instead of 1.0000; the rule: AP at most 0.02 lower" in str(
        refusal([one_run(ap=0.97)], "int8", 0.02)
    )
    assert refusal([one_run(ap=0.9, other_ap=0.8)], "int8", 0.01) is None
    assert refusal([one_run(ap=0.97)], "svd", 0.02) is not None
    assert refusal([one_run(without_match=5, ap=0.9, other_ap=0.8)], "svd", 0.01) is None
    for precision in ("fp16", "bf16"):
        assert refusal([one_run(ap=0.9, other_ap=0.8)], precision, 0.01) is not None
        assert rule(precision, 0.01) == "AP differs by at most 0.01"
    nothing = VerificationRun("smaller", Difference(0, 0, 0, 0.0, 0.0), 1.0, 1.0, 0.1, 0.2)
    assert "PyTorch detects nothing in these photos" in str(refusal([one_run(), nothing], "fp32", 0.0))
    assert refusal([one_run(ap=math.nan)], "fp16", 0.01) is not None
    assert refusal([one_run(ap=math.nan, other_ap=math.nan)], "fp16", 0.01) is not None  # nothing is verified


def test_few_near_ties_may_explain_detections_without_match() -> None:
    assert refusal([one_run(near_ties=2)], "fp32", 0.0) is None
    assert "with only a near tie of NMS: 3 (at most 2 may)" in str(refusal([one_run(near_ties=3)], "fp32", 0.0))
    assert refusal([one_run(near_ties=22, detections=2200)], "fp32", 0.0) is None
    assert refusal([one_run(near_ties=23, detections=2200)], "fp32", 0.0) is not None
    assert refusal([one_run(near_ties=1, without_match=1, detections=2200)], "fp32", 0.0) is not None


def test_boxes_that_are_all_moved_are_refused() -> None:
    cats = [("cat", 0.9, (20.0 * i, 0.0, 20.0 * i + 10, 10.0)) for i in range(10)]
    difference = compare(detections_of(*(moved(cat, 1) for cat in cats)), detections_of(*cats), RULES)
    assert refusal([VerificationRun("one by one", difference, 1.0, 1.0, 0.1, 0.2)], "fp32", 0.0) is not None


def test_photos_are_spread_evenly() -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(3), 0) == []
