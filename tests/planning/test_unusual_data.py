"""Unusual data: the plan is usable. Training makes steps with it, and the detector is exported and verified."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import frcnn
from frcnn.export.export import export
from frcnn.training.reports import StepReport
from frcnn.training.state import TrainingState

Size = tuple[int, int]
"""(width, height)."""


def write(folder: Path, size: Size, count: int, boxes: Callable[[np.random.Generator], np.ndarray]) -> Path:
    """So many images of noise with objects of two classes, as CSV."""
    folder.mkdir()
    rng, lines = np.random.default_rng(0), ["image,xmin,ymin,xmax,ymax,class"]
    for number in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        for index, box in enumerate(boxes(rng).tolist()):
            lines.append(f"{number}.png,{','.join(f'{value:g}' for value in box)},{'ab'[index % 2]}")
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


def random_boxes(size: Size, side: Size, count: int) -> Callable[[np.random.Generator], np.ndarray]:
    """So many boxes of this size (width, height) in an image."""

    def make(rng: np.random.Generator) -> np.ndarray:
        corners = rng.integers(0, np.subtract(size, side) + 1, (count, 2))
        return np.concatenate((corners, corners + side), axis=1)

    return make


@pytest.mark.parametrize(
    ("size", "side", "count", "images"),
    [
        pytest.param((640, 480), (200, 150), 1, 3, id="three images with an object each"),
        pytest.param((10, 10), (4, 5), 1, 3, id="images of ten pixels", marks=pytest.mark.slow),
        pytest.param((20_000, 300), (60, 40), 4, 3, id="strips"),
        pytest.param((320, 240), (1, 1), 5, 3, id="objects of one pixel", marks=pytest.mark.slow),
        pytest.param((640, 480), (12, 10), 1000, 2, id="a thousand objects"),
    ],
)
def test_the_plan_trains_and_its_detector_is_exported(
    size: Size, side: Size, count: int, images: int, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", size, images, random_boxes(size, side, count))
    steps: list[int] = []

    class Steps(frcnn.Callback):
        def on_step(self, report: StepReport, state: TrainingState) -> None:
            steps.append(report.step)
            state.should_stop = report.step == 2

    result = frcnn.train(
        data,
        out=tmp_path / "run",
        weights="none",
        settings={"base_model.fc_channels": [32], "detector.draw.save": False},
        callbacks=[Steps()],
        progress=False,
    )
    assert steps == [1, 2]
    assert result.plan is not None
    done = export(result.run_dir, "onnx", tmp_path / "model.onnx", data=data)  # raises if its detections differ
    assert done.files[0].is_file()
