"""Translated operators beside their originals."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from frcnn.export.onnx import write_onnx
from frcnn.ops.nms import nms
from frcnn.ops.roi_pooling import pool_rois, roi_align, roi_max_pool
from frcnn.types import Level

INF = float("inf")


def through_onnx(
    model: nn.Module, inputs: tuple[Tensor, ...], dynamic: object, path: Path
) -> onnxruntime.InferenceSession:
    program = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
    write_onnx(program, ("out",), {}, path, inputs=tuple(f"in{n}" for n in range(len(inputs))))
    return onnxruntime.InferenceSession(path)


class Nms(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return nms(boxes, scores, 0.5, 7)


def test_nms_keeps_the_same_boxes_in_the_same_order(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    auto = torch.export.Dim.DYNAMIC
    example = (torch.rand(2, 9, 4), torch.rand(2, 9))
    session = through_onnx(Nms(), example, ({0: auto, 1: auto}, {0: auto, 1: auto}), tmp_path / "nms.onnx")
    for problems, count in ((1, 1), (1, 3), (3, 40), (5, 200)):
        corners = torch.randint(0, 60, (problems, count, 2), generator=generator)
        sides = torch.randint(1, 30, (problems, count, 2), generator=generator)
        boxes = torch.cat((corners, corners + sides), dim=2).float()
        scores = torch.randint(0, count, (problems, count), generator=generator).float()  # with ties
        scores[torch.rand(problems, count, generator=generator) < 0.3] = -INF
        scores[0, 0] = -INF
        (found,) = session.run(None, {"in0": boxes.numpy(), "in1": scores.numpy()})
        assert found.tolist() == nms(boxes, scores, 0.5, 7).tolist()


LEVELS = (Level(4, 0.375), Level(8, 0.5))


class Pool(nn.Module):
    def __init__(self, samples: int | None, levels: int, *, largest: bool = False) -> None:
        super().__init__()
        self.samples, self.levels, self.largest = samples, LEVELS[:levels], largest

    def forward(self, fine: Tensor, coarse: Tensor, rois: Tensor) -> Tensor:
        def pool(features: Tensor, rois: Tensor, size: int, stride: int) -> Tensor:
            if self.largest:
                return roi_max_pool(features, rois, size, stride)
            return roi_align(features, rois, size, stride, sampling_ratio=self.samples)

        return pool_rois([fine, coarse], rois, levels=self.levels, size=7, pool=pool)


@pytest.mark.parametrize(
    "pool", [Pool(None, 1), Pool(2, 1), Pool(3, 1), Pool(None, 2), Pool(2, 2), Pool(None, 1, largest=True)], ids=str
)
def test_roi_pooling(pool: Pool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    auto = torch.export.Dim.DYNAMIC

    def inputs(batch: int, height: int, width: int, count: int) -> tuple[Tensor, ...]:
        corners = torch.rand(batch, count, 2, generator=generator) * 4 * height - 8
        sides = torch.rand(batch, count, 2, generator=generator) * 4 * width + 1
        maps = (
            torch.randn(batch, 3, h, w, generator=generator) for h, w in ((height, width), (height // 2, width // 2))
        )
        return (*maps, torch.cat((corners, corners + sides), dim=2))

    shapes = ({0: auto, 2: auto, 3: auto}, {0: auto, 2: auto, 3: auto}, {0: auto})
    session = through_onnx(pool, inputs(2, 20, 24, 6), shapes, tmp_path / "pool.onnx")
    for given in (inputs(2, 20, 24, 6), inputs(1, 64, 50, 6), inputs(3, 130, 120, 6)):
        feeds = {f"in{n}": tensor.numpy() for n, tensor in enumerate(given)}
        names = {one.name for one in session.get_inputs()}
        (found,) = session.run(None, {name: array for name, array in feeds.items() if name in names})
        np.testing.assert_allclose(found, pool(*given).numpy(), rtol=0, atol=2e-5)
