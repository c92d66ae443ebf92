"""Detecting in images: files, folders, and images at hand."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import CLASSES, COLORS, SIZE, Box, draw_image, tiny_model, trained_run

import frcnn
from frcnn.config import ResultSettings
from frcnn.data.records import make_record
from frcnn.data.transforms import PaddedBatch
from frcnn.detector import Detector
from frcnn.evaluation.evaluate import evaluate
from frcnn.inference.evaluator import Evaluator
from frcnn.inference.inputs import ImageLike
from frcnn.inference.predictor import in_parallel, predict_each
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import BatchResult, Runtime, TorchRuntime
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.resizing import Resizing


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model("detector.image.shorter_side=48", "detector.image.longer_side=64")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    draw_image([("red", (10, 12, 60, 70))]).save(path)
    return path


def predict(
    model: FasterRCNN | Runtime, images: ImageLike | Iterable[ImageLike], *, threshold: float = 0.5, **options: Any
) -> list[Detections]:
    return list(Detector(model).predict_iter(images, threshold=threshold, **options))


def same(one: Detections, other: Detections) -> None:
    assert len(one)
    np.testing.assert_array_equal(one.class_name, other.class_name)
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    np.testing.assert_array_equal(one.confidence, other.confidence)


def test_a_file_a_picture_and_an_array_are_the_same_image(model: FasterRCNN, photo: Path) -> None:
    with Image.open(photo) as picture:
        ways = [photo, str(photo), picture, np.asarray(picture)]
        alone = [predict(model, way, threshold=0.1)[0] for way in ways]
        together = predict(model, ways, threshold=0.1)
    for prediction in (*alone, *together):
        same(prediction, alone[0])
    assert [prediction.path for prediction in together] == [str(photo), str(photo), None, None]


def test_a_turned_or_mirrored_array_is_taken_as_it_lies_in_memory(model: FasterRCNN, photo: Path) -> None:
    array = np.asarray(Image.open(photo).convert("RGB"))
    same(
        predict(model, array[:, ::-1], threshold=0)[0],
        predict(model, array[:, ::-1].copy(), threshold=0)[0],
    )


def test_a_sixteen_bit_picture_is_the_same_image_as_its_file(model: FasterRCNN, tmp_path: Path) -> None:
    gray = np.asarray(draw_image([("red", (10, 12, 60, 70))]).convert("L")).astype(np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as picture:
        same(
            predict(model, picture, threshold=0)[0],
            predict(model, tmp_path / "deep.png", threshold=0)[0],
        )


def test_a_large_jpeg_is_the_same_image_though_it_is_decoded_at_reduced_size(tmp_path: Path) -> None:
    photo = draw_image([("red", (10, 12, 60, 70))]).resize((SIZE[1] * 10, SIZE[0] * 10))
    photo.save(tmp_path / "photo.jpg", quality=95)
    run = frcnn.load(trained_run()).model
    with Image.open(tmp_path / "photo.jpg") as picture:
        whole, reduced = (predict(run, image, threshold=0)[0] for image in (picture, tmp_path / "photo.jpg"))
    assert not np.array_equal(reduced.xyxy, whole.xyxy)
    assert reduced.class_name[0] == whole.class_name[0]
    np.testing.assert_allclose(reduced.xyxy[0], whole.xyxy[0], rtol=0, atol=5)  # half a pixel of the input
    np.testing.assert_allclose(reduced.confidence[0], whole.confidence[0], rtol=0, atol=0.01)


def test_a_folder_stands_for_its_images_in_order(model: FasterRCNN, tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.jpg"):
        draw_image([]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("hello")
    draw_image([]).save(tmp_path / "d.bmp")
    found = predict(model, [tmp_path, tmp_path / "b.png"])
    assert [Path(str(prediction.path)).name for prediction in found] == ["a.JPG", "b.png", "c.jpg", "d.bmp", "b.png"]


def test_a_run_predicts_like_its_detector(photo: Path) -> None:
    run = trained_run()
    found = frcnn.load(run).predict(photo, threshold=0)
    assert isinstance(found, Detections)
    same(found, predict(frcnn.load(run).model, photo, threshold=0)[0])


@pytest.mark.parametrize("size", [(96, 128), (300, 200), (17, 90), (1, 1), (2000, 60)])
def test_boxes_lie_inside_images_of_any_size(model: FasterRCNN, size: tuple[int, int]) -> None:
    (prediction,) = predict(model, draw_image([], size=size), threshold=0)
    assert prediction.xyxy.dtype == prediction.confidence.dtype == np.float32
    assert (prediction.xyxy >= 0).all()
    assert (prediction.xyxy[:, 2] <= size[1] * (1 + 1e-5)).all()
    assert (prediction.xyxy[:, 3] <= size[0] * (1 + 1e-5)).all()
    assert set(prediction.class_name) <= set(CLASSES)


def test_detections_under_min_score_are_left_out(model: FasterRCNN, photo: Path) -> None:
    (every,) = predict(model, photo, threshold=0)
    limit = float(every.confidence[3])
    (some,) = predict(model, photo, threshold=limit)
    assert len(some) == len(some.xyxy) == int((every.confidence >= limit).sum())
    same(some, every[every.confidence >= limit])
    assert len(predict(model, photo, threshold=1.0)[0]) == 0


def test_what_is_not_there_or_no_image_is_named(model: FasterRCNN, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: the folder has no image"):
        predict(model, tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: no such image"):
        predict(model, [photo, tmp_path / "nowhere.jpg"])
    photo.write_text("hello")
    with pytest.raises(ValueError, match=r"photo\.png: not an image"):
        predict(model, photo)


def test_an_image_too_small_for_the_layers_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = TorchRuntime(tiny_model("base_model.name=alexnet", "base_model.last_hidden_node=null"))
    thin, usual = tmp_path / "thin.png", tmp_path / "usual.png"
    draw_image([], size=(20, 100)).save(thin)
    draw_image([]).save(usual)
    errors: list[Exception] = []
    (found,) = predict_each(runtime, [thin, usual], threshold=0, on_error=errors.append)
    assert found.path == str(usual)
    with pytest.raises(ValueError, match=r"thin\.png: a resized image has 128 x 26 pixels; the layers need at least"):
        raise errors[0]
    with pytest.raises(ValueError, match=r"thin\.png: a resized image has 128 x 26 pixels"):
        evaluate(runtime, [make_record(usual, []), make_record(thin, [])])

    def fail(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(runtime._fast, "run_rpn", fail)
    with pytest.raises(RuntimeError, match="bug"):  # not of one image
        next(predict_each(runtime, [usual], threshold=0, on_error=errors.append))


# --------------------------------------------------------------------------------------------- the tutorial's evaluator


def test_the_evaluator_gives_a_box_and_probabilities_for_each_roi(model: FasterRCNN) -> None:
    size = (192, 256)
    boxes, probabilities = Evaluator(model).process_image(draw_image([("red", (10, 12, 60, 70))], size=size))
    assert boxes.shape == (len(probabilities), 4)
    assert probabilities.shape[1] == 1 + len(CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (boxes >= 0).all()
    assert (boxes.max(axis=0)[2:] <= (size[1], size[0])).all()
    assert boxes.max() > SIZE[1]  # pixels of the original image, not of the input


def test_the_evaluator_regresses_each_roi_for_its_best_class(model: FasterRCNN, photo: Path) -> None:
    """Oracle: the detector's own detections, each of which is some RoI regressed for its class."""
    boxes, probabilities = Evaluator(model).process_image(photo)
    (prediction,) = predict(model, photo, threshold=0.5)
    assert len(prediction)
    for box, score, _, name in prediction:
        of_class = probabilities[:, 1 + CLASSES.index(name)]
        roi = np.abs(of_class - score).argmin()
        np.testing.assert_allclose(of_class[roi], score, atol=1e-5)
        np.testing.assert_allclose(boxes[roi], box, atol=1e-2)


