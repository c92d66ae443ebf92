"""The function for CVAT, driven by CVAT's own code; only the server is an imitation."""

import importlib.util
import logging
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import pytest
from cvat_sdk import models
from cvat_sdk.auto_annotation import driver
from PIL import Image
from tiny import draw_image, trained_run

from frcnn import load

FILE = Path(__file__).parents[2] / "examples" / "cvat" / "frcnn_function.py"
PICTURES = [draw_image([("red", (10, 10, 60, 60)), ("blue", (70, 30, 120, 90))], seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def function_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("frcnn_function", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeTask:
    """A task of two images, as the driver reads it."""

    def __init__(self, client: object, task_id: int, *, load_annotations: bool) -> None:
        label = {"attributes": [], "sublabels": [], "type": "rectangle"}
        self.labels = [SimpleNamespace(id=70 + n, name=name, **label) for n, name in enumerate(("red", "blue"))]
        self.samples = [
            SimpleNamespace(frame_name=f"{n}.png", frame_index=n + 5, media=SimpleNamespace(load_image=image.copy))
            for n, image in enumerate(PICTURES)
        ]


def annotate(monkeypatch: pytest.MonkeyPatch, function: Any, **options: Any) -> list[Any]:
    """The shapes that CVAT's driver sends to the server."""
    sent: list[Any] = []

    def update(action: str, task: int, *, patched_labeled_data_request: Any) -> None:
        sent.extend(patched_labeled_data_request.shapes)

    api = SimpleNamespace(partial_update_annotations=update)
    client = SimpleNamespace(logger=logging.getLogger("cvat"), tasks=SimpleNamespace(api=api))
    monkeypatch.setattr(driver, "TaskDataset", FakeTask)
    cvataa.annotate_task(client, 3, function, **options)
    return sent


def test_the_driver_of_cvat_gets_the_detections(monkeypatch: pytest.MonkeyPatch, function_file: ModuleType) -> None:
    function = function_file.create(model=str(trained_run()))
    assert [(label.name, label.id) for label in function.spec.labels] == [("blue", 0), ("red", 1)]
    shapes = annotate(monkeypatch, function, conf_threshold=0.01)
    detector = load(trained_run())
    expected = [
        (frame, {"red": 70, "blue": 71}[each.class_name], pytest.approx(each.xyxy.tolist(), abs=1e-3))
        for frame, image in enumerate(PICTURES, start=5)
        for each in detector.predict(image, threshold=0.01)
    ]
    assert expected
    assert [(shape.frame, shape.label_id, shape.points) for shape in shapes] == expected
    assert {(shape.type.value, shape.source) for shape in shapes} == {("rectangle", "auto")}


def test_the_threshold_of_cvat_counts_and_the_detectors_own_without_one(
    monkeypatch: pytest.MonkeyPatch, function_file: ModuleType
) -> None:
    function = function_file.create(model=str(trained_run()))
    detector = load(trained_run())
    for threshold in (0.01, 0.02, 1.0, None):
        shapes = annotate(monkeypatch, function, conf_threshold=threshold)
        assert len(shapes) == sum(len(detector.predict(image, threshold=threshold)) for image in PICTURES)


def test_an_exported_file_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function_file: ModuleType) -> None:
    exported = load(trained_run()).export(out=tmp_path / "model.onnx").files[0]
    shapes = annotate(monkeypatch, function_file.create(model=str(exported)), conf_threshold=0.01)
    assert len(shapes) == sum(len(load(exported).predict(image, threshold=0.01)) for image in PICTURES)
    assert shapes


def test_a_class_without_a_label_in_the_task_is_an_error_of_cvat(
    monkeypatch: pytest.MonkeyPatch, function_file: ModuleType
) -> None:
    function = function_file.create(model=str(trained_run()))
    monkeypatch.setattr(FakeTask, "__init__", _with_red_only(FakeTask.__init__))
    with pytest.raises(cvataa.BadFunctionError, match="blue"):
        annotate(monkeypatch, function, conf_threshold=0.01)
    shapes = annotate(monkeypatch, function, conf_threshold=0.01, allow_unmatched_labels=True)
    assert {shape.label_id for shape in shapes} <= {70}


def _with_red_only(begin: Any) -> Any:
    def start(self: FakeTask, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self.labels = self.labels[:1]

    return start


def test_gray_images_and_the_context_of_the_driver(function_file: ModuleType) -> None:
    function = function_file.create(model=str(trained_run()))
    context = driver._DetectionFunctionContextImpl(frame_name="a.png", conf_threshold=0.0, conv_mask_to_poly=False)
    shapes = function.detect(context, Image.new("L", (64, 48), 90))
    assert all(isinstance(shape, models.LabeledShapeRequest) for shape in shapes)
