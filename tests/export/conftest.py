"""A detector that is sure of what it sees, and its files, written once for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_tiny

from frcnn.config import parse_overrides
from frcnn.data.images import read_image
from frcnn.export.export import SUFFIXES, Export, export
from frcnn.training.train import train

SETTINGS = (
    "detector.image.shorter_side=96",
    "detector.image.longer_side=128",
    "detector.anchors.scales=[1, 2, 4]",
    "detector.train_proposals.post_nms_top_n=300",
    "detector.test_proposals.post_nms_top_n=100",
    "detector.results.max_detections=20",
    "base_model.freeze_before=null",  # so that it learns enough of so little
    "base_model.fc_channels=[64]",
    "base_model.rpn_channels=32",
    "train.epochs=30",
    "train.precision=fp32",
)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose model detects all objects of the tiny data set."""
    folder = tmp_path_factory.mktemp("deploy")
    data = write_tiny(folder / "data")
    return train(data, out=folder / "run", settings=parse_overrides(SETTINGS), plan=False, offline=True).run_dir


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Export]:
    """Exports the run directory, once for the same options."""
    done: dict[str, Export] = {}

    def exported(to: str = "onnx", **options: object) -> Export:
        if options.get("precision") == "fp32":
            del options["precision"]
        if "precision" in options or "svd" in options:
            options["max_ap_loss"] = 0.2  # two of twelve objects more or less
        key = f"{to} {sorted(options.items())}"
        if key not in done:
            done[key] = export(run, to, tmp_path_factory.mktemp("exported") / f"model{SUFFIXES[to]}", **options)  # type: ignore[arg-type]
        return done[key]

    return exported


@pytest.fixture(scope="session")
def photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real ones, of three sizes, upright and lying."""
    folder = tmp_path_factory.mktemp("photos")
    files = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))[:3]
    for number, (file, size) in enumerate(zip(files, [(300, 400), (401, 277), (120, 90)], strict=True)):
        read_image(file).resize(size).save(folder / f"{number}.jpg", quality=95)
    return sorted(folder.iterdir())
