"""What is told of an evaluation."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import strategies
from hypothesis import given
from tiny import detections_of, tiny_model

from frcnn.data.records import Record
from frcnn.evaluation.evaluate import evaluate
from frcnn.evaluation.metrics import compute_metrics, confusion_matrix, first_match, recall_at
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import TorchRuntime

A, B, C = (0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)


def record(*objects: tuple[str, tuple[float, ...]], ignore: tuple[int, ...] = ()) -> Record:
    return Record(
        Path("photo.jpg"),
        np.array([box for _, box in objects], np.float32).reshape(-1, 4),
        tuple(name for name, _ in objects),
        np.array([number in ignore for number in range(len(objects))], bool),
    )


def test_a_confusion_matrix_by_hand() -> None:
    records = [record(("cat", A), ("dog", B), ("dog", C)), record(("cat", A))]
    detections = [
        detections_of(("cat", 0.9, A), ("cat", 0.8, B), ("dog", 0.4, C)),  # right, dog taken for cat, below threshold
        detections_of(("dog", 0.7, B)),  # background taken for dog, cat missed
    ]
    assert confusion_matrix(detections, records, ("cat", "dog")).tolist() == [
        [1, 0, 1],  # cat: found, missed
        [1, 0, 1],  # dog: taken for cat, missed
        [0, 1, 0],  # background: taken for dog
    ]
    assert confusion_matrix(detections, records, ("cat", "dog"), threshold=0.4)[1].tolist() == [1, 1, 0]


def test_ignored_objects_and_their_detections_are_not_in_the_confusion_matrix() -> None:
    matrix = confusion_matrix(
        [detections_of(("cat", 0.9, A))], [record(("cat", A), ("cat", B), ignore=(0, 1))], ["cat"]
    )
    assert matrix.tolist() == [[0, 0], [0, 0]]


def test_the_best_overlap_is_paired_first() -> None:
    detections = detections_of(("dog", 0.9, (0, 0, 10, 7)), ("cat", 0.8, A))
    assert confusion_matrix([detections], [record(("cat", A))], ("cat", "dog")).tolist() == [
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
    ]


@given(strategies.evaluations())
def test_the_sums_of_a_confusion_matrix_are_those_of_objects_and_detections(
    images: tuple[list[Detections], list[Record]],
) -> None:
    detections, records = images
    matrix = confusion_matrix(detections, records, strategies.CLASSES, threshold=0.25)
    for number, name in enumerate(strategies.CLASSES):
        of_class = [(np.array(each.class_names) == name) & ~each.ignore for each in records]
        assert matrix[number].sum() == sum(mask.sum() for mask in of_class)
    found = sum(int((each.confidence >= 0.25).sum()) for each in detections)
    objects_ignored = sum(int(each.ignore.sum()) for each in records)
    assert found - objects_ignored <= matrix[:, :-1].sum() <= found
    assert matrix[-1, -1] == 0


def test_recall_of_proposals_by_hand() -> None:
    proposals = np.array([B, A, (0, 0, 10, 9), (100, 100, 110, 110)], np.float32)
    matches = first_match(proposals, record(("cat", A), ("cat", B), ("cat", C), ("cat", C), ignore=(3,)))
    assert matches == [1, 0, -1]
    assert recall_at(matches, (1, 2, 300)) == pytest.approx({1: 1 / 3, 2: 2 / 3, 300: 2 / 3})
    assert math.isnan(recall_at([], (1,))[1])
    assert first_match(np.zeros((0, 4), np.float32), record(("cat", A))) == [-1]


def test_text_json_and_table(monkeypatch: pytest.MonkeyPatch) -> None:
    detections = [detections_of(("cat", 0.9, A))]
    metrics = compute_metrics(detections, [record(("cat", A))], ("cat", "dog"), recall={50: 0.5}, seconds_per_image=0.1)
    assert str(metrics).splitlines() == [
        "AP for             cat = 1.0000",
        "AP for             dog = no objects",
        "Mean AP = 1.0000",
        "COCO AP = 1.0000",
        "Recall of proposals = 0.5000 at 50",
    ]
    assert repr(metrics) == "<Metrics: map50 1.0000, map 1.0000, 1 image of split 'test'>"
    assert repr(replace(metrics, split=None)) == "<Metrics: map50 1.0000, map 1.0000, 1 image>"
    plain = json.loads(metrics.to_json())
    assert (plain["map50"], plain["map"], plain["recall"]) == (1.0, 1.0, {"50": 0.5})
    assert plain["per_class"] == {
        "cat": {"ap50": 1.0, "ap": 1.0, "objects": 1},
        "dog": {"ap50": None, "ap": None, "objects": 0},
    }
    assert plain["confusion_matrix"] == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))  # type: ignore[arg-type]
    assert metrics.to_dataframe()[0] == {"class_name": "cat", "ap50": 1.0, "ap": 1.0, "objects": 1}
    monkeypatch.setitem(sys.modules, "pandas", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        metrics.to_dataframe()


def test_what_cannot_be_evaluated_is_named() -> None:
    runtime = TorchRuntime(tiny_model())
    with pytest.raises(ValueError, match="there are no images to evaluate on in the split 'val'"):
        evaluate(runtime, [], split="val")
    with pytest.raises(ValueError, match=r"knows none of the classes of these images \(cat\); it knows: blue, red"):
        evaluate(runtime, [record(("cat", A))])
