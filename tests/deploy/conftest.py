"""A detector that is sure of what it sees, and its files, written once for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_tiny

from frcnn.data.images import read_image
from frcnn.deploy.export import SUFFIXES, Export, export
from frcnn.training.run import train

SETTINGS = (
    "detector.image.shorter_side=96",
    "detector.image.longer_side=128",
    "detector.anchors.scales=[1, 2, 4]",
    "detector.train_proposals.post_nms_top_n=300",
    "detector.test_proposals.post_nms_top_n=100",
    "detector.results.max_detections=20",
    "base_model.train_from_node=null",  # so that it learns enough of so little
    "base_model.fc_channels=[64]",
    "base_model.rpn_channels=32",
    "train.epochs=30",
    "train.precision=fp32",
)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN that finds all of the tiny data set's objects."""
    folder = tmp_path_factory.mktemp("deploy")
    _, run = train(write_tiny(folder / "data"), out=folder / "run", settings=SETTINGS, offline=True)
    return run


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Export]:
    """Exports the RUN, once for the same wishes."""
    done: dict[str, Export] = {}

    def exported(to: str = "onnx", **wishes: object) -> Export:
        if wishes.get("precision") == "fp32":
            del wishes["precision"]
        if "precision" in wishes or "svd" in wishes:
            wishes["max_ap_loss"] = 0.2  # two of twelve objects more or less
        key = f"{to} {sorted(wishes.items())}"
        if key not in done:
            done[key] = export(run, to, tmp_path_factory.mktemp("exported") / f"model{SUFFIXES[to]}", **wishes)  # type: ignore[arg-type]
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
