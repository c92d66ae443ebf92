"""RoI pooling: a feature map of fixed size from every RoI.

Letters: B images, K RoIs each, S output side.

Features are taken to float32 first: in bfloat16 a coordinate of 500 px is off by up to 2 px.
"""

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor


def roi_align(
    features: Float[Tensor, "B C H W"], rois: Float[Tensor, "B K 4"], *, size: int, stride: int, offset: float
) -> Float[Tensor, "B*K C S S"]:
    """Each RoI cut into `size` x `size` bins; a bin is the mean of bilinear samples inside it.

    Args:
        rois: input pixels.
        size: bins per side.
        stride, offset: cell i of the feature map stands for the input pixel (i + offset) * stride.

    Source:
        He et al. 2017, Mask R-CNN, arXiv:1703.06870, section 3; samples as dense as the map
        (ceil(bin side) per direction), no rounding. Differs from Mask R-CNN: there, cells stand for their corners;
        in detectron2 ("aligned") for their centres; here for what the network looks at.
    """
    return torchvision.ops.roi_align(
        features.float(),
        _with_image_index(rois + (0.5 - offset) * stride),
        size,
        1 / stride,
        sampling_ratio=-1,
        aligned=True,
    )


def roi_max_pool(
    features: Float[Tensor, "B C H W"], rois: Float[Tensor, "B K 4"], *, size: int, stride: int, offset: float
) -> Float[Tensor, "B*K C S S"]:
    """Each RoI, rounded to whole cells (arguments as above), cut into `size` x `size` bins; a bin is its largest value.

    Source:
        Girshick 2015, section 2.1 (the tutorial's ROI pooling).
    """
    shifted = rois + (0.5 - offset) * stride
    return torchvision.ops.roi_pool(features.float(), _with_image_index(shifted), size, 1 / stride)


def _with_image_index(rois: Float[Tensor, "B K 4"]) -> Float[Tensor, "B*K 5"]:
    batch, count, _ = rois.shape
    index = torch.arange(batch, device=rois.device, dtype=rois.dtype).repeat_interleave(count)
    return torch.cat((index[:, None], rois.reshape(-1, 4)), dim=1)
