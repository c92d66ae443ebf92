"""The main job on real photos: these may not skip in CI."""

from pathlib import Path

import pytest

import frcnn
from frcnn.training.reports import StartReport, StepReport
from frcnn.training.state import TrainingState


def test_the_default_recipe_learns_the_grocery_photos(shared: Path, tmp_path: Path) -> None:
    """Five epochs, about 20 s; the full recipe's figures are in benchmarks/grocery.md."""
    result = frcnn.train(shared / "datasets" / "grocery", out=tmp_path / "run", epochs=5, seed=1, offline=True)
    assert result.metrics is not None
    assert result.metrics.map50 > 0.8
    assert frcnn.load(result.run_dir).evaluate().per_class == result.metrics.per_class


@pytest.mark.parametrize(
    ("base_model", "new"),
    [
        ("alexnet", ("classifier.1", "classifier.4")),
        pytest.param("vgg16", ("classifier.0", "classifier.3"), marks=pytest.mark.slow),
    ],
)
def test_weights_of_conv_layers_alone_train(
    shared: Path, tmp_path: Path, base_model: str, new: tuple[str, ...]
) -> None:
    """A few steps on small images: the head is newly initialized, the report says so, and the loss falls."""
    losses: list[float] = []

    class Recorder(frcnn.Callback):
        def on_start(self, report: StartReport, state: TrainingState) -> None:
            assert report.weights.new_layers == new

        def on_step(self, report: StepReport, state: TrainingState) -> None:
            losses.append(report.loss)

    frcnn.train(
        shared / "datasets" / "grocery",
        out=tmp_path / "run",
        recipe=f"grocery-{base_model}",
        weights=str(shared / "weights" / f"{base_model}_features.safetensors"),
        epochs=6,
        settings={
            "data.num_train_images": 2,
            "detector.image.shorter_side": 200,
            "detector.image.longer_side": 270,
            "train.warmup_steps": 0,
        },
        offline=True,
        callbacks=[Recorder()],
    )
    assert min(losses[-3:]) < losses[0]
