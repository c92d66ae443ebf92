"""The object that a user works with."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_overloads

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CLASSES, draw_image, tiny_model, train_tiny, trained_run

import frcnn
from frcnn.config import DataSettings
from frcnn.inference.results import Detections

PHOTO = draw_image([("red", (10, 12, 60, 70))])


@pytest.fixture(scope="module")
def detector() -> frcnn.Detector:
    return frcnn.load(trained_run())


def same(one: Detections, other: Detections) -> None:
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    np.testing.assert_array_equal(one.confidence, other.confidence)
    np.testing.assert_array_equal(one.class_id, other.class_id)


def test_one_in_one_out_and_several_in_a_list_out(detector: frcnn.Detector, tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "photo.png")
    alone = detector.predict(PHOTO, threshold=0)
    assert isinstance(alone, Detections)
    assert (len(alone) > 0, alone.classes, alone.size, alone.path) == (True, CLASSES, (96, 128), None)
    assert alone.plot().size == PHOTO.size
    for images in ([PHOTO], tmp_path, str(tmp_path), (each for each in (PHOTO,)), [tmp_path / "photo.png"]):
        (found,) = detector.predict(images, threshold=0)
        same(found, alone)
    assert detector.predict([]) == []
    from_file = detector.predict(tmp_path / "photo.png", threshold=0)
    assert from_file.path == str(tmp_path / "photo.png")
    assert from_file.image is None
    assert from_file.plot().tobytes() == alone.plot().tobytes()


def test_one_in_one_out_is_typed() -> None:
    one, several = (each.__annotations__["return"] for each in get_overloads(frcnn.Detector.predict))
    assert (one, several) == ("Detections", "list[Detections]")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda detector: detector.names, "'Detector' object has no attribute 'names'; use classes"),
        (
            lambda detector: detector.predict(PHOTO).names,
            "'Detections' object has no attribute 'names'; use class_name",
        ),
        (lambda detector: detector.predict(PHOTO).boxes, "'Detections' object has no attribute 'boxes'; use xyxy"),
        (lambda detector: detector.predict(PHOTO).to_df, r"no attribute 'to_df'; use to_dataframe\(\)"),
        (lambda detector: detector.train, r"'Detector' object has no attribute 'train'; use frcnn\.train\(data\)"),
        (lambda detector: frcnn.predict, r"'frcnn' has no attribute 'predict'; use frcnn\.load\(path\)\.predict"),
        (lambda detector: detector.predict(PHOTO).area, "'Detections' object has no attribute 'area'$"),
        (lambda detector: detector.predict(PHOTO, threshold=0)[0].plot(), "'Detection' .* returns one `Detections`"),
        (lambda detector: detector.predict(PHOTO, threshold=0)[0].boxes, "'Detection' .*, not a list; that has xyxy"),
    ],
)
def test_names_of_other_libraries_are_answered(detector: frcnn.Detector, use: Any, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        use(detector)


def test_metrics_have_the_names_of_other_libraries(detector: frcnn.Detector) -> None:
    with pytest.raises(AttributeError, match=r"'Metrics' object has no attribute 'mAP'; use map50 \(IoU 0\.5\) or map"):
        _ = detector.evaluate().mAP  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda detector: detector(PHOTO), "'Detector' object is not callable; use predict"),
        (lambda detector: detector.predict(PHOTO, conf=0.3), "argument 'conf'; use threshold$"),
        (lambda detector: detector.predict(PHOTO, xyz=1), "argument 'xyz'$"),
        (lambda detector: list(detector.predict_iter(PHOTO, device="cpu")), r"use frcnn\.load\(path, device=\.\.\.\)"),
        (lambda detector: detector.predict(0), "image: int is not an image"),
        (lambda detector: detector.predict(PHOTO)["boxes"], "'boxes' is not an index, a slice or a mask; use xyxy"),
        (lambda detector: detector.predict(PHOTO)["class_name"], "a mask; use class_name"),
        (lambda detector: detector.predict(PHOTO)["red"], r"one class: detections\[detections\.class_name == 'red'\]"),
    ],
)
def test_calls_of_other_libraries_are_answered(detector: frcnn.Detector, use: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        use(detector)


def test_a_pattern_is_no_image(detector: frcnn.Detector) -> None:
    with pytest.raises(ValueError, match=r"photos/\*\.jpg: a pattern is not an image; pass glob\.glob\("):
        detector.predict("photos/*.jpg")


def test_numbers_are_not_saved_as_a_picture(detector: frcnn.Detector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no pictures with the suffix '\.json'; .* to_json\(\) or to_dataframe\(\)"):
        detector.predict(PHOTO).save(tmp_path / "detections.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("coco", "'coco:fasterrcnn_resnet50_fpn' is torchvision's detector trained on COCO"),
        ("resnet50", "it is a base model, which `frcnn train DATA --base-model resnet50` trains"),
        ("runs/x", "`frcnn train DATA --out runs/x` makes one"),
    ],
)
def test_a_name_that_is_no_model(name: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{name}: no trained model there; {message}"):
        frcnn.load(name)


def test_a_base_model_is_no_detector_trained_on_coco() -> None:
    with pytest.raises(ValueError, match=r"coco:resnet50-fpn: .* use coco:fasterrcnn_resnet50_fpn, or train with"):
        frcnn.load("coco:resnet50-fpn")


def test_an_export_to_a_format(detector: frcnn.Detector) -> None:
    with pytest.raises(TypeError, match=r"no argument 'format'; use `to`, e\.g\. export\(to='onnx'\)"):
        detector.export(format="onnx")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imgsz", r"'imgsz'\. Did you mean settings=\{'detector\.image\.shorter_side': \.\.\.\}\?"),
        ("batch", r"'batch'\. Did you mean batch_size\?"),
        ("model", r"'model'\. Did you mean base_model\?"),
        ("backbone", r"'backbone'\. Did you mean base_model\?"),
        ("pretrained", r"'pretrained'\. Did you mean weights\?"),
        ("epoch", r"'epoch'\. Did you mean epochs\?"),
        ("project", r"'project'\. Did you mean out, the run directory\?"),
        ("names", r"'names'\. The classes are those of the data"),
        ("xyz", r"'xyz'\. `frcnn config` lists all settings"),
    ],
)
def test_arguments_of_other_libraries_are_answered(name: str, message: str) -> None:
    with pytest.raises(TypeError, match=rf"train\(\) got an unexpected keyword argument {message}"):
        frcnn.train("photos", **{name: 1})  # type: ignore[arg-type]


def test_settings_are_a_mapping() -> None:
    with pytest.raises(TypeError, match=r"settings: \['train\.lr=1'\] must be a mapping"):
        frcnn.train("photos", settings=["train.lr=1"])  # type: ignore[arg-type]


def test_a_compressed_detector_predicts_and_is_exported_but_not_saved(
    detector: frcnn.Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = detector.compress(8)
    assert (small.classes, small.model.svd_rank, detector.model.svd_rank) == (detector.classes, 8, None)
    assert len(small.predict(PHOTO, threshold=0)) > 0
    with pytest.raises(ValueError, match=r"the model is compressed \(svd 8\)"):
        small.save(tmp_path / "model.safetensors")
    calls: list[object] = []
    monkeypatch.setattr("frcnn.export.export.export", lambda source, to, out, svd, **_: calls.append((source, svd)))
    small.export("onnx")
    detector.export("onnx")
    assert calls == [(detector.path, 8), (detector.path, None)]


def test_a_detector_in_another_precision(
    detector: frcnn.Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = detector.in_precision("bf16")
    dtypes = [next(each.model.parameters()).dtype for each in (half, detector)]
    assert dtypes == [torch.bfloat16, torch.float32]
    exact, close = (each.predict(PHOTO, threshold=0) for each in (detector, half))
    np.testing.assert_allclose(close.confidence[:1], exact.confidence[:1], atol=0.02)
    with pytest.raises(ValueError, match="the layers are in bf16, which would round the weights"):
        half.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="precision 'half': use auto, fp32, bf16, fp16"):
        detector.in_precision("half")
    given: list[object] = []
    monkeypatch.setattr("frcnn.export.export.export", lambda source, to, out, **options: given.append(options))
    half.export("onnx")
    half.export("onnx", precision="int8")
    assert given == [{"svd": None, "precision": "bf16"}, {"svd": None, "precision": "int8"}]


@pytest.mark.parametrize(
    ("trained", "has_bf16", "dtype"),
    [
        ("auto", True, torch.bfloat16),
        ("bf16", True, torch.bfloat16),
        ("bf16", False, torch.float32),
        ("fp16", True, torch.float32),
        ("fp32", True, torch.float32),
    ],
)
def test_the_automatic_precision(
    trained: str, has_bf16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frcnn.nn.device._has_bf16", lambda device: has_bf16)
    detector = frcnn.Detector(tiny_model(f"train.precision={trained}"))
    assert next(detector.in_precision("auto").model.parameters()).dtype == dtype


def test_the_evaluator_takes_a_detector(detector: frcnn.Detector) -> None:
    for one, other in zip(
        frcnn.Evaluator(detector).process_image(PHOTO),
        frcnn.Evaluator(detector.model).process_image(PHOTO),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_model_in_memory() -> None:
    model = tiny_model()
    detector = frcnn.Detector(model)
    assert detector.model is model
    assert repr(detector) == "<Detector in memory: 2 classes (blue, red)>"
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        detector.evaluate()


def test_a_broken_image_does_not_lose_the_others(detector: frcnn.Detector, tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        PHOTO.save(tmp_path / name)
    (tmp_path / "2.png").write_text("hello")
    with pytest.raises(ValueError, match=r"2\.png: not an image"):
        detector.predict(tmp_path)
    each = detector.predict_iter(tmp_path)
    assert Path(str(next(each).path)).name == "1.png"
    with pytest.warns(UserWarning, match=r"skipped: .*2\.png: not an image"):
        found = detector.predict(tmp_path, on_error="skip")
    assert [Path(str(one.path)).name for one in found] == ["1.png", "3.png"]
    with pytest.warns(UserWarning, match="skipped: image: an array of shape"):
        assert len(detector.predict([np.zeros(3), PHOTO], on_error="skip")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold: 1.5 must be a number from 0 to 1"),
        ({"threshold": float("nan")}, "threshold: nan must be a number from 0 to 1"),
        ({"threshold": "0.5"}, "threshold: '0.5' must be a number from 0 to 1"),
        ({"on_error": "ignore"}, "on_error: 'ignore' must be 'raise' or 'skip'"),
        ({"channels": "gbr"}, "channels: 'gbr' must be"),
        ({"tile": 5}, "tile: 5 pixels must be at least 64"),
    ],
)
def test_invalid_options_are_named(detector: frcnn.Detector, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector.predict(PHOTO, **options)  # type: ignore[arg-type]


def test_copies_and_pickles_detect_the_same(detector: frcnn.Detector) -> None:
    expected = detector.predict(PHOTO, threshold=0)
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        same(other.predict(PHOTO, threshold=0), expected)


def test_threads_and_tasks_share_a_detector(detector: frcnn.Detector) -> None:
    photos = [draw_image([("red", (10, 12, 60, 70))], seed=seed) for seed in range(8)]
    expected = [detector.predict(photo, threshold=0) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(
            pool.map(lambda photo: detector.predict(photo, threshold=0), photos), expected, strict=True
        ):
            np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)

    async def together() -> list[Detections]:
        return await asyncio.gather(*(asyncio.to_thread(detector.predict, photo, threshold=0) for photo in photos))

    with ThreadPoolExecutor(1) as pool:  # a thread of its own: a browser of other tests has a loop in this one
        found = pool.submit(asyncio.run, together()).result()
    assert [len(one) for one in found] == [len(one) for one in expected]


def test_an_evaluation(detector: frcnn.Detector) -> None:
    metrics = detector.evaluate()
    assert metrics.images == 2
    assert set(metrics.per_class) == set(CLASSES)
    assert metrics.confusion_matrix.shape == (3, 3)
    assert metrics.confusion_matrix[:-1].sum() == 4  # objects
    again = detector.evaluate(trained_run().parent / "data")
    assert (again.map50, again.map, again.recall) == (metrics.map50, metrics.map, metrics.recall)
    with pytest.raises(ValueError, match="has no images in the split 'val'"):
        detector.evaluate(split="val")
    with pytest.raises(ValueError, match="split 'all': choose train, val or test"):
        detector.evaluate(split="all")


def test_an_evaluation_on_all_images_of_data_without_splits(detector: frcnn.Detector, tmp_path: Path) -> None:
    lines = ["path,x1,y1,x2,y2,label"]
    for number in range(3):
        draw_image([("red", (10, 12, 60, 70))], seed=number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,10,12,60,70,red")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    metrics = detector.evaluate(tmp_path)
    assert (metrics.images, metrics.split) == (3, None)
    assert detector.evaluate(tmp_path, split="train").map50 == metrics.map50
    with pytest.raises(ValueError, match="has no images in the split 'test'"):
        detector.evaluate(tmp_path, split="test")
    with pytest.raises(ValueError, match=r"there is no format 'cocoa'"):
        detector.evaluate(DataSettings(path=str(tmp_path)), format="cocoa")


def test_an_evaluation_on_the_folder_of_the_training_has_the_splits_of_the_training(tmp_path: Path) -> None:
    """Else it would be an evaluation on training images, too."""
    lines = ["path,x1,y1,x2,y2,label"]
    for number in range(8):
        left = 10 * number
        draw_image([("red", (left, 12, left + 50, 70))], seed=number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{left},12,{left + 50},70,red")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    result = train_tiny(tmp_path, tmp_path / "run", "data.split=[0.5, 0.25, 0.25]", "train.epochs=1")
    assert repr(result) == f"<TrainResult {tmp_path / 'run'}: {result.metrics!r}>"
    for detector in (result.detector, frcnn.load(tmp_path / "run")):
        for split, images in (("train", 4), ("val", 2), ("test", 2)):
            metrics = detector.evaluate(tmp_path, split=split)
            assert (metrics.images, metrics.split) == (images, split)
        metrics = detector.evaluate(str(tmp_path), format="csv")
        assert (metrics.split, metrics.per_class) == ("test", detector.evaluate().per_class)


@pytest.mark.parametrize(
    ("name", "split"), [("test", "test"), ("valid", "val"), ("val2017", "val"), ("train", "train")]
)
def test_an_evaluation_on_the_only_split_of_a_folder(
    name: str, split: str, detector: frcnn.Detector, tmp_path: Path
) -> None:
    """Training would take it, whatever its name. The evaluation takes it by its own name."""
    (tmp_path / name).mkdir()
    draw_image([("red", (10, 12, 60, 70))]).save(tmp_path / name / "1.png")
    (tmp_path / name / "labels.csv").write_text("path,x1,y1,x2,y2,label\n1.png,10,12,60,70,red\n")
    for chosen in (None, split):
        metrics = detector.evaluate(tmp_path, split=chosen)
        assert (metrics.images, metrics.split) == (1, name)
    for other in {"test", "val"} - {split}:
        with pytest.raises(ValueError, match=f"has no images in the split '{other}'"):
            detector.evaluate(tmp_path, split=other)


def test_a_saved_model_detects_the_same(detector: frcnn.Detector, tmp_path: Path) -> None:
    model = frcnn.Detector(tiny_model())
    expected = model.predict(PHOTO, threshold=0)
    assert len(expected)
    model.save(tmp_path / "model.safetensors")
    same(frcnn.load(tmp_path / "model.safetensors").predict(PHOTO, threshold=0), expected)
    (tmp_path / "folder").mkdir()
    model.save(tmp_path / "folder")
    same(frcnn.load(tmp_path / "folder").predict(PHOTO, threshold=0), expected)
    with pytest.raises(ValueError, match=r"model\.onnx: a model file ends in \.safetensors"):
        model.save(tmp_path / "model.onnx")


def test_a_picture_of_a_photo_that_is_turned_by_its_tag(detector: frcnn.Detector, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    PHOTO.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as opened:
        same(detector.predict(opened, threshold=0), detector.predict(tmp_path / "photo.png", threshold=0))


def test_a_path_is_opened_with_load() -> None:
    with pytest.raises(TypeError, match=r"'model\.onnx' is a path; open it with frcnn\.load"):
        frcnn.Detector("model.onnx")  # type: ignore[arg-type]


def test_models_of_the_wrong_kind_are_named(detector: frcnn.Detector) -> None:
    with pytest.raises(
        TypeError, match=r"must be a frcnn\.FasterRCNN, not frcnn\.detector\.Detector; `frcnn\.load` opens"
    ):
        frcnn.Detector(detector)  # type: ignore[arg-type]
    for other in (7, detector.model.state_dict(), {}, None):
        kind = rf"not \w+\.{type(other).__name__}; `frcnn\.load` opens"
        with pytest.raises(TypeError, match=rf"must be a frcnn\.FasterRCNN, {kind}"):
            frcnn.Detector(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pass the weights of the model, `model\.state_dict\(\)`"):
        frcnn.from_torchvision(detector.model, "fasterrcnn_resnet50_fpn")  # type: ignore[arg-type]
