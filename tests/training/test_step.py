"""One training step: the losses of a batch, and who is an example of what."""

import pytest
import torch
import torch.nn.functional as F
from tiny import SIZE, target, tiny_batch, tiny_config, tiny_model
from torch import Tensor

from frcnn.fast import matching
from frcnn.ops.box_coder import decode
from frcnn.ops.boxes import inside, iou
from frcnn.training.schemes import Part
from frcnn.training.step import LOSSES, TrainingStep
from frcnn.types import Batch, Target

EVERYTHING = ("train.rpn.sample_size=100000", "train.roi.sample_size=100000", "train.roi.positive_fraction=0.5")
"""Samples so large that nothing is left out: losses no longer depend on what is drawn."""

ONE = target((1, (10, 12, 60, 70)), (2, (70, 20, 110, 60)))
OTHER = target((2, (30, 30, 90, 94)))
NONE = target()


def step(*settings: str) -> TrainingStep:
    return TrainingStep(tiny_model(*settings), tiny_config(*settings).train).train()


def generators(batch: Batch, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for _ in batch.image_names]


def run(training: TrainingStep, batch: Batch, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """The four losses, and the gradient of their sum."""
    training.zero_grad(set_to_none=True)
    losses = torch.stack(list(training(batch, generators(batch, seed)).values()))
    losses.sum().backward()
    gradients = {name: p.grad.clone() for name, p in training.named_parameters() if p.grad is not None}
    return losses.detach(), gradients


def single(batch: Batch, i: int) -> Batch:
    return Batch(
        batch.images[i : i + 1],
        batch.image_sizes[i : i + 1],
        batch.original_sizes[i : i + 1],
        batch.targets[i : i + 1],
        batch.image_names[i : i + 1],
    )


def test_there_are_four_losses_with_the_names_that_reports_use() -> None:
    batch = tiny_batch(ONE)
    losses = step(*EVERYTHING)(batch, generators(batch))
    assert tuple(losses) == LOSSES == ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
    assert all(loss.ndim == 0 and loss.dtype == torch.float32 and loss > 0 for loss in losses.values())


@pytest.mark.parametrize(
    ("parts", "names"),
    [({Part.BACKBONE, Part.RPN}, LOSSES[:2]), ({Part.ROI_HEAD}, LOSSES[2:]), (set(Part), LOSSES)],
    ids=["rpn", "head", "all"],
)
def test_a_head_that_is_not_trained_has_no_loss(parts: set[Part], names: tuple[str, ...]) -> None:
    model, batch = tiny_model(*EVERYTHING), tiny_batch(ONE)
    assert tuple(TrainingStep(model, tiny_config(*EVERYTHING).train, parts)(batch, generators(batch))) == names


@pytest.mark.parametrize("second", [OTHER, NONE], ids=["objects in both", "objects in one"])
def test_a_batch_of_two_has_the_mean_losses_and_gradients_of_its_singles(second: Target) -> None:
    training, batch = step(*EVERYTHING), tiny_batch(ONE, second)
    both, both_gradients = run(training, batch)
    (first, first_gradients), (last, last_gradients) = (run(training, single(batch, i)) for i in range(2))
    torch.testing.assert_close(both, (first + last) / 2, rtol=1e-4, atol=1e-5)
    assert set(both_gradients) == {name for name, p in training.named_parameters() if p.requires_grad}
    for name, gradient in both_gradients.items():
        mean = (first_gradients[name] + last_gradients[name]) / 2
        torch.testing.assert_close(gradient, mean, rtol=1e-3, atol=1e-4 * mean.abs().max().item() + 1e-7, msg=name)


@pytest.mark.parametrize("targets", [(NONE,), (NONE, NONE), (ONE, NONE)], ids=["one", "two", "mixed"])
def test_an_image_without_objects_has_finite_losses_and_gradients(targets: tuple[Target, ...]) -> None:
    losses, gradients = run(step(), tiny_batch(*targets))
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert gradients["model.rpn.objectness.weight"].any()
    assert gradients["model.roi_head.logits.weight"].any()


def test_an_image_without_objects_has_no_box_loss() -> None:
    losses, _ = run(step(*EVERYTHING), tiny_batch(NONE))
    assert (losses > 0).tolist() == [True, False, True, False]


def test_the_same_seed_draws_the_same_samples() -> None:
    training, batch = step("train.rpn.sample_size=8", "train.roi.sample_size=8"), tiny_batch(ONE, OTHER)
    first, again, other = (run(training, batch, seed)[0] for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first != other).any()


def test_the_samples_of_an_image_do_not_depend_on_its_batch() -> None:
    """Even small samples: the result does not depend on how images are split into batches and processes."""
    training = step("train.rpn.sample_size=8", "train.roi.sample_size=8")
    batch = tiny_batch(ONE, OTHER)
    both, _ = run(training, batch)
    alone = [run(training, single(batch, i))[0] for i in range(2)]
    torch.testing.assert_close(both, sum(alone) / 2, rtol=1e-4, atol=1e-5)


def test_stored_proposals_replace_those_of_the_rpn() -> None:
    training, batch = step(*EVERYTHING), tiny_batch(ONE)
    kept = batch._replace(proposals=[PROPOSALS])
    losses = TrainingStep(training.model, training.settings, {Part.ROI_HEAD})(kept, generators(kept))
    sampled = training.sample_rois(PROPOSALS, ONE, torch.Generator().manual_seed(0))
    features = training.model.backbone(training.model.normalize(batch.images, batch.image_sizes))
    expected = training.stage_losses(training.model.roi_head(features, sampled.rois[None]), [sampled])
    torch.testing.assert_close(tuple(losses.values()), expected)
    own = TrainingStep(training.model, training.settings, {Part.ROI_HEAD})(batch, generators(batch))
    assert own["roi_class"] != losses["roi_class"]


def test_proposals_pass_no_gradient() -> None:
    """No gradient flows from the RoI head through their coordinates into the RPN (approximate joint training)."""
    training, batch = step(*EVERYTHING), tiny_batch(ONE)
    losses = training(batch, generators(batch))
    (losses["roi_class"] + losses["roi_box"]).backward()
    assert training.model.roi_head.logits.weight.grad is not None
    assert all(parameter.grad is None for parameter in training.model.rpn.parameters())


# ------------------------------------------------------------------------------------------------------ RoI samples

PROPOSALS = torch.tensor(
    [
        [12.0, 12, 60, 70],  # on the first object of ONE
        [70.0, 20, 112, 62],  # on its second
        [0.0, 72, 40, 96],  # on nothing
    ]
)


def test_ground_truth_joins_the_proposals() -> None:
    rois, labels, _ = step(*EVERYTHING).sample_rois(PROPOSALS, ONE, torch.Generator())
    sampled = {(tuple(roi.tolist()), int(label)) for roi, label in zip(rois, labels, strict=True)}
    assert sampled == {
        ((10.0, 12.0, 60.0, 70.0), 1),
        ((70.0, 20.0, 110.0, 60.0), 2),
        ((12.0, 12.0, 60.0, 70.0), 1),
        ((70.0, 20.0, 112.0, 62.0), 2),
        ((0.0, 72.0, 40.0, 96.0), 0),
    }


def test_deltas_lead_each_foreground_roi_to_its_object() -> None:
    training = step(*EVERYTHING)
    rois, labels, deltas = training.sample_rois(PROPOSALS, ONE, torch.Generator())
    model = training.model
    boxes = decode(deltas, rois, mean=model.delta_mean, std=model.delta_std)
    for box, label in zip(boxes[labels > 0], labels[labels > 0], strict=True):
        torch.testing.assert_close(box, ONE.boxes[label - 1])
    assert not deltas[labels == 0].any()


def test_a_sample_is_not_larger_than_asked_and_at_most_a_quarter_foreground() -> None:
    training = step("train.roi.sample_size=8", "train.roi.positive_fraction=0.25")
    proposals = torch.cat((ONE.boxes.repeat(10, 1), PROPOSALS[2:].repeat(20, 1)))
    _, labels, _ = training.sample_rois(proposals, ONE, torch.Generator())
    assert len(labels) == 8
    assert (labels > 0).sum() == 2


def test_difficult_objects_are_neither_foreground_nor_background_for_the_head() -> None:
    ignore = ONE._replace(ignore=torch.tensor([True, False]))
    rois, labels, _ = step(*EVERYTHING).sample_rois(PROPOSALS, ignore, torch.Generator())
    assert labels.tolist() == [2, 2, 0]
    assert (iou(rois, ONE.boxes[:1]) < 0.5).all()


def test_difficult_objects_are_neither_foreground_nor_background_for_the_rpn() -> None:
    """Oracle: the cross entropy of "background" over all anchors inside the image that are away from the object."""
    training = step(*EVERYTHING)
    batch = tiny_batch(target((1, (10, 12, 60, 70)), ignore=[True]))
    model = training.model
    rpn = model.rpn(model.backbone(model.normalize(batch.images, batch.image_sizes)), SIZE)
    objectness, box = training.rpn_losses(rpn, batch, generators(batch))

    overlap = iou(rpn.anchors, batch.targets[0].boxes)[:, 0]
    assert overlap.max() > 0.5  # the best anchor of an object is positive
    background = inside(rpn.anchors, torch.tensor(SIZE).float()) & (overlap < 0.3)
    logits = rpn.logits[0, background]
    torch.testing.assert_close(objectness, F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits)))
    assert box == 0


