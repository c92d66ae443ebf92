"""The machine that a benchmark ran on, in words."""

import os
import platform
from pathlib import Path

import torch

from frcnn.nn.device import choose_precision


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    bfloat16 = "with" if choose_precision("auto", torch.device("cpu")) == torch.bfloat16 else "without"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores of a shared {names[0] if names else platform.processor()} ({bfloat16} native "
        f"bfloat16), {gpu}, Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    )
