"""The model: what comes out, and what it does not depend on."""

import hypothesis.strategies as st
import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import example, given, settings
from tiny import SIZE, random_inputs, same_detections, tiny_model
from torch import Tensor, nn

from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.head_outputs import run_heads
from frcnn.types import DetectionTensors

IMAGE_SIZES = st.tuples(st.integers(20, SIZE[0]), st.integers(20, SIZE[1]))


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model()


@torch.no_grad()
def detect(model: FasterRCNN, images: Tensor, sizes: Tensor, originals: Tensor | None = None) -> DetectionTensors:
    return model(images, sizes, sizes if originals is None else originals)


@given(sizes=st.lists(IMAGE_SIZES, min_size=1, max_size=3), scale=st.floats(0.2, 30.0), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_detections_have_a_fixed_number_falling_scores_and_boxes_inside_the_original_image(
    model: FasterRCNN, sizes: list[tuple[int, int]], scale: float, seed: int
) -> None:
    images, image_sizes = random_inputs(*sizes, seed=seed)
    originals = (image_sizes * scale).round().clamp(min=1)
    boxes, scores, labels, valid = detect(model, images, image_sizes, originals)
    batch, limit = len(sizes), model.settings.detector.results.max_detections
    assert boxes.shape == (batch, limit, 4)
    assert scores.shape == labels.shape == valid.shape == (batch, limit)
    assert valid.dtype == torch.bool
    assert (valid[:, 1:] <= valid[:, :-1]).all()  # those that count come first
    assert (scores.diff(dim=1) <= 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((labels >= 1) & (labels <= len(model.classes))).all()
    assert (boxes >= 0).all()
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert (boxes[..., 2:] <= originals.flip(1)[:, None] * (1 + 1e-5)).all()


@given(sizes=st.tuples(IMAGE_SIZES, IMAGE_SIZES), seed=st.integers(0, 9999))
@example(sizes=((20, 60), (60, 60)), seed=207)  # two scores that are equal but for rounding
@settings(max_examples=25)
def test_a_batch_of_two_equals_its_two_singles(
    model: FasterRCNN, sizes: tuple[tuple[int, int], tuple[int, int]], seed: int
) -> None:
    images, image_sizes = random_inputs(*sizes, seed=seed)
    originals = image_sizes * 3
    *both, valid = detect(model, images, image_sizes, originals)
    assert valid.any()
    for i in range(2):
        *one, one_valid = detect(model, images[i : i + 1], image_sizes[i : i + 1], originals[i : i + 1])
        torch.testing.assert_close(valid[i], one_valid[0])
        boxes, scores, labels = (values[i][valid[i]] for values in both)
        same = same_detections((boxes, scores, labels), (one[0][one_valid], one[1][one_valid], one[2][one_valid]))
        assert same.any(dim=0).all()
        assert same.any(dim=1).all()


@given(size=IMAGE_SIZES, seed=st.integers(0, 9999))
@settings(max_examples=10)
def test_pixels_outside_the_image_are_ignored(model: FasterRCNN, size: tuple[int, int], seed: int) -> None:
    images, sizes = random_inputs(size, seed=seed)
    garbage, _ = random_inputs(SIZE, seed=seed + 1)
    garbage[:, :, : size[0], : size[1]] = images[:, :, : size[0], : size[1]]
    for clean, dirty in zip(detect(model, images, sizes), detect(model, garbage, sizes), strict=True):
        torch.testing.assert_close(clean, dirty, rtol=0, atol=0)


def test_bytes_and_floats_are_the_same_image(model: FasterRCNN) -> None:
    images, sizes = random_inputs(SIZE)
    for one, other in zip(detect(model, images, sizes), detect(model, images.float(), sizes), strict=True):
        torch.testing.assert_close(one, other)


def test_the_image_is_normalized_and_the_padding_is_zero(model: FasterRCNN) -> None:
    images, sizes = random_inputs((50, 70), seed=3)
    normalized = model.normalize(images, sizes)
    torch.testing.assert_close(normalized[..., :50, :70], (images[..., :50, :70] - 127.0) / 128.0)
    assert not normalized[..., 50:, :].any()
    assert not normalized[..., 70:].any()


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_proposals_smaller_than_min_size_in_the_original_image_are_dropped(scale: float) -> None:
    model = tiny_model("detector.test_proposals.min_size=24", "detector.test_proposals.post_nms_top_n=150")
    images, sizes = random_inputs(SIZE, (60, 80))
    with torch.no_grad():
        raw = run_heads(model, images, sizes, sizes * scale)
    sides = (raw.rpn_rois[..., 2:] - raw.rpn_rois[..., :2])[raw.valid] * scale
    assert len(sides)
    assert sides.min() >= 24 - 1e-3
    assert sides.min() < 32  # the rule cuts, it is not that all happen to be large


def test_an_image_too_small_for_any_proposal_has_no_detections() -> None:
    model = tiny_model("detector.test_proposals.min_size=64")
    images, sizes = random_inputs(SIZE, (96, 40))
    detections = detect(model, images, sizes)
    assert detections.valid[0].any()
    assert not detections.valid[1].any()
    assert not detections.scores[1].any()


def test_detections_under_the_smallest_score_do_not_count(model: FasterRCNN) -> None:
    images, sizes = random_inputs(SIZE)
    every = detect(model, images, sizes)
    limit = every.scores[0, 4].item()
    strict = detect(tiny_model(f"detector.results.score_threshold={limit - 1e-6}"), images, sizes)
    assert strict.valid[0].tolist() == [True] * 5 + [False] * 5
    torch.testing.assert_close(strict.boxes[:, :5], every.boxes[:, :5])


@torch.no_grad()
def test_raw_outputs_have_the_tutorials_names_and_shapes(model: FasterRCNN) -> None:
    images, sizes = random_inputs(SIZE, (60, 100))
    raw = run_heads(model, images, sizes, sizes)
    assert raw._fields == ("rpn_rois", "cls_pred", "bbox_regr", "valid")
    assert raw.rpn_rois.shape == (2, 20, 4)
    assert raw.cls_pred.shape == (2, 20, 3)
    assert raw.bbox_regr.shape == (2, 20, 3, 4)
    assert raw.valid.shape == (2, 20)
    torch.testing.assert_close(raw.cls_pred.sum(dim=-1), torch.ones(2, 20))
    assert (raw.rpn_rois[..., 2:] <= sizes.flip(1)[:, None]).all()


def test_detecting_changes_nothing_in_the_detector(model: FasterRCNN) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, sizes = random_inputs(SIZE)
    first = detect(model, images, sizes)
    second = detect(model, images, sizes)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert not model.training


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_stays_in_evaluation_mode(frozen: bool) -> None:
    model = tiny_model(f"base_model.freeze_batch_norm={str(frozen).lower()}").train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {norm.training for norm in norms} == {not frozen}
    names = {name for name, _ in model.named_parameters() if name.rpartition(".")[0].rpartition(".")[2] == "bn1"}
    assert (names <= model.frozen) == frozen
    assert not any(module.training for module in model.eval().modules())


def test_without_weights_every_parameter_is_newly_initialized(model: FasterRCNN) -> None:
    assert model.newly_initialized == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("normalize", "mean", "std"), [(True, 0.5, 0.25), (False, 0.0, 1.0)])
def test_box_deltas_are_normalized_if_the_settings_say_so(normalize: bool, mean: float, std: float) -> None:
    model = tiny_model(
        "detector.box_deltas.means=[0.5, 0.5, 0.5, 0.5]",
        "detector.box_deltas.stds=[0.25, 0.25, 0.25, 0.25]",
        f"BBOX_NORMALIZE_TARGETS={normalize}",
    )
    torch.testing.assert_close(model.delta_mean, torch.full((4,), mean))
    torch.testing.assert_close(model.delta_std, torch.full((4,), std))
