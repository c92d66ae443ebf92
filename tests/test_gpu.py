"""On an NVIDIA card (`make test-gpu`): the same results as on a processor, and no waiting for the card in between."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from compare.ops import bench_ops
from compare.pairs import make_pair
from compare.predict import same_detections
from compare.train import photo_batch, same_losses, training_step
from tiny import SIZE, random_inputs, tiny_model
from torch import Tensor
from torch.testing import assert_close

from frcnn.fast.nms import blocked_nms
from frcnn.fast.optimize import optimize
from frcnn.fast.roi_align import roi_align_by_cells

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


def crowd(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 300
    boxes = torch.cat((corners, corners + torch.rand(count, 2, generator=generator) * 100), dim=1)
    return boxes, torch.rand(count, generator=generator)


@contextmanager
def no_waiting() -> Iterator[None]:
    """An error wherever the processor waits for the card."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nms_keeps_what_it_keeps_on_a_processor() -> None:
    boxes, scores = crowd(3000)
    scores[::7] = -torch.inf
    expected = blocked_nms(boxes[None], scores[None], 0.7, 500)
    assert_close(blocked_nms(boxes[None].to(CUDA), scores[None].to(CUDA), 0.7, 500).cpu(), expected)


def test_of_equal_scores_the_first_is_kept_on_both() -> None:
    boxes, scores = crowd(3000)
    scores = (scores * 10).floor() / 10
    expected = blocked_nms(boxes[None], scores[None], 0.5, 500)
    assert_close(blocked_nms(boxes[None].to(CUDA), scores[None].to(CUDA), 0.5, 500).cpu(), expected)


def test_roi_align_and_its_gradient_are_those_of_a_processor() -> None:
    boxes, _ = crowd(50)
    rois = torch.cat((torch.zeros(50, 1), boxes), dim=1)
    results = []
    for device in (torch.device("cpu"), CUDA):
        features = torch.randn(1, 8, 25, 25, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
        pooled = roi_align_by_cells(features, rois.to(device), 7, 16)
        pooled.square().sum().backward()
        assert features.grad is not None
        results.append((pooled.detach().cpu(), features.grad.cpu()))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_detections_are_those_of_a_processor() -> None:
    model = tiny_model()
    images, sizes = random_inputs(SIZE)
    expected = optimize(model)(images, sizes, sizes)
    found = optimize(model.to(CUDA))(images.to(CUDA), sizes.to(CUDA), sizes.to(CUDA))
    assert_close(found.valid.cpu(), expected.valid)
    assert_close(found.scores.cpu(), expected.scores, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_layers_do_not_wait_for_the_card() -> None:
    model = optimize(tiny_model().to(CUDA))
    images, sizes = (one.to(CUDA) for one in random_inputs(SIZE))
    frame_size = (images.shape[-2], images.shape[-1])
    rois = torch.rand(len(images), 20, 4, device=CUDA).cumsum(dim=-1) * 20
    for _ in range(2):  # the first time, libraries are loaded
        with no_waiting() if _ else torch.no_grad():
            features = model.backbone(model.normalize(images, sizes))
            model.rpn(features, frame_size)
            model.roi_head(features, rois)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_steps_lower_the_loss(dtype: torch.dtype) -> None:
    pair = make_pair("alexnet", (320, 320)).to(CUDA)
    step, batch = training_step(pair.ours, pair.settings, dtype, rate=1e-4), photo_batch(pair)
    losses = [step(batch) for _ in range(10)]
    assert all(map(torch.isfinite, losses))
    assert losses[-1] < losses[0]


@torch.no_grad()
@pytest.mark.parametrize("name", ["alexnet", "resnet18-fpn"])
def test_it_detects_and_learns_what_torchvisions_does(name: str) -> None:
    few = [f"detector.test_proposals.{rule}_nms_top_n={count}" for rule, count in (("pre", 300), ("post", 50))]
    assert "within" in same_detections(make_pair(name, (320, 320), few).to(CUDA))
    assert "losses" in same_losses(make_pair(name, (320, 320), few).to(CUDA))


def test_operators_are_measured_after_they_are_seen_to_be_torchvisions() -> None:
    rows = list(bench_ops(CUDA, rounds=1))
    assert {row.work.partition(",")[0] for row in rows} == {"NMS", "RoIAlign", "RoI max pooling"}
