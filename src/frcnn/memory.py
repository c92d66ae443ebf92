"""Memory that a process keeps, instead of giving it back and asking for it again."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
_NEVER = -1


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for what it needs next. The commands of `frcnn` do so; a program
    of your own may, before it trains or detects.

    A detector makes maps of megabytes and drops them, image after image. glibc, the C library of most Linux systems,
    gives such blocks back at once, and the system then clears every page of the next one. Measured on two cores, a
    training step of AlexNet in bfloat16 takes two thirds of the time without that, one of EfficientNet-Lite0 four
    fifths, its prediction three quarters. In return the process stays as large as it once had to be, and where sizes
    differ a lot it becomes larger: `frcnn predict --tile` of a photo of 12,000 x 9,000 pixels took 1.8 GB instead of
    1.4 (200 small photos 1.1 GB, as before).

    Returns:
        Whether glibc agreed; with another C library (macOS, Windows, musl) nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
