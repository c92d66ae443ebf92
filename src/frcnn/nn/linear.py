"""Fully connected layers, and convolutions of one cell, by the faster of PyTorch's libraries."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.nn.device import mkl_is_slow

_LEAST_ROWS = 16  # with fewer, it depends on the sizes which is faster


class Linear(nn.Linear):
    """torch.nn.Linear; in float32 on processors that MKL takes for slower ones, as a convolution, which is oneDNN's.

    Measured on an AMD EPYC with AVX-512, the RoI head's layers take half of MKL's time, with gradients 50 to 70 %. In
    bfloat16 both are oneDNN's.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        plain = (
            torch.compiler.is_compiling()  # an exporter is to see what layer it is, and for any number of rows
            or input.ndim != 2
            or input.shape[0] < _LEAST_ROWS
            or not input.dtype == self.weight.dtype == torch.float32
            or input.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or not mkl_is_slow()
        )
        return super().forward(input) if plain else linear_by_convolution(input, self.weight, self.bias)


def use_faster_linear(layers: nn.Module) -> None:
    """Let the fully connected layers in it be those above: the same modules, weights and names. Subclasses stay: some
    are read by what they are part of, as those in an attention layer."""
    for module in layers.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def linear_by_convolution(
    rows: Float[Tensor, "R I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None
) -> Float[Tensor, "R O"]:
    """`torch.nn.functional.linear` as a 1x1 convolution: of the weights, a map of 1 x O cells, with the rows as
    kernels. oneDNN puts kernels in its own order first, so the smaller matrix is to be one."""
    outputs, inputs = weight.shape
    cells = weight.view(1, 1, outputs, inputs).permute(0, 3, 1, 2)  # in channels-last order as it is
    products = F.conv2d(cells, rows[:, :, None, None], dilation=dilation_of_one(cells)).view(len(rows), outputs)
    return (products if bias is None else products + bias).contiguous()


def dilation_of_one(maps: Tensor) -> int:
    """The dilation to give to a 1x1 convolution. A kernel of one cell has nothing to dilate, but on one thread PyTorch
    takes oneDNN for such a convolution of one image in float32 only if it is dilated, else a loop of its own: measured
    on an AMD EPYC, EfficientNet-Lite0's prediction took 209 ms with that loop, 161 ms without (800 x 1066)."""
    return 2 if maps.device.type == "cpu" and not torch.compiler.is_compiling() else 1
