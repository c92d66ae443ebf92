"""The RoI head with compressed layers."""

import copy
from pathlib import Path

import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_inputs, tiny_model
from torch import nn
from torch.testing import assert_close

from frcnn.config import TrainSettings
from frcnn.fast.svd import compress, factorized
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.head_outputs import run_heads
from frcnn.nn.model_file import save_model
from frcnn.training.step import TrainingStep


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model("base_model.fc_channels=[24, 32]")


def linears(model: FasterRCNN) -> dict[str, tuple[int, int]]:
    return {
        name: (layer.in_features, layer.out_features)
        for name, layer in model.roi_head.named_modules()
        if isinstance(layer, nn.Linear)
    }


@given(st.integers(1, 12), st.integers(1, 12), st.booleans(), st.integers(0, 2**31))
def test_two_layers_of_full_rank_are_the_one(inputs: int, outputs: int, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = nn.Linear(inputs, outputs, bias=bias), torch.randn(5, inputs)
    two = factorized(layer, min(inputs, outputs))
    assert_close(two(x), layer(x), rtol=0, atol=1e-5)
    assert [one.bias is None for one in two] == [True, not bias]


def test_no_random_numbers_are_drawn(model: FasterRCNN) -> None:
    before = torch.get_rng_state()
    compress(model, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_new_layers_become_two_and_the_output_layers_stay(model: FasterRCNN) -> None:
    (hidden, _), *_ = linears(model).values()
    assert linears(compress(model, 8)) == {
        "fc.0.0": (hidden, 8),
        "fc.0.1": (8, 24),
        "fc.1.0": (24, 8),
        "fc.1.1": (8, 32),
        "logits": (32, 3),
        "deltas": (32, 12),
    }


def test_layers_that_would_not_get_smaller_stay(model: FasterRCNN) -> None:
    """14 (24 + 32) is not less than 24 x 32, but less than 14 times the first layer's."""
    found = compress(model, 14)
    assert {"fc.0.0", "fc.0.1", "fc.1"} < set(linears(found))
    assert torch.equal(found.roi_head.fc[1].weight, model.roi_head.fc[1].weight)


@torch.no_grad()
def test_layers_of_the_base_model_become_two_and_of_low_rank_say_the_same() -> None:
    own = [
        "freeze_before=null",
        "last_conv_node=features.12",
        "pool_node=features.12",
        "last_hidden_node=classifier.2",
        "fc_channels=[]",
    ]
    names = ["architecture=torchvision:mobilenet_v3_small", *own]
    model = tiny_model(*(f"base_model.{name}" for name in names))
    (layer,) = [layer for layer in model.roi_head.head.modules() if isinstance(layer, nn.Linear)]
    torch.manual_seed(0)
    layer.weight.copy_(torch.randn(1024, 5) @ torch.randn(5, 576) / 20)
    found = compress(model, 5)
    assert linears(found) == {
        "head.classifier.0.0": (576, 5),
        "head.classifier.0.1": (5, 1024),
        "logits": (1024, 3),
        "deltas": (1024, 12),
    }
    pooled = torch.randn(4, 576, 7, 7)
    for one, other in zip(found.roi_head.predict(pooled), model.roi_head.predict(pooled), strict=True):
        assert other.abs().max() > 0.5
        assert_close(one, other, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_copy_detects_nearly_the_same_and_the_given_one_stays(model: FasterRCNN) -> None:
    images, sizes = random_inputs((96, 128), (80, 100))
    before = copy.deepcopy(model.state_dict())
    expected = run_heads(model, images, sizes, sizes)
    errors = []
    for rank in (1, 4, 13):
        found = run_heads(compress(model, rank), images, sizes, sizes)
        assert_close(found.rpn_rois, expected.rpn_rois, rtol=0, atol=0)
        errors.append((found.cls_pred - expected.cls_pred).square().mean().item())
    assert errors[0] > errors[1] > errors[2] > 0
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_copy_is_neither_saved_nor_trained_nor_compressed_again(model: FasterRCNN, tmp_path: Path) -> None:
    small = compress(model, 4)
    with pytest.raises(ValueError, match=r"model.safetensors: the model is compressed \(svd 4\)"):
        save_model(small, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"svd 2: the model is compressed already \(svd 4\)"):
        compress(small, 2)
    with pytest.raises(ValueError, match=r"training: the model is compressed \(svd 4\)"):
        TrainingStep(small, TrainSettings())


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (0, "svd 0: the rank must be 1 or more"),
        (-5, "svd -5: the rank must be 1 or more"),
        (1000, "svd 1000: base model 'efficientnet_lite0' has no fully connected layer .* use a rank under 24"),
    ],
)
def test_ranks_that_make_no_sense(rank: int, message: str, model: FasterRCNN) -> None:
    with pytest.raises(ValueError, match=message):
        compress(model, rank)


def test_a_head_without_fully_connected_layers() -> None:
    model = tiny_model("base_model.fc_channels=[]", "base_model.conv_channels=[8]")
    with pytest.raises(ValueError, match="has no fully connected layer in its RoI head to compress"):
        compress(model, 1)
