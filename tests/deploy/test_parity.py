"""Comparing detections."""

import math

import numpy as np
import pytest

from frcnn.deploy.parity import Difference, Pass, compare, spread, verdict
from frcnn.types import Prediction


def found(*detections: tuple[str, float, tuple[float, float, float, float]]) -> Prediction:
    names, scores, boxes = zip(*detections, strict=True) if detections else ((), (), ())
    return Prediction("x", np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), tuple(names))


CAT = ("cat", 0.9, (0.0, 0.0, 10.0, 10.0))
DOG = ("dog", 0.8, (5.0, 5.0, 20.0, 30.0))


def moved(detection: tuple[str, float, tuple[float, float, float, float]], by: float, score: float = 0.0):  # type: ignore[no-untyped-def]
    name, old, (x1, *rest) = detection
    return name, old + score, (x1 + by, *rest)


def test_the_same_detections() -> None:
    assert compare(found(CAT, DOG), found(CAT, DOG), full=100) == Difference(2, 0, 0.0, 0.0)
    assert compare(found(), found(), full=100) == Difference(0, 0, 0.0, 0.0)


def test_how_far_they_may_be_apart() -> None:
    near = compare(found(moved(CAT, 0.04, 9e-5), DOG), found(CAT, DOG), full=100)
    assert near.without_match == 0
    assert near.pixels == pytest.approx(0.04)
    assert near.score == pytest.approx(9e-5, abs=1e-6)
    assert compare(found(moved(CAT, 0.06), DOG), found(CAT, DOG), full=100).without_match == 2
    assert compare(found(moved(CAT, 0, 2e-4), DOG), found(CAT, DOG), full=100).without_match == 2


def test_another_class_is_another_detection() -> None:
    assert compare(found(("dog", *CAT[1:])), found(CAT), full=100).without_match == 2


def test_one_that_only_one_has() -> None:
    assert compare(found(CAT), found(CAT, DOG), full=100).without_match == 1
    assert compare(found(CAT, DOG), found(CAT), full=100).without_match == 1
    assert compare(found(CAT, CAT), found(CAT), full=100).without_match == 1  # each has one match at most


def test_equal_scores_may_change_places() -> None:
    other = ("cat", CAT[1] - 1e-6, (50.0, 50.0, 60.0, 60.0))
    swapped = [("cat", CAT[1], other[2]), ("cat", other[1], CAT[2])]
    assert compare(found(*swapped), found(CAT, other), full=100).without_match == 0


def test_the_last_place_of_a_full_list_may_go_to_another_of_its_score() -> None:
    last, other = ("dog", 0.5, (0.0, 0, 5, 5)), ("dog", 0.50001, (50.0, 50, 60, 60))
    assert compare(found(CAT, last), found(CAT, other), full=2).without_match == 0
    assert compare(found(CAT, last), found(CAT, other), full=3).without_match == 2
    assert compare(found(CAT, last), found(CAT, moved(other, 0, 0.1)), full=2).without_match == 1


def one_pass(*, without_match: int = 0, ap: float = 1.0, other_ap: float = 1.0) -> Pass:
    return Pass("one by one", Difference(10, without_match, 0.0, 0.0), ap, other_ap, 0.1, 0.2)


def test_verdicts() -> None:
    assert verdict([one_pass(ap=0.5)], "fp32", 0.0) is None  # detections count, not the AP
    assert "of 10 detections, 1 have no match" in str(verdict([one_pass(), one_pass(without_match=1)], "fp32", 0.0))
    assert verdict([one_pass(without_match=5, ap=0.985)], "int8", 0.02) is None
    assert "AP 0.9700 instead of 1.0000, more than 0.02 away" in str(verdict([one_pass(ap=0.97)], "int8", 0.02))
    assert verdict([one_pass(ap=0.9, other_ap=0.8)], "int8", 0.01) is None
    assert "more than 0.02 away" in str(verdict([one_pass(ap=0.97)], "svd", 0.02))
    assert verdict([one_pass(without_match=5, ap=0.9, other_ap=0.8)], "svd", 0.01) is None
    assert verdict([one_pass(ap=0.9, other_ap=0.8)], "bf16", 0.01) is not None
    nothing = Pass("smaller", Difference(0, 0, 0.0, 0.0), 1.0, 1.0, 0.1, 0.2)
    assert "PyTorch finds nothing in these photos" in str(verdict([one_pass(), nothing], "fp32", 0.0))
    assert verdict([one_pass(ap=math.nan)], "fp16", 0.01) is not None
    assert verdict([one_pass(ap=math.nan, other_ap=math.nan)], "fp16", 0.01) is not None  # nothing proven


def test_photos_are_spread_evenly() -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(3), 0) == []
