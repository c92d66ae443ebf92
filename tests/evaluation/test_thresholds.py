"""Precision, recall and F1 at a threshold, and the best one."""

from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from tiny import detections_of

from frcnn.data.records import Record, make_record
from frcnn.evaluation.metrics import confusion_matrix
from frcnn.evaluation.thresholds import LEAST_SCORE, Curve, calibration, curves, together
from frcnn.inference.results import Detections

CURVE = Curve(np.array([0.9, 0.8, 0.6, 0.4]), np.array([True, False, True, True]), 4)


def test_counts_at_a_threshold() -> None:
    assert CURVE.at(0.95) == (0, 0, 4)
    assert CURVE.at(0.6) == (2, 1, 2)  # the threshold itself is included
    counts = CURVE.at(0.4)
    assert counts == (3, 1, 1)
    assert (counts.precision, counts.recall, counts.f1) == (0.75, 0.75, 0.75)
    assert np.isnan(CURVE.at(0.95).precision)


def test_the_best_threshold() -> None:
    assert CURVE.best_threshold() == pytest.approx(0.2)  # F1 0.75, in the middle between 0.4 and 0
    assert CURVE.best_threshold(precision=0.9) == pytest.approx(0.85)
    assert CURVE.best_threshold(precision=0.7) == pytest.approx(0.2)
    assert CURVE.best_threshold(recall=0.25) == pytest.approx(0.85)
    assert CURVE.best_threshold(recall=0.5) == pytest.approx(0.2)
    assert CURVE.best_threshold(recall=0.9) is None
    assert Curve(np.zeros(0), np.zeros(0, bool), 3).best_threshold() is None
    assert Curve(np.array([0.9]), np.array([False]), 3).best_threshold() is None


@st.composite
def random_curves(draw: st.DrawFn) -> Curve:
    scores = sorted(draw(st.lists(st.integers(0, 20), max_size=12)), reverse=True)
    true = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    return Curve(np.array(scores) / 20, np.array(true, bool), sum(true) + draw(st.integers(0, 3)))


@given(random_curves(), st.sampled_from((None, 0.5, 0.9)))
def test_no_threshold_is_better(curve: Curve, precision: float | None) -> None:
    """Twin: all thresholds."""
    best = curve.best_threshold(precision=precision)
    every = [curve.at(score) for score in {*curve.scores.tolist()} if score >= LEAST_SCORE]
    if precision is None:
        most = max((counts.f1 for counts in every if counts.correct), default=None)
        assert (None if best is None else curve.at(best).f1) == most
    else:
        allowed = [counts for counts in every if counts.correct + counts.false and counts.precision >= precision]
        most = max((counts.recall for counts in allowed), default=None) if curve.objects else None
        assert (None if best is None else curve.at(best).recall) == most
        assert best is None or curve.at(best).precision >= precision


@given(strategies.evaluations(), st.sampled_from((0.0, 0.3, 0.7)))
def test_every_detection_and_object_is_counted(images: tuple[list[Detections], list[Record]], threshold: float) -> None:
    of_classes = curves(*images, strategies.CLASSES)
    everything = together(of_classes)
    parts = [curve.at(threshold) for curve in of_classes.values()]
    assert everything.at(threshold) == tuple(map(sum, zip(*parts, strict=True)))
    objects = sum(int((~record.ignore).sum()) for record in images[1])
    assert everything.at(threshold).correct + everything.at(threshold).missed == objects


def test_it_agrees_with_the_confusion_matrix_where_no_classes_are_confused() -> None:
    record = make_record(Path("a.jpg"), [((0, 0, 10, 10), "cat"), ((50, 0, 60, 10), "cat"), ((90, 0, 99, 9), "dog")])
    found = detections_of(("cat", 0.9, (0, 0, 10, 9)), ("cat", 0.8, (70, 0, 80, 10)), ("dog", 0.3, (90, 0, 99, 9)))
    of_classes = curves([found], [record], ("cat", "dog"))
    matrix = confusion_matrix([found], [record], ("cat", "dog"), threshold=0.5)
    counts = of_classes["cat"].at(0.5)
    assert (counts.correct, counts.false, counts.missed) == (matrix[0, 0], matrix[-1, 0], matrix[0, -1]) == (1, 1, 1)
    assert of_classes["dog"].at(0.5) == (0, 0, 1)


def test_calibration() -> None:
    assert calibration(CURVE, bins=2) == [
        (pytest.approx(0.4), 1.0, 1),
        (pytest.approx((0.9 + 0.8 + 0.6) / 3), pytest.approx(2 / 3), 3),
    ]
    assert calibration(Curve(np.array([1.0]), np.array([True]), 1)) == [(1.0, 1.0, 1)]
