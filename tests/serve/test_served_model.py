"""The model is replaced while requests run."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from service import Serve, photo, run_async
from tiny import tiny_model, trained_run

import frcnn
from frcnn.detector import Detector
from frcnn.serve import model as served
from frcnn.serve.model import ServedModel, Source


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return shutil.copytree(trained_run(), tmp_path / "run")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_INTERVAL", 0.02)


def watched(run_dir: Path, *changes: Path | bytes) -> tuple[list[str], list[bool]]:
    """Copy other files over the model, one after the other. Returns the versions after each, and what was counted."""
    counted: list[bool] = []

    async def main() -> list[str]:
        source = Source(str(run_dir))
        current = ServedModel(source, source.open(), counted.append)
        task = asyncio.create_task(current.watch())
        versions = [current.current.version]
        for change in changes:
            before = len(counted)
            if isinstance(change, bytes):
                (run_dir / "model.safetensors").write_bytes(change)
            else:
                shutil.copy(change, run_dir / "model.safetensors")
            for _ in range(250):
                await asyncio.sleep(0.02)
                if len(counted) > before:
                    break
            versions.append(current.current.version)
        await asyncio.sleep(0.1)
        task.cancel()
        return versions

    return run_async(main), counted


def test_a_changed_file_is_loaded(run_dir: Path, tmp_path: Path) -> None:
    Detector(tiny_model(seed=1)).save(tmp_path / "other.safetensors")
    (first, second), counted = watched(run_dir, tmp_path / "other.safetensors")
    assert first != second
    assert counted == [True]
    assert second == Source(str(tmp_path / "other.safetensors")).open().version


def test_a_damaged_file_is_not_and_the_next_good_one_is(run_dir: Path, tmp_path: Path) -> None:
    Detector(tiny_model(seed=1)).save(tmp_path / "other.safetensors")
    (first, second, third), counted = watched(run_dir, b"damaged", tmp_path / "other.safetensors")
    assert first == second != third
    assert counted == [False, True]


def test_the_version_is_that_of_the_content(run_dir: Path, tmp_path: Path) -> None:
    versions = {Source(str(path)).open().version for path in (run_dir, run_dir / "model.safetensors", trained_run())}
    assert len(versions) == 1
    (version,) = versions
    assert len(version) == 12


def test_a_missing_file_is_no_change(run_dir: Path) -> None:
    source = Source(str(run_dir))
    before = source.stamp()
    assert before is not None
    (run_dir / "model.safetensors").unlink()
    assert source.stamp() is None


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
def test_each_runtime_answers_what_its_detector_predicts(kind: str, tmp_path: Path, serve: Serve) -> None:
    source = trained_run()
    if kind != "torch":
        name = "model.xml" if kind == "openvino" else "model.onnx"
        source = frcnn.load(source).export(kind, tmp_path / name).files[0]
    content = photo(3)
    expected = frcnn.load(source).predict(content, threshold=0.0)
    assert len(expected)
    answer = serve(Source(str(source)).open().detector.runtime).client.post("/predict?threshold=0", content=content)
    detections = answer.raise_for_status().json()["detections"]
    assert [each["class"] for each in detections] == expected.class_name.tolist()
    np.testing.assert_allclose([each["score"] for each in detections], expected.confidence, atol=1e-4)
    np.testing.assert_allclose([each["box"] for each in detections], expected.xyxy, atol=0.1)
