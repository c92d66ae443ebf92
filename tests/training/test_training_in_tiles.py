"""A detector that is trained on tiles: it also validates, evaluates and predicts in tiles, also after its export."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import draw_image, tiny_settings, train_tiny, write_annotated

import frcnn
from frcnn.data.dataset import Dataset
from frcnn.data.images import read_image
from frcnn.data.tiles import cut_into_windows, in_tiles
from frcnn.training.reports import StepReport, ValidationReport
from frcnn.training.state import TrainingState
from frcnn.training.train import TrainResult

SIZE, TILE = (200, 300), 128
SETTINGS = (f"detector.image.tile={TILE}", "detector.image.shorter_side=128", "train.epochs=1")


class Reports(frcnn.Callback):
    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.validations: list[ValidationReport] = []

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        self.steps.append(report)

    def on_validation(self, report: ValidationReport, state: TrainingState) -> None:
        self.validations.append(report)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large images, each with objects of both classes."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(6):
        part = "positive" if number < 4 else "testImages"
        x, y = 10 + 30 * number, 20 + 20 * number
        objects = [("red", (x, y, x + 16, y + 14)), ("blue", (280 - x, y, 296 - x, y + 12))]
        write_annotated(folder / part / f"{number}.png", objects, seed=number)
        draw_image(objects, seed=number, size=SIZE).save(folder / part / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Reports]:
    reports = Reports()
    settings = (*SETTINGS, "train.validate_every=1", "data.val_fraction=0.25")
    return train_tiny(data, tmp_path_factory.mktemp("runs") / "run", *settings, callbacks=[reports]), reports


def test_a_step_trains_a_tile(trained: tuple[TrainResult, Reports]) -> None:
    result, reports = trained
    tiles = in_tiles(result.dataset.train, result.detector.runtime.resizing)
    assert len(result.dataset.train) == 3
    assert len(reports.steps) == len(tiles) > 3
    assert len(reports.validations) == 1
    assert result.metrics is not None
    assert result.metrics.recall == {}  # of proposals, which are those of tiles


def test_it_predicts_in_the_tiles_that_it_learned(trained: tuple[TrainResult, Reports]) -> None:
    detector, (record, *_) = trained[0].detector, trained[0].dataset.test
    found = detector.predict(record.image, threshold=0)
    windows = cut_into_windows(SIZE, TILE)
    assert len(windows) == 6
    alone = detector.predict([read_image(record.image).crop(window) for window in windows], threshold=0, tile=0)
    best = max((each.confidence.max(), number) for number, each in enumerate(alone) if len(each))[1]
    expected = alone[best].xyxy[0] + np.tile(windows[best][:2], 2)
    assert abs(found.xyxy - expected).max(axis=1).min() < 1  # the best of all is found, in its place
    whole = detector.predict(record.image, threshold=0, tile=0)
    assert len(whole) <= 10 < len(found)  # the limit of detections is that of a tile


def test_its_file_and_its_export_know_the_tiles(trained: tuple[TrainResult, Reports], tmp_path: Path) -> None:
    result = trained[0]
    image = result.dataset.test[0].image
    expected = result.detector.predict(image, threshold=0)
    exported = result.detector.export("onnx", tmp_path / "model.onnx")
    for path in (result.run_dir, exported.files[0]):
        again = frcnn.load(path)
        assert again.runtime.resizing.tile == TILE
        np.testing.assert_allclose(again.predict(image, threshold=0).xyxy, expected.xyxy, atol=0.1)
    metrics = frcnn.load(exported.files[0]).evaluate(result.dataset.folder)
    assert result.metrics is not None
    assert metrics.map == pytest.approx(result.metrics.map, abs=1e-3)


def test_a_fixed_size_keeps_the_tiles_and_what_cannot_be_verified_is_refused(
    trained: tuple[TrainResult, Reports], tmp_path: Path
) -> None:
    detector = trained[0].detector
    file = detector.export("onnx", tmp_path / "fixed.onnx", image_size=(128, 128)).files[0]
    assert frcnn.load(file).runtime.resizing.tile == TILE
    with pytest.raises(ValueError, match="was trained on tiles"):
        detector.export("onnx", tmp_path / "int8.onnx", precision="int8")


def test_tiles_that_show_no_object_are_an_error(tmp_path: Path) -> None:
    for number in range(2):
        objects = [("red", (0.0, 0.0, 300.0, 200.0))]
        write_annotated(tmp_path / "data" / "positive" / f"{number}.png", objects)
        draw_image(objects, size=SIZE).save(tmp_path / "data" / "positive" / f"{number}.png")
    with pytest.raises(ValueError, match="no tile of 64 pixels shows half of an object"):
        train_tiny(tmp_path / "data", tmp_path / "run", "detector.image.tile=64")


def test_alternating_training_stores_the_proposals_of_tiles(data: Path, tmp_path: Path) -> None:
    overrides = ("train.scheme=alternating", "train.rpn_epochs=1", "train.roi_epochs=1")
    reports = Reports()
    result = train_tiny(data, tmp_path / "run", *SETTINGS[:2], *overrides, callbacks=[reports])
    tiles = in_tiles(result.dataset.train, result.detector.runtime.resizing)
    assert len(reports.steps) == 4 * len(tiles)


def test_a_run_that_stops_goes_on_with_the_same_tiles(data: Path, tmp_path: Path) -> None:
    def interrupt(report: StepReport) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    settings = (*SETTINGS, "train.checkpoint_seconds=0")
    whole = train_tiny(data, tmp_path / "whole", *settings)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(data, tmp_path / "run", *settings, on_step=interrupt)
    rest = train_tiny(data, tmp_path / "run", *settings)
    for name, tensor in whole.detector.model.state_dict().items():
        assert torch.equal(tensor, rest.detector.model.state_dict()[name]), name


def test_the_plan_chooses_tiles_and_training_uses_them(tmp_path: Path) -> None:
    """Objects of 8 pixels in images of 1200."""
    data = tmp_path / "data"
    for number in range(3):
        objects = [("red", (x, 100.0, x + 8, 108.0)) for x in (100.0, 600.0, 1100.0)]
        write_annotated(data / "positive" / f"{number}.png", objects, seed=number)
        draw_image(objects, seed=number, size=(400, 1200)).save(data / "positive" / f"{number}.png")
    plan = frcnn.plan(data)
    assert plan.settings["detector.image.tile"] == 320
    tiles = in_tiles(Dataset(data, plan.config.data).train, plan.config.detector.resizing)
    assert any("tiles" in choice.reason for choice in plan.choices)
    reports = Reports()
    settings = tiny_settings("train.epochs=1")
    del settings["detector.image.shorter_side"], settings["detector.image.longer_side"]
    result = frcnn.train(
        data, out=tmp_path / "run", weights="none", settings=settings, callbacks=[reports], progress=False
    )
    assert len(reports.steps) == len(tiles)
    assert result.detector.runtime.resizing.tile == 320
