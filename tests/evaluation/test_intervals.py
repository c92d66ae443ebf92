"""Intervals by the bootstrap, against metrics of drawn images."""

from functools import partial

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from frcnn.data.records import Record
from frcnn.evaluation import intervals
from frcnn.evaluation.average_precision import Matched, coco_ap, matched_by_coco, matched_by_voc, voc_ap
from frcnn.inference.results import Detections

CLASSES = strategies.CLASSES


@given(strategies.evaluations(), st.integers(0, 5))
def test_a_sample_has_the_metric_of_its_images(images: tuple[list[Detections], list[Record]], seed: int) -> None:
    """Twin: the metric of the drawn images, each as often as it is drawn."""
    detections, records = images
    if not records:
        return
    drawn = np.random.default_rng(seed).integers(0, len(records), len(records))
    counts = np.bincount(drawn, minlength=len(records))[None]
    chosen = [detections[i] for i in np.sort(drawn)], [records[i] for i in np.sort(drawn)]
    for matched, metric, twin in (
        (matched_by_coco(*images, CLASSES), intervals.coco_ap, coco_ap),
        (matched_by_voc(*images, CLASSES), intervals.voc_ap, voc_ap),
        (matched_by_voc(*images, CLASSES), intervals.voc_07_ap, partial(voc_ap, use_07_metric=True)),
    ):
        expected = twin(*chosen, CLASSES)
        for each in matched:
            value = intervals._of_class(each, counts, metric)[0]
            if scores_differ(each):
                assert value == pytest.approx(expected[each.name], nan_ok=True)


def scores_differ(matched: Matched) -> bool:
    """Detections of equal confidence may change places when an image is drawn twice."""
    return len(set(matched.scores.tolist())) == len(matched.scores)


def test_the_interval_of_a_fraction() -> None:
    """Half of 400 images have their object found: 0.5, give or take twice the standard error, 0.025."""
    n = 400
    found = np.arange(n) % 2 == 0
    matched = Matched("a", np.linspace(1, 0, n), np.arange(n), found[None], found[None], np.ones(n, int))
    low, high = intervals.interval([matched], intervals.recall) or (0, 0)
    assert low == pytest.approx(0.45, abs=0.01)
    assert high == pytest.approx(0.55, abs=0.01)


def test_few_images_have_a_wide_one_and_one_image_has_none() -> None:
    def matched(n: int) -> Matched:
        found = np.arange(n) % 2 == 0
        return Matched("a", np.linspace(1, 0, n), np.arange(n), found[None], found[None], np.ones(n, int))

    few, many = (intervals.interval([matched(n)], intervals.recall) for n in (8, 200))
    assert few is not None
    assert many is not None
    assert few.high - few.low > 3 * (many.high - many.low)
    assert intervals.interval([matched(1)], intervals.recall) is None
    assert intervals.interval([], intervals.recall) is None


def test_it_repeats_itself() -> None:
    matched = Matched(
        "a", np.linspace(1, 0, 30), np.arange(30), np.eye(1, 30, 3) > 0, np.ones((1, 30), bool), np.ones(30, int)
    )
    assert intervals.interval([matched], intervals.coco_ap) == intervals.interval([matched], intervals.coco_ap)
