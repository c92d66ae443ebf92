"""The detections in one image, as a user gets them."""

import copy
import json
import pickle
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import detections_of, draw_image

from frcnn.inference.results import Detection, Detections, to_detections

DETECTIONS = detections_of(
    ("dog", 0.9, (1, 2, 30, 40)), ("cat", 0.8, (5, 6, 7, 8)), ("dog", 0.25, (0, 0, 3.5, 4)), path="größe.jpg"
)


def test_arrays_have_the_names_and_types_of_supervision() -> None:
    assert (DETECTIONS.xyxy.shape, DETECTIONS.xyxy.dtype) == ((3, 4), np.float32)
    assert (DETECTIONS.confidence.shape, DETECTIONS.confidence.dtype) == ((3,), np.float32)
    assert DETECTIONS.class_id.tolist() == [1, 0, 1]
    assert DETECTIONS.class_name.tolist() == ["dog", "cat", "dog"]
    assert DETECTIONS.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (DETECTIONS.confidence > 0.5, [0, 1]),
        (DETECTIONS.class_name == "dog", [0, 2]),
        (DETECTIONS.confidence > 2, []),
        ([False, False, True], [2]),
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        (np.array([2, 0]), [2, 0]),
        ([2, 0], [2, 0]),
        ([], []),
    ],
)
def test_a_mask_a_slice_and_indices_give_detections(index: Any, kept: list[int]) -> None:
    some = DETECTIONS[index]
    np.testing.assert_array_equal(some.xyxy, DETECTIONS.xyxy[kept].reshape(-1, 4))
    np.testing.assert_array_equal(some.confidence, DETECTIONS.confidence[kept])
    np.testing.assert_array_equal(some.class_name, DETECTIONS.class_name[kept])
    assert (some.path, some.classes, len(some)) == ("größe.jpg", ("cat", "dog"), len(kept))


def test_a_number_gives_one_detection_and_iteration_all() -> None:
    assert isinstance(DETECTIONS[-1], Detection)
    assert [(each.class_name, each.class_id, each.xyxy.tolist()) for each in DETECTIONS] == [
        ("dog", 1, [1, 2, 30, 40]),
        ("cat", 0, [5, 6, 7, 8]),
        ("dog", 1, [0, 0, 3.5, 4]),
    ]
    assert DETECTIONS[np.int64(1)].confidence == pytest.approx(0.8)
    with pytest.raises(IndexError):
        DETECTIONS[3]


def test_arrays_must_fit_together() -> None:
    with pytest.raises(ValueError, match=r"xyxy \(1, 4\), confidence \(1,\) and class_id \(2,\)"):
        Detections(np.zeros((1, 4)), np.zeros(1), np.zeros(2, int), ("cat",))


def test_text() -> None:
    assert repr(DETECTIONS) == "<Detections: 3 in größe.jpg (2 dog, 1 cat)>"
    assert repr(Detections.empty()) == "<Detections: 0>"


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_are_equal(again: Any) -> None:
    other = again(detections_of(("dog", 0.9, (1, 2, 30, 40))))
    assert other.xyxy.tolist() == [[1, 2, 30, 40]]
    assert (other.classes, other.path) == (("dog",), "photo.jpg")


def test_plot_reads_the_file_again_or_takes_the_image_at_hand(tmp_path: Path) -> None:
    photo = draw_image([("red", (10, 12, 60, 70))])
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    photo.save(tmp_path / "turned.png", exif=exif)
    box = ("red", 0.9, (10.0, 12.0, 60.0, 70.0))
    of_file = detections_of(box, path=str(tmp_path / "turned.png")).plot()
    assert of_file.size == photo.size[::-1]
    found = detections_of(box)
    in_memory = Detections(found.xyxy, found.confidence, found.class_id, found.classes, image=photo)
    assert in_memory.plot().size == photo.size
    assert in_memory.plot().tobytes() != photo.tobytes()
    with pytest.raises(ValueError, match="have no image"):
        Detections.empty().plot()