def test_the_evaluator_limits_boxes_as_the_rules_say(photo: Path) -> None:
    model = tiny_model("detector.rules=mmdetection")
    with torch.no_grad():
        model.roi_head.deltas.weight.zero_()
        model.roi_head.deltas.bias.view(-1, 4)[:, 2:] = -100  # sides shrink as far as they may, 62.5-fold
    evaluator = Evaluator(model)
    boxes, probabilities = evaluator.process_image(photo)
    proposed = evaluator.unregressed(photo)
    found = probabilities.argmax(axis=1) > 0
    assert found.any()
    after, before = (each[found, 2:] - each[found, :2] for each in (boxes, proposed))
    np.testing.assert_allclose(after, before / 62.5, atol=1e-3)


def test_the_evaluator_leaves_background_where_it_is(model: FasterRCNN, photo: Path) -> None:
    evaluator = Evaluator(model)
    boxes, probabilities = evaluator.process_image(photo)
    proposed = evaluator.unregressed(photo)
    background = probabilities.argmax(axis=1) == 0
    assert background.any()
    np.testing.assert_allclose(boxes[background], proposed[background], atol=1e-3)
    assert (np.abs(boxes[~background] - proposed[~background]).max(axis=1) > 0.01).all()


def test_the_evaluators_raw_outputs_have_the_tutorials_names(model: FasterRCNN, photo: Path) -> None:
    raw = Evaluator(model)(photo)
    assert raw._fields[:3] == ("rpn_rois", "cls_pred", "bbox_regr")
    assert raw.rpn_rois.shape == (1, 20, 4)
    assert not torch.is_grad_enabled() or not raw.cls_pred.requires_grad


