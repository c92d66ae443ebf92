"""Less work in the RoI head: its fully connected layers by truncated SVD."""

import copy

import torch
from torch import nn

from frcnn.nn.detector import FasterRCNN
from frcnn.nn.linear import Linear
from frcnn.ops.low_rank import truncated_svd


def compressed(detector: FasterRCNN, rank: int) -> FasterRCNN:
    """A copy whose RoI head takes less work: each fully connected layer becomes two, with `rank` numbers between them.

    Of the layers, those of the base model and new ones alike, only those change that become smaller; the output layers
    (logits and deltas) stay. The copy is there to detect and to be exported: it cannot be trained or saved.

    Args:
        detector: stays as it is.
        rank: singular values kept, e.g. 1024 of 4096; fewer are faster and less exact.

    Raises:
        ValueError: the rank is under 1, or makes no layer smaller; or the detector is compressed already.

    Source:
        Girshick 2015, arXiv:1504.08083, section 3.1. Differs: one rank for all layers.
    """
    if rank < 1:
        raise ValueError(f"svd {rank}: the rank must be 1 or more")
    if detector.svd_rank is not None:
        raise ValueError(
            f"svd {rank}: the detector is compressed already (svd {detector.svd_rank}); take the whole one"
        )
    detector = copy.deepcopy(detector)
    head = detector.roi_head
    # No subclasses: some are read by what they are part of, as those in an attention layer.
    layers = {
        name: layer
        for name, layer in head.named_modules()
        if type(layer) in (nn.Linear, Linear) and layer not in (head.logits, head.deltas)
    }
    limits = {name: _rank_limit(layer) for name, layer in layers.items()}
    if rank >= max(limits.values(), default=0):
        raise ValueError(
            f"svd {rank}: base model '{detector.config.base_model.name}' has no fully connected layer in its RoI head "
            + (f"that gets smaller; take a rank under {max(limits.values()):.0f}" if layers else "to compress")
        )
    detector.svd_rank = rank
    for name, layer in layers.items():
        if rank < limits[name]:
            head.set_submodule(name, factorized(layer, rank))
    return detector


@torch.no_grad()
def factorized(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Two layers in the place of one: the second factor of `truncated_svd`, then the first, with the bias."""
    left, right = truncated_svd(layer.weight, rank)
    # Made without numbers of their own, so that none are drawn.
    first = Linear(layer.in_features, rank, bias=False, device="meta")
    second = Linear(rank, layer.out_features, bias=layer.bias is not None, device="meta")
    first.weight, second.weight, second.bias = nn.Parameter(right), nn.Parameter(left), layer.bias
    return nn.Sequential(first, second)


def _rank_limit(layer: nn.Linear) -> float:
    """From this rank on, two layers are not smaller than the one."""
    return layer.in_features * layer.out_features / (layer.in_features + layer.out_features)
