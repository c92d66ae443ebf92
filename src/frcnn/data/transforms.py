"""From an image to the detector's input: resize, mirror, and put several into one frame."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from frcnn.config import ImageSettings


class Frames(NamedTuple):
    """Images in one tensor, as `FasterRCNN.forward` takes them."""

    images: Tensor
    """(B, 3, H, W) uint8 or float32, RGB, 0..255."""
    image_sizes: Tensor
    """(B, 2) float32, (height, width) inside the frame."""
    original_sizes: Tensor
    """(B, 2) float32, (height, width) before resizing."""


def input_size(original: tuple[int, int], settings: ImageSettings) -> tuple[int, int]:
    """The (height, width) to which an image is resized.

    Source:
        "fit": CNTK's tutorial; "shorter_side": Ren et al. 2015, section 3.3 (600, at most 1000). Sizes are rounded; for
        "point" interpolation they are cut off, as in torchvision's detectors.
    """
    height, width = original
    if settings.resize == "fit":
        scale = min(settings.height / height, settings.width / width)
    else:
        scale = min(settings.shorter_side / min(original), settings.longer_side / max(original))
    whole = math.floor if settings.interpolation == "point" else round
    return max(1, whole(height * scale)), max(1, whole(width * scale))


def resize(image: Image.Image, settings: ImageSettings, *, flip: bool = False) -> np.ndarray:
    """(height, width, 3), 0..255, resized with bilinear filtering, mirrored if asked.

    Returns:
        uint8; for "point" interpolation float32, not rounded to whole numbers.
    """
    height, width = input_size((image.height, image.width), settings)
    if settings.interpolation == "point":
        pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None]
        resized = F.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
        return (resized.flip(1) if flip else resized).contiguous().numpy()
    smooth = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(ImageOps.mirror(smooth) if flip else smooth)


def frame(images: Sequence[np.ndarray], originals: Sequence[tuple[int, int]], settings: ImageSettings) -> Frames:
    """Resized images, each in the upper left corner of a common frame.

    Args:
        images: (height, width, 3), all of one type.
        originals: (height, width) before resizing.

    Returns:
        With "fit", frames of the settings' size; else as large as the largest image, sides multiples of `divisor`.
    """
    sizes = [image.shape[:2] for image in images]
    if settings.resize == "fit":
        height, width = settings.height, settings.width
    else:
        height, width = (
            math.ceil(max(side) / settings.divisor) * settings.divisor for side in zip(*sizes, strict=True)
        )
    frames = np.zeros((len(images), 3, height, width), images[0].dtype)
    for target, image in zip(frames, images, strict=True):
        target[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return Frames(
        torch.from_numpy(frames),
        torch.tensor(sizes, dtype=torch.float32),
        torch.tensor(originals, dtype=torch.float32),
    )
