"""How much memory there is."""

import math
import os
from contextlib import suppress
from pathlib import Path

_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_memory() -> float:
    """Bytes that this process may use at most: those of the computer, or of the container. Infinite if that is not
    known."""
    limits = [math.inf]
    try:
        import psutil

        limits.append(psutil.virtual_memory().total)
    except ImportError:  # exported files run without it
        with suppress(AttributeError, ValueError, OSError):
            limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            limits.append(int(file.read_text(encoding="ascii")))
    return min(limits)