def test_a_difficult_object_beside_others_changes_only_what_lies_on_it() -> None:
    training = step(*EVERYTHING)
    with_difficult = target((1, (10, 12, 60, 70)), (2, (70, 20, 110, 60)), ignore=[False, True])
    losses, _ = run(training, tiny_batch(with_difficult))
    alone, _ = run(training, tiny_batch(target((1, (10, 12, 60, 70)))))
    assert torch.isfinite(losses).all()
    assert losses[0] != alone[0]


@pytest.mark.parametrize("inside_only", ["true", "false"])
def test_many_pairs_of_boxes_are_compared_in_chunks(inside_only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory stays bounded; the samples and losses are the same."""
    training = step(f"train.rpn.inside_only={inside_only}")
    batch = tiny_batch(target((1, (10, 12, 60, 70)), (2, (70, 20, 110, 60)), ignore=[False, True]), NONE)
    whole, gradients = run(training, batch)
    compared: list[int] = []

    def noted(boxes: Tensor, others: Tensor) -> Tensor:
        ious = iou(boxes, others)
        compared.append(ious.numel())
        return ious

    monkeypatch.setattr(matching, "iou", noted)
    monkeypatch.setattr(matching, "_PAIRS", 16)
    parts, same = run(training, batch)
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    torch.testing.assert_close(same, gradients, rtol=0, atol=0)
    assert max(compared) <= 16
    assert len(compared) > 10
