"""What turns gradients into weights."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import AveragedModel

from frcnn.config import TrainSettings
from frcnn.nn.detector import FasterRCNN
from frcnn.training.phases import Phase


def make_optimizer(detector: FasterRCNN, phase: Phase, settings: TrainSettings, precision: torch.dtype) -> Optimizer:
    """SGD over the parts that the phase trains; everything else stops requiring gradients.

    Biases learn at `bias_lr_mult` times the rate, as in py-faster-rcnn and CNTK; layers without pretrained
    weights at `new_layers_lr_mult` times.
    """
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    names = [part.value for part in phase.train]
    for name, parameter in detector.named_parameters():
        trained = name.partition(".")[0] in names and name not in detector.fixed
        parameter.requires_grad_(trained)
        if trained:
            bias = settings.bias_lr_mult if name.endswith("bias") else 1.0
            new = settings.new_layers_lr_mult if name in detector.fresh else 1.0
            groups[bias * new].append(parameter)
    rates = [{"params": parameters, "lr_mult": multiplier} for multiplier, parameters in groups.items()]
    # The fused kernel is faster, but if the gradient scaler of fp16 skips the first step, as it may, its momentum is
    # whatever was in memory.
    fused = precision != torch.float16
    return SGD(rates, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=fused)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_mult"]


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def make_average(detector: FasterRCNN, decay: float) -> AveragedModel:
    """An exponential moving average of the detector's weights.

    The decay rises to `decay`, (1 + n) / (10 + n) after n steps, so that the random weights of the beginning are
    soon forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], steps: Tensor | int) -> None:
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - now)
            else:  # batch norm's count of batches
                average.copy_(value)

    return AveragedModel(detector, multi_avg_fn=update, use_buffers=True)
