"""Detectors that have work to do, though nobody trained them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from frcnn.config import Config
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN


@torch.no_grad()
def untrained(config: Config, classes: Sequence[str], *inputs: Tensor) -> FasterRCNN:
    """Random weights; batch norm has the statistics of these inputs, without which numbers overflow."""
    torch.manual_seed(0)
    # Not frozen, or it is folded and sees nothing; torchvision's detectors have an eps of 0, with which none learns.
    learning = config.base_model.model_copy(update={"freeze_batch_norm": False})
    model = build_model(config.model.model_copy(update={"base_model": learning}), classes)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    for _ in range(3):
        model(*inputs)
    frozen = build_model(config.model, classes)
    frozen.load_state_dict(model.state_dict())
    return frozen