def test_the_evaluator_takes_a_run(photo: Path) -> None:
    boxes, _ = Evaluator(str(trained_run())).process_image(str(photo))
    assert boxes.shape[1] == 4


# ------------------------------------------------------------------------------------------------------------ pipeline


class FindsRectangles:
    """Finds filled rectangles of which no side is under six input pixels or over nine tenths of the frame's; the
    smaller, the surer, so that pieces look better than what they are pieces of."""

    classes = CLASSES
    result_settings = ResultSettings()
    parallel_calls = 1

    def __init__(self, *, side: int = 128, batch_size: int = 4) -> None:
        self.batch_size = batch_size
        self.resizing = Resizing("shorter_side", shorter_side=side, longer_side=side)
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, batch: PaddedBatch) -> BatchResult:
        self.shapes.append(batch.images.shape)
        return BatchResult([self._detect(*one) for one in zip(*batch, strict=True)], None)

    def _detect(self, image: np.ndarray, size: np.ndarray, original: np.ndarray) -> Detections:
        found = []
        for label, color in COLORS.items():
            mask = np.abs(image.astype(int) - np.array(color)[:, None, None]).sum(axis=0) < 150
            while mask.any():
                x1, y1, x2, y2 = _first_thing(mask)
                mask[y1:y2, x1:x2] = False
                if min(x2 - x1, y2 - y1) >= 6 and max(x2 - x1, y2 - y1) <= 0.9 * max(mask.shape):
                    score = 1 / (1 + (x2 - x1) * (y2 - y1) / mask.size)
                    box = np.array((x1, y1, x2, y2)) * np.tile((original / size)[::-1], 2)
                    found.append((score, label, box))
        found.sort(key=lambda one: -one[0])
        return Detections(
            np.array([box for *_, box in found], np.float32).reshape(-1, 4),
            np.array([score for score, *_ in found], np.float32),
            np.array([CLASSES.index(label) for _, label, _ in found], np.int64),
            CLASSES,
        )


