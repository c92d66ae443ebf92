"""Random weights with which hundreds of boxes survive, for the detectors of other libraries that tests compare.

Batch norm has the statistics of a photo, and the last layers are scaled until their scores spread. The branches of
residual blocks speak softly, or fifty random layers would blow up the last bit of float32 into more than the
tolerances.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

SOFT = 0.2


@torch.no_grad()
def calibrate(run: Callable[[], object], norms: list[nn.Module]) -> None:
    """Give each norm the statistics of its inputs.

    Args:
        run: calls the model.
        norms: with buffers running_mean and running_var.
    """

    def take(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
        norm.running_var.copy_(inputs[0].var(dim=(0, 2, 3)) + 1e-6)

    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    run()
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def spread(run: Callable[[], object], layers: dict[nn.Module, float]) -> None:
    """Shift and scale each layer until its outputs have this standard deviation and, in each channel, mean 0."""
    outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [layer.register_forward_hook(lambda one, _, out: outputs[one].append(channels(out))) for layer in layers]
    run()
    for layer, hook in zip(layers, hooks, strict=True):
        hook.remove()
        mean, std = torch.cat(outputs[layer]).mean(dim=0), torch.cat(outputs[layer]).std(dim=0)
        scale = layers[layer] / std
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.sub_(mean).mul_(scale)


def channels(out: Tensor) -> Tensor:
    """(rows, channels) of a layer's outputs."""
    return out if out.dim() == 2 else out.permute(0, 2, 3, 1).flatten(0, 2)
