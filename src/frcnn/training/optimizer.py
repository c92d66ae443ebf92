"""The optimizer, and the exponential moving average of the weights."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import AveragedModel

from frcnn.config import TrainSettings
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.training.schemes import Phase


def make_optimizer(model: FasterRCNN, phase: Phase, settings: TrainSettings, precision: torch.dtype) -> Optimizer:
    """SGD for the parts that the phase trains. All other parameters stop requiring gradients.

    The learning rate of biases is multiplied by `bias_lr_mult`, as in py-faster-rcnn and CNTK, that of layers without
    pretrained weights by `new_layers_lr_mult`.

    Args:
        precision: of the layers in training.
    """
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    names = [part.value for part in phase.train]
    for name, parameter in model.named_parameters():
        trained = name.partition(".")[0] in names and name not in model.frozen
        parameter.requires_grad_(trained)
        if trained:
            bias = settings.bias_lr_mult if name.endswith("bias") else 1.0
            new = settings.new_layers_lr_mult if name in model.newly_initialized else 1.0
            groups[bias * new].append(parameter)
    rates = [{"params": parameters, "lr_mult": multiplier} for multiplier, parameters in groups.items()]
    # The fused kernel is faster, but if the gradient scaler of fp16 skips the first step, the momentum is uninitialized
    # memory.
    fused = precision != torch.float16
    return SGD(rates, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=fused)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_mult"]


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def make_average(model: FasterRCNN, decay: float) -> AveragedModel:
    """An exponential moving average of the model's weights.

    The decay is (1 + n) / (10 + n) after n steps, and at most `decay`, so that the weights of the first steps soon lose
    their influence (as in TensorFlow's ExponentialMovingAverage).
    """

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], steps: Tensor | int) -> None:
        now = min(decay, (1 + int(steps)) / (10 + int(steps)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - now)
            else:  # the number of batches that batch norm has seen
                average.copy_(value)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
