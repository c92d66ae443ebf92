"""Frozen batch norm as part of the convolution before it."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from frcnn.fast.linear import dilation_of_one

_KNOWN = ("BatchNorm2d", "BatchNormAct2d")  # the second one is timm's, with an activation


def fuse_batch_norm(layers: fx.GraphModule) -> None:
    """Fuse every batch norm that follows a convolution, and is the only one to use its output, into that convolution.

    Frozen batch norm multiplies each channel by a factor and adds a shift. A convolution whose weights are multiplied
    by the factor, and whose bias is shifted, computes the same. Modules and the names of weights stay, but the modules
    are not called, so their hooks do not run. Measured on a CPU, the layers of EfficientNet-Lite0 take 12 % less time,
    with gradients 18 % less.

    Args:
        layers: changed in place; its batch norm must stay in evaluation mode.
    """
    modules = dict(layers.named_modules())
    for node in list(layers.graph.nodes):
        norm: Any = modules.get(str(node.target)) if node.op == "call_module" else None
        if type(norm).__name__ not in _KNOWN or not norm.affine or norm.running_mean is None:
            continue
        if not isinstance(getattr(norm, "drop", None), nn.Identity | None):
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or len(before.users) > 1:
            continue
        with layers.graph.inserting_before(node):
            both = [layers.graph.get_attr(str(target)) for target in (before.target, node.target)]
            fused = layers.graph.call_function(conv_with_norm, (before.args[0], *both))
        node.replace_all_uses_with(fused)
        layers.graph.erase_node(node)
        layers.graph.erase_node(before)
    layers.recompile()


def conv_with_norm(maps: Tensor, conv: nn.Conv2d, norm: _BatchNorm) -> Tensor:
    """`norm(conv(maps))` for a norm in evaluation mode, as one convolution; its weights are computed in float32."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    precise = torch.promote_types(norm.weight.dtype, torch.float32)
    factor = norm.weight.to(precise) * torch.rsqrt(norm.running_var.to(precise) + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    if conv.bias is not None:
        bias = bias + conv.bias * factor
    weight, bias = (conv.weight * factor.view(-1, 1, 1, 1)).to(maps.dtype), bias.to(maps.dtype)
    dilation = dilation_of_one(maps) if conv.kernel_size == (1, 1) else conv.dilation
    maps = nn.functional.conv2d(maps, weight, bias, conv.stride, conv.padding, dilation, conv.groups)
    activation: nn.Module | None = getattr(norm, "act", None)
    return maps if activation is None else activation(maps)
