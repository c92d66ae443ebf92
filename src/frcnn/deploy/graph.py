"""The detector as a graph of operators: the same forward, recorded for images of any number and size."""

import copy

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from frcnn.deploy.quiet import quiet
from frcnn.nn.detector import FasterRCNN

_EXAMPLE_SIZE = (256, 320)
_SHAPES = "torch.fx.experimental.symbolic_shapes"  # logs inequalities that it cannot simplify


class Deployed(nn.Module):
    """The detector with an exported file's inputs and outputs.

    Args:
        detector: whose forward it is.
        uint8: take `images` as (B, H, W, 3) uint8, as decoders give them, else (B, 3, H, W) float32.
        raw: also give the tutorial's three outputs before NMS, and which RoIs count.
    """

    def __init__(self, detector: FasterRCNN, *, uint8: bool, raw: bool) -> None:
        super().__init__()
        self.detector, self.uint8, self.raw = detector, uint8, raw

    def forward(self, images: Tensor, image_sizes: Tensor, original_sizes: Tensor) -> tuple[Tensor, ...]:
        """The fields of `Detections`, then of `RawOutput` if asked; sizes are (B, 2), (height, width)."""
        if self.uint8:
            images = images.permute(0, 3, 1, 2)
        proposals, output = self.detector.propose_and_classify(images, image_sizes, original_sizes)
        detections = self.detector.select(proposals, output, image_sizes, original_sizes)
        return (*detections, *self.detector.raw_output(proposals, output)) if self.raw else tuple(detections)


@torch.no_grad()
def least_side(detector: FasterRCNN) -> int:
    """Of the smallest frame that the layers take, pixels; found by trying.

    Raises:
        ValueError: they take no frame of up to 256 pixels.
    """
    sizes = torch.ones(1, 2, device=detector.mean.device)
    for side in range(1, _EXAMPLE_SIZE[0] + 1):
        image = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=sizes.device)
        try:
            detector.backbone(detector.normalize(image, sizes))
        except (RuntimeError, ValueError):  # of convolutions, of pooling, of a pyramid's sums
            continue
        return side
    raise ValueError(f"base model '{detector.config.base_model.name}': takes no image of {side} x {side} pixels")


def in_precision(detector: FasterRCNN, dtype: torch.dtype) -> FasterRCNN:
    """A copy on the CPU whose layers compute in `dtype`."""
    return copy.deepcopy(detector).cpu().eval().set_precision(dtype)


def record(model: Deployed, *, image_size: tuple[int, int] | None, batch: int | None) -> ExportedProgram:
    """The graph of the model's forward.

    Args:
        model: on the CPU, in evaluation mode.
        image_size: (height, width) of the only frame that it takes; None: any.
        batch: the only number of images that it takes; None: any.

    Raises:
        ValueError: the network cannot take images of this size, or something in it cannot be recorded.
    """
    height, width = image_size or _EXAMPLE_SIZE
    count = batch or 2
    shape = (count, height, width, 3) if model.uint8 else (count, 3, height, width)
    sizes = torch.tensor([[height, width]], dtype=torch.float32).repeat(count, 1)
    inputs = (torch.zeros(shape, dtype=torch.uint8 if model.uint8 else torch.float32), sizes, 2 * sizes)
    any_count = {} if batch is not None else {0: Dim.DYNAMIC}
    any_size = {} if image_size is not None else dict.fromkeys((1, 2) if model.uint8 else (2, 3), Dim.DYNAMIC)
    try:
        with torch.no_grad(), quiet(_SHAPES):
            model(*inputs)
            return torch.export.export(
                model,
                inputs,
                dynamic_shapes=({**any_count, **any_size}, any_count, any_count),
                strict=False,
            )
    except Exception as error:  # of the layers, or of many classes of torch.export
        first = str(error).strip().partition("\n")[0]
        wanted = f" for images of {height} x {width}" if image_size else ""
        raise ValueError(
            f"base model '{model.detector.config.base_model.name}': cannot be exported{wanted} ({first})"
        ) from error
