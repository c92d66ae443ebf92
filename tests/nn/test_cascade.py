"""A cascade: several RoI heads, each of which refines the boxes of the one before. And boxes that are the same for all
classes, which it needs."""

from pathlib import Path

import pytest
import torch
from tiny import CLASSES, SIZE, random_inputs, target, tiny_batch, tiny_config, tiny_model, train_tiny, write_tiny

import frcnn
from frcnn.export.export import export
from frcnn.fast.optimize import optimize
from frcnn.fast.svd import compress
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.weights import DetectorWeights
from frcnn.ops.box_coder import decode
from frcnn.ops.boxes import clip, iou
from frcnn.training.step import TrainingStep
from frcnn.types import RoiOutput

ONE_BOX = ("base_model.box_per_class=false",)
TWO = (*ONE_BOX, "base_model.cascade=2")


@pytest.fixture
def model() -> FasterRCNN:
    """Two stages that say different things, and move boxes a little."""
    cascade = tiny_model(*TWO)
    with torch.no_grad():
        for stage in cascade.roi_head.stages():
            stage.logits.weight.normal_(std=0.2)
            stage.deltas.weight.normal_(std=0.05)
    return cascade


@torch.no_grad()
def test_without_a_box_per_class_all_classes_have_the_same(model: FasterRCNN) -> None:
    one = tiny_model(*ONE_BOX)
    assert one.roi_head.deltas.weight.shape[0] == 4
    _, output = one.propose_and_classify(*_inputs())
    assert output.deltas.shape[-2:] == (1 + len(CLASSES), 4)
    torch.testing.assert_close(output.deltas, output.deltas[:, :, :1].expand_as(output.deltas), rtol=0, atol=0)


@torch.no_grad()
def test_the_second_stage_gets_the_refined_boxes(model: FasterRCNN) -> None:
    """Step by step, as Cascade R-CNN describes it."""
    images, sizes, originals = _inputs()
    features = model.backbone(model.normalize(images, sizes))
    first, second = model.roi_head.stages()
    proposals = model.propose(model.rpn(features, SIZE), sizes, originals, model.settings.detector.test_proposals)
    before = first(features, proposals.boxes)
    mean, std = model.delta_mean, model.delta_std
    boxes = clip(decode(before.deltas[:, :, 1], proposals.boxes, mean=mean, std=std), sizes)
    after = second(features, boxes)

    refined, output = model.propose_and_classify(images, sizes, originals)
    torch.testing.assert_close(refined.boxes, boxes)
    assert (refined.boxes != proposals.boxes).any()
    probabilities = (before.logits.softmax(-1) + after.logits.softmax(-1)) / 2
    torch.testing.assert_close(output.logits.softmax(-1), probabilities)
    torch.testing.assert_close(output.deltas, after.deltas)


def test_the_loss_of_a_later_stage_is_that_of_deltas_with_half_the_std(model: FasterRCNN) -> None:
    training = TrainingStep(model, tiny_config(*TWO).train)
    truth = target((1, (10, 12, 60, 70)))
    sampled = training.sample_rois(torch.tensor([[12.0, 13, 63, 69]]), truth, torch.Generator(), stage=2)
    assert sampled.labels.tolist().count(1) == 2  # the object itself, and the proposal
    logits = torch.zeros(1, len(sampled.rois), 3)
    exact, none = (
        training.stage_losses(RoiOutput(logits, deltas[None, :, None].expand(-1, -1, 3, -1)), [sampled], 2)[1]
        for deltas in (sampled.deltas, torch.zeros_like(sampled.deltas))
    )
    assert exact == 0
    _, first = training.stage_losses(RoiOutput(logits, logits.new_zeros(1, len(sampled.rois), 3, 4)), [sampled])
    assert none > first > 0


def test_a_later_stage_needs_a_higher_iou() -> None:
    training = TrainingStep(tiny_model(*TWO), tiny_config(*TWO).train)
    truth = target((1, (10, 10, 60, 60)))
    roi = torch.tensor([[10.0, 10, 60, 38]])
    assert 0.5 < iou(roi, truth.boxes) < 0.6
    for stage, label in ((1, 1), (2, 0)):
        rois, labels, _ = training.sample_rois(roi, truth, torch.Generator(), stage=stage)
        assert labels[(rois == roi).all(dim=1)].tolist() == [label]


def test_both_stages_learn(model: FasterRCNN) -> None:
    batch = tiny_batch(target((1, (10, 12, 60, 70))), target())
    training = TrainingStep(model, tiny_config(*TWO).train).train()
    losses = training(batch, [torch.Generator().manual_seed(0) for _ in range(2)])
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for stage in model.roi_head.stages():
        for layer in (stage.logits, stage.deltas, *stage.fc):
            assert layer.weight.grad is not None
            assert layer.weight.grad.any()


@torch.no_grad()
def test_a_fast_copy_and_a_compressed_one_detect_the_same(model: FasterRCNN) -> None:
    expected = model(*_inputs())
    torch.testing.assert_close(optimize(model)(*_inputs()), expected, rtol=1e-4, atol=1e-3)
    compressed = compress(model, 15)
    assert len(list(compressed.roi_head.stages())) == 2
    assert all(stage.logits.weight.shape == (3, 16) for stage in compressed.roi_head.stages())


def test_training_further_matches_the_classes_of_each_stage(model: FasterRCNN) -> None:
    weights = DetectorWeights(model.state_dict(), model.classes, "old.safetensors")
    new = build_model(model.settings, ("green", "red"), weights)
    for ours, old in zip(new.roi_head.stages(), model.roi_head.stages(), strict=True):
        torch.testing.assert_close(ours.logits.weight[[0, 2]], old.logits.weight[[0, 2]], rtol=0, atol=0)
        torch.testing.assert_close(ours.deltas.weight, old.deltas.weight, rtol=0, atol=0)
        assert (ours.logits.weight[1] != old.logits.weight[1]).any()
    assert new.newly_initialized == {
        f"roi_head.{stage}logits.{kind}" for stage in ("", "next.") for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("scheme", ["end_to_end", "alternating"])
def test_it_trains_is_stored_and_exported(scheme: str, tmp_path: Path) -> None:
    epochs = ("train.rpn_epochs=1", "train.roi_epochs=1") if scheme == "alternating" else ()
    result = train_tiny(write_tiny(tmp_path / "data"), tmp_path / "run", f"train.scheme={scheme}", *epochs, *TWO)
    detector = frcnn.load(tmp_path / "run")
    assert len(list(detector.model.roi_head.stages())) == 2
    photo = next((tmp_path / "data" / "testImages").glob("*.png"))
    exported = export(tmp_path / "run", "onnx", tmp_path / "model.onnx")  # raises if its detections differ
    assert len(frcnn.load(exported.files[0]).predict(photo, threshold=0)) > 0
    assert result.metrics is not None


def test_boxes_must_not_depend_on_the_class() -> None:
    with pytest.raises(ValueError, match=r"base_model\.cascade 2: .* set base_model\.box_per_class=false"):
        tiny_config("base_model.cascade=2")


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images, sizes = random_inputs(SIZE, SIZE)
    return images, sizes, sizes