def _first_thing(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box around what hangs together with the first pixel that is set."""
    y, x = np.argwhere(mask)[0]
    box, grown = (0, 0, 0, 0), (x, y, x + 1, y + 1)
    while box != grown:
        box = grown
        left, top = max(0, box[0] - 1), max(0, box[1] - 1)
        ys, xs = mask[top : box[3] + 1, left : box[2] + 1].nonzero()
        grown = (left + xs.min(), top + ys.min(), left + xs.max() + 1, top + ys.max() + 1)
    return box


def test_images_of_equal_frames_go_through_the_detector_at_once(tmp_path: Path) -> None:
    sizes = [(128, 128)] * 6 + [(64, 128), (100, 128), (100, 128), (50, 64)]
    for number, size in enumerate(sizes):
        draw_image([("red", (10, 12, 30, 40))], seed=number, size=size).save(tmp_path / f"{number}.png")
    runtime = FindsRectangles()
    found = predict(runtime, tmp_path)
    assert runtime.shapes == [
        (4, 3, 128, 128),
        (2, 3, 128, 128),
        (1, 3, 64, 128),
        (3, 3, 100, 128),
    ]
    assert [Path(str(prediction.path)).name for prediction in found] == [f"{number}.png" for number in range(10)]
    for prediction in found:
        same(prediction, predict(FindsRectangles(), str(prediction.path))[0])


@pytest.mark.parametrize(("size", "calls"), [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_many_images_give_what_each_gives_alone(
    model: FasterRCNN, size: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    images = [
        draw_image([("red", (10, 12, 60, 70))], seed=number, size=(96, 128 - 16 * (number // 3 % 2)))
        for number in range(8)
    ]
    alone = [predict(model, image, threshold=0.1)[0] for image in images]
    monkeypatch.setattr(TorchRuntime, "batch_size", size)
    monkeypatch.setattr(TorchRuntime, "parallel_calls", calls)
    for one, other in zip(predict(model, images, threshold=0.1), alone, strict=True):
        assert len(one)
        np.testing.assert_array_equal(one.class_name, other.class_name)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-2)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
    with ThreadPoolExecutor(1) as fresh:  # a thread takes over the number that was set last
        assert torch.get_num_threads() == fresh.submit(torch.get_num_threads).result() == 4
    torch.set_num_threads(threads)


def test_few_images_are_held_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are read and not yet told: for many images no more than for some."""

    def most(count: int) -> int:
        read, ahead = 0, 0

        def image() -> Image.Image:
            nonlocal read
            read += 1
            return draw_image([], size=(64, 64))

        class Lazy(list):  # type: ignore[type-arg]
            def __iter__(self) -> Iterator[Image.Image]:
                return (image() for _ in range(count))

        each = predict_each(FindsRectangles(), Lazy(), threshold=0.5)
        for told, _ in enumerate(each, start=1):
            ahead = max(ahead, read - told)
        assert read == told == count
        return ahead

    assert most(100) == most(50) < 30


# --------------------------------------------------------------------------------------------------------------- tiles

TILED = (600, 900)
OBJECTS = {
    "inside a tile": ("red", (30, 30, 50, 55)),
    "on the border of a tile": ("blue", (118, 20, 138, 45)),
    "on the corner of four": ("red", (120, 120, 136, 134)),
    "at the border of the photo": ("red", (880, 580, 900, 600)),
    "cut off by every tile": ("blue", (70, 200, 140, 222)),
    "much larger than a tile": ("red", (300, 250, 700, 560)),
}


def assert_each_once(prediction: Detections, objects: Sequence[tuple[str, Box]], *, pixels: float) -> None:
    assert len(prediction) == len(objects), prediction
    for name, box in objects:
        near = np.abs(prediction.xyxy - np.array(box)).max(axis=1) <= pixels
        assert [prediction.class_name[i] for i in near.nonzero()[0]] == [name], (box, prediction)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiles_find_each_object_once(batch_size: int) -> None:
    objects = list(OBJECTS.values())
    photo, runtime = draw_image(objects, size=TILED), FindsRectangles(batch_size=batch_size)
    (prediction,) = predict(runtime, photo, threshold=0, tile=128, overlap=0.25)
    assert_each_once(prediction, objects, pixels=8)
    assert (np.diff(prediction.confidence) <= 0).all()
    assert all(max(shape[2:]) <= 128 for shape in runtime.shapes)
    assert len(predict(FindsRectangles(), photo, threshold=0)[0]) == 1  # whole, the small ones are not seen


@given(st.integers(45, 320), st.integers(45, 320), st.floats(0, 1), st.floats(0, 1))
def test_an_object_of_any_size_anywhere_is_found_once(width: int, height: int, right: float, down: float) -> None:
    x, y = round(right * (TILED[1] - width)), round(down * (TILED[0] - height))
    objects = [("red", (x, y, x + width, y + height))]
    (prediction,) = predict(FindsRectangles(), draw_image(objects, size=TILED), threshold=0, tile=256, overlap=0.2)
    assert_each_once(prediction, objects, pixels=8)


def test_images_not_larger_than_a_tile_are_predicted_as_always(tmp_path: Path) -> None:
    draw_image([("red", (10, 12, 30, 40))], size=(128, 100)).save(tmp_path / "small.png")
    draw_image([("red", (10, 12, 30, 40))], size=(128, 200)).save(tmp_path / "wide.png")
    runtime = FindsRectangles(batch_size=1)
    small, wide = predict(runtime, tmp_path, tile=128)
    same(small, predict(FindsRectangles(), tmp_path / "small.png")[0])
    assert len(runtime.shapes) == 1 + 3  # the wide one by two tiles and whole
    assert Path(str(wide.path)).name == "wide.png"
    assert len(wide) == 1


@pytest.mark.parametrize(("tile", "overlap"), [(63, 0.2), (128, 0.95)])
def test_tiles_that_lead_nowhere_are_an_error(photo: Path, tile: int, overlap: float) -> None:
    with pytest.raises(ValueError, match=r"^(tile|overlap): "):
        predict(FindsRectangles(), photo, tile=tile, overlap=overlap)


def test_a_photo_that_pillow_refuses_is_predicted_by_tiles_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has 24,000 pixels, a tile 9,216 or, larger than Pillow's limit for pieces, 18,000."""
    objects = [("red", (10.0, 12.0, 30.0, 40.0))]
    draw_image(objects, size=(120, 200)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8000)
    with pytest.raises(ValueError, match=r"huge\.png: 200 x 120 pixels are .* in tiles \(tile=1024, --tile 1024\)"):
        predict(FindsRectangles(), tmp_path / "huge.png")
    for tile in (96, 150, 256):
        (prediction,) = predict(FindsRectangles(side=tile), tmp_path / "huge.png", tile=tile)
        assert_each_once(prediction, objects, pixels=2)
    assert prediction.plot().size == (200, 120)
    assert Image.MAX_IMAGE_PIXELS == 8000


def test_a_photo_that_pillow_warns_of_is_predicted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [("red", (10.0, 12.0, 30.0, 40.0))]
    draw_image(objects, size=(120, 200)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.warns(Image.DecompressionBombWarning, match="24000 pixels"):
        (prediction,) = predict(FindsRectangles(side=200), tmp_path / "large.png")
    assert_each_once(prediction, objects, pixels=2)
    for tile in (96, 256):  # asked for: no warning, which would be an error here
        (prediction,) = predict(FindsRectangles(side=tile), tmp_path / "large.png", tile=tile)
        assert_each_once(prediction, objects, pixels=2)


def test_a_strip_is_not_also_predicted_whole() -> None:
    """Resizing would leave a thread of it, which some layers do not take."""
    runtime = FindsRectangles(batch_size=1)
    predict(runtime, draw_image([], size=(80, 810)), tile=100, overlap=0)
    assert len(runtime.shapes) == 9
    predict(runtime, draw_image([], size=(80, 790)), tile=100, overlap=0)
    assert len(runtime.shapes) == 9 + 8 + 1


@pytest.mark.parametrize(("threads", "calls"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 3), (7, 3), (8, 4), (9, 3)])
def test_photos_side_by_side_leave_few_cores_over(
    model: FasterRCNN, threads: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert TorchRuntime(model).batch_size == 1
    assert TorchRuntime(model).parallel_calls == calls


@pytest.mark.parametrize("batch_size", [1, 4])
def test_photos_before_one_without_a_header_are_predicted(tmp_path: Path, batch_size: int) -> None:
    for number in range(6):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_text("hello")
    found = predict_each(
        FindsRectangles(batch_size=batch_size), sorted(tmp_path.iterdir()), threshold=0, tile=None, overlap=0.2
    )
    assert [Path(str(prediction.path)).name for prediction in islice(found, 5)] == [
        f"{number}.png" for number in range(5)
    ]
    with pytest.raises(ValueError, match=r"5\.png: not an image"):
        next(found)


def test_a_broken_photo_among_many_is_named(tmp_path: Path) -> None:
    for number in range(12):
        draw_image([], seed=number).save(tmp_path / f"{number:02}.png")
    (tmp_path / "07.png").write_bytes((tmp_path / "07.png").read_bytes()[:500])
    for tile in (None, 64):
        with pytest.raises(ValueError, match=r"07\.png: damaged or truncated"):
            predict(FindsRectangles(), tmp_path, tile=tile)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_results_before_an_error_of_the_source_come_first(calls: int, good: int) -> None:
    def items() -> Iterator[int]:
        yield from range(good)
        raise ValueError("the source is damaged")

    seen: list[int] = []
    with pytest.raises(ValueError, match="the source is damaged"):
        seen.extend(in_parallel(lambda item: item, items(), calls=calls))
    assert seen == list(range(good))


def test_parallel_calls_need_no_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would be an error
    assert list(in_parallel(lambda item: item + 1, iter(range(5)), calls=2)) == [1, 2, 3, 4, 5]


def test_overlapping_predictions_leave_pytorch_its_threads() -> None:
    threads = torch.get_num_threads()
    first, second = (in_parallel(lambda item: item, iter(range(4)), calls=2) for _ in range(2))
    try:
        torch.set_num_threads(6)
        with ThreadPoolExecutor(1) as other:
            results = [next(first), other.submit(next, second).result(), *first, *other.submit(list, second).result()]
        assert sorted(results) == sorted([*range(4), *range(4)])
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 6
    finally:
        torch.set_num_threads(threads)
