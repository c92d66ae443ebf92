"""Fully connected layers and 1x1 convolutions by oneDNN where PyTorch's default is slower (CPU, float32).

Letters: R rows, I inputs, O outputs.
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.nn.device import cpu_features

_LEAST_ROWS = 16  # with fewer rows, the faster one depends on the sizes


class Linear(nn.Linear):
    """torch.nn.Linear, as a convolution where that is faster: in float32 on CPUs on which MKL is slow.

    PyTorch computes matrix products by MKL, convolutions by oneDNN. Measured on an AMD EPYC with AVX-512, the RoI
    head's layers take half of MKL's time, with gradients 50 to 70 %. In bfloat16, oneDNN computes both.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        plain = (
            torch.compiler.is_compiling()  # torch.compile chooses itself
            or input.ndim != 2
            or input.shape[0] < _LEAST_ROWS
            or not input.dtype == self.weight.dtype == torch.float32
            or input.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or not mkl_is_slow()
        )
        return super().forward(input) if plain else linear_by_convolution(input, self.weight, self.bias)


def use_faster_linear(layers: nn.Module) -> None:
    """Replace the fully connected layers inside by those above, with the same weights under the same names. Subclasses
    stay: some are read by the module around them, e.g. in an attention layer."""
    for name, layer in list(layers.named_modules()):
        if type(layer) is nn.Linear:
            faster = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
            faster.weight, faster.bias = layer.weight, layer.bias
            layers.set_submodule(name, faster.train(layer.training))


def linear_by_convolution(
    rows: Float[Tensor, "R I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None
) -> Float[Tensor, "R O"]:
    """`torch.nn.functional.linear` as a 1x1 convolution: the weights are a map of 1 x O cells, the rows are kernels.
    oneDNN first reorders the kernels, so they should be the smaller matrix."""
    outputs, inputs = weight.shape
    cells = weight.view(1, 1, outputs, inputs).permute(0, 3, 1, 2)  # already in channels-last order
    products = F.conv2d(cells, rows[:, :, None, None], dilation=dilation_of_one(cells)).view(len(rows), outputs)
    return (products if bias is None else products + bias).contiguous()


def dilation_of_one(maps: Tensor) -> int:
    """The dilation for a 1x1 convolution. It changes nothing in the result. But on one thread, PyTorch computes a 1x1
    convolution of one image in float32 by oneDNN only if it is dilated, and by a slower loop of its own otherwise.
    Measured on an AMD EPYC, EfficientNet-Lite0's prediction took 209 ms with that loop, 161 ms without (1066 x 800)."""
    return 2 if maps.device.type == "cpu" and not torch.compiler.is_compiling() else 1


@cache
def mkl_is_slow() -> bool:
    """Whether this is an AMD CPU with AVX-512. MKL, Intel's library for matrix products, uses half of it:
    measured, 200 of the 500 GFLOP/s that convolutions reach."""
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    features = cpu_features()
    return has_both and str(features.get("cpu_name")).startswith("AMD") and bool(features.get("avx512_f"))
