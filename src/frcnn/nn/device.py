"""The device and the precision that a model runs in."""

from collections.abc import Callable

import torch
from torch import nn

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device of a setting; "auto" is cuda if it is available, else cpu. "mps", the GPU of an Apple computer, is
    used only if it is named.

    Raises:
        ValueError: there is no such device; or "cuda" or "mps" is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device '{name}': use auto, cpu, cuda or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no CUDA GPU; use device 'cpu' (--device cpu)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("PyTorch finds no Apple GPU (mps); use device 'cpu' (--device cpu)")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The precision of a setting; "auto" is bfloat16 if the CPU or the NVIDIA GPU has it, else float32.

    Raises:
        ValueError: an unknown precision.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    if name not in _PRECISIONS:
        raise ValueError(f"precision '{name}': use auto, {', '.join(_PRECISIONS)}")
    return _PRECISIONS[name]


def precision_of(model: nn.Module) -> str:
    """The precision of the layers of a model: that of its first weights."""
    dtype = next(model.parameters()).dtype
    return next(name for name, each in _PRECISIONS.items() if each == dtype)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    features = cpu_features()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def cpu_features() -> dict[str, object]:
    """Features by PyTorch's names; empty if PyTorch is too old to list them."""
    get_capabilities: Callable[[], dict[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return get_capabilities()
