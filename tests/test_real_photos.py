"""The main job on real photos: these may not skip in CI."""

from pathlib import Path

import pytest

import frcnn


def test_the_default_recipe_learns_the_grocery_photos(shared: Path, tmp_path: Path) -> None:
    """Five epochs, about 20 s; the full recipe's figures are in benchmarks/grocery.md."""
    detector, run = frcnn.train(
        shared / "datasets" / "grocery", out=tmp_path / "run", settings=["train.epochs=5", "train.seed=1"], offline=True
    )
    evaluation = frcnn.evaluate(detector)
    assert evaluation.mean_ap > 0.8
    again = frcnn.evaluate(run)
    assert again.ap == evaluation.ap


@pytest.mark.parametrize(
    ("base_model", "fresh"), [("alexnet", "classifier.1, classifier.4"), ("vgg16", "classifier.0, classifier.3")]
)
def test_weights_of_conv_layers_alone_train(shared: Path, tmp_path: Path, base_model: str, fresh: str) -> None:
    """A few steps on small images: the head starts fresh, the log says so, and the loss falls."""
    lines: list[str] = []
    losses: list[float] = []
    frcnn.train(
        shared / "datasets" / "grocery",
        out=tmp_path / "run",
        recipe=f"grocery-{base_model}",
        weights=str(shared / "weights" / f"{base_model}_features.safetensors"),
        settings=[
            "train.epochs=6",
            "data.num_train_images=2",
            "detector.image.shorter_side=200",
            "detector.image.longer_side=270",
            "train.warmup_steps=0",
        ],
        offline=True,
        log=lines.append,
        on_step=lambda report: losses.append(report.loss),
    )
    assert any(line.endswith(f"which start fresh: {fresh}") for line in lines)
    assert min(losses[-3:]) < losses[0]
