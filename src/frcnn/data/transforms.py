"""From an image to the detector's input: resize, mirror, and put several into one frame."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from frcnn.config import ImageSettings


class Frames(NamedTuple):
    """Images in one tensor, as `FasterRCNN.forward` takes them."""

    images: Tensor
    """(B, 3, H, W) uint8, RGB."""
    image_sizes: Tensor
    """(B, 2) float32, (height, width) inside the frame."""
    original_sizes: Tensor
    """(B, 2) float32, (height, width) before resizing."""


def input_size(original: tuple[int, int], settings: ImageSettings) -> tuple[int, int]:
    """The (height, width) to which an image is resized.

    Source:
        "fit": CNTK's tutorial; "shorter_side": Ren et al. 2015, section 3.3 (600, at most 1000).
    """
    height, width = original
    if settings.resize == "fit":
        scale = min(settings.height / height, settings.width / width)
    else:
        scale = min(settings.shorter_side / min(original), settings.longer_side / max(original))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Image.Image, settings: ImageSettings, *, flip: bool = False) -> np.ndarray:
    """(height, width, 3) uint8, resized with bilinear filtering that does not alias, mirrored if asked."""
    height, width = input_size((image.height, image.width), settings)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(ImageOps.mirror(resized) if flip else resized)


def frame(images: Sequence[np.ndarray], originals: Sequence[tuple[int, int]], settings: ImageSettings) -> Frames:
    """Resized images, each in the upper left corner of a common frame.

    Args:
        images: (height, width, 3) uint8.
        originals: (height, width) before resizing.

    Returns:
        With "fit", frames of the settings' size; else as large as the largest image.
    """
    sizes = [image.shape[:2] for image in images]
    if settings.resize == "fit":
        height, width = settings.height, settings.width
    else:
        height, width = (max(side) for side in zip(*sizes, strict=True))
    frames = torch.zeros((len(images), 3, height, width), dtype=torch.uint8)
    for target, image in zip(frames, images, strict=True):
        target[:, : image.shape[0], : image.shape[1]] = torch.from_numpy(image.copy()).permute(2, 0, 1)
    return Frames(
        frames,
        torch.tensor(sizes, dtype=torch.float32),
        torch.tensor(originals, dtype=torch.float32),
    )
