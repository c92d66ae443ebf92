"""Detecting in images: files, folders, and images at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CLASSES, SIZE, draw_image, tiny_detector, trained_run

import frcnn
from frcnn.evaluator import Evaluator
from frcnn.nn.detector import FasterRCNN
from frcnn.prediction import at_least, predict, to_json
from frcnn.types import Prediction


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    return tiny_detector("detector.image.shorter_side=48", "detector.image.longer_side=64")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    draw_image([("red", (10, 12, 60, 70))]).save(path)
    return path


def same(one: Prediction, other: Prediction) -> None:
    assert len(one.names)
    assert one.names == other.names
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_file_a_picture_and_an_array_are_the_same_image(detector: FasterRCNN, photo: Path) -> None:
    with Image.open(photo) as picture:
        ways = [photo, str(photo), picture, np.asarray(picture)]
        alone = [predict(detector, way, min_score=0.1)[0] for way in ways]
        together = predict(detector, ways, min_score=0.1)
    for prediction in (*alone, *together):
        same(prediction, alone[0])
    assert [prediction.image for prediction in together] == [str(photo), str(photo), "image", "image"]


def test_a_turned_or_mirrored_array_is_taken_as_it_lies_in_memory(detector: FasterRCNN, photo: Path) -> None:
    array = np.asarray(Image.open(photo).convert("RGB"))
    same(predict(detector, array[:, ::-1], min_score=0)[0], predict(detector, array[:, ::-1].copy(), min_score=0)[0])


def test_a_sixteen_bit_picture_is_the_same_image_as_its_file(detector: FasterRCNN, tmp_path: Path) -> None:
    grey = np.asarray(draw_image([("red", (10, 12, 60, 70))]).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as picture:
        same(predict(detector, picture, min_score=0)[0], predict(detector, tmp_path / "deep.png", min_score=0)[0])


def test_a_large_jpeg_is_the_same_image_though_it_is_decoded_at_reduced_size(tmp_path: Path) -> None:
    photo = draw_image([("red", (10, 12, 60, 70))]).resize((SIZE[1] * 10, SIZE[0] * 10))
    photo.save(tmp_path / "photo.jpg", quality=95)
    run = frcnn.load(trained_run())
    with Image.open(tmp_path / "photo.jpg") as picture:
        whole, reduced = (predict(run, image, min_score=0)[0] for image in (picture, tmp_path / "photo.jpg"))
    assert not np.array_equal(reduced.boxes, whole.boxes)
    assert reduced.names[0] == whole.names[0]
    np.testing.assert_allclose(reduced.boxes[0], whole.boxes[0], rtol=0, atol=5)  # half a pixel of the input
    np.testing.assert_allclose(reduced.scores[0], whole.scores[0], rtol=0, atol=0.01)


def test_a_folder_stands_for_its_images_in_order(detector: FasterRCNN, tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.jpg"):
        draw_image([]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("hello")
    draw_image([]).save(tmp_path / "d.bmp")
    done: list[tuple[int, int]] = []
    found = predict(detector, [tmp_path, tmp_path / "b.png"], on_image=lambda *state: done.append(state))
    assert [Path(prediction.image).name for prediction in found] == ["a.JPG", "b.png", "c.jpg", "d.bmp", "b.png"]
    assert done == [(number, 5) for number in range(1, 6)]


def test_a_run_predicts_like_its_detector(photo: Path) -> None:
    run = trained_run()
    same(predict(run, photo, min_score=0)[0], predict(frcnn.load(run), photo, min_score=0)[0])


@pytest.mark.parametrize("size", [(96, 128), (300, 200), (17, 90), (1, 1), (2000, 60)])
def test_boxes_lie_inside_images_of_any_size(detector: FasterRCNN, size: tuple[int, int]) -> None:
    (prediction,) = predict(detector, draw_image([], size=size), min_score=0)
    assert prediction.boxes.dtype == prediction.scores.dtype == np.float32
    assert (prediction.boxes >= 0).all()
    assert (prediction.boxes[:, 2] <= size[1] * (1 + 1e-5)).all()
    assert (prediction.boxes[:, 3] <= size[0] * (1 + 1e-5)).all()
    assert set(prediction.names) <= set(CLASSES)


def test_detections_under_min_score_are_left_out(detector: FasterRCNN, photo: Path) -> None:
    (every,) = predict(detector, photo, min_score=0)
    limit = float(every.scores[3])
    (some,) = predict(detector, photo, min_score=limit)
    assert len(some.names) == len(some.boxes) == int((every.scores >= limit).sum())
    same(some, at_least(every, limit))
    assert predict(detector, photo, min_score=1.0)[0].names == ()


def test_what_is_not_there_or_no_image_is_named(detector: FasterRCNN, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no image in this folder"):
        predict(detector, tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image"):
        predict(detector, [photo, tmp_path / "nowhere.jpg"])
    photo.write_text("hello")
    with pytest.raises(ValueError, match=r"photo\.png: not an image"):
        predict(detector, photo)


@pytest.mark.parametrize("array", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_an_array_of_another_form_is_an_error(detector: FasterRCNN, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image: an array must be \(H, W, 3\) uint8 RGB, not \(9, 9"):
        predict(detector, array)


def test_json_for_programs() -> None:
    prediction = Prediction("größe.jpg", np.array([[1, 2, 3.5, 4]], np.float32), np.array([0.75], np.float32), ("橙",))
    expected = [{"image": "größe.jpg", "detections": [{"class": "橙", "score": 0.75, "box": [1, 2, 3.5, 4]}]}]
    assert json.loads(to_json([prediction])) == expected
    assert json.loads(to_json([])) == []


# --------------------------------------------------------------------------------------------- the tutorial's evaluator


def test_the_evaluator_gives_a_box_and_probabilities_for_each_roi(detector: FasterRCNN) -> None:
    size = (192, 256)
    boxes, probabilities = Evaluator(detector).process_image(draw_image([("red", (10, 12, 60, 70))], size=size))
    assert boxes.shape == (len(probabilities), 4)
    assert probabilities.shape[1] == 1 + len(CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (boxes >= 0).all()
    assert (boxes.max(axis=0)[2:] <= (size[1], size[0])).all()
    assert boxes.max() > SIZE[1]  # pixels of the original image, not of the input


def test_the_evaluator_regresses_each_roi_for_its_best_class(detector: FasterRCNN, photo: Path) -> None:
    """Oracle: the detector's own detections, each of which is some RoI regressed for its class."""
    boxes, probabilities = Evaluator(detector).process_image(photo)
    (prediction,) = predict(detector, photo, min_score=0.5)
    assert len(prediction.names)
    for box, score, name in zip(*prediction[1:], strict=True):
        of_class = probabilities[:, 1 + CLASSES.index(name)]
        roi = np.abs(of_class - score).argmin()
        np.testing.assert_allclose(of_class[roi], score, atol=1e-5)
        np.testing.assert_allclose(boxes[roi], box, atol=1e-2)


def test_the_evaluator_leaves_background_where_it_is(detector: FasterRCNN, photo: Path) -> None:
    evaluator = Evaluator(detector)
    boxes, probabilities = evaluator.process_image(photo)
    proposed = evaluator.unregressed(photo)
    background = probabilities.argmax(axis=1) == 0
    assert background.any()
    np.testing.assert_allclose(boxes[background], proposed[background], atol=1e-3)
    assert (np.abs(boxes[~background] - proposed[~background]).max(axis=1) > 0.01).all()


def test_the_evaluators_raw_outputs_have_the_tutorials_names(detector: FasterRCNN, photo: Path) -> None:
    raw = Evaluator(detector)(photo)
    assert raw._fields[:3] == ("rpn_rois", "cls_pred", "bbox_regr")
    assert raw.rpn_rois.shape == (1, 20, 4)
    assert not torch.is_grad_enabled() or not raw.cls_pred.requires_grad


def test_the_evaluator_takes_a_run(photo: Path) -> None:
    boxes, _ = Evaluator(str(trained_run())).process_image(str(photo))
    assert boxes.shape[1] == 4
