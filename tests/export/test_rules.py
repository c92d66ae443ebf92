"""Exported files of detectors that follow the rules of detectron2 or mmdetection: they say how images are resized, and
give the same.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny import tiny_model, write_tiny

import frcnn
from frcnn.data.images import read_image
from frcnn.export.export import export
from frcnn.inference.runtimes import Exported
from frcnn.resizing import input_size


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("photos") / "data")


@pytest.mark.parametrize(
    ("rules", "suffix", "expected_metadata"),
    [
        ("detectron2", ".onnx", {"rounding": "detectron2", "reduced_decoding": "false", "antialias": "true"}),
        pytest.param("detectron2", ".xml", {}, marks=pytest.mark.slow),
        ("mmdetection", ".onnx", {"rounding": "half_up", "fixed_point": "true", "antialias": "false"}),
    ],
)
def test_a_file_says_how_images_are_resized(
    rules: str, suffix: str, expected_metadata: dict[str, str], data: Path, tmp_path: Path
) -> None:
    model = tiny_model(f"detector.rules={rules}", "detector.image.divisor=8")
    to = {".onnx": "onnx", ".xml": "openvino"}[suffix]
    file = export(model, to, tmp_path / f"model{suffix}", data=data).files[0]
    opened = Exported(file)
    assert opened.resizing == model.settings.detector.resizing
    assert opened.resizing.divisor == 8
    assert opened.description.input == "uint8"
    if suffix == ".onnx":
        metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert metadata["format_version"] == "3"  # the example programs refuse it
        assert {name: metadata[f"image.{name}"] for name in expected_metadata} == expected_metadata

    # A JPEG that other rules would decode at half its size, and whose sides are resized to an exact half.
    photo = tmp_path / "large.jpg"
    pixels = read_image(next((data / "testImages").glob("*.png"))).resize((1544, 1536))
    Image.blend(pixels, Image.effect_noise((1544, 1536), 90).convert("RGB"), 0.4).save(photo)
    assert input_size((1536, 1544), opened.resizing) == (96, 97)
    expected, found = frcnn.Detector(model).predict(photo, threshold=0), frcnn.load(file).predict(photo, threshold=0)
    assert len(expected) > 0
    np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=0.05)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=1e-4)


def test_files_of_other_rules_keep_their_format(data: Path, tmp_path: Path) -> None:
    for rules in ("paper", "torchvision"):
        model = tiny_model(f"detector.rules={rules}")
        file = export(model, "onnx", tmp_path / f"{rules}.onnx", data=data).files[0]
        metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert metadata["format_version"] == "2"
        assert "image.rounding" not in metadata
        assert Exported(file).resizing == model.settings.detector.resizing
