"""The machine that a benchmark runs on: its description and its peak speed."""

import os
import platform
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from compare.timing import interleaved
from frcnn.nn.device import choose_precision


def machine() -> str:
    """Describe processor, GPU and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    bfloat16 = "with" if choose_precision("auto", torch.device("cpu")) == torch.bfloat16 else "without"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores of {names[0] if names else platform.processor()} ({bfloat16} native "
        f"bfloat16), {gpu}, Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    )


class Peak(NamedTuple):
    """Measured peak speed of this machine, GFLOP/s."""

    conv: float
    """3x3 convolution of 256 channels."""
    matmul: float


@torch.no_grad()
def peak(device: torch.device, dtype: torch.dtype, *, rounds: int = 7) -> Peak:
    """Measure the peak, the best of some rounds. The fraction that the detector reaches shows what is left to gain."""
    channels, side, size = 256, 96, 2048
    conv = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    maps = torch.randn(1, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    works = {"conv": lambda: conv(maps), "matmul": lambda: matrix @ matrix}
    flop = {"conv": 2 * 9 * channels**2 * side**2, "matmul": 2 * size**3}
    seconds = interleaved(works, rounds=rounds, device=device)
    return Peak(*(flop[name] / min(times) / 1e9 for name, times in seconds.items()))
