"""Fully connected layers, by the faster of PyTorch's two libraries."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.nn.device import mkl_is_slow

_LEAST_ROWS = 16  # fewer are measured to be as fast either way


class Linear(nn.Linear):
    """torch.nn.Linear; in float32 on processors that MKL takes for slower ones, as a convolution, which is oneDNN's.

    Measured on an AMD EPYC with AVX-512, the RoI head's layers take 40 to 50 % of MKL's time, with gradients 50 to
    70 %. In bfloat16 both are oneDNN's.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        plain = (
            input.ndim != 2
            or len(input) < _LEAST_ROWS
            or not input.dtype == self.weight.dtype == torch.float32
            or input.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()  # an exporter is to see what layer it is
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
    products = F.conv2d(cells, rows[:, :, None, None]).view(len(rows), outputs)
    return products if bias is None else products + bias
