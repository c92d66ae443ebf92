"""An exported file runs where neither torch nor anything else of frcnn's packages is installed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from uv import find_uv_bin

from frcnn.data.images import image_size
from frcnn.detector import load
from frcnn.export.export import Export

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with ONNX Runtime, NumPy, Pillow, pydantic and PyYAML (to evaluate), and frcnn alone."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    install = ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        [*install, "--constraint", "constraints.txt", "onnxruntime", "numpy", "pillow", "pydantic", "pyyaml"],
        [*install, "--no-deps", "."],
    ):
        subprocess.run([find_uv_bin(), *command], cwd=ROOT, check=True)
    found = subprocess.run(
        [folder / "bin" / "python", "-c", "import torch"], capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in found.stderr
    return folder / "bin" / "frcnn"


def frcnn(command: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_it_predicts_what_pytorch_predicts(
    bare: Path, exported: Callable[..., Export], run: Path, photos: list[Path], tmp_path: Path
) -> None:
    file = exported("onnx").files[0]
    done = frcnn(bare, "predict", file, *photos, "--threshold", "0.01", "--json", "-", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    expected = [each.to_dict() for each in load(run).predict_iter(photos, threshold=0.01)]
    for one, other in zip(json.loads(done.stdout), expected, strict=True):
        assert one["image"] == other["image"]
        assert [d["class"] for d in one["detections"]] == [d["class"] for d in other["detections"]]
        for found, wanted in zip(one["detections"], other["detections"], strict=True):
            assert found["box"] == pytest.approx(wanted["box"], abs=0.05)
            assert found["score"] == pytest.approx(wanted["score"], abs=1e-4)
    assert image_size(tmp_path / "0-detections.jpg") == image_size(photos[0])


def test_it_measures(bare: Path, exported: Callable[..., Export], run: Path) -> None:
    file, data = exported("onnx").files[0], run.parent / "data"
    done = frcnn(bare, "evaluate", file, "--data", data, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["map50"] == 1.0


def test_what_is_missing_is_said(bare: Path, exported: Callable[..., Export], tmp_path: Path) -> None:
    done = frcnn(bare, "train", tmp_path)
    assert done.returncode == 2
    assert "frcnn train needs torch, which is not installed: pip install torch" in done.stderr
    done = frcnn(bare, "predict", exported("openvino").files[0], tmp_path)
    assert "frcnn predict needs openvino, which is not installed: pip install openvino" in done.stderr
    (tmp_path / "dataset.json").write_text("{}")
    done = frcnn(bare, "evaluate", exported("onnx").files[0], "--data", tmp_path)
    assert "formats of JSON and YAML files need msgspec, which is not installed" in done.stderr
