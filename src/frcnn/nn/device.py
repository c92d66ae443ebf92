"""Where the network runs, and in which precision."""

from collections.abc import Callable
from functools import cache

import torch

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """ "auto" is cuda where there is one, else cpu.

    Raises:
        ValueError: "cuda" where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: this machine has no CUDA card that PyTorch can use; take --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 where the processor computes it natively, else float32."""
    if name == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
        return torch.bfloat16 if native else torch.float32
    return _PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """As `train.precision` has it."""
    return next(name for name, each in _PRECISIONS.items() if each == dtype)


def _cpu_has_bf16() -> bool:
    features = _cpu_features()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


@cache
def mkl_is_slow() -> bool:
    """Whether this is a processor of AMD with AVX-512, of which MKL, Intel's library for products of matrices, uses
    half: measured, 200 of the 500 GFLOP/s that convolutions reach."""
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    features = _cpu_features()
    return has_both and str(features.get("cpu_name")).startswith("AMD") and bool(features.get("avx512_f"))


def _cpu_features() -> dict[str, object]:
    """By PyTorch's names; older ones do not tell, and what is not told is not used."""
    tell: Callable[[], dict[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return tell()
