"""Measuring average precision beside the development kit's loop."""

import pytest
from compare import eval as bench
from compare.timing import OURS


def test_both_are_timed_on_some_images_and_ours_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_IMAGES", 20)
    monkeypatch.setattr(bench, "_SLICE", 5)
    some, whole = bench.bench_eval(rounds=2)
    assert "5 images, 20 classes, 500 detections" in some.work
    assert "20 images, 20 classes, 2,000 detections" in whole.work
    assert {way: len(seconds) for way, seconds in some.seconds.items()} == {OURS: 2, "development kit's loop": 2}
    assert list(whole.seconds) == [OURS]


def test_nothing_is_timed_if_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_IMAGES", 5)
    monkeypatch.setattr(bench, "voc_ap_by_loop", lambda predictions, records, classes: dict.fromkeys(classes, 2.0))
    with pytest.raises(AssertionError, match="Not equal"):
        next(bench.bench_eval(rounds=1))
