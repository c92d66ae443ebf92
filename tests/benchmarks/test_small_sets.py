"""The rows of the comparison on small data sets."""

from pathlib import Path
from typing import Any

import pytest
import small_sets


@pytest.mark.parametrize(
    ("stored", "seconds"),
    [({"frcnn": {"map50": 0.9, "seconds": 12.0}}, 12.0), ({"frcnn": {"map50": 0.9}}, 34.0), ({}, 34.0)],
)
def test_torchvision_trains_as_long_as_frcnn_also_where_no_time_is_stored(
    stored: dict[str, Any], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(small_sets, "train_frcnn", lambda *_: {"seconds": 34.0})
    monkeypatch.setattr(small_sets, "_train_torchvision", lambda *arguments: asked.append(arguments[-1]))
    small_sets.ROWS["torchvision, as long as frcnn"](Path("data"), {}, 1, stored)
    assert asked == [seconds]
