"""The optimized model, against the plain one."""

import copy

import pytest
import torch
from tiny import SIZE, random_inputs, target, tiny_batch, tiny_config, tiny_model
from torch import nn
from torch.testing import assert_close

from frcnn.fast.linear import Linear
from frcnn.fast.optimize import optimize
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.seeds import generator_of
from frcnn.training.step import TrainingStep


@pytest.fixture
def model() -> FasterRCNN:
    return tiny_model()


@torch.no_grad()
def test_the_same_detections(model: FasterRCNN) -> None:
    images, sizes = random_inputs(SIZE, (70, 90))
    expected = model(images, sizes, sizes)
    found = optimize(model)(images, sizes, sizes)
    assert expected.valid.any()
    assert_close(found.labels, expected.labels)
    assert_close(found.boxes, expected.boxes, atol=1e-2, rtol=1e-4)
    assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-3)


def test_the_same_losses_and_gradients(model: FasterRCNN) -> None:
    batch = tiny_batch(target((1, (10, 12, 60, 70)), (2, (70, 20, 110, 60))))
    results = []
    for each in (model, optimize(model)):
        each.zero_grad(set_to_none=True)
        step = TrainingStep(each, tiny_config().train)
        step.set_modes()
        losses = step(batch, [generator_of(0)])
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: value.grad.clone() for name, value in each.named_parameters() if value.grad is not None}
        results.append(({name: loss.detach() for name, loss in losses.items()}, gradients))
    (losses, gradients), (fast_losses, fast_gradients) = results
    assert_close(fast_losses, losses, atol=1e-4, rtol=1e-3)
    assert fast_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert_close(
            fast_gradients[name], gradient, rtol=1e-2, atol=1e-3 * gradient.abs().max().item() + 1e-7, msg=name
        )


def test_the_copy_shares_its_weights_and_statistics(model: FasterRCNN) -> None:
    fast = optimize(model)
    for own, shared in (
        (model.named_parameters(), fast.named_parameters()),
        (model.named_buffers(), fast.named_buffers()),
    ):
        assert {name: id(tensor) for name, tensor in own} == {name: id(tensor) for name, tensor in shared}
    assert list(fast.state_dict()) == list(model.state_dict())
    assert (fast.classes, fast.settings, fast.frozen) == (model.classes, model.settings, model.frozen)


def test_the_model_stays_plain(model: FasterRCNN) -> None:
    """So that it can be exported."""
    before = [type(module) for module in model.modules()]
    graph = str(model.backbone.conv_layers.graph)
    fast = optimize(model)
    assert [type(module) for module in model.modules()] == before
    assert str(model.backbone.conv_layers.graph) == graph != str(fast.backbone.conv_layers.graph)
    assert (model.nms, model.roi_head.align) != (fast.nms, fast.roi_head.align)
    assert Linear not in before
    assert {type(layer) for layer in fast.roi_head.fc} == {Linear}


def test_a_model_that_is_optimized_already_stays_so(model: FasterRCNN) -> None:
    once = optimize(model)
    twice = optimize(once)
    assert str(twice.backbone.conv_layers.graph) == str(once.backbone.conv_layers.graph)
    assert [type(layer) for layer in twice.roi_head.fc] == [type(layer) for layer in once.roi_head.fc]


def test_a_copy_of_it_is_fast_too_and_has_weights_of_its_own(model: FasterRCNN) -> None:
    fast = optimize(model)
    other = copy.deepcopy(fast)
    assert str(other.backbone.conv_layers.graph) == str(fast.backbone.conv_layers.graph)
    assert other.mean is not fast.mean


def test_batch_norm_that_learns_is_not_fused() -> None:
    fast = optimize(tiny_model("base_model.freeze_batch_norm=false"))
    called = {str(node.target) for node in fast.backbone.conv_layers.graph.nodes if node.op == "call_module"}
    norms = {name for name, layer in fast.backbone.conv_layers.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert norms
    assert norms <= called
