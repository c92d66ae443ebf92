"""What is told of an evaluation."""

import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import strategies
from hypothesis import given
from tiny import detections_of, tiny_model, train_tiny, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import Dataset
from frcnn.data.records import Record
from frcnn.evaluation.errors import ErrorKind
from frcnn.evaluation.evaluate import evaluate
from frcnn.evaluation.matching import inside_ignored
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


def test_detections_inside_an_ignored_region_are_not_in_the_confusion_matrix() -> None:
    crowd = record(("cat", (0, 0, 100, 100)), ignore=(0,))
    found = detections_of(("cat", 0.9, A), ("cat", 0.8, B), ("dog", 0.7, C))
    assert confusion_matrix([found], [crowd], ["cat", "dog"]).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


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
    ignored = sum(int(each.ignore.sum()) for each in records)
    ignored += sum(int(inside_ignored(*each).sum()) for each in zip(*images, strict=True))
    assert found - ignored <= matrix[:, :-1].sum() <= found
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
    cat, dog = plain["per_class"]["cat"], plain["per_class"]["dog"]
    assert (cat["ap50"], cat["ap"], cat["objects"], cat["best_threshold"]) == (1.0, 1.0, 1, 0.45)
    assert (dog["ap50"], dog["ap"], dog["objects"], dog["best_threshold"]) == (None, None, 0, None)
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


# ------------------------------------------------------------------------------------------- what is computed on demand


def two_images() -> tuple[list[Detections], list[Record]]:
    """The cats are found, one dog is taken for background, and there is a false cat."""
    records = [record(("cat", A), ("dog", B)), record(("cat", C))]
    return [detections_of(("cat", 0.9, A), ("cat", 0.4, (70, 70, 80, 80))), detections_of(("cat", 0.7, C))], records


def test_counts_and_thresholds() -> None:
    metrics = compute_metrics(*two_images(), ("cat", "dog"))
    assert metrics.counts() == (2, 0, 1)
    assert metrics.counts(0.4) == (2, 1, 1)
    assert metrics.best_threshold() == pytest.approx(0.55)
    assert metrics.best_threshold("dog") is None
    assert metrics.best_threshold("cat", recall=0.5) == pytest.approx(0.8)


def test_everything_is_in_the_file() -> None:
    metrics = compute_metrics(*two_images(), ("cat", "dog"))
    content = json.loads(metrics.to_json())
    assert content["ar"] == metrics.ar == pytest.approx(0.5)
    assert content["by_size"] == {"small": pytest.approx(0.5), "medium": None, "large": None}
    assert set(content["intervals"]) == {"map50", "map", "ar", "small", "medium", "large"}
    low, high = content["intervals"]["map50"]
    assert 0 <= low <= metrics.map50 <= high <= 1
    assert content["errors"]["background"] == {"count": 0, "cost": 0.0}  # its confidence is below the threshold
    assert content["errors"]["missed"] == {"count": 1, "cost": pytest.approx(0.5)}
    assert content["at_threshold"] == {"precision": 1, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8)}
    assert content["calibration"] == [
        {"confidence": pytest.approx(confidence), "correct": correct, "detections": 1}
        for confidence, correct in ((0.4, 0), (0.7, 1), (0.9, 1))
    ]
    assert content["left_out"] == {}
    assert content["per_class"]["cat"]["precision"] == 1
    assert content["per_class"]["dog"]["recall"] == 0
    assert content["best_threshold"] == pytest.approx(0.55)


def test_errors_are_counted_at_a_threshold() -> None:
    """The dog is taken for a cat; from 0.7 on, nothing is about it, so it is missed."""
    images = [detections_of(("cat", 0.9, A), ("cat", 0.6, B))], [record(("cat", A), ("dog", B))]
    metrics = compute_metrics(*images, ("cat", "dog"))
    assert (metrics.error_counts()[ErrorKind.CLASS], metrics.error_counts()[ErrorKind.MISSED]) == (1, 0)
    assert {kind: count for kind, count in metrics.error_counts(0.7).items() if count} == {ErrorKind.MISSED: 1}
    assert metrics.error_counts(0.95)[ErrorKind.MISSED] == 2
    assert metrics.error_counts(0.9)[ErrorKind.MISSED] == 1  # 0.9 as float32 is less than 0.9


@given(strategies.evaluations())
def test_without_a_threshold_all_errors_are_counted(images: tuple[list[Detections], list[Record]]) -> None:
    metrics = compute_metrics(*images, strategies.CLASSES)
    counts = Counter(error.kind for error in metrics.errors.errors)
    assert metrics.error_counts(0) == {kind: counts[kind] for kind in ErrorKind}


@pytest.mark.parametrize("use_07_metric", [False, True])
def test_the_interval_is_that_of_the_metric(use_07_metric: bool) -> None:
    """In all images the same: each sample has the AP of all images."""
    detections, records = [detections_of(("cat", 0.9, A))] * 3, [record(("cat", A), ("cat", B))] * 3
    metrics = compute_metrics(detections, records, ("cat",), use_07_metric=use_07_metric)
    assert metrics.map50 == pytest.approx(6 / 11 if use_07_metric else 0.5)
    assert metrics.intervals["map50"] == pytest.approx((metrics.map50, metrics.map50))


def test_objects_of_unknown_classes_are_told(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "data")
    (folder / "testImages" / "5.bboxes.labels.tsv").write_text("red\ngreen\n")
    records = Dataset(folder, DataSettings()).test
    runtime = TorchRuntime(tiny_model())
    with pytest.warns(UserWarning, match="does not know the class"):
        metrics = evaluate(runtime, records)
    assert metrics.left_out == metrics.to_dict()["left_out"] == {"green": 1}
    train_tiny(folder, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["left_out"] == {"green": 1}


def test_figures(tmp_path: Path) -> None:
    metrics = compute_metrics(*two_images(), ("cat", "dog"))
    metrics.plot_pr().savefig(tmp_path / "pr.png")
    figure = metrics.plot_confusion_matrix()
    figure.savefig(tmp_path / "confusion.png")
    cells = {text.get_text() for text in figure.axes[0].texts}
    assert cells == {"2", "1"}
    assert min((tmp_path / name).stat().st_size for name in ("pr.png", "confusion.png")) > 5000