def test_a_notebook_shows_the_picture_or_the_text(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(tmp_path / "photo.png")
    png = detections_of(("red", 0.9, (10, 12, 60, 70)), path=str(tmp_path / "photo.png"))._repr_png_()
    assert png is not None
    assert Image.open(BytesIO(png)).size == (1024, 512)
    assert detections_of(path=str(tmp_path / "nowhere.png"))._repr_png_() is None


def test_save_writes_the_picture(tmp_path: Path) -> None:
    draw_image([]).save(tmp_path / "photo.png")
    found = detections_of(("red", 0.9, (10, 12, 60, 70)), path=str(tmp_path / "photo.png"))
    found.save(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").tobytes() == found.plot().tobytes()


def test_json() -> None:
    expected = {"image": "größe.jpg", "detections": [{"class": "橙", "score": 0.75, "box": [1, 2, 3.5, 4]}]}
    found = detections_of(("橙", 0.75, (1, 2, 3.5, 4)), path="größe.jpg")
    assert json.loads(found.to_json()) == expected


def test_coco_boxes_are_x_y_width_height() -> None:
    assert DETECTIONS[1:].to_coco(image_id=7) == [
        {"image_id": 7, "category_id": 1, "bbox": [5, 6, 2, 2], "score": pytest.approx(0.8)},
        {"image_id": 7, "category_id": 2, "bbox": [0, 0, 3.5, 4], "score": 0.25},
    ]
    assert Detections.empty(("cat",)).to_coco(1) == []


def test_coco_categories_have_the_ids_of_the_annotation_file() -> None:
    found = DETECTIONS.to_coco("a", {"cat": 17, "bird": 16, "dog": 18})
    assert [(each["image_id"], each["category_id"]) for each in found] == [("a", 18), ("a", 17), ("a", 18)]
    with pytest.raises(ValueError, match="category_ids: lacks class 'dog'; it has: cat"):
        DETECTIONS.to_coco(7, {"cat": 17})


def test_a_dataframe_has_a_row_for_each_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda columns: columns))  # type: ignore[arg-type]
    table = DETECTIONS.to_dataframe()
    assert list(table) == ["image", "class_name", "class_id", "confidence", "x1", "y1", "x2", "y2"]
    assert {len(column) for column in table.values()} == {3}
    assert table["y2"].tolist() == [40, 8, 4]


def test_supervision_gets_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **fields: fields))  # type: ignore[arg-type]
    fields = DETECTIONS.to_supervision()
    assert list(fields) == ["xyxy", "confidence", "class_id", "tracker_id", "data"]
    assert fields["data"]["class_name"].tolist() == ["dog", "cat", "dog"]
    assert fields["tracker_id"] is None
    assert replace(DETECTIONS, tracker_id=np.array([3, 1, 2])).to_supervision()["tracker_id"].tolist() == [3, 1, 2]


@pytest.mark.parametrize(("method", "package"), [("to_dataframe", "pandas"), ("to_supervision", "supervision")])
def test_a_missing_package_is_named(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
        getattr(DETECTIONS, method)()


def test_only_valid_detections_of_a_batch_are_kept() -> None:
    one, none = to_detections(
        np.arange(16, dtype=np.float32).reshape(2, 2, 4),
        np.array([[0.9, 0.5], [0.0, 0.0]], np.float32),
        np.array([[2, 1], [1, 1]]),
        np.array([[True, True], [False, False]]),
        classes=("blue", "red"),
        original_sizes=np.array([[96, 128], [10, 20]], np.float32),
    )
    assert (one.class_name.tolist(), one.xyxy.tolist()) == (["red", "blue"], [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert (none.class_name.tolist(), none.xyxy.shape, none.confidence.shape) == ([], (0, 4), (0,))
    assert (one.size, none.size) == ((96, 128), (10, 20))
