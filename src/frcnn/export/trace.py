"""The model as a graph of operators, traced for any batch size and image size."""

import copy

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from frcnn.export.quiet import quiet
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.head_outputs import head_outputs

_EXAMPLE_SIZE = (256, 320)
_SHAPES = "torch.fx.experimental.symbolic_shapes"  # a logger: it reports inequalities that it cannot simplify


class Deployed(nn.Module):
    """A model with the inputs and outputs of an exported file.

    Args:
        model: plain, not optimized.
        uint8: `images` are (B, H, W, 3) uint8, as image decoders return them; else (B, 3, H, W) float32.
        raw: also return the tutorial's three outputs before NMS, and which RoIs are valid.
    """

    def __init__(self, model: FasterRCNN, *, uint8: bool, raw: bool) -> None:
        super().__init__()
        self.model, self.uint8, self.raw = model, uint8, raw

    def forward(self, images: Tensor, image_sizes: Tensor, original_sizes: Tensor) -> tuple[Tensor, ...]:
        """The fields of `DetectionTensors`, then those of `HeadOutputs` if `raw`; sizes are (B, 2), (height, width)."""
        if self.uint8:
            images = images.permute(0, 3, 1, 2)
        proposals, output = self.model.propose_and_classify(images, image_sizes, original_sizes)
        detections = self.model.select(proposals, output, image_sizes, original_sizes)
        return (*detections, *head_outputs(proposals, output)) if self.raw else tuple(detections)


def in_precision(model: FasterRCNN, dtype: torch.dtype) -> FasterRCNN:
    """A copy on the CPU whose layers compute in `dtype`."""
    model = copy.deepcopy(model).cpu().eval().set_precision(dtype)
    return model.to(memory_format=torch.channels_last)  # for .pt2 files: PyTorch's convolutions are faster so


def trace(deployed: Deployed, *, image_size: tuple[int, int] | None, batch: int | None) -> ExportedProgram:
    """Trace the forward of a model.

    Args:
        deployed: on the CPU, in evaluation mode.
        image_size: (height, width), pixels, of the only frame that the graph accepts; None: any.
        batch: the only batch size that the graph accepts; None: any.

    Raises:
        ValueError: the layers do not accept images of this size, or an operation cannot be traced.
    """
    height, width = image_size or _EXAMPLE_SIZE
    count = batch or 2
    shape = (count, height, width, 3) if deployed.uint8 else (count, 3, height, width)
    sizes = torch.tensor([[height, width]], dtype=torch.float32).repeat(count, 1)
    inputs = (torch.zeros(shape, dtype=torch.uint8 if deployed.uint8 else torch.float32), sizes, 2 * sizes)
    any_count = {} if batch is not None else {0: Dim.DYNAMIC}
    any_size = {} if image_size is not None else dict.fromkeys((1, 2) if deployed.uint8 else (2, 3), Dim.DYNAMIC)
    try:
        with torch.no_grad(), quiet(_SHAPES):
            deployed(*inputs)
            return torch.export.export(
                deployed,
                inputs,
                dynamic_shapes=({**any_count, **any_size}, any_count, any_count),
                strict=False,
            )
    except Exception as error:  # of the layers, or one of the many classes of torch.export
        first = str(error).strip().partition("\n")[0]
        size = f" for an image size of {height}x{width} (height x width)" if image_size else ""
        raise ValueError(
            f"base model '{deployed.model.settings.base_model.name}': cannot be exported{size} ({first})"
        ) from error
