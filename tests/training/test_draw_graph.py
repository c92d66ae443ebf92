"""Pictures of the models show what runs, and change nothing."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import graphviz
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import target, tiny_batch, tiny_config, tiny_model, train_tiny, write_tiny

from frcnn.training import draw_graph
from frcnn.training.draw_graph import draw_graphs
from frcnn.training.schemes import Part, phases_of

BATCH = tiny_batch(target((1, (10, 12, 60, 70)), (2, (70, 20, 110, 60))))


@pytest.fixture(autouse=True)
def dot() -> None:
    """Graphviz's program; it may not be missing in CI."""
    if shutil.which("dot") is None:
        if os.environ.get("CI"):
            pytest.fail("dot: Graphviz is missing, and CI may not skip its tests")
        pytest.skip("dot: Graphviz is not installed")


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The text of each graph in Graphviz's language, by the file's name, once it is drawn."""
    texts: list[str] = []
    sources: dict[str, str] = {}
    pipe, draw = graphviz.Digraph.pipe, draw_graph._draw

    def noted_pipe(self: graphviz.Digraph, **options: str) -> bytes:
        texts.append(self.source)
        return pipe(self, **options)

    def noted_draw(*arguments: Any) -> Path:
        path: Path = draw(*arguments)
        sources[path.name] = texts[-1]
        return path

    monkeypatch.setattr(graphviz.Digraph, "pipe", noted_pipe)
    monkeypatch.setattr(draw_graph, "_draw", noted_draw)
    return sources


def test_the_evaluation_model_goes_from_images_to_detections(tmp_path: Path, sources: dict[str, str]) -> None:
    model = tiny_model()
    draw_graphs(model, tiny_config().train, (), BATCH, tmp_path)
    text = sources["graph-evaluation.png"]
    for edge in (
        "images -> ",
        "blocks.4 -> ",
        '"rpn.convs.0" -> "rpn.objectness"',
        '"rpn.objectness" -> select_proposals',
        "select_proposals -> pool_rois",
        'pool_rois -> "roi_head.fc.0"',
        '"roi_head.logits" -> select_detections',
    ):
        assert edge.replace('"', "") in text.replace('"', ""), edge
    for shape in ("1 × 3 × 96 × 128", "1 × 112 × 6 × 8", "1 × 10 × 4"):  # image, features, boxes
        assert shape in text
    for name in ("boxes", "scores", "labels", "valid"):
        assert f"select_detections -> →_{name}".replace("_", " ") in text.replace('"', "").replace("_", " ")


@pytest.mark.parametrize(("graph_type", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_each_phase_has_its_picture(tmp_path: Path, sources: dict[str, str], graph_type: str, magic: bytes) -> None:
    drawn = ("train.draw_graph=true", f"train.graph_type={graph_type}")
    model, settings = tiny_model(), tiny_config("train.scheme=alternating", *drawn).train
    files = draw_graphs(model, settings, phases_of(settings), BATCH, tmp_path)
    names = ["evaluation", "training-1-rpn", "training-2-roi", "training-3-rpn", "training-4-roi"]
    assert [file.name for file in files] == [f"graph-{name}.{graph_type}" for name in names]
    assert all(file.read_bytes().startswith(magic) for file in files)
    rpn, roi = (sources[f"graph-training-{phase}.{graph_type}"] for phase in ("3-rpn", "4-roi"))
    assert "RPN (trained)" in rpn
    assert "backbone (frozen)" in rpn
    assert "rpn_losses" in rpn
    assert "roi_losses" not in rpn
    assert "stored proposals" in roi
    assert "select_proposals" not in roi


def test_drawing_changes_nothing(tmp_path: Path) -> None:
    """Neither weights, nor the statistics of batch norm that learns, nor hooks, nor what is drawn at random."""
    model, settings = tiny_model("base_model.freeze_batch_norm=false"), tiny_config().train
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    draw_graphs(model, settings, phases_of(settings), BATCH, tmp_path)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_training_draws_them_if_asked_and_trains_the_same(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    plain = train_tiny(data, tmp_path / "plain").detector.model
    result = train_tiny(data, tmp_path / "drawn", "train.draw_graph=true")
    drawn, run = result.detector.model, result.run_dir
    torch.testing.assert_close(drawn.state_dict(), plain.state_dict(), rtol=0, atol=0)
    for name in ("graph-evaluation.png", "graph-training.png"):
        picture = np.asarray(Image.open(run / name).convert("L"))
        assert min(picture.shape) > 400
        assert (picture < 128).mean() > 0.01


@pytest.mark.parametrize(
    ("missing", "message"),
    [("package", "pip install graphviz"), ("program", r"needs the program `dot`: install Graphviz")],
)
def test_what_is_missing_is_said_before_anything_is_written(tmp_path: Path, monkeypatch, missing, message) -> None:
    if missing == "package":
        monkeypatch.setitem(sys.modules, "graphviz", None)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        train_tiny(write_tiny(tmp_path / "data"), tmp_path / "run", "train.draw_graph=true")
    assert not (tmp_path / "run").exists()


def test_every_part_is_there() -> None:
    assert set(draw_graph._STYLES) == set(Part)
