"""Detectors that have work to do, though nobody trained them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from frcnn.config import Config
from frcnn.nn.detector import FasterRCNN


@torch.no_grad()
def untrained(config: Config, classes: Sequence[str], *inputs: Tensor) -> FasterRCNN:
    """Random weights; batch norm has the statistics of these inputs, without which numbers overflow."""
    torch.manual_seed(0)
    # Not frozen, or it is folded and sees nothing; torchvision's detectors have an eps of 0, with which none learns.
    learning = config.base_model.model_copy(update={"freeze_batch_norm": False, "batch_norm_eps": 1e-5})
    detector = FasterRCNN(config.model_copy(update={"base_model": learning}), classes).eval()
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    for _ in range(3):
        detector(*inputs)
    frozen = FasterRCNN(config, classes)
    frozen.load_state_dict(detector.state_dict())
    return frozen.eval()
