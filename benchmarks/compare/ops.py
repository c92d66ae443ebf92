"""NMS and RoI pooling: frcnn compared with torchvision."""

from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor
from torch.testing import assert_close

from compare.timing import OURS, Row, interleaved
from frcnn.fast.nms import blocked_nms
from frcnn.fast.roi_align import roi_align_by_cells
from frcnn.ops.roi_pooling import roi_max_pool
from frcnn.types import Level

_LEVEL = Level(16, 0.5)
_FRAME = (608, 864)  # (height, width), pixels
_BOXES, _KEPT, _IOU = 12_000, 2_000, 0.7


def bench_ops(device: torch.device, rounds: int) -> Iterator[Row]:
    """NMS of the tutorial's training, and RoI pooling of VGG16's map, forward and backward.

    Raises:
        AssertionError: ours does not compute the same.
    """
    generator = torch.Generator().manual_seed(0)
    yield _nms(device, rounds, generator)
    for count in (128, 300):
        yield from _pooling("RoIAlign", count, device, rounds, generator)
        yield from _pooling("RoI max pooling", count, device, rounds, generator)


def _nms(device: torch.device, rounds: int, generator: torch.Generator) -> Row:
    boxes = _random_boxes(_BOXES, generator).to(device)
    scores = torch.rand(_BOXES, generator=generator).to(device)
    ways = {
        OURS: lambda: blocked_nms(boxes[None], scores[None], _IOU, _KEPT)[0],
        "torchvision": lambda: torchvision.ops.nms(boxes, scores, _IOU)[:_KEPT],
    }
    expected = ways["torchvision"]()
    assert len(expected) == _KEPT
    assert_close(ways[OURS](), expected)
    work = f"NMS, {_BOXES:,} boxes to {_KEPT:,}, IoU {_IOU}"
    return Row("ops", work, "the same indices", interleaved(ways, rounds=rounds, device=device))


def _pooling(
    name: str, count: int, device: torch.device, rounds: int, generator: torch.Generator, *, channels: int = 512
) -> Iterator[Row]:
    """Each gets the feature map in the memory format that it gets in its model: frcnn channels last."""
    height, width = (side // _LEVEL.stride for side in _FRAME)
    rois = torch.cat((torch.zeros(count, 1), _random_boxes(count, generator)), dim=1).to(device)
    maps = torch.randn(1, channels, height, width, generator=generator).to(device)
    theirs = maps.clone().requires_grad_()
    ours = maps.to(memory_format=torch.channels_last).requires_grad_()

    def pool(way: str) -> Tensor:
        if name == "RoIAlign":
            if way == OURS:
                return roi_align_by_cells(ours, rois, 7, _LEVEL.stride)
            return torchvision.ops.roi_align(theirs, rois, 7, 1 / _LEVEL.stride, aligned=True)
        if way == OURS:
            return roi_max_pool(ours, rois, 7, _LEVEL.stride)
        return torchvision.ops.roi_pool(theirs, rois, 7, 1 / _LEVEL.stride)

    pooled = {way: pool(way) for way in (OURS, "torchvision")}
    gradient = torch.randn(pooled[OURS].shape, generator=generator).to(device)

    def backward(way: str) -> Tensor:
        (found,) = torch.autograd.grad(pooled[way], ours if way == OURS else theirs, gradient, retain_graph=True)
        return found

    assert_close(*pooled.values(), atol=1e-4, rtol=1e-4)
    assert_close(backward(OURS), backward("torchvision"), atol=1e-3, rtol=1e-4)
    work = f"{name}, {count} RoIs, {channels} x {height} x {width} to 7 x 7"
    for direction, call in (("forward", torch.no_grad()(pool)), ("backward", backward)):
        ways = {way: lambda way=way, call=call: call(way) for way in pooled}
        seconds = interleaved(ways, rounds=rounds, device=device)
        yield Row("ops", f"{work}, {direction}", "features and gradients within 1e-4 and 1e-3", seconds)


def _random_boxes(count: int, generator: torch.Generator) -> Tensor:
    """(N, 4) xyxy inside the image; the logarithm of a side is uniform, from 20 to 400 pixels."""
    limits = torch.tensor(_FRAME[::-1])
    centers = torch.rand(count, 2, generator=generator) * limits
    sides = 20 * 20 ** torch.rand(count, 2, generator=generator)
    return torch.cat(((centers - sides / 2).clamp(min=0), torch.minimum(centers + sides / 2, limits)), dim=1)
