"""How many processor cores there are."""

import os


def usable_cores() -> int:
    """The cores that this process may use: those of the computer, or those that it was bound to, e.g. by a container or
    a batch system."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
