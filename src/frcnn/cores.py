"""How many processor cores there are."""

import math
import os
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "150000 100000": microseconds of computing time in each period, or "max"
_OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cores() -> int:
    """The cores that this process may use: those of the computer, those that it was bound to, e.g. by a batch system,
    or those that its container may use (`docker run --cpus 2`); 1.5 cores count as 2."""
    return math.ceil(min(_bound_cores(), _quota()))


def limit_threads() -> None:
    """In a container that may use fewer cores than it sees, let the libraries start that many threads: PyTorch, ONNX
    Runtime and OpenVINO start one for each core that they see, and the threads then wait for one another. Call it
    before these are imported. A number that the user has set stays."""
    if usable_cores() < _bound_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def _bound_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> float:
    """Cores, as set for the container; infinite without a limit."""
    with suppress(OSError, ValueError):  # there is no such file, or it says "max"
        limit, period = map(int, _QUOTA.read_text(encoding="ascii").split())
        return limit / period
    with suppress(OSError, ValueError):
        limit, period = (int(file.read_text(encoding="ascii")) for file in _OLD_QUOTA)
        return limit / period if limit > 0 else math.inf  # -1: no limit
    return math.inf
